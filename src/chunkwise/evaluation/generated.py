"""Questions made from a corpus, with the characters that answer them, filtered and counted.

Source: the pipeline of Chroma's chunking evaluation (Smith and Troynikov, 2024): questions with
    copied excerpts, those far from their excerpts and near-duplicates dropped; the round trip of
    PAQ (arXiv 2102.07033) over the whole corpus against ambiguous questions.
Differs: the round trip is made with the corpus's own search, and asks whether another sentence
    that it finds answers as well: by the question's words where the excerpt holds half of them,
    else by the ranker of `rag.answering.evidence`. Without a trained embedder, duplicates are
    questions of the same words, and no question is held against its excerpts.
Exact when: never; that is what the filters are for. Questions that the corpus's own search cannot
    bring back are left out, so recall is flattered: compare recipes with them on one file, and do
    not quote them as absolute figures.
Cost: one search and the sentences of its hits for each question that gets so far.
Helps or hurts: not measured against questions of people yet.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from chunkwise.errors import DocumentError, RequestError
from chunkwise.evaluation.chunking import CaseLine
from chunkwise.evaluation.question_windows import Draft, Window, Writer, drawn_windows
from chunkwise.evaluation.question_writers import ModelWriter, RuleWriter
from chunkwise.evaluation.spans import Place, SpanCase
from chunkwise.rag.answering.evidence import weigh
from chunkwise.rag.answering.matching import content_terms, terms
from chunkwise.rag.answering.units import Unit, units_of
from chunkwise.rag.sentences.guess import guess_language
from chunkwise.types import Hit, content_id

if TYPE_CHECKING:
    from chunkwise.pipeline.corpus import Corpus

NEAR: Final = 0.36
"""Least cosine of a question with its excerpts."""
ALIKE: Final = 0.6
"""Cosine from which a question is a copy of an earlier one."""
TOP: Final = 20
"""Hits among which a question must bring its document's span back."""
TRIES: Final = 8
"""Questions that are made at most for each that is wanted."""

FILTERS: Final = {
    "no_span": "what answers is not in the text",
    "duplicate": "like an earlier question",
    "far": "far from what answers",
    "not_found": "not found by the corpus's search",
    "ambiguous": "answered as well elsewhere",
}


@dataclass(frozen=True, slots=True)
class Generated:
    """Questions of a corpus and what became of those that were made.

    Attributes:
        drafts: The questions that are kept.
        by: Who made them.
        made: How many were made.
        dropped: How many each filter dropped; see `FILTERS`.
        notes: What was left out, in sentences for the user.
    """

    drafts: Sequence[Draft]
    by: str
    made: int
    dropped: Mapping[str, int]
    notes: Sequence[str] = field(default=())

    def cases(self) -> list[CaseLine]:
        """The questions as `evaluate_chunking` takes them."""
        return [CaseLine(_id(d), SpanCase(d.question, d.references)) for d in self.drafts]

    def rows(self) -> Iterator[dict[str, Any]]:
        """The questions as a file holds them: what `read_cases` and `read_questions` read."""
        for draft in self.drafts:
            places = zip(draft.references, draft.excerpts, strict=True)
            yield {
                "id": _id(draft),
                "question": draft.question,
                "references": [
                    {"document": name, "start": span.start, "end": span.end, "text": text}
                    for (name, span), text in places
                ],
                "answers": [draft.answer],
                "document": draft.references[0].document,
                "kind": draft.kind,
            }


