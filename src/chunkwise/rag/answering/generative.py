"""An answer written by a language model, each cited statement checked against its passage.

Source: none; labels as in the usual prompts, verified after generation.
Differs: a label is not believed. The statement before it is compared with the passage it names
    (`support.py`); the citation is the sentences that support it, not the whole chunk. Labels
    without support, and labels of no passage, are taken out and counted.
Exact when: never; the text is the model's. The citations are verbatim.
Cost: one request to the model; checking takes about a millisecond a statement.
Helps or hurts: a model that answers in another language than the passages share few words with
    loses its citations: the check compares words.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from chunkwise.errors import ConfigError
from chunkwise.rag.answering.base import NOT_FOUND_TEXT, citation
from chunkwise.rag.answering.support import Claim, Support, find_support
from chunkwise.types import (
    Answer,
    Citation,
    Hit,
    LanguageModel,
    Prompt,
    Query,
    SamplingParams,
    Segmenter,
)

__all__ = ["GenerativeAnswerer"]

_LABEL = re.compile(
    r"[ \t]*[\[［【〔]\s*(?:passages?|sources?)?\s*"
    r"(\d{1,3}(?:\s*(?:[,，、;；]|and|&|[-–])\s*\d{1,3})*)\s*(?:†[^\]］】〕]*)?[\]］】〕]",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`", re.DOTALL)
_THOUGHT = re.compile(r"\s*<think>.*?(?:</think>\s*|$)", re.DOTALL)
_MIN_CLAUSE_TERMS = 2


@dataclass(frozen=True, slots=True)
class GenerativeAnswerer:
    """Asks a model, streams its words, and ends with an answer whose citations were checked.

    In the final text, label `[n]` is the `n`-th citation. `usage` counts `passages`,
    `statements`, `cited_statements`, `dropped_citations` (not supported by their passage) and
    `unknown_labels` (of no passage), beside the model's own counts. Without any label the
    passages are searched for support of each statement, and `fidelity["citations"]` is
    `"matched"` in place of `"labelled"`. The confidence is the share of cited statements.

    Attributes:
        model: Writes the answer.
        segmenter: Finds the statements, and the sentences of passages.
        build_prompt: Question and passages to prompt (`chunkwise.prompting.answer_prompt`);
            passages are numbered from 1.
        sampling: How the model samples.
        not_found: What the model says when the passages do not answer.
        min_overlap: Least share of a statement's terms that its support must hold, in (0, 1].
    """

    model: LanguageModel
    segmenter: Segmenter
    build_prompt: Callable[[str, Sequence[Hit]], Prompt]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    not_found: str = "NOT_FOUND"
    min_overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.min_overlap <= 1:
            raise ConfigError(f"`min_overlap` must be in (0, 1], got {self.min_overlap!r}.")

    def stream(self, query: Query, hits: Sequence[Hit]) -> Iterator[str | Answer]:
        """See `Answerer.stream`. Without hits the model is not asked."""
        if not hits:
            yield NOT_FOUND_TEXT
            yield _with(self._missing(), {"passages": 0}, {})
            return
        started = time.perf_counter()
        said: list[str] = []
        usage: dict[str, int] = {"passages": len(hits)}
        yield from _held_back(self._said(query, hits, said, usage), self.not_found)
        timings = {"generate": (time.perf_counter() - started) * 1000}
        text = _THOUGHT.sub("", "".join(said), count=1).strip()
        if not text or _is_not_found(text, self.not_found):
            yield NOT_FOUND_TEXT
            yield _with(self._missing(), usage, timings)
            return
        started = time.perf_counter()
        answer = self._checked(query.text, text.replace(self.not_found, "").strip(), hits)
        timings["check"] = (time.perf_counter() - started) * 1000
        yield _with(answer, usage, timings)

    def _said(
        self, query: Query, hits: Sequence[Hit], said: list[str], usage: dict[str, int]
    ) -> Generator[str, None, None]:
        """The model's pieces; they and the usage are kept in `said` and `usage`."""
        prompt = self.build_prompt(query.text, hits)
        deltas = self.model.stream(prompt, self.sampling)
        try:
            for delta in deltas:
                usage.update(delta.usage)
                said.append(delta.text)
                yield delta.text
        finally:
            close = getattr(deltas, "close", None)
            if close is not None:  # a generator: closing it cancels the request
                close()

    def _missing(self) -> Answer:
        return Answer(
            NOT_FOUND_TEXT, found=False, confidence=0.0, fidelity=self._fidelity("none", 0, 0)
        )

    def _fidelity(self, kind: str, cited: int, statements: int) -> dict[str, object]:
        return {
            "kind": "generated",
            "model": self.model.fingerprint,
            "citations": kind,
            "checked": f"{cited} of {statements} statements supported by a citation",
        }

    def _checked(self, question: str, text: str, hits: Sequence[Hit]) -> Answer:
        """The answer with its labels resolved, or with none: with sources looked for."""
        plain, labels = _without_labels(text)
        statements = self.segmenter.split(plain)
        counts: Counter[str] = Counter(dropped_citations=0, unknown_labels=0)
        kind = "labelled" if labels else "matched"
        if labels:
            claims = list(_claims(plain, statements, labels))
            resolved = [self._resolve(question, claim, hits, counts) for claim in claims]
        else:
            claims = [
                _Claimed(i, s.end, plain[s.start : s.end], ()) for i, s in enumerate(statements)
            ]
            resolved = [self._match(question, claim, hits) for claim in claims]
        citations = tuple(dict.fromkeys(c for found in resolved for c in found))
        cited = len({claim.statement for claim, c in zip(claims, resolved, strict=True) if c})
        counts.update(statements=len(statements), cited_statements=cited)
        return Answer(
            _labelled(plain, claims, resolved, citations),
            citations,
            confidence=cited / len(statements) if statements else 0.0,
            usage=dict(counts),
            fidelity=self._fidelity(kind, cited, len(statements)),
        )

    def _resolve(
        self, question: str, claimed: _Claimed, hits: Sequence[Hit], counts: Counter[str]
    ) -> list[Citation]:
        """Citations for the labels of one statement that their passages support."""
        found: list[Citation] = []
        claim = Claim.of(claimed.text, question)
        for label in dict.fromkeys(claimed.labels):
            if not 1 <= label <= len(hits):
                counts["unknown_labels"] += 1
                continue
            support = self._support(claim, hits[label - 1])
            if support is None:
                counts["dropped_citations"] += 1
            else:
                found += _citations(hits[label - 1], support)
        return found

    def _match(self, question: str, claimed: _Claimed, hits: Sequence[Hit]) -> list[Citation]:
        """Citations from the passage that supports a statement best, if any does."""
        claim = Claim.of(claimed.text, question)
        supports = [(self._support(claim, hit), hit) for hit in hits]
        found = [(support, hit) for support, hit in supports if support is not None]
        if not found:
            return []
        support, hit = max(found, key=lambda pair: pair[0].overlap)
        return _citations(hit, support)

    def _support(self, claim: Claim, hit: Hit) -> Support | None:
        return find_support(claim, hit, self.segmenter, min_overlap=self.min_overlap)


