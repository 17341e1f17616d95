"""Questions made from a corpus: verbatim spans, what the filters drop and keep, no crash."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chunkwise
from chunkwise.errors import DocumentError, RequestError
from chunkwise.evaluation._question_rules import rule_questions
from chunkwise.evaluation.chunking import read_cases
from chunkwise.evaluation.generated import FILTERS, Sieve, generate
from chunkwise.evaluation.question_windows import Draft, windows_of
from chunkwise.evaluation.question_writers import ModelWriter, RuleWriter, locate
from chunkwise.evaluation.questions import read_questions
from chunkwise.evaluation.rows import writing_rows
from chunkwise.evaluation.spans import Place
from chunkwise.pipeline.corpus import Corpus
from chunkwise.types import Block, Delta, Document, Prompt, SamplingParams, Span
from tests.fakes import ScriptedModel, SimpleSegmenter

NAMES = (
    "Arden Bexley Corwen Dunmore Elstow Farley Garvald Hexton Inver Jarrow Kelso Lorton Melrose "
    "Nairn Oban Peebles Quorn Ripley Stroud Thirsk"
)
PLACES = NAMES.split()
THINGS = ("pier", "mill", "bridge", "church", "tower", "library", "museum", "theatre", "bakery")


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """Twenty documents that say the like of different towns, and "the amount" of each."""
    folder = tmp_path_factory.mktemp("towns")
    for i, place in enumerate(PLACES):
        thing = THINGS[i % len(THINGS)]
        (folder / f"{place.lower()}.md").write_text(
            f"# {place}\n\nThe {thing} of {place} was built in {1800 + 7 * i}. "
            f"It has {i + 12} windows.\n\nThe council of {place} pays {300 + i} euros for its "
            f"garden.\n\nThe amount is {500 + i} euros. The work was finished in {1900 + i}.\n"
        )
    with chunkwise.open(folder / "c", embedder="hashing", size=60) as corpus:
        corpus.add(*sorted(folder.glob("*.md")))
        yield corpus


def draft(corpus: Corpus, name: str, question: str, text: str) -> Draft:
    document = next(d.name for d in corpus.documents() if d.name.endswith(name))
    start = corpus.document(document).text.index(text)
    place = Place(document, Span(start, start + len(text)))
    return Draft(question, "planted", (place,), (text,), text)


def good(corpus: Corpus) -> list[Draft]:
    found = []
    for i, place in enumerate(PLACES):
        thing, name = THINGS[i % len(THINGS)], f"{place.lower()}.md"
        built = f"The {thing} of {place} was built in {1800 + 7 * i}."
        pays = f"The council of {place} pays {300 + i} euros"
        found.append(draft(corpus, name, f"When was the {thing} of {place} built?", built))
        found.append(draft(corpus, name, f"How much does the council of {place} pay?", pays))
    return found


def ambiguous(corpus: Corpus) -> list[Draft]:
    found = []
    for i, place in enumerate(PLACES):
        name, thing = f"{place.lower()}.md", THINGS[i % len(THINGS)]
        amount, windows = f"The amount is {500 + i} euros.", f"It has {i + 12} windows."
        done, built = f"The work was finished in {1900 + i}.", f"The {thing} of {place} was built"
        found.append(draft(corpus, name, "What is the amount?", amount))
        found.append(draft(corpus, name, f"How many windows does it have, {i}?", windows))
        found.append(draft(corpus, name, f"When was the work finished, and why{i * '?'}", done))
        found.append(draft(corpus, name, f"When was it built{i * '?'}", built))
    return found


def test_planted_ambiguous_questions_are_dropped_and_good_ones_kept(towns: Corpus) -> None:
    wanted = good(towns)
    reasons = [Sieve(towns).take(one) for one in wanted]
    assert reasons.count("") >= 0.8 * len(wanted)
    planted = ambiguous(towns)
    dropped = [Sieve(towns).take(one) for one in planted]
    assert len(planted) - dropped.count("") >= 0.9 * len(planted)
    assert set(dropped) <= {"ambiguous", "not_found", ""}


def test_what_is_made_of_a_corpus_is_written_and_read_again(towns: Corpus, tmp_path: Path) -> None:
    made = generate(towns, count=25, seed=3)
    assert 10 <= len(made.drafts) <= 25
    assert made.made == len(made.drafts) + sum(made.dropped.values())
    assert set(made.dropped) == set(FILTERS)
    assert any("weak" in note for note in made.notes)
    for one in made.drafts:
        for (name, (start, end)), text in zip(one.references, one.excerpts, strict=True):
            assert towns.document(name).text[start:end] == text
            assert one.answer in text
    assert not any(one.question.startswith("How much is the amount") for one in made.drafts)
    again = generate(towns, count=25, seed=3)
    assert [one.question for one in again.drafts] == [one.question for one in made.drafts]
    other = generate(towns, count=25, seed=4)
    assert [one.question for one in other.drafts] != [one.question for one in made.drafts]
    file = tmp_path / "q.jsonl"
    with writing_rows(file) as write:
        for row in made.rows():
            write(row)
    assert read_cases(file, towns.document) == made.cases()
    assert [q.text for q in read_questions(file)] == [one.question for one in made.drafts]


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("The pier was built by Ann Lee in 1931.", "When was the pier built by Ann Lee?", "1931"),
        ("The pier was built by Ann Lee in 1931.", "By whom or what was the pier built in 1931?",
         "Ann Lee"),
        ("In May 1931, the pier was opened to boats.", "When was the pier opened to boats?",
         "May 1931"),
        ("The *mill* has\n12 grinding stones.", "How many grinding stones does the mill have?",
         "12 grinding stones"),
        ("The ferry costs 40 euros per trip.", "How much does the ferry cost per trip?",
         "40 euros"),
        ("A sextant is an instrument that measures angles.", "What is a sextant?",
         "an instrument that measures angles"),
        ("The term quorum means the least number of members.", "What does the term quorum mean?",
         "the least number of members"),
        ("The museum opened late because the town had no money.", "Why did the museum open late?",
         "because the town had no money"),
        ("Ann Lee designed the harbour of Oban.", "Who or what designed the harbour of Oban?",
         "Ann Lee"),
    ],
)  # fmt: skip
def test_rules_turn_sentences_into_questions(sentence: str, question: str, answer: str) -> None:
    found = {one.text: one.answer for one in rule_questions(sentence)}
    assert found[question] == answer
    assert answer in sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "It was built in 1931 by Ann Lee.",
        "However, the pier was closed in 1950.",
        "These are the rules of the house and garden.",
        "The pier was not built in 1931 at all.",
        "Was the pier built in 1931 or later?",
        "| a | b | c | d | e | 12 |",
        "No.",
        "",
    ],
)
def test_sentences_that_lean_on_others_or_deny_give_no_question(sentence: str) -> None:
    assert rule_questions(sentence) == []


TEXTS = st.lists(
    st.sampled_from(
        ["The pier was built in 1931.", "Ann has 12 cats in Oban.", "é̂ was 3 €.", "\r\n", " ",
         "\n\n", "In 1931, the mill was sold by Bob Ray.", "東京は大きい。", "# Head", "x" * 5000]
    ) | st.text(max_size=40),
    max_size=12,
).map(" ".join)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.booleans())
def test_spans_are_verbatim_for_any_text(text: str, has_block: bool) -> None:
    half = len(text) // 2
    blocks = (Block("heading", 0, half, level=1), Block("paragraph", half, len(text)))
    document = Document("d", text, blocks if has_block and half else ())
    writer, made = RuleWriter(SimpleSegmenter()), 0
    for window in windows_of(document):
        assert text[window.start : window.start + len(window.text)] == window.text
        for one in writer.drafts(window, random.Random(0)):
            ((name, (start, end)),) = one.references
            assert (name, text[start:end]) == ("d", one.excerpts[0])
            assert one.answer
            assert one.answer in one.excerpts[0]
            made += 1
    if "The pier was built in 1931." in text and text.isascii() and len(text) < 100:
        assert made or has_block


def test_windows_hold_all_prose_of_long_lines_once() -> None:
    text = "word " * 20_000
    windows = windows_of(Document("d", text))
    assert (
        "".join(window.text for window in windows) == text.rstrip()
        or "".join(window.text for window in windows) == text
    )
    assert max(len(window.text) for window in windows) <= 8000


def test_headings_are_asked_about_with_their_text() -> None:
    text = "# Bow door rules\n\nThe mate checks the lashings.\n\n## Overview\n\nText follows."
    second = text.index("## Overview")
    blocks = (
        Block("heading", 0, 16, level=1),
        Block("paragraph", 18, 47),
        Block("heading", second, second + 11, level=2),
        Block("paragraph", second + 13, len(text)),
    )
    (window,) = windows_of(Document("d", text, blocks))
    found = RuleWriter(SimpleSegmenter()).drafts(window, random.Random(0))
    headings = [one for one in found if one.kind == "heading"]
    assert [one.question for one in headings] == ["What is said about Bow door rules?"]
    assert headings[0].excerpts == ("The mate checks the lashings.",)


@dataclass
class OneByOne(ScriptedModel):
    """Says the next of its pieces to each request."""

    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[Delta]:
        assert json.loads(sampling.json_schema)["required"] == ["questions"]
        yield Delta(self.pieces[len(self.prompts) % len(self.pieces)])
        self.prompts.append(prompt)


def said(*questions: tuple[str, list[str]]) -> str:
    rows = [{"question": q, "excerpts": e, "answer": e[0] if e else ""} for q, e in questions]
    return json.dumps({"questions": rows})


def test_excerpts_of_a_model_are_located_or_the_question_is_dropped(towns: Corpus) -> None:
    text = towns.document(towns.documents()[0].name).text
    assert "The council\nof Arden" not in text
    model = OneByOne(
        [
            said(
                ("What does the council of Arden pay for its garden?", ["council\nof Arden pays"]),
                ("What does the council of Arden say?", ["The council of Arden says nothing"]),
                ("", ["The council of Arden"]),
            ),
            "I cannot do that.",
        ]
    )
    (window,) = windows_of(towns.document(towns.documents()[0].name))
    drafts = list(ModelWriter(model).drafts(window, random.Random(0)))
    assert [one.excerpts for one in drafts] == [
        ("council of Arden pays",), (), ("The council of Arden",)
    ]  # fmt: skip
    sieve = Sieve(towns)
    assert [sieve.take(one) for one in drafts] == ["", "no_span", "no_span"]
    assert "<text>\n# Arden" in model.prompts[0].segments[0].text
    with pytest.raises(RequestError, match="I cannot do that"):
        list(ModelWriter(model).drafts(window, random.Random(0)))


def test_a_model_that_fails_on_some_windows_is_noted(towns: Corpus) -> None:
    model = OneByOne(["no json", said(("What is the name of Arden?", ["Arden"]))])
    with pytest.raises(DocumentError, match="10 windows gave no question") as caught:
        generate(towns, writer=ModelWriter(model))
    assert "no question could be made by scripted" in str(caught.value)


def test_locate_minds_words_and_not_blanks() -> None:
    assert locate("a b", "xa  b") == Span(1, 5)
    assert locate("a b", "ab") is None
    assert locate("A b", "a b") is None
    assert locate("  ", "a b") is None
    assert locate("(a", "(a") == Span(0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hello there.", "no question could be made by rules: 0 were made"),
        ("Das Haus ist alt und die Tür ist blau, aber das Dach ist nicht neu.", "English only"),
    ],
)
def test_a_corpus_without_questions_says_why(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    with chunkwise.open(tmp_path / "c", embedder="hashing") as corpus:
        corpus.add(tmp_path / "a.txt")
        with pytest.raises(DocumentError, match=message):
            generate(corpus)


def test_one_sentence_is_enough_and_an_empty_corpus_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The pier of Oban was built by Ann Lee in 1931.")
    with chunkwise.open(tmp_path / "c", embedder="hashing") as corpus:
        corpus.add(tmp_path / "a.txt")
        assert len(generate(corpus).drafts) == 1
        corpus.remove("a.txt")
        with pytest.raises(DocumentError, match="holds no text"):
            generate(corpus)


def test_what_stands_in_a_copy_of_a_hit_is_found(tmp_path: Path) -> None:
    text = "The pier of Oban was built in 1931. Boats leave it at noon."
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(text)
    with chunkwise.open(tmp_path / "c", embedder="hashing") as corpus:
        corpus.add(tmp_path / "a.txt", tmp_path / "b.txt")
        for name in ("a.txt", "b.txt"):
            one = draft(corpus, name, "When was the pier of Oban built?", text[:35])
            assert Sieve(corpus).take(one) == ""


@dataclass
class Schemas(ScriptedModel):
    """Remembers the schema that it was given."""

    schema: str = "?"

    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[Delta]:
        self.schema = sampling.json_schema
        yield Delta('{"questions": []}')


def test_a_schema_is_sent_unless_the_server_knows_none(towns: Corpus) -> None:
    window = windows_of(towns.document(towns.documents()[0].name))[0]
    for constrained in (True, False):
        model = Schemas()
        list(ModelWriter(model, constrained=constrained).drafts(window, random.Random(0)))
        assert bool(model.schema) == constrained