def generate(
    corpus: Corpus, *, count: int = 100, seed: int = 0, writer: Writer | None = None
) -> Generated:
    """Questions that the documents of a corpus answer.

    Args:
        corpus: Its documents are asked about, and its search makes the round trip.
        count: Most questions that are kept.
        seed: Same seed and corpus, same questions, where the writer always writes the same.
        writer: Makes them; None: the language model of the settings, or rules where none is set.

    Raises:
        DocumentError: The corpus has no document, or not one question is left.
        StoreError: There is no corpus.
        RemoteError: The server of a model failed.
    """
    chance = random.Random(seed)
    by = writer_of(corpus) if writer is None else writer
    windows = drawn_windows(corpus, count, chance)
    if not windows:
        raise DocumentError(
            str(corpus.folder),
            "holds no text to make questions from; `chunkwise add` adds documents.",
        )
    notes = _left_out(windows, by)
    failed: list[str] = []
    sieve = Sieve(corpus)
    for draft in _drafts(windows, by, chance, failed):
        sieve.take(draft)
        if len(sieve.kept) == count:
            break
        if sieve.made == TRIES * count:
            notes.append(f"It was left at {sieve.made} questions that were made.")
            break
    notes += sieve.notes + _failures(failed)
    if not sieve.kept:
        raise DocumentError(str(corpus.folder), _nothing(sieve, by.name, notes))
    return Generated(sieve.kept, by.name, sieve.made, dict(sieve.dropped), notes)


def writer_of(corpus: Corpus, *, constrained: bool = True) -> Writer:
    """The language model of the settings, or rules where none is set.

    Args:
        corpus: Has the settings.
        constrained: See `ModelWriter`.
    """
    if corpus.settings.model:
        return ModelWriter(corpus.parts.model, constrained=constrained)
    return RuleWriter(corpus.parts.segmenter)


