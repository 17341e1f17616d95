"""Every judge keeps the promises of the protocol; what the offline one catches, and what not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError, RequestError
from chunkwise.evaluation.judging import Claim, Judge, judges
from chunkwise.types import Delta, Prompt, SamplingParams
from tests.fakes import ScriptedModel, SimpleSegmenter, make_hit


@dataclass
class ObligingModel(ScriptedModel):
    """Fills any JSON schema that it is given: texts are "text", truths true."""

    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[Delta]:
        self.prompts.append(prompt)
        yield Delta(json.dumps(_filled(json.loads(sampling.json_schema))))


def _filled(schema: dict[str, Any]) -> Any:
    if schema["type"] == "object":
        return {name: _filled(each) for name, each in schema["properties"].items()}
    if schema["type"] == "array":
        return [_filled(schema["items"])]
    return {"string": "text", "boolean": True}[schema["type"]]


def build(name: str) -> Judge:
    return judges.build(name, segmenter=SimpleSegmenter(), model=ObligingModel())


ANSWERS = st.text(max_size=60) | st.sampled_from(
    ["Ja. Nein.", "東京は大きい。", "a; b; c", ", and ", "No.", "It is 5, but was 6 before."]
)  # fmt: skip


@pytest.mark.parametrize("name", judges.own)
@settings(max_examples=40, deadline=None)
@given(text=ANSWERS, other=ANSWERS)
def test_any_text_can_be_judged(name: str, text: str, other: str) -> None:
    judge = build(name)
    for claim in judge.claims(text, other):
        assert claim.text.strip()
        assert claim.question == other
        assert judge.supports(claim, make_hit(other)) in (True, False)
    asked = judge.asked(text, 2)
    assert len(asked) <= 2
    assert bool(asked) or not re.search(r"\w", text)
    assert judge.claims("", other) == []
    assert judge.asked("", 2) == []


@pytest.mark.parametrize("name", judges.own)
def test_the_fingerprint_is_stable(name: str) -> None:
    assert build(name).fingerprint == build(name).fingerprint


def test_fingerprints_differ_between_judges_and_options() -> None:
    low = judges.build({"name": "offline", "min_overlap": 0.3}, segmenter=SimpleSegmenter())
    prints = {build(name).fingerprint for name in judges.own} | {low.fingerprint}
    assert len(prints) == len(judges.own) + 1


FACTS = (
    "The pier of Oban was built by Ann Lee in 1931.",
    "Single tickets are valid for 3 months from the day of purchase.",
    "Havsanemon carries 24 cars and 30 bicycles.",
    "The charging station in Sundby opened in August 2025.",
    "The board approved the budget of 415,000 kronor.",
    "A deck watch lasts 4 hours.",
    "Dogs travel free of charge and must be kept on a lead.",
    "The museum closes at noon on Mondays in winter.",
)
AROUND = "Boats leave at noon. {} Nobody swims there. The town has 12 shops."
NAMES = re.compile(r"\b(?:Oban|Ann Lee|Sundby|August)\b")
VERBS = re.compile(r"\b(was|are|must|carries|opened|approved|lasts|closes)\b")


def supported(claims: Sequence[str], passages: Sequence[str]) -> list[bool]:
    judge = build("offline")
    return [
        judge.supports(Claim(claim, "What is said?"), make_hit(passage))
        for claim, passage in zip(claims, passages, strict=True)
    ]


def test_the_offline_judge_takes_what_stands_there_and_refuses_what_was_changed() -> None:
    passages = [AROUND.format(fact) for fact in FACTS]
    assert all(supported(FACTS, passages))
    numbered = [fact for fact in FACTS if re.search(r"\d", fact)]
    changed = [re.sub(r"\d+", lambda m: str(int(m[0]) + 1), fact) for fact in numbered]
    assert not any(supported(changed, [AROUND.format(fact) for fact in numbered]))
    named = [fact for fact in FACTS if NAMES.search(fact)]
    swapped = [NAMES.sub("Perth Bay", fact) for fact in named]
    assert not any(supported(swapped, [AROUND.format(fact) for fact in named]))
    denied = [VERBS.sub(r"\1 not", fact, count=1) for fact in FACTS]
    assert supported(denied, passages).count(True) <= 1
    assert supported(FACTS, [AROUND.format(fact) for fact in denied]).count(True) <= 1
    assert supported(denied, [AROUND.format(fact) for fact in denied]).count(True) >= 7


def test_a_short_claim_is_read_behind_its_question() -> None:
    judge, passage = build("offline"), make_hit("The pier was built in 1931. Rye costs 12 euros.")
    assert judge.supports(Claim("1931", "When was the pier built?"), passage)
    assert not judge.supports(Claim("12", "When was the pier built?"), passage)
    assert not judge.supports(Claim("1931", "What does wheat cost in the shop?"), passage)


def test_claims_are_sentences_and_clauses_with_words_of_their_own() -> None:
    claims = build("offline").claims(
        "The pier was built in 1931, and the mill was sold in 1950. Yes, and no. Ann came.",
        "?",
    )  # fmt: skip
    assert [claim.text for claim in claims] == [
        "The pier was built in 1931",
        "the mill was sold in 1950.",
        "Yes, and no.",
        "Ann came.",
    ]


def test_questions_back_are_made_by_rules_or_are_the_sentences() -> None:
    judge = build("offline")
    made = [one.text for one in judge.asked("The pier was built by Ann Lee in 1931.", 3)]
    assert "When was the pier built by Ann Lee?" in made
    assert [one.text for one in judge.asked("Um 1931.", 3)] == ["Um 1931."]
    assert judge.asked("I do not know. Nothing was found.", 3)[0].is_evasive
    assert not judge.asked("I do not know the month. It was built in 1931.", 3)[0].is_evasive


@pytest.mark.parametrize("overlap", [0.0, -1.0, 1.5])
def test_a_bad_overlap_is_refused(overlap: float) -> None:
    with pytest.raises(ConfigError, match="min_overlap"):
        judges.build({"name": "offline", "min_overlap": overlap}, segmenter=SimpleSegmenter())


def test_the_model_judge_shows_the_passage_with_what_stands_above_it() -> None:
    model = ObligingModel()
    judge = judges.build("model", model=model)
    passage = make_hit("| 12 |", headings=("Prices",), header="| euros |")
    assert judge.supports(Claim("Rye costs {12} euros.", "What is it?"), passage)
    shown = model.prompts[0].segments[0].text
    assert "<passage>\nPrices\n| euros |\n| 12 |\n</passage>" in shown
    assert "Rye costs {12} euros." in shown


@pytest.mark.parametrize(
    "said", ["yes", "", "{", '{"supported": "yes"}', '{"claims": 3}', "[1]", '{"questions": []}']
)
def test_a_reply_that_cannot_be_read_is_an_error_that_shows_it(said: str) -> None:
    judge = judges.build({"name": "model", "constrained": False}, model=ScriptedModel([said]))
    with pytest.raises(RequestError, match="The judge was asked for"):
        judge.supports(Claim("a", "q"), make_hit("p"))
    with pytest.raises(RequestError, match="The judge was asked for"):
        judge.claims("a", "q")
    with pytest.raises(RequestError, match="The judge was asked for"):
        judge.asked("a", 3)
