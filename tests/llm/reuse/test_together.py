"""Prompts over stored chunks run together: what counts in a step is what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chunkwise.llm.scheduling import Slice, StepBudget
from chunkwise.llm.sequence import HEAVY_ROW
from tests.llm.reuse.test_in_engine import check_nothing_is_held, complete, engine
from tests.llm.reuse.test_policies import asked


@pytest.mark.parametrize("policy", ["none", {"name": "question", "ratio": 0.3}])
@pytest.mark.parametrize("token_budget", [64, 100])
def test_prompts_over_stored_chunks_begin_in_one_step(
    policy: Any, token_budget: int, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [asked(seed, chunks=6)[1] for seed in range(3)]
    wanted = [complete(engine(tiny_llama, policy=policy), [pieces])[0] for pieces in prompts]
    llm, steps = engine(tiny_llama, policy=policy), []
    for pieces in prompts:
        llm.admit(pieces)
    longest = max(sum(len(piece.token_ids) for piece in pieces) for pieces in prompts)
    assert longest > 64, "a prompt would fit a step as it is"
    llm.engine.queues.budget = StepBudget(token_budget)
    real = llm.engine.runner.run

    def watched(slices: list[Slice], *more: Any) -> Any:
        work = sum(piece.sequence.work(piece.tokens) for piece in slices)
        steps.append((work, len({piece.sequence.request.id for piece in slices})))
        return real(slices, *more)

    monkeypatch.setattr(llm.engine.runner, "run", watched)
    assert complete(llm, prompts) == wanted
    assert max(work for work, _ in steps) <= token_budget + HEAVY_ROW  # one row goes always
    assert steps[0][1] > 1, "a step had room for more than one prompt"
    check_nothing_is_held(llm)
