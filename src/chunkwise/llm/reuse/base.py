"""The `RecomputePolicy` protocol: which tokens of reused chunks are computed afresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chunkwise.registry import Registry

if TYPE_CHECKING:
    from chunkwise.llm.kv.memory import Statistics

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
        survivors: Shares of the chunks' tokens that are computed in the layers behind it too: in
            each those of the share before that are furthest, over the others as they are.
        statistics: How tokens of chunks attended when these were computed alone.
    """

    attention: bool = False
    deviation: Literal["", "values", "keys"] = ""
    check_layer: int = 1
    survivors: tuple[float, ...] = ()
    statistics: bool = False


@dataclass(frozen=True, slots=True)
class Passages:
    """What a policy knows of a prompt.

    Attributes:
        chunks: Where the reused chunks stand, in order, without overlap.
        attention: How much the question looks at each position of the prompt, a sum over its
            rows, heads and layers: `(num_tokens,)` float32; None unless the policy asks for it.
        deviation: Squared distance of each token's values or keys in one layer to those of a full
            prefill, 0 outside of chunks, -1 where it did not survive up to the last layer that was
            asked for: `(num_tokens,)` float32; None unless asked for.
        statistics: Of each chunk; None unless asked for.
        anchor: Length of what chunks are computed behind.
        shared: How many of its first tokens the prompt begins with.
    """

    chunks: tuple[Run, ...]
    attention: NDArray[np.float32] | None = None
    deviation: NDArray[np.float32] | None = None
    statistics: tuple[Statistics, ...] | None = None
    anchor: int = 0
    shared: int = 0

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
