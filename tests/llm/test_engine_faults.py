"""What goes wrong in a step: memory, deadlines, exceptions, interrupts. Nobody waits for ever."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chunkwise.errors import ChunkwiseError, RequestError
from chunkwise.llm.async_llm import AsyncLLM
from chunkwise.llm.kv.segments import SequenceKV
from chunkwise.llm.local import LLM
from chunkwise.llm.outputs import Output, Update
from chunkwise.llm.sampling import NOT_FINITE
from chunkwise.llm.scheduling import policies
from chunkwise.types import SamplingParams
from tests.fakes import ManualClock
from tests.llm.engines import alone, engine, greedy, prompts

STEPS = 400
"""More than any of these needs."""


def run(llm: LLM) -> None:
    """Step until nothing is left to do, or often enough."""
    for _ in range(STEPS):
        if not llm.step():
            return


def ended(llm: LLM, request_ids: list[str]) -> list[Output]:
    """The outputs, after so many steps at most."""
    run(llm)
    assert all(llm.engine.is_finished(request_id) for request_id in request_ids), "still running"
    outputs = [llm.close_request(request_id) for request_id in request_ids]
    llm.engine.pool.check([])
    return outputs


def once(error: BaseException, then: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises when it is called for the first time."""
    errors = [error]

    def call(*args: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return then(*args, **options)

    return call


# --- too little memory ---


@pytest.mark.parametrize("policy", policies.own)
def test_prompts_without_room_let_those_that_have_it_go_on(
    tiny_llama: Path, oracle: LLM, policy: str
) -> None:
    llm = engine(tiny_llama, tokens=60, policy=policy)
    asked = [[i] * 25 for i in range(1, 4)]
    ids = [llm.add(p, greedy(25)) for p in asked]
    outputs = ended(llm, ids)
    assert [o.token_ids for o in outputs] == alone(oracle, asked, greedy(25))


@pytest.mark.parametrize("policy", policies.own)
@pytest.mark.parametrize(
    "more",
    [
        {"n": 3, "temperature": 1.0, "seed": 5},
        {"prompt_logprobs": 2, "logprobs": 1},
        {"temperature": 0.8, "top_p": 0.9, "seed": 3},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.5},
    ],
    ids=["n", "prompt_logprobs", "seed", "penalties"],
)
def test_preemption_changes_nothing_that_is_asked_for(
    tiny_llama: Path, oracle: LLM, policy: str, more: dict[str, Any]
) -> None:
    llm = engine(tiny_llama, tokens=70, token_budget=32, policy=policy)
    asked, sampling = prompts(4, seed=1, longest=40), greedy(12, **more)
    outputs = ended(llm, [llm.add(p, sampling) for p in asked])
    assert llm.engine.queues.preemptions > 0
    for prompt, output in zip(asked, outputs, strict=True):
        expected = oracle.generate([prompt], sampling)[0]
        found = [c.token_ids for c in output.completions]
        assert found == [c.token_ids for c in expected.completions]
        for one, other in zip(output.prompt_logprobs, expected.prompt_logprobs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


# --- requests that end before their first token ---


def nan(llm: LLM) -> None:
    llm.engine.runner.model.embedding.dense[77] = torch.nan  # type: ignore[index]


@pytest.mark.parametrize(
    ("timeout_s", "cause", "reason", "error"),
    [
        (0.0, lambda _: None, "deadline", ""),
        (None, nan, "error", NOT_FINITE),
    ],
)
def test_all_of_n_end_where_the_prompt_is_never_computed(
    tiny_llama: Path,
    timeout_s: float | None,
    cause: Callable[[LLM], None],
    reason: str,
    error: str,
) -> None:
    llm = engine(tiny_llama)
    cause(llm)

    async def main() -> list[Update | Output]:
        async with AsyncLLM(llm) as served:
            asked = served.updates([1, 2, 77], greedy(5, n=3), timeout_s=timeout_s)
            return [item async for item in asked]

    *updates, output = asyncio.run(asyncio.wait_for(main(), timeout=20))
    assert [u.index for u in updates] == [0, 1, 2]  # type: ignore[union-attr]
    assert isinstance(output, Output)
    for one in (*updates, *output.completions):
        assert one.finish_reason == reason  # type: ignore[union-attr]
        assert error in one.error  # type: ignore[union-attr]
    llm.engine.pool.check([])


def test_a_request_cancelled_at_once_has_all_its_completions(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    output = llm.close_request(llm.add([1, 2], greedy(n=4)))
    assert [c.finish_reason for c in output.completions] == ["cancelled"] * 4


# --- exceptions inside a step ---


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("runner.model.forward", KeyboardInterrupt()),
        ("runner.model.logits", MemoryError()),
        ("sampler.sample", KeyboardInterrupt()),
        ("sampler.sample", OverflowError()),
        ("sampler.score", MemoryError()),
    ],
)
def test_an_exception_in_a_step_strands_nobody(
    tiny_llama: Path,
    oracle: LLM,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: BaseException,
) -> None:
    asked = prompts(3, seed=9, longest=30)
    sampling = greedy(4, n=2, temperature=1.0, seed=1, prompt_logprobs=0)
    llm = engine(tiny_llama, token_budget=24)
    ids = [llm.add(p, sampling) for p in asked]
    llm.step()
    path, _, name = where.rpartition(".")
    owner: Any = llm.engine
    for part in path.split("."):
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, name, once(error, getattr(owner, name)), raising=True)
    with pytest.raises(type(error)):
        run(llm)
    for output, prompt in zip(ended(llm, ids), asked, strict=True):
        expected = oracle.generate([prompt], sampling)[0]
        found = [c.token_ids for c in output.completions]
        assert found == [c.token_ids for c in expected.completions]
        assert len(output.prompt_logprobs) == len(prompt) - 1


