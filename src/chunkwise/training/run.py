"""One run in one folder: prepare, go on or start, train, measure, export, write the card.

OUT/run.json          recipe, options, seed, plan: what `--resume` goes on with
OUT/checkpoints/      the last two
OUT/log.jsonl         a row a step
OUT/curves.png
OUT/model/            the finished model with its card.json
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunkwise.errors import (
    CheckpointError,
    ConfigError,
    MissingDependencyError,
    TrainingError,
)
from chunkwise.packaged import CARD, checksums
from chunkwise.training.base import Closing, Plan, Recipe, Task, recipes

try:
    from chunkwise.training.card import make_card
    from chunkwise.training.checkpoints import Checkpoints
    from chunkwise.training.curves import draw_curves
    from chunkwise.training.device import choose_device, choose_dtype, repeatable
    from chunkwise.training.log import RunLog
    from chunkwise.training.loop import Loop, Progress
except MissingDependencyError:
    raise
except ImportError as exc:
    raise MissingDependencyError(
        'Training needs torch and safetensors: `pip install "chunkwise[train]"`.'
    ) from exc

_log = logging.getLogger(__name__)

_MEASURE_S = 15.0  # how long the speed is measured before a budget is turned into steps
_RESERVE = 0.15  # share of a budget that is kept for measuring and export


@dataclass(frozen=True)
class Asked:
    """What was asked for; None: as the recipe says, or with `resume` as the run was started.

    Attributes:
        recipe: Name of the recipe.
        out: The run's folder.
        data: The data folder.
        options: Options of the recipe.
        steps: Optimizer steps.
        seed: Of data order and new weights.
        dtype: auto, float32 or bfloat16.
        resume: Go on from the last checkpoint.
        budget_minutes: Most minutes of this call. A new run gets as many steps as fit; one that
            is resumed keeps its steps and stops in time.
        finish: No more steps: measure the last checkpoint and write its model. The run can still
            be resumed.
    """

    recipe: str
    out: Path
    data: Path | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int | None = None
    seed: int | None = None
    dtype: str | None = None
    resume: bool = False
    budget_minutes: float | None = None
    finish: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether it is about a run that is there."""
        return self.resume or self.finish


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        is_finished: The model is written: all steps are done, or it was asked for as it is.
        step: Steps done.
        steps: Steps in all.
        figures: On held-out data; empty if not finished.
        model: The model's folder; None if not finished.
    """

    is_finished: bool
    step: int
    steps: int
    figures: Mapping[str, float]
    model: Path | None


@dataclass(frozen=True)
class _Settings:
    """`run.json`: what a run was started with."""

    recipe: str
    data: str
    options: Mapping[str, Any]
    steps: int | None
    seed: int
    dtype: str


def run(
    asked: Asked,
    *,
    on_step: Callable[[Progress], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train until done, stopped or out of time; what was done is kept in checkpoints.

    Args:
        asked: What to train.
        on_step: Called after each step.
        on_note: Called with a sentence when something begins or was found.
        should_stop: Asked between steps; True saves a checkpoint and ends the call.

    Raises:
        ConfigError: An unknown recipe or option, or a value that cannot be used.
        TrainingDataError: Data that is missing or has another form.
        CheckpointError: A checkpoint of another run, a damaged one, or one that cannot be written.
        TrainingError: Anything else that stops it.
    """
    started = time.monotonic()
    recipes.options(asked.recipe)  # an unknown name is said before anything else
    settings = _settings(asked)
    recipe = recipes.build({"name": settings.recipe, **settings.options})
    device = choose_device()
    dtype = choose_dtype(settings.dtype, device)
    with repeatable(device):
        on_note(f"Reading {settings.data} ...")
        task = recipe.prepare(
            Path(settings.data), asked.out, seed=settings.seed, device=device, dtype=dtype
        )
        with contextlib.closing(task) if isinstance(task, Closing) else contextlib.nullcontext():
            plan, loop, settings = _start(asked, recipe, task, settings, (device, dtype), on_note)
            deadline = started + 60 * (asked.budget_minutes or float("inf"))
            run_ = _Run(asked.out, settings, task, plan, loop, on_note)
            if asked.finish:
                return run_.outcome()

            def is_over() -> bool:
                return should_stop() or time.monotonic() > deadline

            return run_.finish(on_step, is_over)


