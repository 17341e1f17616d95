"""Passages that share words with a question and do not answer it: BM25 within one data set.

Computed once and kept in a file whose name has a hash of passages and questions.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chunkwise.rag.answering import matching
from chunkwise.training.spans.data import Questions

_K1, _B = 1.2, 0.75
_KEPT = 12
_VERSION = "1"


def distractors(asked: Questions, cache: Path | None) -> NDArray[np.int32]:
    """Indices of the nearest passages for each question, best first: `(num_questions, 12)`.

    Left out are the question's own passage and those that hold one of its answers; where there
    are fewer, -1 fills up.

    Args:
        asked: Passages and questions of one split.
        cache: Folder for the result; None: it is not kept.
    """
    if cache is None:
        return _computed(asked)
    path = cache / f"distractors-{_digest(asked)}.npy"
    if path.exists():
        try:
            kept: NDArray[np.int32] = np.load(path)
        except (OSError, ValueError, EOFError):  # cut off by a kill: computed again
            kept = np.empty((0, 0), dtype=np.int32)
        if kept.shape == (len(asked.questions), _KEPT):
            return kept
    found = _computed(asked)
    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + f".{os.getpid()}.npy")
    np.save(part, found)
    os.replace(part, path)
    return found


def _computed(asked: Questions) -> NDArray[np.int32]:
    index = _Index([passage.text for passage in asked.passages])
    plain = [passage.text.casefold() for passage in asked.passages]
    found = np.full((len(asked.questions), _KEPT), -1, dtype=np.int32)
    for row, question in enumerate(asked.questions):
        own = asked.passages[question.passage].text
        answers = {own[a:b].casefold() for a, b in question.answers}
        kept = 0
        for place in index.best(question.text, 3 * _KEPT):
            if kept == _KEPT:
                break
            if place != question.passage and not any(a in plain[place] for a in answers):
                found[row, kept] = place
                kept += 1
    return found


class _Index:
    """BM25 over passages."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(matching.terms(text)) for text in texts]
        lengths = np.array([sum(c.values()) for c in counts], dtype=np.float32)
        norms = _K1 * (1 - _B + _B * lengths / max(float(lengths.mean()), 1.0))
        places: dict[str, list[int]] = {}
        for place, count in enumerate(counts):
            for term in count:
                places.setdefault(term, []).append(place)
        self._size = len(texts)
        self._postings: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        for term, some in places.items():
            at = np.array(some)
            tf = np.array([counts[i][term] for i in some], dtype=np.float32)
            idf = math.log1p((len(texts) - len(some) + 0.5) / (len(some) + 0.5))
            self._postings[term] = at, (idf * tf * (_K1 + 1) / (tf + norms[at])).astype(np.float32)

    def best(self, question: str, count: int) -> list[int]:
        """Places of the best passages that share a term, best first."""
        scores = np.zeros(self._size, dtype=np.float32)
        for term in set(matching.content_terms(question)):
            if term in self._postings:
                at, values = self._postings[term]
                scores[at] += values
        order = np.argsort(-scores, kind="stable")[:count]
        return [int(i) for i in order if scores[i] > 0]


def _digest(asked: Questions) -> str:
    digest = hashlib.blake2b(_VERSION.encode(), digest_size=12)
    for passage in asked.passages:
        digest.update(passage.text.encode() + b"\0")
    for question in asked.questions:
        digest.update(f"{question.text}\0{question.passage}\0{question.answers}".encode())
    return digest.hexdigest()
