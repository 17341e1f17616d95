"""Batch jobs: what is shared is computed once, memory limits what runs, outputs are the same."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import RequestError
from chunkwise.llm.batching import Batch, Part, Room
from chunkwise.llm.grouping import Job, ordered, shared_lengths
from chunkwise.llm.kv.prefix import common_length
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.outputs import Output
from chunkwise.types import Prompt, SamplingParams, Segment
from tests.llm.engines import alone, engine, greedy

Prompts = list[list[int]]


def job(prompt: list[int], new: int = 4, **chunks: int) -> Job:
    return Job(np.array(prompt, dtype=np.int32), new, chunks)


def tree_prompts(rng: random.Random, leaves: int, piece: int) -> Prompts:
    """Prompts that part again and again, in random order: pieces of a tree and own ends."""
    pieces = {key: some(rng, piece) for key in ("", "0", "1", "00", "01", "10", "11")}
    found = []
    for _ in range(leaves):
        path = "".join(rng.choice("01") for _ in range(2))
        head = [t for n in range(rng.randint(0, 2) + 1) for t in pieces[path[:n]]]
        found.append(head + some(rng, 9))
    return found


def some(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(200) for _ in range(count)]


def distinct_rows(asked: Prompts) -> int:
    """Rows to be computed if every prefix is computed once: nodes of the tree of tokens, and the
    last row of each prompt, which is always computed."""
    return len({tuple(p[:n]) for p in asked for n in range(1, len(p))}) + len(asked)


def best_of_one_level(asked: Prompts) -> int:
    """Fewest rows where each prompt shares one prefix with its group: all partitions are tried."""

    def partitions(items: list[int]) -> Iterator[list[list[int]]]:
        if not items:
            yield []
            return
        for rest in partitions(items[1:]):
            yield [[items[0]], *rest]
            for i, group in enumerate(rest):
                yield [*rest[:i], [items[0], *group], *rest[i + 1 :]]

    def saved(group: list[int]) -> int:
        first, last = (
            asked[i] for i in (min(group, key=asked.__getitem__), max(group, key=asked.__getitem__))
        )
        shared = common_length(np.array(first[:-1]), np.array(last[:-1]))
        shared = min(shared, *(len(asked[i]) - 1 for i in group))
        return (len(group) - 1) * shared

    best = max(sum(map(saved, groups)) for groups in partitions([*range(len(asked))]))
    return sum(map(len, asked)) - best


token_lists = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=8)


@settings(deadline=None, max_examples=100)
@given(asked=token_lists)
def test_each_shares_most_with_the_one_before_it(asked: Prompts) -> None:
    jobs = ordered([job(prompt) for prompt in asked])
    assert sorted(j.prompt.tolist() for j in jobs) == sorted(asked)
    for i, common in enumerate(shared_lengths(jobs)):
        others = [common_length(jobs[i].reusable, other.reusable) for other in jobs[:i]]
        assert common == max(others, default=0)


def test_decode_heavy_groups_go_first() -> None:
    light, heavy = [[1] * 30 + [i] for i in range(2)], [[2] * 30 + [i] for i in range(2)]
    jobs = [job(light[0], 4), job(heavy[0], 9), job(light[1], 5), job(heavy[1], 90)]
    assert ordered(jobs) == [jobs[3], jobs[1], jobs[2], jobs[0]]


def test_prompts_over_the_same_chunks_go_together_in_whatever_order() -> None:
    jobs = [
        job([1] * 40, 4, a=10, b=10, c=10),
        job([1] * 40, 9, x=10, y=10, z=10),
        job([1] * 40, 4, c=10, a=10, d=10),
        job([1] * 40, 4, z=10, y=10, q=10),
        job([1] * 40, 4),
    ]
    assert ordered(jobs) == [jobs[i] for i in (1, 3, 0, 2, 4)]


def test_a_part_counts_once() -> None:
    room, shared = Room(10), Part("shared", 6)
    room.add([shared, Part("one", 2)])
    assert room.fits([shared, Part("two", 2)])
    assert not room.fits([shared, Part("two", 3)])
    room.add([shared, Part("two", 2)])
    room.remove([shared, Part("one", 2)])
    assert room.free == 2
    room.remove([shared, Part("two", 2)])
    assert room.free == 10


def outputs(
    llm: LLM, asked: Prompts, sampling: SamplingParams | list[SamplingParams]
) -> list[Output]:
    found = dict(llm.generate_batch(asked, sampling))
    assert sorted(found) == [*range(len(asked))]
    check_nothing_is_left(llm)
    return [found[i] for i in range(len(asked))]


def check_nothing_is_left(llm: LLM) -> None:
    assert not llm._boxes
    assert not llm.engine._tracked
    assert not llm.engine.has_work()
    assert not llm.engine.queues._planned
    llm.engine.pool.check([])


@pytest.mark.parametrize("tokens", [4096, 200, 70])
def test_outputs_are_those_of_each_alone(tiny_llama: Path, oracle: LLM, tokens: int) -> None:
    asked = tree_prompts(random.Random(1), 20, 17)
    llm = engine(tiny_llama, tokens=tokens, max_sequences=2)
    found = [output.token_ids for output in outputs(llm, asked, greedy(6))]
    assert found == alone(oracle, asked, greedy(6))


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_those_of_the_tree_and_no_more_than_the_best_of_one_level(
    tiny_llama: Path, seed: int
) -> None:
    asked = tree_prompts(random.Random(seed), 8, 40)
    llm = engine(tiny_llama, tokens=4096)
    llm.engine.pool.tree.min_match = 1
    outputs(llm, asked, greedy(1))
    assert llm.engine.num_rows == distinct_rows(asked) <= best_of_one_level(asked)


def test_rows_of_one_level_are_the_best_also_with_little_memory(tiny_llama: Path) -> None:
    rng = random.Random(5)
    heads = [some(rng, 50) for _ in range(3)]
    asked = [heads[i % 3] + some(rng, 6) for i in range(8)]
    llm = engine(tiny_llama, tokens=130)
    outputs(llm, asked, greedy(2))
    assert llm.engine.num_rows - len(asked) == best_of_one_level(asked)
    assert not llm.engine.queues.preemptions


def test_memory_is_the_limit_and_not_the_number_of_sequences(tiny_llama: Path) -> None:
    rng = random.Random(6)
    asked = [some(rng, 20) for _ in range(30)]
    llm = engine(tiny_llama, tokens=26 * 12, max_sequences=3)
    _, peak = watched(llm, (i for i, _ in llm.generate_batch(asked, greedy(6))))
    assert peak == 26 * 12
    assert not llm.engine.queues.preemptions


def test_less_memory_is_held_than_by_order_of_arrival_in_no_more_steps(tiny_llama: Path) -> None:
    rng = random.Random(7)
    heads = [some(rng, 100) for _ in range(8)]
    asked = [heads[i % 8] + some(rng, 10) for i in range(48)]
    first_come = engine(tiny_llama, max_sequences=8, order="arrival", token_budget=128)
    steps, peak = watched(first_come, (i for i, _ in [(0, first_come.generate(asked, greedy(16)))]))
    batch = engine(tiny_llama, tokens=int(0.6 * peak), token_budget=128)
    batch_steps, batch_peak = watched(
        batch, (i for i, _ in batch.generate_batch(asked, greedy(16)))
    )
    assert batch_peak <= 0.6 * peak
    assert batch_steps <= steps
    assert not batch.engine.queues.preemptions


def watched(llm: LLM, work: Iterator[int]) -> tuple[int, int]:
    """Steps, and most tokens held at a time."""
    pool, step, held = llm.engine.pool, llm.engine.step, [0]

    def watch() -> object:
        updates = step()
        held.append((pool.used_bytes - pool.cached_bytes) // pool.shape.bytes_per_token)
        return updates

    llm.engine.step = watch  # type: ignore[method-assign,assignment]
    for _ in work:
        pass
    return llm.engine.num_steps, max(held)


def test_bad_prompts_are_told_and_the_rest_goes_on(tiny_llama: Path, oracle: LLM) -> None:
    llm = engine(tiny_llama, tokens=60)
    asked: list[object] = [[1, 2, 3], [-1], [], [5] * 80, [4, 5]]
    found = dict(llm.generate_batch(asked, greedy(3)))  # type: ignore[arg-type]
    assert [found[i].finish_reason for i in range(5)] == ["length", *["error"] * 3, "length"]
    assert "80 tokens" in found[3].completions[0].error
    assert found[4].token_ids == oracle.generate([4, 5], greedy(3))[0].token_ids
    check_nothing_is_left(llm)


def test_arguments_that_are_wrong_are_told_at_once(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    with pytest.raises(RequestError, match="2 prompts came with 1"):
        llm.generate_batch([[1], [2]], [greedy(1)])
    with pytest.raises(RequestError, match="`priority`"):
        llm.generate_batch([[1]], priority="low")  # type: ignore[arg-type]
    assert dict(llm.generate_batch([])) == {}


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_the_iterator_leaves_no_request(tiny_llama: Path, taken: int) -> None:
    llm = engine(tiny_llama, tokens=300)
    rng = random.Random(8)
    job = llm.generate_batch([some(rng, 20) for _ in range(20)], greedy(20))
    assert len([*itertools.islice(job, taken)]) == taken
    job.close()  # type: ignore[attr-defined]
    check_nothing_is_left(llm)


@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupt_leaves_no_request(
    tiny_llama: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(tiny_llama, tokens=300)
    rng, real, calls = random.Random(9), llm.engine.runner.run, itertools.count(1)

    def interrupted(*arguments: object) -> object:
        if next(calls) == after:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(llm.engine.runner, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(llm.generate_batch([some(rng, 20) for _ in range(20)], greedy(20)))
    check_nothing_is_left(llm)
    assert len(llm.generate([[1, 2]], greedy(3))[0].token_ids) == 3


def test_others_go_first(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, tokens=4096, token_budget=16, max_sequences=1)
    rng = random.Random(10)
    job = llm.generate_batch([some(rng, 30) for _ in range(20)], greedy(2))
    next(job)
    request_id = llm.add([1] * 10, greedy(1))
    llm.step()
    llm.step()
    assert llm.engine.is_finished(request_id)
    llm.close_request(request_id)
    list(job)
    check_nothing_is_left(llm)


def test_expected_lengths_follow_what_was_written(tiny_llama: Path) -> None:
    """Answers that end early let more run at a time."""
    llm = engine(tiny_llama, tokens=1000)
    rng = random.Random(11)
    sampling = SamplingParams(max_tokens=160, stop_token_ids=tuple(range(262)))
    asked = [llm.request(llm.segments(some(rng, 10)), sampling) for _ in range(60)]
    batch = Batch(enumerate(asked), 512, 1000)
    sizes = []
    while sent := batch.send():
        sizes.append(len(sent))
        for request, output in zip(sent, llm.run([*sent]), strict=True):
            batch.done(request.id, output)
    assert sizes[0] == 5, sizes
    assert max(sizes) > 10, sizes


def test_chunks_are_computed_shortly_before_they_are_needed(tiny_llama: Path) -> None:
    """More chunks than the store has room for, in an order that would read each again and again."""
    texts = {f"{group}{i}": f"{group} {i} " + "x" * 25 for group in "abcd" for i in range(3)}
    asked = []
    for number in range(16):
        group = "abcd"[number % 4]
        names = random.Random(number).sample([f"{group}{i}" for i in range(3)], 3)
        pieces = [Segment("user", texts[name], name) for name in names]
        asked.append(Prompt((*pieces, Segment("user", f"Question {number}?"))))
    rows, found = {}, {}
    for kind in ("batch", "one by one", "plenty"):
        llm = engine(tiny_llama, reuse=ReuseSettings("legolink"))
        store = llm.engine.reuse.store  # type: ignore[union-attr]
        if kind != "plenty":
            store.budget_bytes = 4 * 32 * llm.engine.pool.shape.bytes_per_token
        if kind == "one by one":
            found[kind] = [llm.generate(prompt, greedy(4))[0].token_ids for prompt in asked]
        else:
            results = dict(llm.generate_batch(asked, greedy(4)))
            found[kind] = [results[i].token_ids for i in range(16)]
            assert all(output.usage["reused_tokens"] for output in results.values())
        assert not any(entry.segment.refs for entry in store._entries.values())
        rows[kind] = llm.engine.num_rows
        check_nothing_is_left(llm)
    assert found["batch"] == found["one by one"] == found["plenty"]
    assert rows["batch"] == rows["plenty"] < 0.8 * rows["one by one"]


def test_prompts_with_more_chunks_than_the_store_has_room_for(tiny_llama: Path) -> None:
    pieces = [Segment("user", f"{name} " + "y" * 28, name) for name in "abc"]
    asked = [Prompt((*pieces, Segment("user", f"Question {i}?"))) for i in range(3)]
    llm = engine(tiny_llama, reuse=ReuseSettings("legolink"))
    store = llm.engine.reuse.store  # type: ignore[union-attr]
    store.budget_bytes = 2 * 32 * llm.engine.pool.shape.bytes_per_token
    found = dict(llm.generate_batch(asked, greedy(4)))
    assert {output.finish_reason for output in found.values()} == {"length"}
    assert any(output.usage.get("reused_tokens") for output in found.values())
    check_nothing_is_left(llm)


def test_a_job_lifts_no_limit_of_others(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, tokens=4096, max_sequences=2)
    rng = random.Random(3)
    for number in range(12):
        request = llm.request(llm.segments(some(rng, 10)), greedy(4), number % 2)
        request.is_planned = bool(number % 2)
        llm._add(request)
    most = 0
    while llm.step():
        running = llm.engine.queues.running
        most = max(most, sum(not one.request.is_planned for one in running))
    assert most == 2
