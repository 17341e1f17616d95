"""Requests (what was asked) and sequences (what is left to compute)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import RequestError
from chunkwise.types import SamplingParams

if TYPE_CHECKING:
    from torch import Tensor

    from chunkwise.llm.kv.segments import SequenceKV

FinishReason = Literal["stop", "length", "cancelled", "deadline", "error"]

HEAVY_ROW = 4
"""Work of a row whose attention is noted, in rows; measured in front of 4,096 keys."""

_KEYS_OF_A_ROW = 32_768
"""Keys before a row over reused chunks that make it as much work as one row more; measured in front
of 8,192 keys, where attention over many short segments took twice as long as over one."""

NO_HEAVY_ROWS = 2**31 - 1
"""Beyond all positions."""


class TokenSegment(NamedTuple):
    """A piece of a prompt in tokens. `content_id` names the chunk it is, or None."""

    token_ids: tuple[int, ...]
    content_id: str | None = None


@dataclass(slots=True, eq=False)
class Request:
    """What was asked.

    Attributes:
        id: Unique in its engine.
        segments: The prompt, piece by piece.
        sampling: How to sample.
        priority: Lower goes first; equals go by a queue order, see `llm/ordering`.
        deadline: Time on the engine's clock at which the request ends, finished or not.
        arrival: Order of arrival; set by the engine.
        turn: Order of first admission, infinite before it; set by the engine.
        arrived: When it arrived, on the engine's clock, in seconds; set by the engine.
        score_from: First token of the prompt whose log-probability is wanted; a cached prefix
            is used up to there only. None: no log-probabilities of the prompt.
        beside: Tokens whose log-probabilities are wanted too, in place of each scored one.
        is_exact: Chunks are not reused.
        is_planned: Whoever sent it has found room for it: `StepBudget.sequences` does not count it.
        wants_logits: Keep the logits of the first new token in `logits`.
        logits: `(vocab,)` float32, after the step that computed them.
        admits: Content id of the chunk that the last segment is, whose KV is wanted and nothing
            else; None: it is a prompt.
        wants_statistics: With `admits`: note how the chunk's tokens attend, too.
    """

    id: str
    segments: tuple[TokenSegment, ...]
    sampling: SamplingParams
    priority: int = 0
    deadline: float | None = None
    arrival: int = 0
    turn: float = math.inf
    arrived: float = 0.0
    score_from: int | None = None
    beside: tuple[int, ...] = ()
    is_exact: bool = False
    is_planned: bool = False
    wants_logits: bool = False
    logits: Tensor | None = None
    admits: str | None = None
    wants_statistics: bool = False

    @property
    def prompt_ids(self) -> NDArray[np.int64]:
        """The whole prompt as given, in range or not: `(num_tokens,)` int64.

        Raises:
            RequestError: A number that is no token id of any vocabulary.
        """
        ids = list(itertools.chain.from_iterable(segment.token_ids for segment in self.segments))
        try:
            return np.array(ids, dtype=np.int64)
        except OverflowError:
            wrong = max(ids, key=abs)
            raise RequestError(f"The prompt holds {wrong!r}, which is no token id.") from None


@dataclass(slots=True, eq=False)
class Sequence:
    """The state of one completion: its tokens, and the positions still to be computed.

    There is no prefill and no decode: a new prompt has all its positions pending, a running
    sequence one, and later work (drafts, repair) more in any order.

    Attributes:
        request: What was asked.
        index: Which of the request's `n` completions.
        token_ids: Prompt and completion: `(num_tokens,)` int32 in a buffer that grows.
        num_prompt_tokens: Length of the prompt.
        pending: Positions to compute, rising: `(num_pending,)` int32.
        kv: What it holds of the KV segments.
        num_cached_tokens: Positions that a shared prefix gave at first admission.
        num_reused_tokens: Positions whose KV is that of a chunk computed elsewhere; with any, the
            completion is approximate.
        preemptions: How often it lost its memory.
        overtaken: How many of its priority were first admitted before it although they came later.
        heavy_from: Pending positions from here on are also asked where they look, which makes each
            as much work as `HEAVY_ROW` others.
        finish_reason: Why it ended, or None.
        error: What went wrong, where `finish_reason` is `error`.
        state: What samplers, detokenisers and policies keep of it, under their own names; it
            dies with the sequence.
    """

    request: Request
    index: int
    token_ids: NDArray[np.int32]
    num_prompt_tokens: int
    pending: NDArray[np.int32]
    kv: SequenceKV
    num_cached_tokens: int = 0
    num_reused_tokens: int = 0
    preemptions: int = 0
    overtaken: int = 0
    heavy_from: int = NO_HEAVY_ROWS
    finish_reason: FinishReason | None = None
    error: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    _num_tokens: int = 0

    def __post_init__(self) -> None:
        self._num_tokens = len(self.token_ids)

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and completion so far."""
        return self._num_tokens

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Prompt and completion so far, as a view: valid until the next `append`."""
        return self.token_ids[: self._num_tokens]

    @property
    def completion(self) -> NDArray[np.int32]:
        """The completion so far, as a view: valid until the next `append`."""
        return self.token_ids[self.num_prompt_tokens : self._num_tokens]

    @property
    def is_finished(self) -> bool:
        """Whether nothing more comes."""
        return self.finish_reason is not None

    def append(self, token_id: int) -> None:
        """Add a sampled token and make its position pending."""
        if self._num_tokens == len(self.token_ids):
            self.token_ids = np.resize(self.token_ids, 2 * self._num_tokens + 16)
        self.token_ids[self._num_tokens] = token_id
        self._num_tokens += 1
        self.pending = np.append(self.pending, np.int32(self._num_tokens - 1))

    def work(self, tokens: int) -> int:
        """What its first pending positions take, in rows of a step."""
        return math.ceil(float(self._works(tokens).sum()))

    def within(self, rows: int) -> int:
        """How many of its pending positions take no more than so many rows; at least one."""
        count = np.searchsorted(self._works(rows).cumsum(), rows, side="right")
        return min(max(int(count), 1), len(self.pending))

    def _works(self, tokens: int) -> NDArray[np.float64]:
        """What each of its first pending positions takes."""
        pending = self.pending[:tokens]
        works = np.where(pending < self.heavy_from, 1.0, HEAVY_ROW)
        return works + pending / _KEYS_OF_A_ROW if self.num_reused_tokens else works

    def rank(self) -> tuple[int, float]:
        """Sorts sequences, most urgent first: priority, then who was admitted first. Those that
        were never admitted are equal: a queue order says who of them goes first."""
        return self.request.priority, self.request.turn

    def urgency(self) -> tuple[int, float, int, int]:
        """Sorts sequences as `rank` does, and equals by arrival, then by index."""
        return *self.rank(), self.request.arrival, self.index