class Sieve:
    """Keeps the questions that pass all filters, in the order in which they come.

    Args:
        corpus: Its embedder and search decide.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.kept: list[Draft] = []
        self.made = 0
        self.dropped: Counter[str] = Counter(dict.fromkeys(FILTERS, 0))
        self._corpus = corpus
        embedder = corpus.parts.embedder
        self._embedder = None if embedder.is_weak else embedder
        self._vectors: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self._words: set[frozenset[str]] = set()
        self._read: dict[tuple[str, tuple[str, ...]], list[tuple[Unit, set[str]]]] = {}

    @property
    def notes(self) -> list[str]:
        """What could not be checked."""
        if self._embedder is not None:
            return []
        return [
            "The embedder is weak: questions are not held against what answers them, and only "
            "those of the same words are duplicates."
        ]

    def take(self, draft: Draft) -> str:
        """Keep a question; or say by which filter it is dropped."""
        self.made += 1
        reason = self._reason(draft)
        if reason:
            self.dropped[reason] += 1
        else:
            self.kept.append(draft)
        return reason

    def _reason(self, draft: Draft) -> str:
        if not draft.references or not draft.question.strip():
            return "no_span"
        reason = self._unlike(draft) or self._not_back(draft)
        if not reason:
            self._words.add(frozenset(terms(draft.question)))
        elif self._embedder is not None and reason not in ("duplicate", "far"):
            self._vectors.pop()
        return reason

    def _unlike(self, draft: Draft) -> str:
        """Whether it is a copy, or far from its excerpts; its vector is kept where it is not."""
        if frozenset(terms(draft.question)) in self._words:
            return "duplicate"
        if self._embedder is None:
            return ""
        (asked,) = self._embedder.embed([draft.question], "query")
        if self._vectors and float((np.stack(self._vectors) @ asked).max()) >= ALIKE:
            return "duplicate"
        (answering,) = self._embedder.embed([" ".join(draft.excerpts)])
        if float(asked @ answering) < NEAR:
            return "far"
        self._vectors.append(asked)
        return ""

    def _not_back(self, draft: Draft) -> str:
        hits = self._corpus.search(draft.question, TOP)
        if not any(_meets(draft.references, *each) for hit in hits for each in _spans(hit)):
            return "not_found"
        found = [
            (replace(unit, hit=i), words)
            for i, hit in enumerate(hits)
            for unit, words in self._units(hit)
        ]
        units, said = [unit for unit, _ in found], [words for _, words in found]
        ours = [
            any(_meets(draft.references, *each) for each in _places(unit, hits)) for unit in units
        ]
        if not any(ours):
            return "not_found"
        return "ambiguous" if self._is_ambiguous(draft, hits, units, said, ours) else ""

    def _units(self, hit: Hit) -> list[tuple[Unit, set[str]]]:
        """Sentences and rows of a hit, with their terms and those of the headings above; a chunk
        is read once."""
        chunk = hit.chunk
        key = (chunk.id, chunk.headings)
        if key not in self._read:
            self._read[key] = [
                (unit, set(terms(" ".join([chunk.text[unit.start : unit.end], *chunk.headings]))))
                for unit in units_of([hit], self._corpus.parts.segmenter)
                if not unit.is_heading
            ]
        return self._read[key]

    def _is_ambiguous(
        self,
        draft: Draft,
        hits: Sequence[Hit],
        units: Sequence[Unit],
        said: Sequence[set[str]],
        ours: Sequence[bool],
    ) -> bool:
        """Whether a unit that is no reference answers as well as the best that is one."""
        if all(ours):
            return False
        asked = set(content_terms(draft.question))
        held = max(len(asked & words) for words, own in zip(said, ours, strict=True) if own)
        if 2 * held >= len(asked):
            others = (words for words, own in zip(said, ours, strict=True) if not own)
            return any(len(asked & words) >= held for words in others)
        scores = weigh(draft.question, hits, units, embedder=self._embedder).scores
        is_ours = np.array(ours)
        return bool(scores[~is_ours].max() >= scores[is_ours].max())


def _drafts(
    windows: Sequence[Window], writer: Writer, chance: random.Random, failed: list[str]
) -> Iterator[Draft]:
    """One of each window in turn, and again; those with a gap, which say too much, come last."""
    late: list[Draft] = []
    for draft in _in_turn([_asked(window, writer, chance, failed) for window in windows]):
        if draft.kind == "cloze":
            late.append(draft)
        else:
            yield draft
    yield from late


def _asked(
    window: Window, writer: Writer, chance: random.Random, failed: list[str]
) -> Iterator[Draft]:
    """The drafts of a window; one that a model cannot be asked about is noted."""
    try:
        yield from writer.drafts(window, chance)
    except RequestError as exc:
        failed.append(str(exc))


def _in_turn(sources: Iterable[Iterator[Draft]]) -> Iterator[Draft]:
    waiting = list(sources)
    while waiting:
        still = []
        for source in waiting:
            for draft in itertools.islice(source, 1):
                yield draft
                still.append(source)
        waiting = still


def _left_out(windows: Sequence[Window], writer: Writer) -> list[str]:
    """A sentence on documents in languages that the writer does not know."""
    if not writer.is_english_only:
        return []
    languages = {window.document: guess_language(window.text) or "?" for window in windows}
    others = Counter(language for language in languages.values() if language != "en")
    if not others:
        return []
    listed = ", ".join(f"{count} in {language!r}" for language, count in sorted(others.items()))
    return [
        f"The rules know English only: {others.total()} of {len(languages)} documents are left "
        f"out ({listed}). A language model (`model`) writes questions in any language."
    ]


def _failures(failed: Sequence[str]) -> list[str]:
    return [f"{len(failed)} windows gave no question; the first: {failed[0]}"] if failed else []


def _nothing(sieve: Sieve, by: str, notes: Sequence[str]) -> str:
    dropped = ", ".join(f"{n} {FILTERS[name]}" for name, n in sieve.dropped.items() if n)
    made = f"{sieve.made} were made" + (f" ({dropped})" if dropped else "")
    return " ".join(
        [
            f"no question could be made by {by}: {made}.",
            *notes,
            "Add documents, set `model`, or give a file of questions.",
        ]
    )


def _id(draft: Draft) -> str:
    """Of the words of question and excerpts: gone when the text is."""
    return content_id("\n".join([draft.question, *draft.excerpts]))[:16]


def _meets(references: Sequence[Place], document: str, start: int, end: int) -> bool:
    return any(
        name == document and span.start < end and start < span.end for name, span in references
    )


def _spans(hit: Hit) -> list[tuple[str, int, int]]:
    """Where the text of a hit stands, and its copies."""
    return [(hit.document, *hit.chunk.span), *((name, *span) for name, span in hit.copies)]


def _places(unit: Unit, hits: Sequence[Hit]) -> list[tuple[str, int, int]]:
    """Where a unit stands; in a copy that differs a little its place may be off by that."""
    return [
        (name, start + unit.start, start + unit.end) for name, start, _ in _spans(hits[unit.hit])
    ]
