"""Chunks of random tokens and retrieval prompts over them, for the benchmarks of reuse."""

from __future__ import annotations

import random
from collections.abc import Sequence

from chunkwise.llm.sequence import TokenSegment

SYSTEM, LABEL, CHUNK, QUESTION, PER_PROMPT = 32, 8, 256, 64, 8
PROMPT = SYSTEM + PER_PROMPT * (LABEL + CHUNK) + QUESTION

Pieces = tuple[TokenSegment, ...]


class Corpus:
    """Chunks, and prompts over them: a label before each, a question behind.

    Args:
        chunks: How many. Another number has the same first ones.
        seed: Of the tokens and of the prompts.
    """

    def __init__(self, chunks: int, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.system, self.label = self._some(SYSTEM), self._some(LABEL)
        self.chunks = [TokenSegment(self._some(CHUNK), f"chunk {i}") for i in range(chunks)]

    @property
    def anchor(self) -> list[int]:
        """What chunks are computed behind."""
        return [*self.system, *self.label]

    def prompt(self, picked: Sequence[TokenSegment] | None = None) -> Pieces:
        """A prompt over these pieces, or over chunks of the corpus in any order."""
        pieces = [TokenSegment(self.system)]
        picked = self.rng.sample(self.chunks, PER_PROMPT) if picked is None else picked
        for i, chunk in enumerate(picked):
            label = self.label if i == 0 else (*self.label[:-1], 5 + i)
            pieces += [TokenSegment(label), chunk]
        return (*pieces, TokenSegment(self._some(QUESTION)))

    def unseen(self, name: str = "") -> list[TokenSegment]:
        """New pieces for a prompt: chunks of that name, or no chunks."""
        ids = [f"{name} {i}" if name else None for i in range(PER_PROMPT)]
        return [TokenSegment(self._some(CHUNK), content_id) for content_id in ids]

    def unlike(self, pieces: Pieces) -> Pieces:
        """The same prompt behind another system prompt: no cache holds a prefix of it."""
        return (TokenSegment(self._some(SYSTEM)), *pieces[1:])

    def _some(self, count: int) -> tuple[int, ...]:
        return tuple(self.rng.randrange(5, 250) for _ in range(count))


def tokens(pieces: Pieces) -> list[int]:
    """All tokens of a prompt."""
    return [token for piece in pieces for token in piece.token_ids]
