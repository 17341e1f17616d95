"""How likely texts are behind a prompt that is read once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from chunkwise.errors import RequestError
from chunkwise.llm.local import LLM
from chunkwise.llm.outputs import Output
from chunkwise.llm.sequence import Request, TokenSegment
from chunkwise.scores import Continuation, TokenScores
from chunkwise.types import Prompt, SamplingParams

_SPARE = 2  # tokens: the end behind a text, and the one that every request samples


class ContinuationReader:
    """A `ContinuationModel`. Prompts are computed in full, whether or not chunks are reused; the
    engine's prefix cache keeps what they begin with.

    Args:
        llm: Reads. The text ends with any of its end tokens; without one it never ends.
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.fingerprint = llm.fingerprint
        self._ends = tuple(llm.config.eos_token_ids)

    def encode(self, text: str) -> tuple[int, ...]:
        """See `ContinuationModel.encode`."""
        return tuple(self.llm.tokenizer.encode(text, continues=True))

    def room(self, prompt: str | Prompt) -> int:
        """See `ContinuationModel.room`."""
        return self.llm.engine.max_tokens - _length(self.llm.encoder.prefix(prompt)) - _SPARE

    def next_logprobs(self, asked: Sequence[Continuation]) -> NDArray[np.float32]:
        """See `ContinuationModel.next_logprobs`."""
        requests = self._requests(asked, self._next)
        self._run(requests)
        if not requests:
            return np.zeros((0, self.llm.tokenizer.vocab_size), np.float32)
        rows = [request.logits for request in requests if request.logits is not None]
        logits = torch.stack(rows)[:, : self.llm.tokenizer.vocab_size].float()
        found: NDArray[np.float32] = logits.log_softmax(-1).cpu().numpy()
        return found

    def scores(self, asked: Sequence[Continuation]) -> list[TokenScores]:
        """See `ContinuationModel.scores`."""
        counts = Counter(prompt for prompt, _ in asked)
        shared = [Continuation(prompt, ()) for prompt, count in counts.items() if count > 1]
        self._run(self._requests(shared, self._next))  # else each might read its short ends itself
        outputs = self._run(self._requests(asked, self._scored))
        return [self._scores(output) for output in outputs]

    def _scores(self, output: Output) -> TokenScores:
        """The last one scored stands for the end: what is wanted of it stands beside."""
        found = output.prompt_logprobs
        tokens = np.array([score.logprob for score in found[:-1]], np.float32)
        if not self._ends:
            return TokenScores(tokens, np.full(len(tokens), -np.inf, np.float32))
        beside = np.array([score.beside for score in found[1:]], np.float32)
        ends = np.logaddexp.reduce(beside.reshape(len(tokens), len(self._ends)), axis=1)
        return TokenScores(tokens, ends)

    def _requests(
        self,
        asked: Sequence[Continuation],
        make: Callable[[tuple[TokenSegment, ...], tuple[int, ...]], Request],
    ) -> list[Request]:
        prompts = {prompt: self.llm.encoder.prefix(prompt) for prompt in dict(asked)}
        return [make(prompts[prompt], ids) for prompt, ids in asked]

    def _next(self, before: tuple[TokenSegment, ...], ids: tuple[int, ...]) -> Request:
        segments = (*before, TokenSegment(ids)) if ids else before
        request = self.llm.request(segments, SamplingParams(max_tokens=1))
        request.wants_logits = request.is_exact = True
        return request

    def _scored(self, before: tuple[TokenSegment, ...], ids: tuple[int, ...]) -> Request:
        end = self._ends[:1] or (0,)  # without an end token any will do: it is not looked at
        request = self.llm.request(
            (*before, TokenSegment(ids + end)), SamplingParams(max_tokens=1, prompt_logprobs=0)
        )
        request.score_from, request.beside, request.is_exact = _length(before), self._ends, True
        return request

    def _run(self, requests: Sequence[Request]) -> list[Output]:
        """Outputs of requests; one that fails is the caller's error."""
        outputs = self.llm.run(list(requests))
        for output in outputs:
            if error := output.completions[0].error:
                raise RequestError(error)
        return outputs


def _length(segments: Sequence[TokenSegment]) -> int:
    return sum(len(segment.token_ids) for segment in segments)
