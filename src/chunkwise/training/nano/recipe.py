"""The options of `nano`; torch comes with the task, so that questions can be drawn without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from chunkwise.errors import ConfigError
from chunkwise.training.base import Plan
from chunkwise.training.nano.stages import require_stage

if TYPE_CHECKING:
    import torch

    from chunkwise.training.nano.task import NanoTask

Size = Literal["nano", "draft", "tiny"]
_LEAST_VOCABULARY = 512


@dataclass(frozen=True)
class NanoRecipe:
    """A small causal language model in Llama's format that answers from passages.

    Attributes:
        size: `nano` (13 M parameters), `draft` (3 M), or `tiny` for tests.
        steps: Optimizer steps; the shares of the stages are taken of it.
        lr: Peak of the learning rate.
        batch_tokens: Tokens of a step, about.
        micro_tokens: Most tokens computed at a time, padding counted; few, so that little is
            padding.
        narrow: Share of the two-passage questions that do not see the passage which only says
            what the other means. What they ask for must then be in the keys and values of the
            other, as reading in order puts it there.
        question_weight: Of the loss of the questions' own tokens beside that of the answers: names
            that stand in the passages come again there, so that it teaches to find them.
        circuits: Whether some heads of new weights start with something to do; see `start.py`.
        vocabulary: Tokens of the tokenizer.
        tokenizer: Folder of a model whose tokenizer is taken, for a draft model; empty: a new one.
        weights: Folder of a model to go on from, with its shape and tokenizer; empty: new weights.
        debian: Root of a Debian system whose documentation is read too; empty: none.
        start: First stage; earlier ones are left out.
        rewarm: Steps in which the learning rate rises again when a stage begins.
        save_every: Steps between checkpoints.
        evaluate_every: Steps between measurements, after which a stage may end.
        questions: Questions of a measurement along the way.
        workers: Processes that draw batches ahead, for a device that computes them faster than
            they are drawn; 0: they are drawn in between. The batches are the same.
    """

    size: Size = "nano"
    steps: int = 10_500
    lr: float = 1.5e-4
    batch_tokens: int = 1024
    micro_tokens: int = 512
    narrow: float = 0.7
    question_weight: float = 0.2
    circuits: bool = True
    vocabulary: int = 8192
    tokenizer: str = ""
    weights: str = ""
    debian: str = "/"
    start: str = "copy"
    rewarm: int = 40
    save_every: int = 400
    evaluate_every: int = 100
    questions: int = 200
    workers: int = 0

    def __post_init__(self) -> None:
        self.plan(None)
        require_stage(self.start)
        if self.size not in get_args(Size):
            raise ConfigError(
                f"`size` must be one of {', '.join(get_args(Size))}, got {self.size!r}."
            )
        if not self.question_weight >= 0:
            raise ConfigError(
                f"`question_weight` must be at least 0, got {self.question_weight!r}."
            )
        if not 0 <= self.narrow <= 1:
            raise ConfigError(f"`narrow` must be in [0, 1], got {self.narrow!r}.")
        if self.vocabulary < _LEAST_VOCABULARY:
            raise ConfigError(
                f"`vocabulary` must be at least {_LEAST_VOCABULARY}, got {self.vocabulary!r}."
            )
        for name in ("batch_tokens", "micro_tokens", "evaluate_every", "questions", "rewarm"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {getattr(self, name)!r}.")
        if self.workers < 0:
            raise ConfigError(f"`workers` must be at least 0, got {self.workers!r}.")

    def plan(self, steps: int | None) -> Plan:
        """See `Recipe.plan`; the task says the learning rate of each step."""
        return Plan(
            self.steps if steps is None else steps,
            self.lr,
            warmup_ratio=0.005,
            weight_decay=0.05,
            save_every=self.save_every,
            evaluate_every=self.evaluate_every,
        )

    def prepare(
        self, data: Path, work: Path, *, seed: int, device: torch.device, dtype: torch.dtype
    ) -> NanoTask:
        """See `Recipe.prepare`."""
        from chunkwise.training.nano.task import NanoTask

        return NanoTask(self, data, work, seed=seed, device=device, dtype=dtype)
