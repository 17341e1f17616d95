"""Near-duplicates among hits: the lower one is folded into the better one's `copies`.

Shared by the selectors. Two hits are compared by their shingles, runs of five words (characters
in scripts without spaces). A lower hit is folded when nearly all of its shingles stand in a
better one: then the better one says what the lower one says. The other way round, a better hit
inside a longer lower one, folds nothing, because the longer one says more.

A lower hit is never folded when it holds a number or a negation that the better one lacks: two
clauses that differ in one amount, or one "not", share nearly all shingles and not their meaning.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from chunkwise.errors import ConfigError
from chunkwise.types import Hit

SHINGLE_WORDS = 5
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_NEGATIONS = (
    "no not never none neither nor without cannot t except unless nicht kein keine keinen nie "
    "ohne pas non jamais sans sin nunca ni não sem nem senza mai 不 没 無 无 未 非"
)


def check_containment(min_containment: float | None) -> None:
    """Check the selectors' option of that name; None folds nothing.

    Raises:
        ConfigError: It is no share.
    """
    if min_containment is not None and not 0 < min_containment <= 1:
        raise ConfigError(f"`min_containment` must be in (0, 1] or None, got {min_containment!r}.")


def fold_duplicates(hits: Sequence[Hit], *, min_containment: float = 0.9) -> list[Hit]:
    """The hits in their order, without those that a better one already says.

    Args:
        hits: Best first.
        min_containment: Share of the lower hit's shingles that must stand in the better one,
            in (0, 1].

    Returns:
        Hits whose `copies` have gained the folded ones and their copies.
    """
    kept: list[tuple[Hit, frozenset[int], Counter[str]]] = []
    copies: list[list[Hit]] = []
    for hit in hits:
        words = _words(hit.chunk.text)
        shingles, marks = _shingles(words), _marks(words)
        for place, (better, its_shingles, its_marks) in enumerate(kept):
            same = better.chunk.id == hit.chunk.id
            if same or (_contained(shingles, its_shingles, min_containment) and marks <= its_marks):
                copies[place].append(hit)
                break
        else:
            kept.append((hit, shingles, marks))
            copies.append([])
    return [_with_copies(hit, more) for (hit, _, _), more in zip(kept, copies, strict=True)]


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in _WORD.findall(text.casefold()):
        words.extend(word if _NO_SPACES.search(word) else [word])
    return words


def _shingles(words: Sequence[str]) -> frozenset[int]:
    last = max(len(words) - SHINGLE_WORDS + 1, 1)
    return frozenset(hash(tuple(words[i : i + SHINGLE_WORDS])) for i in range(last))


def _marks(words: Sequence[str]) -> Counter[str]:
    """Numbers and negations, with how often each stands: what must not differ."""
    negations = frozenset(_NEGATIONS.split())
    return Counter(word for word in words if word[0].isdigit() or word in negations)


def _contained(lower: frozenset[int], better: frozenset[int], least: float) -> bool:
    return len(lower & better) >= least * len(lower)


def _with_copies(hit: Hit, folded: Sequence[Hit]) -> Hit:
    if not folded:
        return hit
    places = list(hit.copies)
    for other in folded:
        places += [(other.document, other.chunk.span), *other.copies]
    own = (hit.document, hit.chunk.span)
    return dataclasses.replace(hit, copies=tuple(p for p in dict.fromkeys(places) if p != own))
