"""How far answers over reused chunks are from those of full prefill, by one model and policy.

The same prompts are answered over stored chunks and in full, and in full once more, all together
instead of one by one: what sums in another order change is the noise floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.llm.inputs import AnyPrompt
from chunkwise.llm.local import LLM
from chunkwise.llm.outputs import Output
from chunkwise.llm.sequence import Request
from chunkwise.types import SamplingParams


class Fidelity(NamedTuple):
    """What a self-test found. `floor_...` is the same between two full prefills.

    Attributes:
        prompts: How many were asked.
        answers: Share of the answers whose tokens are all those of full prefill.
        agreement: Share of greedy tokens that are, up to the first of an answer that is not.
        kl: Mean divergence of the first token's distribution from full prefill's, in nats.
        reused: Share of the prompts' tokens that were reused.
    """

    prompts: int
    answers: float
    agreement: float
    kl: float
    floor_answers: float
    floor_agreement: float
    floor_kl: float
    reused: float


NEW_TOKENS = 8


def self_test(llm: LLM, prompts: Sequence[AnyPrompt], *, new_tokens: int = NEW_TOKENS) -> Fidelity:
    """Ask a model that reuses chunks, and compare.

    What it computes of the prompts' chunks is dropped again, and cached prefixes too, before: a
    prompt that is known exactly would test nothing.

    Args:
        llm: Made with `reuse`.
        prompts: With passages that must be read together, or nothing is tested.
        new_tokens: Greedy tokens of each answer.

    Raises:
        ConfigError: The model was made without `reuse`, or memory does not hold the chunks of a
            prompt.
    """
    llm.admit(())  # says so if it cannot
    segments = [llm.segments(prompt) for prompt in prompts]
    llm.forget_prefixes()
    greedy = SamplingParams(max_tokens=new_tokens, temperature=0.0)
    kinds: list[list[Request]] = []
    for is_exact in (False, True, True):
        kinds.append([llm.request(pieces, greedy) for pieces in segments])
        for request in kinds[-1]:
            request.is_exact, request.wants_logits = is_exact, True
    try:
        over = [_over_chunks(llm, request) for request in kinds[0]]
    finally:
        _drop(llm, kinds[0])
    alone = [over, [llm.run([request])[0] for request in kinds[1]]]
    together = llm.run(list(kinds[2]))
    reused, full, again = ([o.token_ids for o in some] for some in (*alone, together))
    firsts = [_log_odds(some) for some in kinds]
    size = sum(output.usage["prompt_tokens"] for output in alone[0])
    return Fidelity(
        len(prompts),
        *_equal(full, reused),
        divergence(firsts[1], firsts[0]),
        *_equal(full, again),
        divergence(firsts[1], firsts[2]),
        sum(output.usage.get("reused_tokens", 0) for output in alone[0]) / size,
    )


def _over_chunks(llm: LLM, request: Request) -> Output:
    """An answer, once the chunks of its prompt were computed."""
    llm.keep([request])
    reuse = llm.engine.reuse
    assert reuse is not None, "it keeps them"
    for piece in request.segments:
        ids = np.array(piece.token_ids, np.int32)
        if piece.content_id and reuse.store.where(piece.content_id, ids) == "none":
            raise ConfigError("Memory does not hold the chunks of a prompt of the self-test.")
    return llm.run([request])[0]


def _drop(llm: LLM, requests: Sequence[Request]) -> None:
    """Forget the chunks of requests, and that they were to ask for them."""
    reuse = llm.engine.reuse
    assert reuse is not None, "it keeps them"
    with llm.exclusive:
        for request in requests:
            reuse.forget(request)
            for piece in request.segments:
                if piece.content_id:
                    reuse.store.drop(piece.content_id)


def _equal(wanted: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Shares of answers that are equal, and of tokens up to the first other one."""
    answers = tokens = 0
    for ours, theirs in zip(found, wanted, strict=True):
        answers += list(ours) == list(theirs)
        same = [a == b for a, b in zip(ours, theirs, strict=False)]
        tokens += len(same) if all(same) else same.index(False)
    return answers / len(wanted), tokens / max(sum(map(len, wanted)), 1)


def divergence(
    wanted: Sequence[NDArray[np.float64]], found: Sequence[NDArray[np.float64]]
) -> float:
    """Mean of KL(wanted || found) in nats, of log-probabilities `(vocab,)` each."""
    each = [float(np.exp(p) @ (p - q)) for p, q in zip(wanted, found, strict=True)]
    return max(float(np.mean(each)), 0.0)


def _log_odds(requests: Sequence[Request]) -> list[NDArray[np.float64]]:
    """Of the first new token."""
    found = []
    for request in requests:
        assert request.logits is not None, "they were asked for"
        found.append(request.logits.double().log_softmax(-1).cpu().numpy())
    return found
