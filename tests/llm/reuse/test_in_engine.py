"""Reuse in a busy engine: little memory, cancelling, several completions, other processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunkwise.errors import ConfigError, PromptTooLongError, RequestError
from chunkwise.llm import probing
from chunkwise.llm.kv.memory import Statistics, TokenIds
from chunkwise.llm.kv.store import ChunkStore
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.models.fake import write_fake
from chunkwise.llm.outputs import Update
from chunkwise.llm.reusing import Reuse
from chunkwise.llm.scheduling import Slice, StepBudget
from chunkwise.llm.sequence import TokenSegment
from chunkwise.types import Prompt, SamplingParams, Segment
from tests.llm.engines import greedy
from tests.llm.reuse.dense import Dense
from tests.llm.reuse.test_policies import ANCHOR, asked

QUESTION = {"name": "question", "ratio": 0.3}


def engine(model: Path, *, tokens: int = 4096, **settings: Any) -> LLM:
    """An engine whose KV budget holds so many tokens."""
    given: dict[str, Any] = {"policy": QUESTION, "anchor": ANCHOR, "load": "always", **settings}
    llm = LLM(
        model, dtype="float32", kernels="reference", kv_budget_mb=1, reuse=ReuseSettings(**given)
    )
    llm.engine.pool.budget_bytes = tokens * llm.engine.pool.shape.bytes_per_token
    llm.engine.max_tokens = min(llm.engine.context, tokens)
    return llm


def complete(llm: LLM, prompts: list[tuple[TokenSegment, ...]], n: int = 12) -> list[list[int]]:
    requests = [llm.request(pieces, greedy(n)) for pieces in prompts]
    llm.keep(requests)
    outputs = llm.run([*requests])
    assert not any(output.completions[0].error for output in outputs)
    return [output.token_ids for output in outputs]


def check_nothing_is_held(llm: LLM) -> None:
    llm.engine.pool.check([])
    assert llm.engine.reuse is not None
    assert not any(e.segment.refs for e in llm.engine.reuse.store._entries.values())


@pytest.fixture(scope="module")
def dense(tiny_llama: Path) -> Dense:
    return Dense(tiny_llama)


def test_little_memory_changes_no_token(tiny_llama: Path) -> None:
    prompts = [asked(seed)[1] for seed in range(8)]
    plenty, little = engine(tiny_llama), engine(tiny_llama, tokens=120)
    wanted = complete(plenty, prompts)
    assert not plenty.engine.queues.preemptions
    assert complete(little, prompts) == wanted
    assert little.engine.queues.preemptions, "there was room for all"
    check_nothing_is_held(plenty)
    check_nothing_is_held(little)


def test_a_chunk_that_comes_twice_is_seen_twice(tiny_llama: Path, oracle: LLM) -> None:
    ids = tuple(range(40, 60))
    again = TokenSegment(ids, "one")
    pieces = (TokenSegment(tuple(ANCHOR)), again, TokenSegment((5,)), again, TokenSegment((6, 7)))
    llm = engine(tiny_llama, policy="none")
    full = oracle.generate([[*ANCHOR, *ids, 5, *ids, 6, 7]], greedy(8))[0].token_ids
    assert complete(llm, [pieces], 8) == [full], "the first stands where it was computed"


def test_what_lost_its_chunks_while_it_waited_is_computed_in_full(
    tiny_llama: Path, oracle: LLM
) -> None:
    llm = engine(tiny_llama)
    prompt, pieces = asked(6)
    llm.admit(pieces)
    request = llm.request(pieces, greedy(8))
    llm._add(request)
    llm.step()  # the question, over the chunks as they are
    queues, reuse = llm.engine.queues, llm.engine.reuse
    assert reuse is not None
    queues._preempt(queues.running[0])
    for piece in pieces:
        if piece.content_id:
            reuse.store.drop(piece.content_id)
    output = llm._finished(request.id)
    assert output.token_ids == oracle.generate([prompt.ids], greedy(8))[0].token_ids
    assert "reused_tokens" not in output.usage
    check_nothing_is_held(llm)


@pytest.mark.parametrize("when", ["pick", "lay_out"])
def test_an_interrupt_between_the_passes_changes_no_token(
    when: str, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = asked(7)[1]
    wanted = complete(engine(tiny_llama), [pieces])
    llm = engine(tiny_llama)
    llm.admit(pieces)
    request = llm.request(pieces, greedy(12))
    llm._add(request)
    owner, name = (Reuse, "_picked") if when == "pick" else (Reuse, "_lay_out")
    real = getattr(owner, name)
    calls = []

    def interrupted(self: Reuse, *arguments: Any) -> Any:
        calls.append(1)
        found = real(self, *arguments)
        if len(calls) == (1 if when == "pick" else 2):
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        deque(llm.updates(request.id))
    assert [llm._finished(request.id).token_ids] == wanted
    check_nothing_is_held(llm)


def test_a_long_answer_that_loses_its_memory_goes_on_over_its_chunks(tiny_llama: Path) -> None:
    pieces = asked(6)[1]
    wanted = complete(engine(tiny_llama), [pieces], 100)  # more tokens than the chunks have
    llm = engine(tiny_llama)
    request = llm.request(pieces, greedy(100))
    llm.keep([request])
    llm._add(request)
    for _ in range(90):
        llm.step()
    (sequence,) = llm.engine.queues.running
    assert len(sequence.completion) > sum(len(p.token_ids) for p in pieces if p.content_id)
    llm.engine.queues._preempt(sequence)
    output = llm._finished(request.id)
    assert output.token_ids == wanted[0]
    assert output.usage["reused_tokens"] > 0
    check_nothing_is_held(llm)


def test_more_chunks_than_there_is_room_for(tiny_llama: Path, tmp_path: Path) -> None:
    pieces = asked(8, chunks=5)[1]
    wanted = complete(engine(tiny_llama, folder=tmp_path), [pieces])
    small = engine(tiny_llama, folder=tmp_path)
    store = small.engine.reuse.store  # type: ignore[union-attr]
    sizes = [len(piece.token_ids) for piece in pieces if piece.content_id]
    store.budget_bytes = sum(sizes[:2]) * small.engine.pool.shape.bytes_per_token
    complete(small, [pieces])
    assert 0 < store.used_bytes <= store.budget_bytes
    assert complete(engine(tiny_llama, folder=tmp_path), [pieces]) == wanted
    check_nothing_is_held(small)


@pytest.mark.parametrize("steps", range(6))
def test_what_is_cancelled_holds_nothing(steps: int, tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    pieces = asked(1)[1]
    llm.admit(pieces)
    request = llm.request(pieces, greedy(12))
    llm._add(request)
    for _ in range(steps):
        llm.step()
    llm.close_request(request.id)
    check_nothing_is_held(llm)
    assert complete(llm, [pieces]) == complete(engine(tiny_llama), [pieces])


def test_several_completions_share_the_prompt(tiny_llama: Path) -> None:
    llm, pieces = engine(tiny_llama), asked(2)[1]
    (one,) = complete(llm, [pieces])
    several = llm._run_one(llm.request(pieces, greedy(12, n=3)))
    assert [completion.token_ids for completion in several.completions] == [one] * 3
    check_nothing_is_held(llm)


def test_the_output_says_that_it_is_approximate(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, policy={"name": "legolink", "tokens": 2})
    prompt, pieces = asked(3)
    complete(llm, [pieces])
    usage = llm._run_one(llm.request(pieces, greedy(2))).usage
    assert usage["reused_tokens"] == sum(end - first - 2 for first, end in prompt.chunks)
    assert usage["prompt_tokens"] == len(prompt.ids)
    scored = llm.request(pieces, SamplingParams(max_tokens=1, prompt_logprobs=0))
    assert "reused_tokens" not in llm._run_one(scored).usage, "log-probabilities must be exact"


def test_logits_that_are_asked_for_are_exact(tiny_llama: Path, oracle: LLM) -> None:
    llm = engine(tiny_llama)
    text = Prompt((Segment("user", "The pier is green.", "one"), Segment("user", "Is it?")))
    llm.generate(text, greedy(2))
    assert llm.generate(text, greedy(2))[0].usage.get("reused_tokens") or llm.engine.reuse
    assert np.allclose(llm.next_logits(text), oracle.next_logits(text), atol=1e-4)


def test_without_room_for_chunks_prompts_are_computed_in_full(
    tiny_llama: Path, oracle: LLM
) -> None:
    llm = engine(tiny_llama)
    assert llm.engine.reuse is not None
    llm.engine.reuse.store.budget_bytes = 1
    prompt, pieces = asked(4)
    llm.admit(pieces)
    assert not llm.engine.num_rows, "computed although it cannot be kept"
    output = llm._run_one(llm.request(pieces, greedy(8)))
    assert "reused_tokens" not in output.usage
    assert output.token_ids == oracle.generate([prompt.ids], greedy(8))[0].token_ids


def test_another_engine_finds_what_is_on_disk(
    tiny_llama: Path, tmp_path: Path, oracle: LLM
) -> None:
    prompt, pieces = asked(5)
    first = engine(tiny_llama, folder=tmp_path)
    wanted = complete(first, [pieces])
    second = engine(tiny_llama, folder=tmp_path)
    assert complete(second, [pieces]) == wanted
    rows = sum(len(piece.token_ids) for piece in pieces)
    assert second.engine.num_rows < rows + 2 * 12, "chunks were computed again"
    for path in tmp_path.rglob("*.kv"):
        path.write_bytes(path.read_bytes()[:5000])
    third = engine(tiny_llama, folder=tmp_path)
    full = oracle.generate([prompt.ids], greedy(12))[0].token_ids
    asks = [third.request(pieces, greedy(12)) for _ in range(2)]  # nothing is loaded ahead
    assert third._run_one(asks[0]).token_ids == full, "what is damaged is computed in its prompt"
    assert third._run_one(asks[1]).token_ids == full, "which is an exact prefix then"
    assert complete(engine(tiny_llama, folder=tmp_path), [pieces]) == wanted


CRAFT = {"name": "cache_craft", "alpha": 0.6, "gap": 0}


def statistics(llm: LLM) -> dict[str, Statistics | None]:
    assert llm.engine.reuse is not None
    return {key: e.segment.statistics for key, e in llm.engine.reuse.store._entries.items()}


def test_statistics_are_noted_where_a_policy_asks_only(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = asked(5)[1]
    asking = engine(tiny_llama, policy=CRAFT)
    complete(asking, [pieces])
    assert len(statistics(asking)) == 3
    assert all(statistics(asking).values())
    monkeypatch.setattr(probing, "_score", lambda *_: pytest.fail("attention was computed"))
    plain = engine(tiny_llama, policy={"name": "legolink", "tokens": 2})
    complete(plain, [pieces])
    assert len(statistics(plain)) == 3
    assert not any(statistics(plain).values())


def test_statistics_do_not_depend_on_steps_and_preemption(tiny_llama: Path, dense: Dense) -> None:
    chunks = [piece for piece in asked(4)[1] if piece.content_id]
    llm = engine(tiny_llama, policy=CRAFT)
    engine_, reuse = llm.engine, llm.engine.reuse
    assert reuse is not None
    engine_.queues.budget = StepBudget(tokens=7, sequences=8)
    for request in reuse.requests(chunks, lambda parts: llm.request(parts, greedy(1))):
        llm._add(request)
    for _ in range(3):
        llm.step()
    halfway = [s for s in engine_.queues.running if "noted" in s.state]
    assert halfway, "no chunk was begun"
    for sequence in halfway:
        engine_.queues._preempt(sequence)
    while engine_.has_work():
        llm.step()
    found = statistics(llm)
    for chunk in chunks:
        external, inter, intra = dense.alone(list(chunk.token_ids), ANCHOR)
        noted = found[str(chunk.content_id)]
        assert noted is not None
        assert np.allclose(noted.external, external, rtol=1e-4)
        assert np.allclose(noted[1:], (inter, intra), rtol=1e-4)


def test_statistics_are_found_on_disk(tiny_llama: Path, tmp_path: Path) -> None:
    pieces = asked(5)[1]
    first = engine(tiny_llama, folder=tmp_path, policy=CRAFT)
    wanted = complete(first, [pieces])
    second = engine(tiny_llama, folder=tmp_path, policy=CRAFT)
    assert complete(second, [pieces]) == wanted
    rows = sum(len(piece.token_ids) for piece in pieces)
    assert second.engine.num_rows < rows + 2 * 12, "chunks were computed again"


def test_chunks_on_disk_without_statistics_are_computed_again(
    tiny_llama: Path, tmp_path: Path
) -> None:
    pieces = asked(5)[1]
    other = {"name": "legolink", "tokens": 2}
    plain = complete(engine(tiny_llama, folder=tmp_path, policy=other), [pieces])
    asking = engine(tiny_llama, folder=tmp_path, policy=CRAFT)
    wanted = complete(engine(tiny_llama, policy=CRAFT), [pieces])
    assert complete(asking, [pieces]) == wanted
    assert all(statistics(asking).values())
    again = engine(tiny_llama, folder=tmp_path, policy=other)
    assert complete(again, [pieces]) == plain
    assert again.engine.num_rows < asking.engine.num_rows


def test_another_anchor_does_not_find_them(tiny_llama: Path, tmp_path: Path) -> None:
    pieces = asked(5)[1]
    complete(engine(tiny_llama, folder=tmp_path), [pieces])
    other = engine(tiny_llama, folder=tmp_path, anchor=[3, 4])
    complete(other, [pieces])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_model_with_a_sliding_window_is_refused(tmp_path: Path) -> None:
    folder = write_fake("tiny-mistral", tmp_path, dtype="float32")
    with pytest.raises(ConfigError, match="sliding window"):
        engine(folder)


def test_what_would_be_computed_sooner_is_computed_alone(tiny_llama: Path, tmp_path: Path) -> None:
    pieces = asked(5)[1]
    wanted = complete(engine(tiny_llama, folder=tmp_path), [pieces])
    llm = engine(tiny_llama, folder=tmp_path, load="measured")
    llm.engine.costs.loaded(1, 1000.0)  # a disk of a byte in a thousand seconds
    assert complete(llm, [pieces]) == wanted
    assert llm.engine.reuse is not None
    assert len(llm.engine.reuse.store) == 3
    check_nothing_is_held(llm)


def test_nothing_is_expected_of_prompts_that_are_done(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    assert llm.engine.reuse is not None
    expected = llm.engine.reuse.store._expected
    pieces = asked(5)[1]
    complete(llm, [pieces])
    assert not expected
    request, other = (llm.request(pieces, greedy(4)) for _ in range(2))
    llm.keep([request, other])
    assert [len(who) for who in expected.values()] == [2, 2, 2]
    llm._finished(llm._add(other))
    assert [len(who) for who in expected.values()] == [1, 1, 1]
    llm._add(request)
    llm.close_request(request.id)
    assert not expected
    rows = llm.engine.num_rows
    llm.generate([[1, 2, 3]], SamplingParams(max_tokens=1, prompt_logprobs=0))
    assert llm.engine.num_rows == rows + 3


ONE = Prompt((Segment("user", "The pier is green.", "one"), Segment("user", "Is it?")))
LONG = Prompt((Segment("user", "The hut is red.", "two"), Segment("user", "Is it? " * 1000)))
WAYS: dict[str, Callable[[LLM], object]] = {
    "alone": lambda llm: llm.generate(LONG, greedy(2)),
    "beside another": lambda llm: llm.generate([ONE, LONG], greedy(2)),
    "of a job": lambda llm: list(llm.generate_batch([ONE, LONG], greedy(2))),
    "as a stream": lambda llm: list(llm.stream(LONG, greedy(2))),
}

READ: dict[str, Callable[[LLM], Mapping[str, int]]] = {
    "together": lambda llm: llm.generate([ONE, ONE], greedy(2))[0].usage,
    "of a job": lambda llm: dict(llm.generate_batch([ONE, ONE], greedy(2)))[0].usage,
    "as a stream": lambda llm: list(llm.stream(ONE, greedy(2)))[-1].usage,
    "of a server": lambda llm: llm._finished(llm.add(ONE, greedy(2))).usage,
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_expected_of_a_refused_prompt(way: str, tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    assert llm.engine.reuse is not None
    with suppress(PromptTooLongError):
        WAYS[way](llm)
    assert len(llm.engine.reuse.store), "no chunk was kept"
    assert not llm.engine.reuse.store._expected


def test_nothing_is_expected_behind_an_interrupt(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(tiny_llama)
    assert llm.engine.reuse is not None

    def interrupted(*_: object) -> None:
        assert llm.engine.reuse is not None
        assert llm.engine.reuse.store._expected
        raise KeyboardInterrupt

    monkeypatch.setattr(llm.engine.runner, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(ONE, greedy(2))
    assert not llm.engine.reuse.store._expected


def test_nothing_is_expected_of_a_job_that_nobody_reads_on(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(tiny_llama)
    assert llm.engine.reuse is not None
    real = llm.engine.add

    def refused(request: Any) -> None:
        if request.admits is None and request.sampling.max_tokens == 2:
            raise RequestError("refused")
        real(request)

    monkeypatch.setattr(llm.engine, "add", refused)
    for _, output in llm.generate_batch([ONE, ONE, ONE], greedy(2)):
        assert output.completions[0].error == "refused"
        assert llm.engine.reuse.store._expected, "the others were not sent yet"
        break
    assert not llm.engine.reuse.store._expected


@pytest.mark.parametrize("calls", [1, 2])
def test_nothing_is_expected_of_requests_that_were_not_added(
    calls: int, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(tiny_llama)
    assert llm.engine.reuse is not None
    real, added = llm.engine.add, []

    def interrupted(request: Any) -> None:
        if request.admits is None and request.sampling.max_tokens == 2:
            added.append(request)
            if len(added) == calls:
                raise KeyboardInterrupt
        real(request)

    monkeypatch.setattr(llm.engine, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate([ONE, ONE, ONE], greedy(2))
    assert len(added) == calls
    assert not llm.engine.reuse.store._expected


@pytest.mark.parametrize("way", READ)
def test_a_chunk_on_disk_is_asked_for_once_and_before_the_first_step(
    way: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(tiny_llama, folder=tmp_path).generate(ONE, greedy(2))
    llm = engine(tiny_llama, folder=tmp_path)
    asked_for, before_a_step = [], []
    prefetch, step = ChunkStore.prefetch, llm.engine.step

    def watched(self: ChunkStore, content_id: str, token_ids: TokenIds) -> None:
        prefetch(self, content_id, token_ids)
        asked_for.append(content_id)
        assert content_id in self._loads

    def stepped() -> list[Update]:
        before_a_step.append(list(asked_for))
        return step()

    monkeypatch.setattr(ChunkStore, "prefetch", watched)
    monkeypatch.setattr(llm.engine, "step", stepped)
    assert READ[way](llm)["reused_tokens"]
    assert asked_for == before_a_step[0] == ["one"]
    check_nothing_is_held(llm)


def test_an_interrupt_while_a_chunk_is_loaded_leaves_nothing_held(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = asked(5)[1]
    wanted = complete(engine(tiny_llama, folder=tmp_path), [pieces])
    llm = engine(tiny_llama, folder=tmp_path)
    real, calls = ChunkStore.get, []

    def interrupted(self: ChunkStore, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(ChunkStore, "get", interrupted)
    request = llm.request(pieces, greedy(12))
    llm.keep([request])
    llm._add(request)
    with pytest.raises(KeyboardInterrupt):
        llm.step()
    assert llm.engine.reuse is not None
    assert llm.engine.reuse.store.held_bytes == 0
    assert llm._finished(request.id).token_ids == wanted[0]
    check_nothing_is_held(llm)


@pytest.mark.parametrize("name", ["memory_mb", "disk_mb"])
def test_wrong_sizes_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        ReuseSettings(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize("token_budget", [8, 40, 200])
def test_rows_whose_attention_is_noted_count_as_several(
    tiny_llama: Path, token_budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = (*asked(5, chunks=8)[1], TokenSegment(tuple(range(60, 110))))
    wanted = complete(engine(tiny_llama), [pieces])
    llm, steps = engine(tiny_llama), []
    llm.admit(pieces)
    llm.engine.queues.budget = StepBudget(token_budget)
    real = llm.engine.runner.run

    def watched(slices: list[Slice], *more: Any) -> Any:
        work = sum(piece.sequence.work(piece.tokens) for piece in slices)
        steps.append((work, sum(piece.tokens for piece in slices)))
        return real(slices, *more)

    monkeypatch.setattr(llm.engine.runner, "run", watched)
    assert complete(llm, [pieces]) == wanted
    assert max(work for work, _ in steps) <= token_budget
    assert any(work > rows for work, rows in steps), "no attention was noted"
