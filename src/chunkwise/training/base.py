"""The recipe protocol: data becomes a task; a task gives batches, losses, figures and a model.

Only types here, so that recipes can be listed without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from chunkwise.errors import ConfigError
from chunkwise.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was trained on, for the card.

    Attributes:
        file: Its name below the data folder.
        sha256: Of its bytes.
        licence: As its owners give it.
        is_confirmed: Whether its owners state the licence where everybody can read it. If not,
            somebody has to check it before weights are released.
        items: How many of its items are trained on.
    """

    file: str
    sha256: str
    licence: str
    is_confirmed: bool
    items: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How the loop optimizes.

    Attributes:
        steps: Optimizer steps in all.
        peak_lr: Learning rate after the warm-up.
        warmup_ratio: Share of the steps in which it rises, in [0, 1).
        floor_ratio: Where the cosine ends, as a share of the peak.
        start_ratio: Where the warm-up starts: 0 for a new model, the `floor_ratio` of the earlier
            run for continued training (re-warming).
        weight_decay: Of matrices; biases and norms have none.
        clip: Largest norm of all gradients together.
        save_every: Steps between checkpoints.
        evaluate_every: Steps between evaluations; 0: only at the end.
    """

    steps: int
    peak_lr: float
    warmup_ratio: float = 0.06
    floor_ratio: float = 0.1
    start_ratio: float = 0.0
    weight_decay: float = 0.01
    clip: float = 1.0
    save_every: int = 100
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1)
        _at_least("save_every", self.save_every, 1)
        _at_least("evaluate_every", self.evaluate_every, 0)
        _at_least("weight_decay", self.weight_decay, 0)
        if self.peak_lr <= 0 or self.clip <= 0:
            raise ConfigError(
                f"The learning rate and `clip` must be above 0, got {self.peak_lr!r} and "
                f"{self.clip!r}."
            )
        for name in ("warmup_ratio", "floor_ratio", "start_ratio"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be in [0, 1), got {getattr(self, name)!r}.")


class Batch(Protocol):
    """What is computed together: one of the parts whose gradients a step adds up."""

    @property
    def tokens(self) -> int:
        """Tokens in it, for the speed."""
        ...

    @property
    def size(self) -> int:
        """Items in it; a step's loss is the mean over the items of its batches."""
        ...


B = TypeVar("B", bound=Batch)


class Loss(NamedTuple):
    """The loss of a batch, mean over its items, and its parts for the log."""

    total: Tensor
    parts: Mapping[str, float]


class Task(Protocol[B]):
    """A recipe over its data.

    Attributes:
        model: What is trained; parameters with `requires_grad` false stay as they are.
        sources: The files that are trained on.
        identity: All that decides the weights, seed and plan left out, as JSON values: options,
            hashes of data and of the model started from. A checkpoint goes on only if it is equal.
    """

    model: nn.Module
    sources: Sequence[Source]
    identity: Mapping[str, Any]

    def batches(self, step: int) -> Sequence[B]:
        """What step `step` learns from; a pure function of the seed and `step`."""
        ...

    def loss(self, batch: B) -> Loss:
        """The loss of one batch. Random numbers come from torch's generator only."""
        ...

    def evaluate(self, *, is_final: bool) -> Mapping[str, float]:
        """Figures on held-out data: few and quick along the way, all of them at the end."""
        ...

    def export(self, folder: Path) -> None:
        """Write the finished model into an empty folder that is there."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What the card says of the model besides data and figures."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A task that says the learning rate of each step itself."""

    def rate(self, step: int, steps: int, planned: float) -> float:
        """The learning rate of a step; asked before its batches.

        Args:
            step: The step.
            steps: Steps of the plan.
            planned: What the plan says.
        """
        ...


@runtime_checkable
class Closing(Protocol):
    """A task that holds something, such as processes, until it is closed."""

    def close(self) -> None:
        """Let go of it; asked once when a run ends, however it ends."""
        ...


class Recipe(Protocol):
    """Makes a model from data. A frozen dataclass whose fields are its options."""

    def plan(self, steps: int | None) -> Plan:
        """How to optimize; `steps` of None: the recipe's own number."""
        ...

    def prepare(
        self, data: Path, work: Path, *, seed: int, device: torch.device, dtype: torch.dtype
    ) -> Task[Any]:
        """Read the data and build the model.

        Args:
            data: The data folder.
            work: A folder for what is worth keeping between runs.
            seed: Of the order of the data and of new weights.
            device: Where the model computes.
            dtype: Of the products; weights are float32.

        Raises:
            TrainingDataError: A file is missing or has another form.
            MissingDependencyError: An extra that is not installed.
        """
        ...


@runtime_checkable
class Adapting(Protocol):
    """A recipe whose finished models can be adapted to a few examples, without data or steps."""

    def adapt(self, examples: Path, model: Path | None, out: Path) -> Mapping[str, Any]:
        """Write an adapted model.

        Args:
            examples: A file of examples.
            model: Folder of the model; None: the packaged one.
            out: Folder to write to; it may be `model`.

        Returns:
            What was done, for the user.

        Raises:
            ConfigError: No model is named and none is packaged.
            TrainingDataError: The examples cannot be used.
            ModelFormatError: The folder holds no model of this recipe.
            TrainingError: The result cannot be written.
        """
        ...


def _at_least(name: str, value: float, low: float) -> None:
    if value < low:
        raise ConfigError(f"`{name}` must be at least {low}, got {value!r}.")


recipes: Registry[Recipe] = Registry(
    "chunkwise.training",
    shared=(
        "base",
        "card",
        "checkpoints",
        "curves",
        "device",
        "log",
        "loop",
        "packing",
        "run",
        "schedule",
        "sections",
        "sentences",
        "spans",
    ),
)
