"""How well retrieved chunks cover the characters that answer a question.

Source: the token-wise metrics of Chroma's chunking evaluation (Smith and Troynikov, 2024), over
    characters.
Differs: ranges are half-open, unions are taken before lengths, and a range that only touches
    another, or has no width, is no hit. IoU* and the two losses are ours. `compat="chroma"` gives
    the published arithmetic for comparison.
Exact when: IoU* is exact when the chunks do not overlap, and for at most 12 chunks that meet the
    references; else it is a greedy lower bound, but never below the IoU of what was retrieved.
Cost: O(chunks) per question.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.evaluation.base import Report
from chunkwise.types import Span

_BRUTE_FORCE: Final = 12
Compat = Literal["exact", "chroma"]


class Place(NamedTuple):
    """A span of a named document."""

    document: str
    span: Span


class Retrieved(NamedTuple):
    """A retrieved chunk: where it stands, and its length in tokens."""

    place: Place
    tokens: int


@dataclass(frozen=True, slots=True)
class SpanCase:
    """A question and the characters that answer it."""

    question: str
    references: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class SpanScores:
    """Scores of one question, all in [0, 1].

    Attributes:
        recall: Share of the reference characters that were retrieved.
        precision: Share of the retrieved characters that are reference.
        iou: Intersection over union of retrieved and reference characters.
        precision_omega: Precision of all chunks that meet a reference: what a perfect retriever
            would have at full recall. Says something of the chunking only.
        best_iou: IoU*: the highest IoU of any set of chunks. `1 - best_iou` is lost by chunking,
            `best_iou - iou` by retrieval.
    """

    recall: float
    precision: float
    iou: float
    precision_omega: float
    best_iou: float

    @property
    def lost_by_chunking(self) -> float:
        """What no retriever could have had from these chunks: `1 - best_iou`."""
        return 1.0 - self.best_iou

    @property
    def lost_by_retrieval(self) -> float:
        """What a better choice among these chunks would have added: `best_iou - iou`."""
        return self.best_iou - self.iou


class Chunking:
    """All chunks of a corpus, to find those that meet a reference.

    Args:
        chunks: Their places, in any order; equal ones count once.
    """

    def __init__(self, chunks: Iterable[Place]) -> None:
        spans: dict[str, set[Span]] = {}
        for document, span in chunks:
            spans.setdefault(document, set()).add(Span(*span))
        self._arrays: dict[str, NDArray[np.int64]] = {
            name: np.array(sorted(found), dtype=np.int64) for name, found in spans.items()
        }

    def meeting(self, references: Sequence[Place], *, or_touching: bool = False) -> list[Place]:
        """Chunks that share a character with a reference, or touch it if so asked."""
        slack = 1 if or_touching else 0
        found: dict[Place, None] = {}
        for document, (start, end) in references:
            spans = self._arrays.get(document)
            if spans is None or (end <= start and not or_touching):
                continue
            meets = (spans[:, 0] < end + slack) & (spans[:, 1] > start - slack)
            for low, high in spans[meets].tolist():
                found[Place(document, Span(low, high))] = None
        return list(found)


def score_spans(
    references: Sequence[Place],
    retrieved: Sequence[Place],
    chunking: Chunking,
    *,
    compat: Compat = "exact",
) -> SpanScores:
    """Scores of one question.

    Args:
        references: The characters that answer it.
        retrieved: The chunks that were retrieved, in any order.
        chunking: All chunks of the corpus, for precision-omega and IoU*.
        compat: `chroma` counts as the published code does: lengths are summed without taking
            unions, and touching chunks count as hits for precision-omega. IoU* is always exact.

    Raises:
        ConfigError: The references hold no character.
    """
    if not _length(_union(references)):
        raise ConfigError(f"The references {list(references)!r} hold no character.")
    ideal = chunking.meeting(references, or_touching=compat == "chroma")
    if compat == "chroma":
        recall, precision, iou = _summed(references, retrieved)
        omega = _summed(references, ideal)[1]
    else:
        recall, precision, iou = _united(references, retrieved)
        omega = _united(references, ideal)[1]
    best = max(
        best_iou(references, chunking.meeting(references)), _united(references, retrieved)[2]
    )
    return SpanScores(recall, precision, iou, omega, best)


def best_iou(references: Sequence[Place], chunks: Sequence[Place]) -> float:
    """IoU*: the highest IoU with the references of any subset of the chunks."""
    chunks = list(dict.fromkeys(chunks))
    if _length(_union(chunks)) == sum(span.end - span.start for _, span in chunks):
        return _best_of_disjoint(references, chunks)
    if len(chunks) <= _BRUTE_FORCE:
        subsets = itertools.chain.from_iterable(
            itertools.combinations(chunks, count) for count in range(1, len(chunks) + 1)
        )
        return max((_united(references, subset)[2] for subset in subsets), default=0.0)
    return _best_greedily(references, chunks)


def recall_at(references: Sequence[Place], ranked: Sequence[Retrieved], *, budget: int) -> float:
    """Recall of the best-ranked chunks that fit in a budget of tokens together.

    Chunks are taken whole, best first, up to the first that does not fit.
    """
    taken, spent = [], 0
    for place, tokens in ranked:
        spent += tokens
        if spent > budget:
            break
        taken.append(place)
    return _united(references, taken)[0]


def evaluate_spans(
    name: str,
    cases: Sequence[SpanCase],
    search: Callable[[str, int], Sequence[Retrieved]],
    chunks: Iterable[Place],
    *,
    k: int = 5,
    budgets: Sequence[int] = (400,),
    depth: int = 20,
) -> Report:
    """Rows of one system over all questions.

    Args:
        name: The system.
        cases: The questions.
        search: The best chunks of a question, best first, and how many are wanted.
        chunks: Places of all chunks of the corpus.
        k: How many chunks are retrieved for all metrics without a budget.
        budgets: Token budgets for `recall_at_<budget>`.
        depth: How many chunks to look at for the budgets: enough of the smallest to fill them.

    Returns:
        A report whose rows have the fields of `SpanScores`, both losses, the same with the prefix
        `chroma_` for the published arithmetic, and `recall_at_<budget>`.
    """
    chunking = Chunking(chunks)
    rows = []
    for case in cases:
        best = [hit.place for hit in search(case.question, k)]
        ranked = search(case.question, depth) if budgets else []
        rows.append(score_case(case.references, best, ranked, chunking, budgets=budgets))
    return Report(name, rows)


def score_case(
    references: Sequence[Place],
    best: Sequence[Place],
    ranked: Sequence[Retrieved],
    chunking: Chunking,
    *,
    budgets: Sequence[int],
) -> dict[str, float]:
    """All measures of one question.

    Args:
        references: The characters that answer it.
        best: The chunks that were retrieved.
        ranked: More of them, best first, enough to fill the budgets.
        chunking: All chunks of the corpus.
        budgets: Tokens of `recall_at_<budget>`.
    """
    row = _row(references, best, chunking)
    for budget in budgets:
        row[f"recall_at_{budget}"] = recall_at(references, ranked, budget=budget)
    return row


def _row(
    references: Sequence[Place], retrieved: Sequence[Place], chunking: Chunking
) -> dict[str, float]:
    exact = score_spans(references, retrieved, chunking)
    published = score_spans(references, retrieved, chunking, compat="chroma")
    return {
        "recall": exact.recall,
        "precision": exact.precision,
        "precision_omega": exact.precision_omega,
        "iou": exact.iou,
        "best_iou": exact.best_iou,
        "lost_by_chunking": exact.lost_by_chunking,
        "lost_by_retrieval": exact.lost_by_retrieval,
        "chroma_recall": published.recall,
        "chroma_precision": published.precision,
        "chroma_precision_omega": published.precision_omega,
        "chroma_iou": published.iou,
    }


def _united(references: Sequence[Place], found: Sequence[Place]) -> tuple[float, float, float]:
    """Recall, precision and IoU of unions; 0 where nothing was found."""
    wanted, had = _union(references), _union(found)
    shared = _length(_intersection(wanted, had))
    num_wanted, num_had = _length(wanted), _length(had)
    return (
        shared / num_wanted,
        shared / num_had if num_had else 0.0,
        shared / (num_wanted + num_had - shared),
    )


def _summed(references: Sequence[Place], found: Sequence[Place]) -> tuple[float, float, float]:
    """The same as the published code counts: sums of lengths, copies and overlaps included."""
    wanted, had = _union(references), _union(found)
    shared = _length(_intersection(wanted, had))
    num_wanted = sum(span.end - span.start for _, span in references)
    num_had = sum(span.end - span.start for _, span in found)
    uncovered = _length(wanted) - shared
    return (
        shared / num_wanted,
        shared / num_had if num_had else 0.0,
        shared / (num_had + uncovered),
    )


def _best_of_disjoint(references: Sequence[Place], chunks: Sequence[Place]) -> float:
    """Exact IoU* of chunks that do not overlap.

    IoU is then a ratio of sums, whose best subset holds the chunks with the highest ratio of
    reference to other characters: a prefix of the chunks in that order.
    """
    wanted = _union(references)
    shares = []
    for document, span in chunks:
        shared = _length(_intersection(wanted, {document: [span]}))
        shares.append((shared, span.end - span.start - shared))
    shares.sort(key=lambda share: share[1] / share[0] if share[0] else float("inf"))
    best, shared, other = 0.0, 0, 0
    for more_shared, more_other in shares:
        shared, other = shared + more_shared, other + more_other
        best = max(best, shared / (_length(wanted) + other))
    return best


def _best_greedily(references: Sequence[Place], chunks: Sequence[Place]) -> float:
    """IoU of chunks added one by one while that helps: a lower bound of IoU*."""
    chosen: list[Place] = []
    left, best = list(chunks), 0.0
    while left:
        value, pick = max((_united(references, [*chosen, chunk])[2], chunk) for chunk in left)
        if value <= best:
            break
        best = value
        chosen.append(pick)
        left.remove(pick)
    return best


def _union(places: Iterable[Place]) -> dict[str, list[Span]]:
    """Disjoint spans in order, by document; spans without width are left out."""
    merged: dict[str, list[Span]] = {}
    for document, (start, end) in sorted(places):
        if end <= start:
            continue
        spans = merged.setdefault(document, [])
        if spans and start <= spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(end, spans[-1].end))
        else:
            spans.append(Span(start, end))
    return merged


def _intersection(
    one: Mapping[str, Sequence[Span]], other: Mapping[str, Sequence[Span]]
) -> dict[str, list[Span]]:
    """What both unions hold."""
    shared: dict[str, list[Span]] = {}
    for document, spans in one.items():
        for start, end in spans:
            for low, high in other.get(document, ()):
                if low < end and start < high:
                    shared.setdefault(document, []).append(Span(max(start, low), min(end, high)))
    return shared


def _length(spans: Mapping[str, Sequence[Span]]) -> int:
    return sum(end - start for found in spans.values() for start, end in found)
