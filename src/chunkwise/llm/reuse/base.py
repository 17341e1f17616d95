"""The `RecomputePolicy` protocol: which tokens of reused chunks are computed afresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chunkwise.registry import Registry

Positions = NDArray[np.int32]


class Run(NamedTuple):
    """Positions `first .. end` of a prompt: a reused chunk."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Passages:
    """What a policy knows of a prompt.

    Attributes:
        chunks: Where the reused chunks stand, in order, without overlap.
        attention: How much the question looks at each position of the prompt, a sum over its
            rows, heads and layers: `(num_tokens,)` float32; None unless the policy asks for it.
    """

    chunks: tuple[Run, ...]
    attention: NDArray[np.float32] | None = None

    @property
    def positions(self) -> Positions:
        """Positions of all tokens of reused chunks, rising."""
        runs = [np.arange(*chunk, dtype=np.int32) for chunk in self.chunks]
        return np.concatenate(runs) if runs else np.zeros(0, np.int32)


class RecomputePolicy(Protocol):
    """Chooses tokens. A frozen dataclass whose fields are its options."""

    @property
    def needs_attention(self) -> bool:
        """Whether the question must be computed once over the chunks as they are."""
        ...

    def pick(self, passages: Passages) -> Positions:
        """Positions of reused chunks that are computed afresh, rising."""
        ...


policies: Registry[RecomputePolicy] = Registry("chunkwise.llm.reuse")
