"""Plain text in tokens, cut into pieces of a few lengths, each from one document."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import TrainingDataError
from chunkwise.llm.models.tokenizer import Tokenizer
from chunkwise.training.nano.texts import Texts, is_held_out
from chunkwise.training.nano.vocabulary import BEGIN, END
from chunkwise.training.packing import decompose

_LOW, _HIGH = 6, 9  # pieces of 64 to 512 tokens
_HELD_OUT = 40

Pieces = NDArray[np.int32]
"""`(pieces, 2**k + 1)` token ids."""


class Corpus:
    """Pieces of text to train and to measure on.

    Args:
        texts: The texts.
        tokenizer: The tokenizer.

    Raises:
        TrainingDataError: No text is long enough.
    """

    def __init__(self, texts: Sequence[Texts], tokenizer: Tokenizer) -> None:
        chance = random.Random(0)
        self._weights: list[float] = []
        self._train: list[dict[int, Pieces]] = []
        held: list[list[int]] = []
        for each in texts:
            cut: dict[int, list[list[int]]] = {}
            for document in each.documents:
                pieces = list(_cut(tokenizer, document, chance))
                if is_held_out(document):
                    held += [piece for piece in pieces if len(piece) == (1 << _HIGH) + 1]
                    continue
                for piece in pieces:
                    cut.setdefault(len(piece), []).append(piece)
            if cut:
                self._train.append({n: np.array(some, dtype=np.int32) for n, some in cut.items()})
                self._weights.append(each.weight)
        self._lengths = sorted({length for each in self._train for length in each})
        if not self._lengths:
            raise TrainingDataError("All texts are too short to train on: give longer ones.")
        chance.shuffle(held)
        self.held_out = held[:_HELD_OUT]
        """Pieces of one length that are never trained on."""

    def draw(self, chance: random.Random, tokens: int) -> Pieces:
        """Pieces of one length, of `tokens` tokens in all."""
        length = chance.choice(self._lengths)
        having = [i for i, each in enumerate(self._train) if length in each]
        weights = [self._weights[i] for i in having]
        picked = chance.choices(having, weights=weights, k=max(1, tokens // (length - 1)))
        held = [self._train[i][length] for i in picked]
        return np.stack([pieces[chance.randrange(len(pieces))] for pieces in held])


def _cut(tokenizer: Tokenizer, document: str, chance: random.Random) -> Iterator[list[int]]:
    begin, end = tokenizer.token_id(BEGIN), tokenizer.token_id(END)
    ids = [*([begin] if begin is not None else []), *tokenizer.encode(document)]
    ids += [end] if end is not None else []
    start = 0
    for length in decompose(len(ids), low=_LOW, high=_HIGH, chance=chance):
        yield ids[start : start + length]
        start += length
