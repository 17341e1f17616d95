"""What a language model says of given texts: how likely they are, and what may follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from chunkwise.types import LanguageModel, Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TokenLosses(NamedTuple):
    """What a language model lost on the tokens of a text.

    Attributes:
        starts: First character of each token, rising: `(num_tokens,)` int64.
        nats: Negative log-likelihood of each: `(num_tokens,)` float32.
    """

    starts: NDArray[np.int64]
    nats: NDArray[np.float32]


class TextScorer(Protocol):
    """Says how well each token of a text could be predicted from the text before it.

    Attributes:
        fingerprint: Changes when the losses may change.
    """

    fingerprint: str

    def token_losses(self, text: str) -> TokenLosses:
        """Losses of a text of any length, tokenised as a whole.

        Raises:
            RequestError: The text cannot be read.
        """
        ...


class ScoringModel(LanguageModel, Protocol):
    """A language model that also says how likely texts are."""

    def nll(self, prefix: str | Prompt, text: str) -> NDArray[np.float32]:
        """Negative log-likelihood of each token of `text` behind `prefix`: `(num_tokens,)`, nats.

        Prefix and text are tokenised apart, so a text has the same tokens behind any prefix.

        Raises:
            RequestError: The text has no tokens, or both together are too long.
        """
        ...

    def next_logits(self, prompt: str | Prompt) -> NDArray[np.float32]:
        """Logits of the token that follows `prompt`: `(vocab_size,)` float32.

        Raises:
            RequestError: The prompt is empty or too long.
        """
        ...


class Continuation(NamedTuple):
    """A prompt, and tokens of a text behind it."""

    prompt: str | Prompt
    token_ids: tuple[int, ...]


class TokenScores(NamedTuple):
    """How likely a language model found a text, token by token; natural logarithms.

    Attributes:
        tokens: Log-probability of each token: `(num_tokens,)` float32.
        ends: Log-probability that the text ends behind each token: `(num_tokens,)` float32.
    """

    tokens: NDArray[np.float32]
    ends: NDArray[np.float32]


class ContinuationModel(Protocol):
    """A language model that says how texts behind a prompt could go on. What several of them
    begin with is read once, and still known in later calls while there is memory for it.

    Attributes:
        fingerprint: Changes when scores may change.
    """

    fingerprint: str

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a text that stands behind another one."""
        ...

    def room(self, prompt: str | Prompt) -> int:
        """Most tokens that may stand behind a prompt; negative where it is too long itself."""
        ...

    def next_logprobs(self, asked: Sequence[Continuation]) -> NDArray[np.float32]:
        """Log-probabilities of the token that follows each: `(len(asked), vocab_size)`.

        Raises:
            RequestError: A prompt is empty, or too long with what stands behind it.
        """
        ...

    def scores(self, asked: Sequence[Continuation]) -> list[TokenScores]:
        """Scores of the tokens behind each prompt, one pass over them.

        Raises:
            RequestError: As in `next_logprobs`.
        """
        ...
