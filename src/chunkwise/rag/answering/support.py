"""Which sentences of a passage support a statement, by words, numbers and names.

Shared by the answerers. This compares surfaces: it catches a wrong passage, an invented number
or name, and a statement that the passage does not make. It does not read: a turned negation or a
paraphrase without a common word is beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chunkwise.rag.answering import matching
from chunkwise.rag.answering.units import Unit, units_of
from chunkwise.types import Hit, Segmenter, Span

_MAX_UNITS = 3
_MIN_GAIN = 0.12
_NUMBER_WEIGHT = 3.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a statement asserts, for comparing.

    Attributes:
        terms: Its content terms.
        new: Those that the question did not hold already.
        numbers: Its numbers, written one way, each with the terms next to it.
        names: Its names that the question did not hold already.
    """

    terms: tuple[str, ...]
    new: tuple[str, ...]
    numbers: Mapping[str, frozenset[str]]
    names: frozenset[str]

    @classmethod
    def of(cls, statement: str, question: str) -> Claim:
        """The claim that `statement` makes in answer to `question`."""
        asked = set(matching.terms(question))
        terms = tuple(dict.fromkeys(matching.content_terms(statement)))
        return cls(
            terms,
            tuple(term for term in terms if term not in asked),
            _numbers(statement),
            frozenset(matching.names(statement) - asked),
        )


@dataclass(frozen=True, slots=True)
class Support:
    """Where a passage supports a statement.

    Attributes:
        spans: Verbatim sentences or rows, neighbours joined, as ranges of the chunk's text.
        overlap: Share of the statement's terms that stand in them, in [0, 1].
    """

    spans: tuple[Span, ...]
    overlap: float


def find_support(
    claim: Claim, hit: Hit, segmenter: Segmenter, *, min_overlap: float
) -> Support | None:
    """The one to three units of the passage that support the claim best, or None.

    Supported means: every number stands in those units or the passage's headings, table header
    or name; every new name stands somewhere in the passage (not asked where every noun has a
    capital); and at least `min_overlap` of the terms, and of the new terms alone, stand in
    those units. A number counts where it stands among half of the words that surround it in
    the statement: the right number of something else is the wrong one.
    """
    units = units_of([hit], segmenter)
    if not units or not claim.terms:
        return None
    texts = [hit.chunk.text[unit.start : unit.end] for unit in units]
    said = [set(matching.terms(text)) | matching.number_words(text) for text in texts]
    around = _around(hit)
    chosen = _choose(claim, said, around)
    held = around.union(*(said[i] for i in chosen))
    overlap = _share(claim.terms, held)
    near = [said[i] | around for i in chosen]
    if not all(_stands(number, by, around, near) for number, by in claim.numbers.items()):
        return None
    has_names = matching.capitals_mean_names(hit.chunk.text)
    if has_names and not claim.names <= around.union(*said):
        return None
    if min(overlap, _share(claim.new, held)) < min_overlap:
        return None
    return Support(_joined(chosen, units), overlap)


def _around(hit: Hit) -> set[str]:
    chunk = hit.chunk
    return set(matching.terms("\n".join([hit.document, *chunk.headings, chunk.header])))


def _choose(claim: Claim, said: Sequence[set[str]], around: set[str]) -> list[int]:
    """Greedy cover: the unit that adds most, while it adds enough. Earlier units win ties."""
    weight = {t: _NUMBER_WEIGHT if t in claim.numbers else 1.0 for t in claim.terms}
    total = sum(weight.values())
    chosen: list[int] = []
    missing = set(claim.terms) - around or set(claim.terms)
    while len(chosen) < _MAX_UNITS and missing:
        gains = [sum(weight[t] for t in missing & terms) / total for terms in said]
        best = max(range(len(said)), key=lambda i: (gains[i], -i))
        if chosen and gains[best] < _MIN_GAIN:
            break
        chosen.append(best)
        missing -= said[best]
    return sorted(chosen)


def _numbers(statement: str) -> dict[str, frozenset[str]]:
    """Numbers of a statement with the content terms up to two before and after."""
    terms, numbers = matching.content_terms(statement), matching.numbers(statement)
    found: dict[str, frozenset[str]] = dict.fromkeys(numbers, frozenset())
    for i, term in enumerate(terms):
        if term in numbers:
            found[term] |= frozenset(terms[max(i - 2, 0) : i + 3]) - numbers
    return found


def _stands(number: str, by: frozenset[str], around: set[str], near: Sequence[set[str]]) -> bool:
    """Whether the passage's frame holds a number, or a unit holds it among the same words."""
    return number in around or any(
        number in terms and 2 * len(by & terms) >= len(by) for terms in near
    )


def _joined(chosen: Sequence[int], units: Sequence[Unit]) -> tuple[Span, ...]:
    spans: list[Span] = []
    previous = -2
    for i in chosen:
        if i == previous + 1:
            spans[-1] = Span(spans[-1].start, units[i].end)
        else:
            spans.append(Span(units[i].start, units[i].end))
        previous = i
    return tuple(spans)


def _share(wanted: Sequence[str], held: set[str]) -> float:
    return sum(term in held for term in wanted) / len(wanted) if wanted else 1.0
