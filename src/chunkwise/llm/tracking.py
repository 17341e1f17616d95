"""What the engine keeps of a request: its sequences, and what each completion has given so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from chunkwise.llm.detokenizer import Detokenizer, TokenDecoder
from chunkwise.llm.outputs import Completion, Output, TokenLogprob, Update
from chunkwise.llm.reusing import Reused
from chunkwise.llm.sampling import Sampled
from chunkwise.llm.sequence import FinishReason, Request, Sequence


@dataclass(slots=True, eq=False)
class Tracked:
    """A request in the engine.

    Attributes:
        request: What was asked.
        sequences: By index; only the first one until the prompt is computed.
        completions: One for each of `n`, from the beginning.
        texts: Their detokenizers.
        scores: Log-probabilities of the prompt by position.
        started: When its first step began, on the engine's clock; 0: not yet.
        first_token: When its first token came.
        finished: When the last of its sequences so far ended.
    """

    request: Request
    sequences: list[Sequence]
    completions: list[Completion]
    texts: list[Detokenizer]
    scores: dict[int, TokenLogprob] = field(default_factory=dict)
    started: float = 0.0
    first_token: float = 0.0
    finished: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether all its completions have ended."""
        return all(sequence.is_finished for sequence in self.sequences)

    def siblings(self) -> list[Sequence]:
        """The sequences of the other completions of `n`, once: copies of the first, without KV."""
        first = self.sequences[0]
        return [
            Sequence(
                self.request,
                index,
                first.tokens.copy(),
                first.num_prompt_tokens,
                first.pending[:0],
                first.kv.empty(),
                num_cached_tokens=first.num_cached_tokens,
            )
            for index in range(len(self.sequences), len(self.completions))
        ]

    def append(self, sequence: Sequence, token: Sampled, *, is_end: bool) -> Update:
        """Add a token to its completion, and its text unless it only says that this is the end."""
        sequence.append(token.token_id)
        completion = self.completions[sequence.index]
        completion.token_ids.append(token.token_id)
        logprobs: tuple[TokenLogprob, ...] = ()
        if token.logprob is not None:
            logprobs = (TokenLogprob(token.token_id, token.logprob, token.top),)
            completion.logprobs.extend(logprobs)
        text = "" if is_end else self.texts[sequence.index].push([token.token_id])
        completion.text += text
        return Update(self.request.id, sequence.index, text, (token.token_id,), logprobs)

    def finish(
        self, sequence: Sequence, reason: FinishReason, error: str, last: Update | None
    ) -> list[Update]:
        """End a sequence's completion, and with a prompt that was never computed all of `n`.

        Args:
            sequence: Which.
            reason: Why.
            error: What went wrong.
            last: What its last token gave, to be told together with the end.
        """
        sequence.finish_reason, sequence.error = reason, error
        ended = [sequence.index]
        if sequence.index == 0:
            ended += range(len(self.sequences), len(self.completions))
        updates = []
        for index in ended:
            rest, completion = self.texts[index].finish(), self.completions[index]
            completion.text += rest
            completion.finish_reason, completion.error = reason, error
            told = last or Update(self.request.id, index)
            text = told.text + rest
            updates.append(replace(told, text=text, finish_reason=reason, error=error))
        return updates

    def output(self, now: float) -> Output:
        """What it has given so far."""
        first, arrived = self.sequences[0], self.request.arrived
        usage = {
            "prompt_tokens": first.num_prompt_tokens,
            "cached_tokens": first.num_cached_tokens,
            "completion_tokens": sum(len(c.token_ids) for c in self.completions),
        }
        if first.num_reused_tokens:
            usage |= _reuse(first)
        marks = {
            "queue": self.started,
            "first_token": self.first_token,
            "total": self.finished or now,
        }
        timings = {name: round((at - arrived) * 1000, 3) for name, at in marks.items() if at}
        scores = tuple(self.scores[position] for position in sorted(self.scores))
        return Output(self.request.id, tuple(self.completions), usage, timings, scores)


def _reuse(sequence: Sequence) -> dict[str, int]:
    """What reused chunks gave."""
    state: Reused = sequence.state["reuse"]
    return {
        "reused_tokens": sequence.num_reused_tokens,
        "reused_chunks": len(state.chunks),
        "recomputed_tokens": len(state.picked),
        "saved_ms": round(state.saved_ms),
    }


def track(sequence: Sequence, decoder: TokenDecoder) -> Tracked:
    """Begin with a request's first sequence.

    Args:
        sequence: The one of index 0.
        decoder: Makes text of its tokens.
    """
    request = sequence.request
    before = sequence.tokens[-_TEXT_CONTEXT:].tolist()
    completions = [Completion() for _ in range(request.sampling.n)]
    texts = [Detokenizer(decoder, request.sampling.stop, before=before) for _ in completions]
    return Tracked(request, [sequence], completions, texts)


_TEXT_CONTEXT = 8
"""Tokens of the prompt that the detokenizer sees: they decide on the first space."""
