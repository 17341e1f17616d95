"""The learned segmenter's network: dilated layers that look both ways, all in numpy.

A token's features are summed from one hashed table; then come residual layers, each a product of
the token and of one token on either side of it, at distances that grow. So a score depends on a
fixed number of tokens before and behind, whatever the text: windows give what the whole text
gives, and a look-ahead of that many tokens is enough.

Source: Bai et al., An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
    Sequence Modeling (arXiv 1803.01271) for the layers, two-sided here; limited look-ahead as in
    SaT (arXiv 2406.16678); hashed features and punctuation heads as in WtP (arXiv 2305.18893).
Differs: words, not characters or sub-words, are the units where a script has spaces.
Exact when: always, within rounding: a score is that of a pass over the whole text.
Cost: 2 * layers * 4 * width^2 operations a token: 1.8 million for 6 layers of 192.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ModelFormatError
from chunkwise.rag.sentences.tokens import NUM_FIXED

Floats = NDArray[np.float32]

MARKS: Final = ("none", "comma", "period", "question", "exclamation", "colon", "semicolon", "other")
"""What the punctuation head tells: the mark that stands, or would fit, behind a token."""

SENTENCE, NEWLINE, FIRST_MARK = 0, 1, 2
NUM_OUTPUTS: Final = 2 + len(MARKS)
"""Columns of the outputs: log-odds of a sentence's end, of a line's end; logits of the marks."""

EPSILON: Final = 1e-6
_WINDOW_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The shape of the network.

    Attributes:
        buckets: Rows of the table for n-grams.
        embedding: Length of a row.
        width: Length of a token's state.
        before: For each layer, how many tokens back its left input is.
        behind: For each layer, how many tokens ahead its right input is.
    """

    buckets: int = 32_768
    embedding: int = 64
    width: int = 192
    before: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    behind: tuple[int, ...] = (1, 2, 4, 8, 16, 17)

    def __post_init__(self) -> None:
        sizes = (self.buckets, self.embedding, self.width, *self.before, *self.behind)
        if len(self.before) != len(self.behind) or not self.before or min(sizes) < 1:
            raise ModelFormatError(
                "A segmenter's network needs sizes of at least 1 and as many distances `before` "
                f"as `behind`, got {self!r}."
            )

    @property
    def look_back(self) -> int:
        """Tokens before a token that its scores depend on."""
        return sum(self.before)

    @property
    def look_ahead(self) -> int:
        """Tokens behind a token that its scores depend on."""
        return sum(self.behind)


class _Layer(NamedTuple):
    before: int
    behind: int
    mix: Floats  # (3 * width, width)
    mix_bias: Floats
    out: Floats  # (width, width)
    out_bias: Floats


class BoundaryNetwork:
    """The network, ready to score. Immutable, so threads may share it.

    Args:
        shape: Its shape.
        tensors: Its weights by name, float32; see `expected`.

    Raises:
        ModelFormatError: A tensor is missing or has another shape.
    """

    def __init__(self, shape: NetworkShape, tensors: Mapping[str, Floats]) -> None:
        for name, size in expected(shape).items():
            if name not in tensors or tensors[name].shape != size:
                had = tensors[name].shape if name in tensors else "none"
                raise ModelFormatError(
                    f"The segmenter's tensor {name!r} must have shape {size}, got {had}: weights "
                    "and config.json are not of one model."
                )
        self.shape = shape
        self._table, self._enter = tensors["table"], tensors["enter"]
        self._enter_bias = tensors["enter_bias"]
        self._head, self._head_bias = tensors["head"], tensors["head_bias"]
        self._layers = [
            _Layer(before, behind, *(tensors[f"layers.{i}.{part}"] for part in _PARTS))
            for i, (before, behind) in enumerate(zip(shape.before, shape.behind, strict=True))
        ]

    def score(self, ids: NDArray[np.int32]) -> Floats:
        """Outputs of each token of a text: `(n, NUM_OUTPUTS)`.

        Args:
            ids: Rows of the table: `(n, NUM_SLOTS)`; the text ends at both edges.
        """
        parts = [
            self._pass(ids[low:high])[first - low : last - low]
            for low, first, last, high in self._windows(len(ids))
        ]
        return np.concatenate(parts) if parts else np.zeros((0, NUM_OUTPUTS), np.float32)

    def _windows(self, n: int) -> Iterator[tuple[int, int, int, int]]:
        """Windows `[low, high)` whose tokens `[first, last)` are scored."""
        for first in range(0, n, _WINDOW_TOKENS):
            last = min(n, first + _WINDOW_TOKENS)
            low = max(0, first - self.shape.look_back)
            yield low, first, last, min(n, last + self.shape.look_ahead)

    def _pass(self, ids: NDArray[np.int32]) -> Floats:
        total = self._table[ids[:, 0]]
        for slot in range(1, ids.shape[1]):
            total += self._table[ids[:, slot]]
        x = total @ self._enter
        x += self._enter_bias
        wide = np.zeros((len(x), 3 * x.shape[1]), np.float32)
        for layer in self._layers:
            _spread(_normed(x), layer, wide)
            inner = wide @ layer.mix
            inner += layer.mix_bias
            np.maximum(inner, 0, out=inner)
            x += inner @ layer.out
            x += layer.out_bias
        scores: Floats = _normed(x) @ self._head + self._head_bias
        return scores


_PARTS = ("mix", "mix_bias", "out", "out_bias")


def expected(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights."""
    width = shape.width
    sizes: dict[str, tuple[int, ...]] = {
        "table": (NUM_FIXED + shape.buckets, shape.embedding),
        "enter": (shape.embedding, width),
        "enter_bias": (width,),
        "head": (width, NUM_OUTPUTS),
        "head_bias": (NUM_OUTPUTS,),
    }
    for i in range(len(shape.before)):
        found = ((3 * width, width), (width,), (width, width), (width,))
        sizes |= {f"layers.{i}.{part}": size for part, size in zip(_PARTS, found, strict=True)}
    return sizes


def _normed(x: Floats) -> Floats:
    scale = np.einsum("nd,nd->n", x, x)
    scale /= np.float32(x.shape[1])
    scale += np.float32(EPSILON)
    np.sqrt(scale, out=scale)
    normed: Floats = x / scale[:, None]
    return normed


def _spread(x: Floats, layer: _Layer, wide: Floats) -> None:
    """Write the token before, the token itself and the one behind side by side."""
    n, width = x.shape
    before, behind = min(layer.before, n), min(layer.behind, n)
    wide[:before, :width] = 0
    wide[before:, :width] = x[: n - before]
    wide[:, width : 2 * width] = x
    wide[: n - behind, 2 * width :] = x[behind:]
    wide[n - behind :, 2 * width :] = 0
