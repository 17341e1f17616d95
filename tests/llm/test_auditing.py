"""A sample of answers over reused chunks is given again, and reuse ends where they differ."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from chunkwise.llm.async_llm import AsyncLLM
from chunkwise.llm.fidelity import self_test
from chunkwise.llm.local import LLM
from chunkwise.types import Prompt, SamplingParams, Segment
from tests.llm.engines import greedy
from tests.llm.reuse.test_in_engine import engine


def prompts(count: int) -> list[Prompt]:
    found = []
    for i in range(count):
        pieces = [Segment("user", f"{i} {j} " + "xyz" * (3 + j), f"{i}.{j}") for j in range(3)]
        found.append(Prompt((*pieces, Segment("user", f"Question {i}?"))))
    return found


def counts(llm: LLM) -> tuple[int, int]:
    assert llm.engine.reuse is not None
    return llm.engine.reuse.audit.counts


def test_every_so_many_th_is_given_again(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, policy="all", audit_ratio=0.25)
    outputs = llm.generate(prompts(12), greedy(20))
    assert all("reused_tokens" not in output.usage for output in outputs)
    assert counts(llm) == (0, 0), "what was computed in full is not looked at"
    llm = engine(tiny_llama, policy={"name": "question", "ratio": 0.8}, audit_ratio=0.25)
    for prompt in prompts(12):
        list(llm.stream(prompt, greedy(20)))
    assert counts(llm)[1] == 0, "an answer waits for no audit"
    dict(llm.generate_batch(prompts(5), greedy(2)))  # one of them is known exactly by now
    assert counts(llm)[1] == 3
    llm.audit()
    assert counts(llm)[1] == 4
    random = SamplingParams(max_tokens=4, temperature=1.0)
    llm.generate(prompts(4), random)
    llm.audit()
    assert counts(llm)[1] == 4, "what would not come again is not looked at"


def test_where_answers_differ_chunks_are_not_reused_any_more(
    tiny_llama: Path, oracle: LLM, caplog: pytest.LogCaptureFixture
) -> None:
    llm = engine(tiny_llama, policy="none", audit_ratio=1.0, audit_least=0.9)
    asked = prompts(16)
    wanted = [output.token_ids for output in oracle.generate(asked, greedy(8))]
    with caplog.at_level(logging.WARNING):
        found = [llm.generate(prompt, greedy(8))[0] for prompt in asked]
    agreed, count = counts(llm)
    assert count == 10
    assert agreed == sum(a.token_ids == b for a, b in zip(found[:10], wanted, strict=False)) < 9
    assert "not reused any more" in caplog.text
    assert [output.token_ids for output in found[10:]] == wanted[10:]
    assert all("reused_tokens" not in output.usage for output in found[10:])


def test_a_self_test_is_no_answer_to_audit(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, policy="none", audit_ratio=1.0)
    self_test(llm, prompts(3), new_tokens=2)
    assert llm.engine.reuse is not None
    assert not llm.engine.reuse.audit.due


def test_the_background_gives_one_answer_at_a_time(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, policy="none", audit_ratio=1.0)
    for prompt in prompts(3):
        list(llm.stream(prompt, greedy(2)))
    for done in (1, 2, 3):
        assert llm.background()
        assert counts(llm)[1] == done
    assert not llm.background()


def test_a_server_computes_what_was_wanted_while_nobody_asks(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    (prompt,) = prompts(1)

    *pieces, question = prompt.segments
    turned = Prompt((*pieces[::-1], question))  # in order it is known exactly

    async def ask(model: AsyncLLM, prompt: Prompt) -> dict[str, int]:
        *_, output = [item async for item in model.updates(prompt, greedy(2))]
        return dict(output.usage)  # type: ignore[union-attr]

    async def run() -> list[dict[str, int]]:
        async with AsyncLLM(llm) as model:
            first = await ask(model, prompt)
            assert llm.engine.reuse is not None
            for _ in range(1000):
                if len(llm.engine.reuse.store) == 3:
                    break
                await asyncio.sleep(0.01)
            return [first, await ask(model, turned)]

    first, second = asyncio.run(run())
    assert "reused_tokens" not in first
    assert second["reused_chunks"] > 0