class _Label(NamedTuple):
    """Passage numbers that stood at `at` in the text without labels."""

    at: int
    numbers: tuple[int, ...]


class _Claimed(NamedTuple):
    """A part of a statement and the labels after it; new labels go to `at`."""

    statement: int
    at: int
    text: str
    labels: tuple[int, ...]


def _without_labels(text: str) -> tuple[str, list[_Label]]:
    """The text without labels, and where they stood. Code keeps its brackets."""
    code = [match.span() for match in _CODE.finditer(text)]
    plain: list[str] = []
    labels: list[_Label] = []
    done = length = 0
    for match in _LABEL.finditer(text):
        if any(start <= match.start(1) < end for start, end in code):
            continue
        plain.append(text[done : match.start()])
        length += len(plain[-1])
        labels.append(_Label(length, _numbers(match.group(1))))
        done = match.end()
    return "".join([*plain, text[done:]]), labels


def _numbers(group: str) -> tuple[int, ...]:
    """`1, 2` and `1-3` to numbers; a backward or very long range counts as its two ends."""
    found: list[int] = []
    for part in re.split(r"[,，、;；&]|and", group, flags=re.IGNORECASE):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        if len(ends) == 2 and 0 <= ends[1] - ends[0] < 20:
            found.extend(range(ends[0], ends[1] + 1))
        else:
            found.extend(ends)
    return tuple(found)


