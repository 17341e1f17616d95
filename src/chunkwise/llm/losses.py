"""How well a model foresees the tokens of a text of any length.

Source: perplexity of long texts over a sliding window, as everybody measures it.
Exact when: the text fits the window: it is then read in one piece.
Cost: twice the text's tokens: each is read behind at least half of a window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import RequestError
from chunkwise.llm.local import LLM
from chunkwise.llm.sequence import TokenSegment
from chunkwise.scores import TokenLosses
from chunkwise.types import SamplingParams

WINDOW = 1024


class WindowScorer:
    """A `TextScorer`.

    Args:
        llm: Predicts.
        window: Tokens that are read together, at most.
    """

    def __init__(self, llm: LLM, window: int = WINDOW) -> None:
        self.llm = llm
        self.window = max(min(window, llm.engine.max_tokens - 2), 2)
        self._start = llm.encoder.prefix("")[0].token_ids
        self.fingerprint = f"{llm.fingerprint}:{self.window}"

    def token_losses(self, text: str) -> TokenLosses:
        """See `TextScorer.token_losses`."""
        ids, starts = self.llm.tokenizer.encode_with_starts(text)
        if not ids:
            return TokenLosses(np.zeros(0, np.int64), np.zeros(0, np.float32))
        nats = [
            self._read(ids[low:end], end - first) for low, first, end in self._windows(len(ids))
        ]
        return TokenLosses(np.array(starts, np.int64), np.concatenate(nats))

    def _windows(self, count: int) -> Iterator[tuple[int, int, int]]:
        """Where each window begins, its first token that counts, and where it ends."""
        first, end = 0, min(self.window, count)
        yield 0, first, end
        while end < count:
            first, end = end, min(end + self.window // 2, count)
            yield end - self.window, first, end

    def _read(self, ids: list[int], count: int) -> NDArray[np.float32]:
        """Losses of the last tokens of a window."""
        before = self._start
        request = self.llm.request(
            (TokenSegment(before), TokenSegment(tuple(ids))),
            SamplingParams(max_tokens=1, prompt_logprobs=0),
        )
        request.score_from, request.is_exact = len(before) + len(ids) - count, True
        (output,) = self.llm.run([request])
        if error := output.completions[0].error:
            raise RequestError(f"The text cannot be read: {error}")
        return np.array([-score.logprob for score in output.prompt_logprobs], np.float32)
