"""The `RecomputePolicy` protocol: which tokens of reused chunks are computed afresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chunkwise.llm.kv.memory import Positions
from chunkwise.llm.kv.patched import Placed
from chunkwise.registry import Registry


@dataclass(frozen=True, slots=True)
class Passages:
    """What a policy knows of a prompt.

    Attributes:
        chunks: The reused chunks with their places, in order.
        attention: How much the question looks at each position of the prompt, a sum over its
            rows, heads and layers: `(num_tokens,)` float32; None unless the policy asks for it.
    """

    chunks: tuple[Placed, ...]
    attention: NDArray[np.float32] | None = None

    @property
    def positions(self) -> Positions:
        """Positions of all tokens of reused chunks, rising."""
        runs = [np.arange(c.position, c.end, dtype=np.int32) for c in self.chunks]
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


policies: Registry[RecomputePolicy] = Registry(
    "chunkwise.llm.reuse", shared=("base", "reuse", "probe")
)
