"""How well a language model predicts texts: perplexity, and bits per byte.

Source: the usual definitions. Perplexity is `exp` of the mean loss of a token and compares models
    of one tokenizer only; bits per byte spread the same loss over the UTF-8 bytes of the texts and
    compare any models.
Differs: losses are summed over all texts before the mean, so a long text weighs more.
Exact when: every text fits the model's context; a longer one is an error and is not cut silently.
Cost: one forward pass a text.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from chunkwise.errors import RequestError
from chunkwise.evaluation.bootstrap import Floats, Interval, bootstrap, ratio
from chunkwise.evaluation.rows import read_lines
from chunkwise.scores import ScoringModel

_MAX_EXPONENT: Final = 700.0  # what a float holds


@dataclass(frozen=True, slots=True)
class TextLoss:
    """What a model lost on one text, or on several together.

    Attributes:
        nats: Negative log-likelihood, summed over the tokens.
        num_tokens: Tokens that were predicted.
        num_bytes: UTF-8 bytes of the text.
    """

    nats: float
    num_tokens: int
    num_bytes: int

    def __add__(self, other: TextLoss) -> TextLoss:
        return TextLoss(
            self.nats + other.nats,
            self.num_tokens + other.num_tokens,
            self.num_bytes + other.num_bytes,
        )

    @property
    def perplexity(self) -> float:
        """`exp` of the mean loss of a token, at most `exp(700)`; NaN without tokens."""
        if not self.num_tokens:
            return math.nan
        return math.exp(min(self.nats / self.num_tokens, _MAX_EXPONENT))

    @property
    def bits_per_byte(self) -> float:
        """Bits that the text takes when the model encodes it; NaN without bytes."""
        return self.nats / math.log(2) / self.num_bytes if self.num_bytes else math.nan


def read_plain_texts(path: str | os.PathLike[str]) -> list[str]:
    """Texts of a file with one JSON object a line and the key `text`, gzipped or not.

    Raises:
        DocumentError: The file cannot be read, or a line cannot be used; the message names it.
    """
    return [line.text("text") for line in read_lines(path)]


def text_losses(
    model: ScoringModel, texts: Iterable[str], *, prefix: str = ""
) -> Iterator[TextLoss]:
    """What the model loses on each text, as it is done; an empty one has no tokens.

    Args:
        model: What predicts.
        texts: Texts, each predicted by itself.
        prefix: Stands before each text and is not scored.

    Raises:
        RequestError: A text cannot be scored; the message says which, from 1.
    """
    for number, text in enumerate(texts, start=1):
        try:
            nats = model.nll(prefix, text) if text else np.zeros(0, dtype=np.float32)
        except RequestError as exc:
            raise RequestError(
                f"Text {number} ({len(text)} characters) cannot be scored: {exc}"
            ) from exc
        size = len(text.encode("utf-8", "surrogatepass"))
        yield TextLoss(float(nats.sum(dtype=np.float64)), len(nats), size)


def loss_row(text: str, loss: TextLoss) -> dict[str, Any]:
    """A text and its loss as a JSON row; what is not defined is null."""
    per_byte = loss.bits_per_byte
    return {
        "text": text,
        "nats": loss.nats,
        "tokens": loss.num_tokens,
        "bytes": loss.num_bytes,
        "bits_per_byte": None if math.isnan(per_byte) else per_byte,
    }


def summarise_losses(
    losses: Sequence[TextLoss], *, resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval]:
    """`perplexity` and `bits_per_byte` of all texts together, with 95 % intervals over texts."""
    nats = np.array([loss.nats for loss in losses], dtype=np.float64)
    tokens = np.array([loss.num_tokens for loss in losses], dtype=np.float64)
    sizes = np.array([loss.num_bytes for loss in losses], dtype=np.float64)

    def measures(drawn: Floats) -> dict[str, Floats]:
        total = drawn @ nats
        mean = np.minimum(ratio(total, drawn @ tokens), _MAX_EXPONENT)
        return {
            "perplexity": np.exp(mean),
            "bits_per_byte": ratio(total, drawn @ sizes) / math.log(2),
        }

    return bootstrap(measures, len(losses), resamples=resamples, seed=seed)
