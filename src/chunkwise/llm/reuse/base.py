"""The `RecomputePolicy` protocol: which tokens of reused chunks are computed afresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chunkwise.registry import Registry

Positions = NDArray[np.int32]


class Run(NamedTuple):
    """Positions `first .. end` of a prompt: a reused chunk."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a policy wants to know of a prompt before it picks; measuring it costs.

    Attributes:
        attention: How much the question looks at each token.
        deviation: How far the first layers' values or keys of chunks are from those that a full
            prefill has; empty: not asked.
        check_layer: The layer at which they are compared, from 0; up to it, all tokens of all
            chunks are computed.
    """

    attention: bool = False
    deviation: Literal["", "values", "keys"] = ""
    check_layer: int = 1


@dataclass(frozen=True, slots=True)
class Passages:
    """What a policy knows of a prompt.

    Attributes:
        chunks: Where the reused chunks stand, in order, without overlap.
        attention: How much the question looks at each position of the prompt, a sum over its
            rows, heads and layers: `(num_tokens,)` float32; None unless the policy asks for it.
        deviation: Squared distance of each token's values or keys in one layer to those of a full
            prefill, 0 outside of chunks: `(num_tokens,)` float32; None unless asked for.
    """

    chunks: tuple[Run, ...]
    attention: NDArray[np.float32] | None = None
    deviation: NDArray[np.float32] | None = None

    @property
    def positions(self) -> Positions:
        """Positions of all tokens of reused chunks, rising."""
        runs = [np.arange(*chunk, dtype=np.int32) for chunk in self.chunks]
        return np.concatenate(runs) if runs else np.zeros(0, np.int32)


class RecomputePolicy(Protocol):
    """Chooses tokens. A frozen dataclass whose fields are its options."""

    @property
    def evidence(self) -> Evidence:
        """What must be measured before it can pick."""
        ...

    def pick(self, passages: Passages) -> Positions:
        """Positions of reused chunks that are computed afresh, rising."""
        ...


def highest(positions: Positions, score: NDArray[np.float32], count: int) -> Positions:
    """The positions of the `count` highest scores, rising; of equal ones the first.

    Args:
        positions: Which to choose from, rising.
        score: Of all tokens of the prompt.
        count: How many, at most.
    """
    order = np.argsort(-score[positions], kind="stable")
    return np.sort(positions[order[:count]])


policies: Registry[RecomputePolicy] = Registry("chunkwise.llm.reuse")