def _claims(
    plain: str, statements: Sequence[tuple[int, int]], labels: Sequence[_Label]
) -> Iterator[_Claimed]:
    """What each group of labels stands for: its clause, or its sentence when that is short."""
    grouped: dict[int, list[int]] = {}
    for label in labels:
        grouped.setdefault(label.at, []).extend(label.numbers)
    done = 0
    for at, numbers in grouped.items():
        place = max((i for i, (start, _) in enumerate(statements) if start < at), default=None)
        if place is None:  # a label before all words belongs to the first statement
            place = 0
            at = min(statements[0][1], len(plain)) if statements else 0
        if not statements:
            continue
        start, end = statements[place]
        clause = plain[max(start, done) : min(at, end)]
        is_short = len(Claim.of(clause, "").terms) < _MIN_CLAUSE_TERMS
        text = plain[start : max(end, min(at, end))] if is_short else clause
        done = at
        yield _Claimed(place, at, text, tuple(numbers))


def _labelled(
    plain: str,
    claims: Iterable[_Claimed],
    resolved: Iterable[Sequence[Citation]],
    citations: Sequence[Citation],
) -> str:
    """The text with a label after each claim for each of its citations, counted from 1."""
    number = {found: i for i, found in enumerate(citations, start=1)}
    parts: list[str] = []
    done = 0
    for claim, found in sorted(zip(claims, resolved, strict=True), key=lambda pair: pair[0].at):
        parts.append(plain[done : claim.at])
        if found:
            parts.append(" " + "".join(f"[{number[c]}]" for c in dict.fromkeys(found)))
        done = claim.at
    return "".join([*parts, plain[done:]]).strip()


def _citations(hit: Hit, support: Support) -> list[Citation]:
    return [citation(hit, span.start, span.end) for span in support.spans]


def _is_not_found(text: str, marker: str) -> bool:
    """Whether the marker opens the text or is its last line; models add quotes and dots."""
    opens = re.match(rf"\W*{re.escape(marker)}\b", text, re.IGNORECASE)
    return bool(opens) or text.splitlines()[-1].strip(" .`\"'*") == marker


def _held_back(pieces: Generator[str, None, None], marker: str) -> Iterator[str]:
    """The pieces, kept back while they may still be the marker or a thought of the model."""
    text = ""
    is_open = False
    with closing(pieces):
        for piece in pieces:
            if is_open:
                if piece:
                    yield piece
                continue
            text += piece
            visible = _THOUGHT.sub("", text, count=1).lstrip()
            start = visible.lstrip("\"'`*")
            if start and not _may_be(start, marker) and not _may_be(start, "<think>"):
                is_open = True
                yield visible
    if not is_open:
        visible = _THOUGHT.sub("", text, count=1).strip()
        if visible and not _is_not_found(visible, marker):
            yield visible


def _may_be(text: str, marker: str) -> bool:
    """Whether one of the two begins with the other."""
    return text.startswith(marker) or marker.startswith(text)


def _with(answer: Answer, usage: Mapping[str, int], timings: Mapping[str, float]) -> Answer:
    fidelity = {**answer.fidelity}
    if usage.get("reused_tokens"):
        fidelity["prompt"] = "approximate"
    counts = {**usage, **answer.usage}
    return dataclasses.replace(answer, usage=counts, fidelity=fidelity, timings_ms=timings)
