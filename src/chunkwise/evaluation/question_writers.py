"""Who makes questions from a corpus: rules for English, or a language model for any language.

Source: a window is shown and excerpts are copied as in Chroma's chunking evaluation (Smith and
    Troynikov, 2024); rules as in PAQ's answer types (arXiv 2102.07033): definitions, dates,
    amounts, names.
Differs: excerpts are looked for verbatim, blanks aside, and never by similarity: a question whose
    excerpts are not all there is dropped.
Exact when: always: what answers a question is characters of the document.
Cost: rules take some milliseconds a window; a model one request a window.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chunkwise.errors import RequestError
from chunkwise.evaluation._question_rules import rule_questions
from chunkwise.evaluation.question_windows import Draft, Section, Window
from chunkwise.evaluation.spans import Place
from chunkwise.rag.sentences.guess import guess_language
from chunkwise.types import LanguageModel, Prompt, SamplingParams, Segment, Segmenter, Span

_MOST_BODY_CHARS = 700
_TITLE_MARKS = re.compile(r"\A[\s#\d.)]+|[\s#:=~^*_-]+\Z")
_TITLE_WORDS = range(2, 9)
_PLAIN_TITLES = re.compile(
    r"(?:table of )?contents|introduction|overview|summary|conclusions?|references|abstract|notes?|"
    r"appendix.*|background|discussion|methods|results|acknowledge?ments?|index|related work",
    re.IGNORECASE,
)
_ASK = (
    "Below is an excerpt of a document, between <text> and </text>. Write {count} questions that "
    "it answers. Each must make sense to somebody who has not seen it: name what it is about, and "
    "do not mention the text. For each question copy the passages that answer it, word for word, "
    "one to five of them, as short as possible and together sufficient; and give the short answer "
    "in words of these passages. Write in the language of the text.\n"
    'Reply with JSON only: {{"questions": [{{"question": "...", "excerpts": ["..."], "answer": '
    '"..."}}]}}\n\n<text>\n{text}\n</text>'
)
_TEXT = {"type": "string"}
_ONE = {
    "type": "object",
    "properties": {
        "question": _TEXT,
        "excerpts": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 5},
        "answer": _TEXT,
    },
    "required": ["question", "excerpts", "answer"],
    "additionalProperties": False,
}
_SCHEMA = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": _ONE, "minItems": 1, "maxItems": 5}},
    "required": ["questions"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class RuleWriter:
    """Makes questions by rules, of English text and headings.

    Attributes:
        segmenter: Finds the sentences.
    """

    segmenter: Segmenter
    is_english_only: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What people read."""
        return "rules"

    def drafts(self, window: Window, chance: random.Random) -> Iterator[Draft]:
        """One question a sentence or section, in random order; those with a gap come last."""
        if guess_language(window.text) != "en":
            return
        found = [draft for s in window.sections if (draft := _about(window, s)) is not None]
        for start, end in window.prose:
            text = window.slice(Span(start, end))
            for span in self.segmenter.split(text, "en"):
                place = Span(start + span.start, start + span.end)
                found += _from_sentence(window, place, chance)
        chance.shuffle(found)
        yield from sorted(found, key=lambda draft: draft.kind == "cloze")


@dataclass(frozen=True, slots=True)
class ModelWriter:
    """Lets a language model write questions and copy what answers them.

    Attributes:
        model: Writes.
        count: Questions asked for in a window.
        constrained: Ask for replies that must fit a JSON schema; false for servers that cannot.
    """

    model: LanguageModel
    count: int = 3
    constrained: bool = True
    is_english_only: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What people read."""
        return self.model.fingerprint

    def drafts(self, window: Window, chance: random.Random) -> Iterator[Draft]:
        """What the model wrote; a question without excerpts in the text has no references.

        Raises:
            RequestError: The model cannot be asked this, or what it said is no JSON.
            RemoteError: The server failed.
        """
        asked = _ASK.format(count=self.count, text=window.text)
        schema = json.dumps(_SCHEMA) if self.constrained else ""
        sampling = SamplingParams(max_tokens=300 * self.count, json_schema=schema)
        prompt = Prompt((Segment("user", asked),))
        said = "".join(delta.text for delta in self.model.stream(prompt, sampling))
        for given in _parsed(said):
            yield _from_model(window, given)


def locate(excerpt: str, text: str) -> Span | None:
    """Where an excerpt stands in a text, word for word; blanks may differ. None: nowhere."""
    words = excerpt.split()
    if not words:
        return None
    start = text.find(excerpt)
    if start >= 0:
        return Span(start, start + len(excerpt))
    found = re.search(r"\s+".join(map(re.escape, words)), text)
    return Span(*found.span()) if found else None


def _from_sentence(window: Window, place: Span, chance: random.Random) -> list[Draft]:
    """At most one question: what is asked of a sentence in two ways is asked twice."""
    sentence = window.slice(place)
    found = rule_questions(sentence)
    if not found:
        return []
    one = chance.choice(found)
    where = (Place(window.document, place),)
    return [Draft(one.text, one.kind, where, (sentence,), one.answer)]


def _about(window: Window, section: Section) -> Draft | None:
    """A question for a heading: itself where it is one, else what is said about it."""
    title = " ".join(_TITLE_MARKS.sub("", window.slice(section.title)).split())
    if len(title.split()) not in _TITLE_WORDS or _PLAIN_TITLES.fullmatch(title):
        return None
    place = _shortened(window, section.body)
    if place is None:
        return None
    text = window.slice(place)
    question = title if title.endswith("?") else f"What is said about {title}?"
    return Draft(question, "heading", (Place(window.document, place),), (text,), text)


def _shortened(window: Window, body: Span) -> Span | None:
    """The body without blank edges, cut at the end of a paragraph if it is long."""
    text = window.slice(body)
    lead = len(text) - len(text.lstrip())
    kept = text[lead:].rstrip()
    if len(kept) > _MOST_BODY_CHARS:
        at = kept.rfind("\n\n", 0, _MOST_BODY_CHARS)
        if at <= 0:
            return None
        kept = kept[:at].rstrip()
    return Span(body.start + lead, body.start + lead + len(kept)) if kept else None


def _parsed(said: str) -> list[Mapping[str, Any]]:
    start, end = said.find("{"), said.rfind("}") + 1
    try:
        found = json.loads(said[start:end]).get("questions")
    except (ValueError, AttributeError, RecursionError) as exc:
        raise RequestError(
            f"The model was asked for questions as JSON, and said {said[:80]!r}."
        ) from exc
    items = found if isinstance(found, list) else []
    return [one for one in items if isinstance(one, dict)]


def _from_model(window: Window, given: Mapping[str, Any]) -> Draft:
    question = " ".join(str(given.get("question", "")).split())
    excerpts = given.get("excerpts")
    wanted = [str(one) for one in excerpts] if isinstance(excerpts, list) else []
    found = [locate(one, window.text) for one in wanted]
    spans = [span for span in found if span is not None]
    if not spans or len(spans) < len(wanted):
        return Draft(question, "model", (), (), "")
    places = tuple(
        Place(window.document, Span(window.start + a, window.start + b)) for a, b in spans
    )
    texts = tuple(window.text[a:b] for a, b in spans)
    answer = locate(str(given.get("answer", "")), "\n".join(texts))
    short = "\n".join(texts)[answer.start : answer.end] if answer else "\n".join(texts)
    return Draft(question, "model", places, texts, short)
