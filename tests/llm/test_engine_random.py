"""Random requests in random engines: what each gets is what it gets alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from chunkwise.llm.local import LLM
from chunkwise.llm.outputs import Output
from chunkwise.llm.scheduling import policies
from chunkwise.types import SamplingParams
from tests.llm.engines import engine

STEPS = 3000


def random_engine(rng: random.Random, folder: Path, policy: str) -> LLM:
    return engine(
        folder,
        tokens=rng.choice([30, 40, 60, 100]),
        token_budget=rng.choice([1, 7, 32, 512]),
        max_sequences=rng.choice([1, 3, 64]),
        policy=policy,
    )


def random_prompts(rng: random.Random, longest: int) -> list[list[int]]:
    """Some that begin alike."""
    prefix = [rng.randrange(200) for _ in range(40)]
    made = [
        prefix[: rng.randint(0, 40)] + [rng.randrange(200) for _ in range(rng.randint(1, 12))]
        for _ in range(rng.randint(2, 5))
    ]
    return [prompt[:longest] for prompt in made]


def random_sampling(rng: random.Random) -> SamplingParams:
    options: dict[str, Any] = {
        "n": rng.choice([1, 1, 2, 3]),
        "seed": rng.randrange(99),
        "temperature": rng.choice([0.0, 0.8]),
        "top_k": rng.choice([0, 5]),
        "max_tokens": rng.randint(1, 12),
        "prompt_logprobs": rng.choice([None, 0, 2]),
        "logprobs": rng.choice([None, 1]),
        "repetition_penalty": rng.choice([1.0, 1.2]),
        "frequency_penalty": rng.choice([0.0, 0.5]),
        "ignore_eos": rng.choice([False, True]),
    }
    return SamplingParams(**options)


def check_equal(found: Output, expected: Output, room: int) -> None:
    """The same, cut where the KV budget ends: after `room` tokens."""
    assert len(found.completions) == len(expected.completions)
    for one, other in zip(found.completions, expected.completions, strict=True):
        assert one.error == ""
        assert one.token_ids == other.token_ids[:room]
        assert len(one.logprobs) == len(other.logprobs[:room])
        if len(other.token_ids) < room:
            assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
    assert len(found.prompt_logprobs) == len(expected.prompt_logprobs)
    for mine, theirs in zip(found.prompt_logprobs, expected.prompt_logprobs, strict=True):
        assert mine.token_id == theirs.token_id
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-3)
        assert len(mine.top) == len(theirs.top)


def finish(llm: LLM) -> None:
    """Step until nothing is left to do; memory must be right after each step."""
    for _ in range(STEPS):
        if not llm.step():
            return
        llm.engine.pool.check([s.kv for s in llm.engine.queues.running])
    pytest.fail(f"still running after {STEPS} steps")


@pytest.mark.parametrize("seed", range(14))
def test_random_requests_get_what_they_get_alone(tiny_llama: Path, oracle: LLM, seed: int) -> None:
    rng = random.Random(seed)
    engines = [random_engine(rng, tiny_llama, policy) for policy in policies.own]
    longest = min(llm.engine.max_tokens for llm in engines) - 2
    asked = [(p, random_sampling(rng), rng.randint(0, 1)) for p in random_prompts(rng, longest)]
    alone = [oracle.generate([prompt], sampling)[0] for prompt, sampling, _ in asked]
    for llm in engines:
        ids = [llm.add(p, sampling, priority=priority) for p, sampling, priority in asked]
        finish(llm)
        for request_id, (prompt, *_), expected in zip(ids, asked, alone, strict=True):
            room = llm.engine.max_tokens - len(prompt)
            check_equal(llm.close_request(request_id), expected, room)
        llm.engine.pool.check([])
