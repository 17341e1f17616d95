"""The loop: the same weights whatever the cut of a batch, and after a restore."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from chunkwise.errors import CheckpointError, TrainingError
from chunkwise.training.base import Plan
from chunkwise.training.device import choose_dtype, repeatable
from chunkwise.training.loop import Loop, Progress
from tests.training.toys import LineTask

CPU = torch.device("cpu")
PLAN = Plan(8, 0.02, warmup_ratio=0.25, save_every=3, evaluate_every=2)


def make(task: LineTask, plan: Plan = PLAN, dtype: torch.dtype = torch.float32) -> Loop:
    return Loop(task, plan, seed=3, device=CPU, dtype=dtype)


def weights(loop: Loop) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in loop.task.model.parameters()])


def run(loop: Loop, **given: Callable[..., object]) -> list[str]:
    """The names of what was called, in order."""
    called: list[str] = []

    def said(name: str) -> Callable[..., object]:
        return given.get(name) or (lambda *_: called.append(name))

    loop.run(
        on_step=lambda p: called.append(f"step {p.step}"),
        save=lambda: said("save")(),
        evaluate=said("evaluate"),
        should_stop=lambda: bool(said("should_stop")()) if "should_stop" in given else False,
    )
    return called


def test_steps_saves_and_evaluations_come_when_the_plan_says() -> None:
    assert run(make(LineTask())) == [
        *("step 1", "step 2", "evaluate", "step 3", "save", "step 4", "evaluate", "step 5"),
        *("step 6", "save", "evaluate", "step 7", "step 8", "save"),
    ]


def test_a_stop_saves_and_ends_between_steps() -> None:
    loop = make(LineTask())
    called = run(loop, should_stop=lambda: loop.done == 4)
    assert called[-2:] == ["evaluate", "save"]
    assert loop.done == 4


class PacedTask(LineTask):
    """Halves what the plan says from step 3 on."""

    def rate(self, step: int, steps: int, planned: float) -> float:
        return planned / 2 if step >= 3 else planned


def test_a_task_may_say_the_learning_rate_of_each_step() -> None:
    paced, plain = make(PacedTask()), make(LineTask())
    ratios = [paced.step().row["lr"] / plain.step().row["lr"] for _ in range(5)]
    assert ratios == [1, 1, 1, 0.5, 0.5]
    assert not torch.equal(weights(paced), weights(plain))


def test_gradients_of_parts_add_up_to_those_of_the_whole() -> None:
    whole, parts = make(LineTask(parts=1)), make(LineTask(parts=4))
    for _ in range(5):
        one, other = whole.step(), parts.step()
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
    torch.testing.assert_close(weights(whole), weights(parts), atol=1e-5, rtol=0)


def test_a_restored_run_has_the_weights_of_an_unbroken_one() -> None:
    with repeatable(CPU):
        unbroken = make(LineTask(dropout=0.3))
        run(unbroken)
        first = make(LineTask(dropout=0.3))
        for _ in range(5):
            first.step()
        saved = first.checkpoint({})
        tensors = {name: tensor.detach().clone() for name, tensor in saved.tensors.items()}
        torch.manual_seed(99)  # whatever was drawn in between
        second = make(LineTask(seed=0, dropout=0.3))
        second.restore(type(saved)(5, tensors, {}, saved.progress))
        run(second)
    assert torch.equal(weights(second), weights(unbroken))
    assert second.tokens == unbroken.tokens == 8 * 12


def test_the_loss_falls_and_the_row_says_so() -> None:
    loop = make(LineTask(), Plan(150, 0.03))
    rows: list[Progress] = [loop.step() for _ in range(150)]
    assert rows[-1].loss < 0.1 * rows[0].loss
    last = rows[-1]
    assert {"step", "loss", "square", "lr", "norm", "tokens", "tokens_per_s"} <= set(last.row)
    assert last.tokens == 150 * 12
    assert last.left_s == 0.0


def test_measuring_the_speed_changes_nothing() -> None:
    measured, plain = make(LineTask(dropout=0.3)), make(LineTask(dropout=0.3))
    assert measured.measure(0.01) > 0
    for loop in (measured, plain):
        loop.step()
    assert torch.equal(weights(measured), weights(plain))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    loop = make(LineTask(breaks_at=2))
    loop.step()
    loop.step()
    before = weights(loop)
    with pytest.raises(TrainingError, match=r"Step 3: the loss is .*Lower the learning rate"):
        loop.step()
    assert torch.equal(weights(loop), before)


def test_a_checkpoint_of_another_model_is_refused() -> None:
    loop = make(LineTask())
    loop.step()
    saved = loop.checkpoint({})
    tensors = {n: t for n, t in saved.tensors.items() if n != "second.0.bias"}
    with pytest.raises(CheckpointError, match=r"'0\.bias'"):
        make(LineTask()).restore(type(saved)(1, tensors, {}, saved.progress))


def test_products_in_bfloat16_keep_weights_in_float32() -> None:
    loop = make(LineTask(), dtype=torch.bfloat16)
    loop.step()
    assert weights(loop).dtype == torch.float32


def test_settings_of_torch_are_as_before_after_a_run() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with repeatable(CPU):
        torch.rand(3)
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert choose_dtype("float32", CPU) == torch.float32
    assert choose_dtype("auto", CPU) in (torch.float32, torch.bfloat16)