@pytest.mark.parametrize(
    ("name", "nth", "length"),
    [
        ("match", 2, 8),
        ("reserve", 5, 8),
        ("mark_computed", 4, 8),
        ("fork", 1, 8),
        ("fork", 4, 8),
        ("join", 2, 66),
        ("_publish", 1, 8),
    ],
)
def test_an_exception_in_the_kv_cache_strands_nobody(
    tiny_llama: Path,
    oracle: LLM,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    nth: int,
    length: int,
) -> None:
    asked = prompts(1 if length > 60 else 3, seed=10, longest=25)
    sampling = greedy(length, n=3, temperature=1.0, seed=1)
    llm = engine(tiny_llama, tokens=1000 if length > 60 else 120, token_budget=24)
    original, calls = getattr(SequenceKV, name), []

    def call(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == nth:
            raise MemoryError
        return original(*args, **options)

    monkeypatch.setattr(SequenceKV, name, call)
    ids = [llm.add(p, sampling) for p in asked]
    with pytest.raises(MemoryError):
        run(llm)
    for output, prompt in zip(ended(llm, ids), asked, strict=True):
        expected = oracle.generate([prompt], sampling)[0]
        found = [c.token_ids for c in output.completions]
        assert found == [c.token_ids for c in expected.completions]


def test_a_seed_of_numpy_is_a_seed(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    found = [
        llm.generate([[1, 2, 3]], greedy(5, temperature=1.0, seed=seed))[0].token_ids
        for seed in (np.int64(-5), -5)
    ]
    assert found[0] == found[1]


def test_a_grammar_that_fails_ends_its_request_only(
    tiny_llama: Path, oracle: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(tiny_llama)

    def refuse(_: object) -> bool:
        raise RequestError("the grammar is at its limit")

    monkeypatch.setattr(llm.engine.sampler.grammar, "is_complete", refuse)
    bad = llm.add([1, 2], greedy(5, regex="[ab]*"))
    good = llm.add([3, 4], greedy(5))
    outputs = ended(llm, [bad, good])
    assert [o.finish_reason for o in outputs] == ["error", "length"]
    assert outputs[0].completions[0].error == "the grammar is at its limit"
    assert len(outputs[0].token_ids) == 1
    assert outputs[1].token_ids == alone(oracle, [[3, 4]], greedy(5))[0]


def test_what_ended_in_a_failed_step_is_told_in_the_next(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm, clock = engine(tiny_llama), ManualClock()
    llm.engine.clock = clock
    late = llm.add([1, 2, 3], greedy(50), timeout_s=5.0)
    llm.add([4, 5, 6], greedy(50))
    llm.step()
    llm.ready(late)
    clock.now += 6.0

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(llm.engine.runner, "run", fail)
    with pytest.raises(MemoryError):
        llm.step()
    (update,) = llm.updates(late)  # though every step fails
    assert update.finish_reason == "deadline"
    llm.close_request(late)


def test_updates_of_a_closed_request_are_not_told(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(tiny_llama)
    closed, other = llm.add([1, 2, 3], greedy(50)), llm.add([4, 5, 6], greedy(50))
    drawn = llm.engine._append
    monkeypatch.setattr(
        llm.engine, "_append", lambda s, t: drawn(s, t) if s.request.id == closed else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        llm.step()
    monkeypatch.undo()
    assert len(llm.close_request(closed).token_ids) == 1
    assert ended(llm, [other])[0].finish_reason == "length"


def test_a_policy_that_chooses_nothing_is_named(tiny_llama: Path) -> None:
    class Idle:
        def pick(self, *_: object) -> list[Any]:
            return []

    llm = engine(tiny_llama)
    llm.engine.queues.policy = Idle()
    request_id = llm.add([1, 2, 3], greedy())
    with pytest.raises(ChunkwiseError, match=r"Idle.*must choose"):
        list(llm.updates(request_id))
    assert llm.close_request(request_id).finish_reason == "cancelled"


# --- memory of a step ---


def test_logits_to_be_scored_are_held_a_few_at_a_time(
    oracle: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, score = oracle.engine.runner.model, oracle.engine.sampler.score
    logits, made, held = model.logits, [], []

    def watched(hidden: torch.Tensor) -> torch.Tensor:
        found = logits(hidden)
        made.append((weakref.ref(found), len(found)))
        return found

    def counted(*args: Any) -> Any:
        held.append(sum(rows for tensor, rows in made if tensor() is not None))
        return score(*args)

    monkeypatch.setattr(model, "logits", watched)
    monkeypatch.setattr(oracle.engine.sampler, "score", counted)
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=0)
    asked = [list(range(200)), list(range(30, 230))]
    outputs = oracle.generate(asked, sampling)
    assert [len(o.prompt_logprobs) for o in outputs] == [199, 199]
    assert max(held) <= 64
