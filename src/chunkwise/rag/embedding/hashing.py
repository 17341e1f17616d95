"""Signed feature hashing of words and letters: vectors without any trained model.

Source: Weinberger et al., Feature Hashing for Large Scale Multitask Learning (arXiv 0902.2206);
character trigrams of words as in fastText (arXiv 1607.04606), here hashed instead of learnt.
Differs: word counts are dampened by `1 + log(count)`, and short words count less. There is no
inverse document frequency, since an embedder sees no corpus.
Exact when: never; it approximates the cosine of sparse counts, with noise of `1 / sqrt(dim)`.
Cost: O(characters), numpy only, one core.
Helps or hurts: it finds texts that share spellings with the question and knows no synonyms. It is
weaker than BM25 and far weaker than a trained encoder, so `is_weak` is set. It is there so that
dense search works without torch, and for tests.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError

__all__ = ["HashingEmbedder"]

_VERSION = 1  # raised whenever vectors change
_WORD = re.compile(r"\w+")
_SYMBOLS = re.compile(r"\S+")
_BATCH = 512  # texts hashed together: bounds memory at some 30 MB
_UNIGRAM, _BIGRAM, _SPELLING = 1.0, 0.2, 1.2  # tuned on NQ-open, not on Cranfield

_U64 = NDArray[np.uint64]


@dataclass(frozen=True)
class HashingEmbedder:
    """Unit vectors of hashed word unigrams, word bigrams and character trigrams.

    Deterministic across processes and machines. Texts are case-folded and NFKC-normalised; `kind`
    makes no difference. A text without words is hashed by its symbols; a blank text has one fixed
    unit vector, so that every vector has length one.

    Attributes:
        dim: Length of a vector, from 16 to 65536.
    """

    dim: int = 384
    fingerprint: str = field(init=False)
    max_tokens: int = field(init=False, default=2**31 - 1)
    is_weak: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 16 <= self.dim <= 65536:
            raise ConfigError(f"`dim` must be in [16, 65536], got {self.dim!r}.")
        object.__setattr__(self, "fingerprint", f"hashing-{_VERSION}-d{self.dim}")

    def embed(
        self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
    ) -> NDArray[np.float32]:
        """Unit vectors `(len(texts), dim)`, float32, in the order of `texts`."""
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            out[start : start + _BATCH] = self._embed(texts[start : start + _BATCH])
        return out

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows, ids, words = _word_ids(texts)
        hashes, trigrams, trigram_starts = _hash_words(words)
        pairs, weights = _dampened(rows * len(words) + ids)
        row, word = pairs // len(words), pairs % len(words)
        weights *= _importance(words)[word]

        per_word = np.diff(trigram_starts)
        repeats = per_word[word]
        at = _ranges(trigram_starts[word], repeats)
        # Scaled so that the trigrams of a word weigh the same together, whatever its length.
        spelling = _SPELLING * weights / np.sqrt(np.maximum(repeats, 1))
        features = [
            (row, hashes[word], _UNIGRAM * weights),
            (np.repeat(row, repeats), trigrams[at], np.repeat(spelling, repeats)),
            _bigrams(rows, hashes[ids]),
        ]
        flat = np.zeros(len(texts) * self.dim)
        for where, hashed, weight in features:
            slots = where * self.dim + (hashed % np.uint64(self.dim)).astype(np.int64)
            signs = np.where(hashed >> np.uint64(63), weight, -weight)
            flat += np.bincount(slots, weights=signs, minlength=len(flat))
        return _normalised(flat.reshape(len(texts), self.dim))


def _word_ids(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Row and vocabulary id of each word of each text, and the vocabulary."""
    vocabulary: dict[str, int] = {}
    ids: list[int] = []
    lengths = np.empty(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        words = _words(text)
        ids += [vocabulary.setdefault(word, len(vocabulary)) for word in words]
        lengths[i] = len(words)
    rows = np.repeat(np.arange(len(texts)), lengths)
    return rows, np.array(ids, dtype=np.int64), list(vocabulary)


def _words(text: str) -> list[str]:
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    folded = folded.lower() if folded.isascii() else folded.casefold()
    return _WORD.findall(folded) or _SYMBOLS.findall(folded) or [""]


def _importance(words: list[str]) -> NDArray[np.float64]:
    """Weight of each word by its length: short words are mostly common ones, in any language."""
    lengths = np.fromiter((len(word) for word in words), dtype=np.float64, count=len(words))
    return np.clip((lengths - 1) / 5, 0.15, 1.0)


def _hash_words(words: list[str]) -> tuple[_U64, _U64, NDArray[np.int64]]:
    """Hash of each word, hashes of all its trigrams, and where each word's trigrams start."""
    joined = "".join(f" {word} " for word in words).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(joined, dtype=np.uint32).astype(np.uint64)
    lengths = np.fromiter((len(word) + 2 for word in words), dtype=np.int64, count=len(words))
    starts = np.concatenate(([0], np.cumsum(lengths)))
    position = (np.arange(len(codes)) - np.repeat(starts[:-1], lengths)).astype(np.uint64)
    letters = _mix(codes + (position << np.uint64(32)))
    hashes = _mix(np.add.reduceat(letters, starts[:-1]))

    a, b = np.uint64(0x1F123BB5), np.uint64(0x27D4EB2F165667C5)
    windows = codes[:-2] + codes[1:-1] * a + codes[2:] * b
    inside = _ranges(starts[:-1], lengths - 2)
    return hashes, _mix(windows[inside]), np.concatenate(([0], np.cumsum(lengths - 2)))


def _bigrams(
    rows: NDArray[np.int64], hashes: _U64
) -> tuple[NDArray[np.int64], _U64, NDArray[np.float64]]:
    """Row, hash and weight of the distinct neighbouring word pairs of each text."""
    same = rows[:-1] == rows[1:]
    pair = _mix(hashes[:-1] * np.uint64(3) + hashes[1:])[same]
    row = rows[:-1][same]
    keys = _mix(pair ^ row.astype(np.uint64))
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return row[first], pair[first], _BIGRAM * (1.0 + np.log(counts))


def _dampened(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct keys, and `1 + log(count)` of each."""
    distinct, counts = np.unique(keys, return_counts=True)
    return distinct, 1.0 + np.log(counts)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`[start, start + length)` of each pair, one after the other."""
    ends = np.cumsum(lengths)
    offsets = np.repeat(starts - (ends - lengths), lengths)
    return offsets + np.arange(len(offsets))


def _mix(x: _U64) -> _U64:
    """The finaliser of SplitMix64: every input bit changes every output bit."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: _U64 = x ^ (x >> np.uint64(31))
    return mixed


def _normalised(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[norms[:, 0] < 1e-9, 0] = 1.0  # all features cancelled out: the first axis
    unit = vectors / np.where(norms < 1e-9, 1.0, norms)
    return unit.astype(np.float32)