class _Run:
    """A prepared run and its files."""

    def __init__(
        self,
        out: Path,
        settings: _Settings,
        task: Task[Any],
        plan: Plan,
        loop: Loop,
        on_note: Callable[[str], None],
    ) -> None:
        self.out, self.settings, self.task, self.plan = out, settings, task, plan
        self.loop, self.on_note = loop, on_note
        self.checkpoints = Checkpoints(out / "checkpoints")
        self.log = RunLog(out / "log.jsonl")

    def finish(
        self, on_step: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> Outcome:
        """The steps that are left, then figures, model and card."""

        def logged(progress: Progress) -> None:
            self.log.append(progress.row)
            on_step(progress)

        is_done = self.loop.run(
            on_step=logged, save=self.save, evaluate=self.measure, should_stop=should_stop
        )
        draw_curves(self.log.rows(), self.out / "curves.png")
        if not is_done:
            return Outcome(False, self.loop.done, self.plan.steps, {}, None)
        return self.outcome()

    def outcome(self) -> Outcome:
        """Figures, model and card of the steps done."""
        self.on_note("Measuring on held-out data ...")
        figures = self.measure(is_final=True)
        draw_curves(self.log.rows(), self.out / "curves.png")
        return Outcome(True, self.loop.done, self.plan.steps, figures, self.export(figures))

    def save(self) -> None:
        """Write a checkpoint of the steps done, if there are some and it is not there."""
        if self.loop.done and self.loop.done not in self.checkpoints.steps():
            self.checkpoints.save(
                self.loop.checkpoint(_identity(self.settings, self.plan, self.task))
            )

    def measure(self, *, is_final: bool = False) -> Mapping[str, float]:
        """Figures on held-out data, written to the log too."""
        figures = self.task.evaluate(is_final=is_final)
        self.log.append({"step": self.loop.done, "is_final": is_final, "figures": dict(figures)})
        return figures

    def export(self, figures: Mapping[str, float]) -> Path:
        """Write the model beside its place, then swap it in."""
        target, part = self.out / "model", self.out / "model.part"
        counts = {"steps": self.loop.done, "tokens": self.loop.tokens}
        counts["seconds"] = round(self.loop.elapsed_s)
        card = make_card(
            self.settings.recipe,
            sources=self.task.sources,
            identity=_identity(self.settings, self.plan, self.task),
            counts=counts,
            figures=figures,
            description={"command": _command(self.settings), **self.task.describe()},
        )
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            self.task.export(part)
            card["files"] = checksums(part)
            (part / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            os.rename(part, target)
        except OSError as exc:
            raise TrainingError(
                f"{target}: the model cannot be written: {exc.strerror or exc}. All steps are "
                "done: make room and call again with --resume."
            ) from exc
        return target


def _command(settings: _Settings) -> str:
    """What trains such a model again; folders of this machine are not named."""
    words = ["chunkwise", "train", settings.recipe, "--data", "DATA"]
    for key, value in settings.options.items():
        given = "FOLDER" if os.sep in str(value) else value
        words += ["-s", f"{key}={given}"]
    if settings.steps is not None:
        words += ["--steps", str(settings.steps)]
    if settings.seed:
        words += ["--seed", str(settings.seed)]
    return shlex.join(words)


def _settings(asked: Asked) -> _Settings:
    """What to run: as asked, or for `resume` as the run was started."""
    stored = _stored(asked.out)
    if asked.finish and not Checkpoints(asked.out / "checkpoints").steps():
        raise ConfigError(f"{str(asked.out)!r} holds no checkpoint to make a model of.")
    if asked.goes_on:
        if stored is None:
            raise ConfigError(f"{str(asked.out)!r} holds no run to resume; leave --resume out.")
        return _continued(asked, stored)
    if stored is not None and Checkpoints(asked.out / "checkpoints").steps():
        raise ConfigError(
            f"{str(asked.out)!r} holds a run of {stored.recipe!r} already: go on with --resume, "
            "or name another folder with --out."
        )
    if asked.data is None:
        raise ConfigError("No data: name the data folder with --data DIR (or CHUNKWISE_DATA).")
    return _Settings(
        asked.recipe,
        str(asked.data.absolute()),
        dict(asked.options),
        asked.steps,
        0 if asked.seed is None else asked.seed,
        asked.dtype or "auto",
    )


def _continued(asked: Asked, stored: _Settings) -> _Settings:
    given: dict[str, Any] = {"recipe": asked.recipe, "options": dict(asked.options) or None}
    given |= {"steps": asked.steps, "seed": asked.seed, "dtype": asked.dtype}
    for name, value in given.items():
        if value is not None and value != getattr(stored, name):
            raise CheckpointError(
                f"{str(asked.out)!r} is a run with `{name}` {getattr(stored, name)!r}, not "
                f"{value!r}: leave it out to go on, or start another run with another --out."
            )
    if asked.data is None:
        return stored
    return dataclasses.replace(stored, data=str(asked.data.absolute()))


def _stored(out: Path) -> _Settings | None:
    path = out / "run.json"
    if not path.exists():
        return None
    try:
        return _Settings(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as exc:
        raise CheckpointError(f"{path} cannot be read: {exc}. Name another --out.") from exc


def _start(
    asked: Asked,
    recipe: Recipe,
    task: Task[Any],
    settings: _Settings,
    place: tuple[Any, Any],
    on_note: Callable[[str], None],
) -> tuple[Plan, Loop, _Settings]:
    """The plan, and the loop at the step where it goes on."""
    device, dtype = place
    loop = Loop(task, recipe.plan(settings.steps), seed=settings.seed, device=device, dtype=dtype)
    if asked.goes_on and (checkpoint := Checkpoints(asked.out / "checkpoints").load()):
        _require_same(_identity(settings, loop.plan, task), checkpoint.identity, asked.out)
        loop.restore(checkpoint)
        RunLog(asked.out / "log.jsonl").cut_back(checkpoint.step)
        on_note(f"Going on after step {checkpoint.step} of {loop.plan.steps}.")
        return loop.plan, loop, settings
    if asked.budget_minutes is not None:
        steps = _steps_for(asked.budget_minutes, loop, on_note)
        settings = dataclasses.replace(settings, steps=steps)
        loop.plan = recipe.plan(steps)
    _write_settings(asked.out, settings)
    RunLog(asked.out / "log.jsonl").cut_back(0)
    return loop.plan, loop, settings


def _steps_for(minutes: float, loop: Loop, on_note: Callable[[str], None]) -> int:
    """As many steps as fit into a budget, at most the recipe's own."""
    seconds = loop.measure(min(_MEASURE_S, 6 * minutes))
    fitting = int(60 * minutes * (1 - _RESERVE) / seconds)
    steps = max(1, min(loop.plan.steps, fitting))
    on_note(f"A step takes {seconds:.2f} s: {steps} of {loop.plan.steps} steps fit the budget.")
    return steps


def _identity(settings: _Settings, plan: Plan, task: Task[Any]) -> dict[str, Any]:
    identity = {"recipe": settings.recipe, "seed": settings.seed, "dtype": settings.dtype}
    whole = {**identity, "plan": dataclasses.asdict(plan), **task.identity}
    return dict(json.loads(json.dumps(whole)))


def _require_same(mine: Mapping[str, Any], theirs: Mapping[str, Any], out: Path) -> None:
    for name in [*mine, *theirs]:
        if mine.get(name) != theirs.get(name):
            raise CheckpointError(
                f"The checkpoint in {out} is of another run: `{name}` was {theirs.get(name)!r} "
                f"and is now {mine.get(name)!r}. Resume with what it was started with, or start "
                "another run with another --out."
            )


def _write_settings(out: Path, settings: _Settings) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(settings), indent=1)
        (out / "run.json").write_text(text + "\n", encoding="utf-8")
    except OSError as exc:
        raise TrainingError(f"{out}: cannot be written: {exc.strerror or exc}.") from exc
