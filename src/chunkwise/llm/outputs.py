"""What comes out of the engine: updates while it runs, and the whole when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from chunkwise.llm.sequence import FinishReason


class TokenLogprob(NamedTuple):
    """The log-probability of one token under the model as it is, before sampling settings.

    Attributes:
        token_id: The token.
        logprob: Its natural log-probability.
        top: The likeliest tokens with theirs, best first, as many as were asked for.
        beside: Log-probabilities of the tokens of `Request.beside` in its place.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    beside: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """What one step added to one completion.

    Attributes:
        request_id: Whose it is.
        index: Which of the request's `n` completions.
        text: New text; may be empty while a character or a stop text is incomplete.
        token_ids: New tokens.
        logprobs: One entry for each new token, if they were asked for.
        finish_reason: Set in the last update of a completion.
        error: What went wrong, where `finish_reason` is `error`.
    """

    request_id: str
    index: int
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    error: str = ""


@dataclass(slots=True)
class Completion:
    """One completion: text, tokens, why it ended."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """What a request gave.

    Attributes:
        request_id: Whose it is.
        completions: One for each of `n`, by index.
        usage: `prompt_tokens`, `cached_tokens` (of the prompt, not computed again),
            `completion_tokens` (of all completions); where chunks were reused, and the output is
            approximate, `reused_tokens` of the prompt, `reused_chunks` they are of,
            `recomputed_tokens` of these, and `saved_ms`, predicted.
        timings_ms: `queue` until the first step with it, `first_token` and `total` since arrival.
        prompt_logprobs: One entry for each token of the prompt from the first one asked for.
    """

    request_id: str
    completions: tuple[Completion, ...]
    usage: Mapping[str, int]
    timings_ms: Mapping[str, float]
    prompt_logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """Text of the first completion."""
        return self.completions[0].text

    @property
    def token_ids(self) -> list[int]:
        """Tokens of the first completion."""
        return self.completions[0].token_ids

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the first completion ended."""
        return self.completions[0].finish_reason


def refused_output(error: str) -> Output:
    """The output of a request that was not taken."""
    usage = dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"), 0)
    return Output("", (Completion(finish_reason="error", error=error),), usage, {})
