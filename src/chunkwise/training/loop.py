"""The training loop: batches, losses, gradients, steps; knows no model and no data.

Weights are float32; products may be bfloat16 (autocast). A step's random numbers are seeded from
(seed, step) and its batches are a function of them too, so that a run that is resumed at a step
goes on as an unbroken one: bit by bit on a processor, with the same number of threads.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from chunkwise.errors import CheckpointError, TrainingError
from chunkwise.training.base import Paced, Plan, Task
from chunkwise.training.checkpoints import Checkpoint
from chunkwise.training.schedule import learning_rate

_WINDOW = 20  # steps that the shown speed is measured over
_MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        loss: Of the last step.
        tokens: Tokens so far.
        tokens_per_s: Over the last steps.
        elapsed_s: Time so far, of all processes that worked on the run.
        left_s: Predicted time to the last step.
        row: The last step's row of the log.
    """

    step: int
    steps: int
    loss: float
    tokens: int
    tokens_per_s: float
    elapsed_s: float
    left_s: float
    row: Mapping[str, Any]


class Loop:
    """Optimizes a task's model with AdamW by a plan.

    Args:
        task: What to train.
        plan: How.
        seed: Of the random numbers of each step.
        device: Where the model is moved to.
        dtype: Of the products; bfloat16 is done by autocast.
    """

    def __init__(
        self, task: Task[Any], plan: Plan, *, seed: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.task, self.plan, self.seed = task, plan, seed
        self.done, self.tokens, self.elapsed_s = 0, 0, 0.0
        self._device, self._dtype = device, dtype
        task.model.to(device)
        self._parameters = {n: p for n, p in task.model.named_parameters() if p.requires_grad}
        self._optimizer = _adamw(self._parameters, plan)
        self._recent: deque[tuple[int, float]] = deque(maxlen=_WINDOW)

    def run(
        self,
        *,
        on_step: Callable[[Progress], None],
        save: Callable[[], None],
        evaluate: Callable[[], object],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Do the steps that are left; True when all are done.

        Args:
            on_step: Called after each step.
            save: Called every `save_every` steps, at the last one, and before stopping.
            evaluate: Called every `evaluate_every` steps, but not after the last one.
            should_stop: Asked between steps.
        """
        while self.done < self.plan.steps:
            if should_stop():
                save()
                return False
            on_step(self.step())
            if self.done == self.plan.steps or self.done % self.plan.save_every == 0:
                save()
            every = self.plan.evaluate_every
            if every and self.done % every == 0 and self.done < self.plan.steps:
                evaluate()
        return True

    def step(self) -> Progress:
        """One optimizer step.

        Raises:
            TrainingError: The loss or a gradient is not finite.
        """
        started = time.perf_counter()
        lr = self._rate()
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        parts, tokens = self._gradients()
        norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), self.plan.clip))
        if not math.isfinite(norm + parts["loss"]):
            raise TrainingError(
                f"Step {self.done + 1}: the loss is {parts['loss']} and the gradient's norm "
                f"{norm}. Lower the learning rate, now {lr:.2g}; the last checkpoint is whole."
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self.tokens += tokens
        return self._progress(parts, tokens, time.perf_counter() - started, lr, norm)

    def measure(self, seconds: float) -> float:
        """Seconds that a step takes, from gradients that are thrown away again."""
        times = []
        end = time.perf_counter() + seconds
        for step in range(self.done, self.done + 50):
            started = time.perf_counter()
            self._gradients(step)
            times.append(time.perf_counter() - started)
            if time.perf_counter() > end and len(times) > 1:
                break
        self._optimizer.zero_grad(set_to_none=True)
        return sum(times[1:]) / len(times[1:])

    def checkpoint(self, identity: Mapping[str, Any]) -> Checkpoint:
        """The state after the steps done; its tensors are the live ones."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            tensors[f"model.{name}"] = parameter
            state = self._optimizer.state.get(parameter, {})
            for ours, theirs in _MOMENTS.items():
                if theirs in state:
                    tensors[f"{ours}.{name}"] = state[theirs]
        progress = {"tokens": self.tokens, "elapsed_s": self.elapsed_s}
        return Checkpoint(self.done, tensors, identity, progress)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same run.

        Raises:
            CheckpointError: It has other weights than the model.
        """
        for name, parameter in self._parameters.items():
            tensors = [
                checkpoint.tensors.get(f"{part}.{name}") for part in ("model", "first", "second")
            ]
            if any(t is None or t.shape != parameter.shape for t in tensors):
                raise CheckpointError(
                    f"The checkpoint of step {checkpoint.step} has no {name!r} of shape "
                    f"{tuple(parameter.shape)}: it is of another model."
                )
            weights, first, second = (t.to(self._device) for t in tensors if t is not None)
            with torch.no_grad():
                parameter.copy_(weights)
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(checkpoint.step), device=self._device),
                "exp_avg": first.clone(),
                "exp_avg_sq": second.clone(),
            }
        self.done, self.tokens = checkpoint.step, int(checkpoint.progress["tokens"])
        self.elapsed_s = checkpoint.progress["elapsed_s"]

    def _rate(self) -> float:
        planned = learning_rate(self.plan, self.done)
        if not isinstance(self.task, Paced):
            return planned
        return self.task.rate(self.done, self.plan.steps, planned)

    def _gradients(self, step: int | None = None) -> tuple[dict[str, float], int]:
        """Add the gradients of a step's batches up; its losses and tokens."""
        step = self.done if step is None else step
        torch.manual_seed(_step_seed(self.seed, step))
        self.task.model.train()
        batches = self.task.batches(step)
        items = sum(batch.size for batch in batches)
        sums: dict[str, float] = {"loss": 0.0}
        for batch in batches:
            share = batch.size / items
            is_mixed = self._dtype != torch.float32
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=is_mixed):
                loss = self.task.loss(batch)
            (loss.total * share).backward()
            for name, value in {"loss": float(loss.total.detach()), **loss.parts}.items():
                sums[name] = sums.get(name, 0.0) + value * share
        return sums, sum(batch.tokens for batch in batches)

    def _progress(
        self, parts: dict[str, float], tokens: int, seconds: float, lr: float, norm: float
    ) -> Progress:
        self.elapsed_s += seconds
        self._recent.append((tokens, seconds))
        speed = sum(t for t, _ in self._recent) / sum(s for _, s in self._recent)
        left = (self.plan.steps - self.done) * sum(s for _, s in self._recent) / len(self._recent)
        row = {"step": self.done, **{k: round(v, 5) for k, v in parts.items()}, "lr": lr}
        row |= {"norm": round(norm, 4), "tokens": self.tokens, "tokens_per_s": round(speed)}
        row["elapsed_s"] = round(self.elapsed_s, 1)
        return Progress(
            self.done,
            self.plan.steps,
            parts["loss"],
            self.tokens,
            speed,
            self.elapsed_s,
            left,
            row,
        )


def _adamw(parameters: Mapping[str, nn.Parameter], plan: Plan) -> torch.optim.AdamW:
    """AdamW; biases and norms are not decayed."""
    matrices = [p for p in parameters.values() if p.ndim > 1]
    vectors = [p for p in parameters.values() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=plan.peak_lr,
        betas=(0.9, 0.98),
        fused=True,
    )


def _step_seed(seed: int, step: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
