"""Many coroutines and many threads on one model."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from chunkwise.errors import ChunkwiseError, RequestError
from chunkwise.llm.async_llm import AsyncLLM
from chunkwise.llm.local import LLM
from chunkwise.llm.outputs import Output
from chunkwise.types import SamplingParams

SAMPLING = SamplingParams(max_tokens=8, ignore_eos=True)
LONG = SamplingParams(max_tokens=400, ignore_eos=True)


@pytest.fixture
def llm(tiny_llama: Path) -> LLM:
    return LLM(tiny_llama, dtype="float32", kernels="reference", kv_budget_mb=8)


def test_coroutines_share_the_steps_and_get_their_own_tokens(llm: LLM, oracle: LLM) -> None:
    asked = [[i, i + 1, i + 2] for i in range(12)]

    async def main() -> list[Output]:
        async with AsyncLLM(llm) as served:
            return await asyncio.gather(*(served.generate(p, SAMPLING) for p in asked))

    outputs = asyncio.run(main())
    assert [o.token_ids for o in outputs] == [
        oracle.generate([p], SAMPLING)[0].token_ids for p in asked
    ]
    assert llm.engine.num_steps < 12 * 8
    llm.engine.pool.check([])


def test_a_cancelled_coroutine_cancels_its_request(llm: LLM) -> None:
    async def main() -> None:
        async with AsyncLLM(llm) as served:
            task = asyncio.create_task(served.generate([1, 2, 3], LONG))
            other = asyncio.create_task(served.generate([4, 5, 6], SAMPLING))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len((await other).token_ids) == 8
            for _ in range(200):
                if not llm.engine.has_work():
                    return
                await asyncio.sleep(0.01)
            pytest.fail("the cancelled request still runs")

    asyncio.run(main())
    llm.engine.pool.check([])


def test_updates_come_while_it_runs(llm: LLM) -> None:
    async def main() -> int:
        count = 0
        async with AsyncLLM(llm) as served:
            async for item in served.updates([1, 2, 3], SAMPLING):
                count += 1
                if isinstance(item, Output):
                    assert item.usage["completion_tokens"] == 8
        return count

    assert asyncio.run(main()) == 9


def test_bad_requests_are_refused_and_the_rest_goes_on(llm: LLM) -> None:
    async def main() -> None:
        async with AsyncLLM(llm) as served:
            with pytest.raises(RequestError, match="no tokens"):
                await served.generate([], SAMPLING)
            assert len((await served.generate([1], SAMPLING)).token_ids) == 8

    asyncio.run(main())


def test_a_closed_model_says_so(llm: LLM) -> None:
    async def main() -> None:
        served = AsyncLLM(llm)
        running = asyncio.create_task(served.generate([1, 2, 3], LONG))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(served.close)
        with pytest.raises(ChunkwiseError, match="closed"):
            await running
        with pytest.raises(ChunkwiseError, match="closed"):
            await served.generate([1], SAMPLING)

    asyncio.run(main())
    assert not llm.engine.has_work()


def test_threads_share_one_model(llm: LLM, oracle: LLM) -> None:
    asked = [[i * 3 + 1, 7] for i in range(6)]
    found: dict[int, list[int]] = {}

    def work(i: int) -> None:
        found[i] = llm.generate([asked[i]], SAMPLING)[0].token_ids

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, prompt in enumerate(asked):
        assert found[i] == oracle.generate([prompt], SAMPLING)[0].token_ids
    llm.engine.pool.check([])
