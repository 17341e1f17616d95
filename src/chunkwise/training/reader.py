"""A reader: finds the words that answer a question in several passages, or says there are none.

Source: Zhang et al., Retrospective Reader (arXiv 2001.09694); joint softmax over passages as in
    Clark and Gardner, Simple and Effective Multi-Paragraph Reading Comprehension (arXiv
    1710.10723); batches by length, short to long (Dataset Decomposition, arXiv 2405.13226).
Differs: see `rag/answering/network.py`. Starts from all-MiniLM-L6-v2; its word embeddings stay
    as they are, so that words which the questions never show keep their meaning.
Cost: some 40 minutes on two cores with AMX; see the recipe's `steps`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from chunkwise.errors import ConfigError, MissingDependencyError, TrainingDataError, TrainingError
from chunkwise.training.base import Loss, Plan, Source
from chunkwise.training.packing import Packing, Passes, pack

try:
    import torch
    import torch.nn.functional as F
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from chunkwise.rag.answering.network import ReaderNetwork, stored_tensors
    from chunkwise.rag.answering.network import pack as pack_windows
    from chunkwise.rag.answering.reading import ReadingOptions, WordPieces
    from chunkwise.rag.embedding import folder as folders
    from chunkwise.training.spans import data as span_data
    from chunkwise.training.spans import initial
    from chunkwise.training.spans.examples import Drawing, Example, ExampleSet, Group, seeded
    from chunkwise.training.spans.losses import span_loss
    from chunkwise.training.spans.scores import (
        Case,
        figures,
        fit_calibration,
        make_cases,
        prefixed,
        read_cases,
    )
except ImportError as exc:
    raise MissingDependencyError(
        'Training a reader needs torch and tokenizers: `pip install "chunkwise[train]"`.'
    ) from exc

__all__ = ["ReaderRecipe"]

_VERSION = 1  # raised when the same options and data would give other weights
_LIMITS = (
    "Finds words that stand in the passages; it cannot count, compare or join facts.",
    "English only.",
    "Questions that a passage nearly answers are hardly told from those that it answers.",
)  # what the model cannot do
_QUICK, _FULL, _FULL_MANY = 60, 600, 100  # cases of each kind: along the way, at the end


@dataclass(frozen=True)
class ReaderRecipe:
    """Extractive question answering with abstention.

    Attributes:
        steps: Optimizer steps.
        lr: Peak of the learning rate.
        batch_tokens: Tokens of a step, special ones included.
        micro_tokens: Most tokens computed at a time; a step's gradients are added up.
        dropout: Of hidden states.
        datasets: `licensed`: all whose owners state a licence; `all`: those too whose owners do
            not; or names: squad2, xquad, policy, covid, clapnq, nq, amazon, reddit.
        heldout: The set that is kept out whole and measured on.
        unanswerable: Share of the answerable questions that get only passages without answer.
        answer_weight: Weight of the window verdict's loss beside the spans'.
        growth: Odds of short batches over longer ones at the start of a cycle; 1: natural.
        cycles: Short-to-long cycles in a pass over the data.
        base: Folder of a BERT encoder, or of a reader to train on. Empty: all-MiniLM-L6-v2.
        trains_words: Train the word embeddings too.
        warmup_ratio: Share of the steps in which the learning rate rises.
        save_every: Steps between checkpoints.
        evaluate_every: Steps between short evaluations; 0: only at the end.
    """

    steps: int = 3000
    lr: float = 1e-4
    batch_tokens: int = 4096
    micro_tokens: int = 4096
    dropout: float = 0.1
    datasets: str = "licensed"
    heldout: str = "amazon"
    unanswerable: float = 0.25
    answer_weight: float = 0.5
    growth: float = 1.5
    cycles: int = 4
    base: str = ""
    trains_words: bool = False
    warmup_ratio: float = 0.06
    save_every: int = 200
    evaluate_every: int = 400

    def __post_init__(self) -> None:
        span_data.span_file(self.heldout)
        span_data.chosen_names(self.datasets, self.heldout)
        Packing(self.batch_tokens, self.growth, self.cycles)
        self.plan(None)
        if self.micro_tokens < 1:
            raise ConfigError(f"`micro_tokens` must be at least 1, got {self.micro_tokens!r}.")
        for name in ("dropout", "unanswerable"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be in [0, 1), got {getattr(self, name)!r}.")

    def plan(self, steps: int | None) -> Plan:
        """See `Recipe.plan`; a reader that is trained on is warmed again from the floor."""
        plan = Plan(
            self.steps if steps is None else steps,
            self.lr,
            warmup_ratio=self.warmup_ratio,
            save_every=self.save_every,
            evaluate_every=self.evaluate_every,
        )
        is_continued = self.base and initial.is_reader(Path(self.base))
        return dataclasses.replace(plan, start_ratio=plan.floor_ratio) if is_continued else plan

    def prepare(
        self, data: Path, work: Path, *, seed: int, device: torch.device, dtype: torch.dtype
    ) -> ReaderTask:
        """See `Recipe.prepare`."""
        folder = Path(self.base) if self.base else folders.bundled()
        network = initial.initial_network(folder, dropout=self.dropout, seed=seed)
        network.words.weight.requires_grad_(self.trains_words)
        names = span_data.chosen_names(self.datasets, self.heldout)
        return ReaderTask(
            self, network, folder, _Sets(data, names, self.heldout, work), seed, dtype
        )


class ReaderBatch(NamedTuple):
    """Examples that are computed together."""

    examples: list[Example]
    tokens: int
    size: int


class _Sets:
    """The data of a run, read once.

    Attributes:
        sources: Files, with how many of their questions are trained on.
        splits: Questions by split and set; the set kept out is the split `unseen`.
    """

    def __init__(self, data: Path, names: Sequence[str], heldout: str, work: Path) -> None:
        self.work = work
        self.sources: list[Source] = []
        self.hashes: dict[str, str] = {}
        self.splits: dict[str, list[span_data.Questions]] = {
            "train": [],
            "valid": [],
            "test": [],
            "unseen": [],
        }
        for name in names:
            whole, self.hashes[name] = span_data.read_set(data, name)
            file = span_data.span_file(name)
            for split in ("train", "valid", "test"):
                self.splits[split].append(span_data.part(whole, split))
            trained = len(self.splits["train"][-1].questions)
            self.sources.append(
                Source(file.path, self.hashes[name], file.licence, file.is_confirmed, trained)
            )
        if not any(part.questions for part in self.splits["train"]):
            raise TrainingDataError(f"No question of {', '.join(names)} is in the training split.")
        if (data / span_data.span_file(heldout).path).exists():
            self.splits["unseen"].append(span_data.read_set(data, heldout)[0])


class ReaderTask:
    """The recipe over its data; see `Task`."""

    def __init__(
        self,
        recipe: ReaderRecipe,
        network: ReaderNetwork,
        folder: Path,
        sets: _Sets,
        seed: int,
        dtype: torch.dtype,
    ) -> None:
        self.recipe, self.model, self.sources = recipe, network, sets.sources
        self._folder, self._sets, self._seed, self._dtype = folder, sets, seed, dtype
        self._options = ReadingOptions()
        self._pieces = WordPieces(folder / "tokenizer.json")
        self._train = self._examples("train")
        self._drawing = Drawing(unanswerable=recipe.unanswerable)
        self._drawn: tuple[int, list[tuple[ExampleSet, Group]]] = (-1, [])
        self._passes = Passes(self._batches_of_pass)
        self._cases: dict[str, list[Case]] = {}
        self.identity: Mapping[str, Any] = {
            "options": _deciding(recipe),
            "data": sets.hashes,
            "base": initial.fingerprint(folder),
            "version": _VERSION,
        }

    def batches(self, step: int) -> list[ReaderBatch]:
        """See `Task.batches`."""
        number, items = self._passes.at(step)
        groups = self._groups(number)
        micro: list[list[int]] = [[]]
        total = 0
        for item in items:
            tokens = groups[item][0].tokens(groups[item][1])[1]
            if micro[-1] and total + tokens > self.recipe.micro_tokens:
                micro.append([])
                total = 0
            micro[-1].append(item)
            total += tokens
        return [self._batch([groups[item] for item in some]) for some in micro]

    def loss(self, batch: ReaderBatch) -> Loss:
        """Spans: cross-entropy over the tokens of all passages and none; windows: yes or no."""
        windows = [window for example in batch.examples for window in example.windows]
        device = self.model.words.weight.device
        packed = pack_windows([w.ids for w in windows], [w.head for w in windows], device)
        verdicts = self.model(packed)
        span = span_loss(
            batch.examples, torch.cat([v.spans.flatten(0, 1) for v in verdicts]), packed
        )
        labels = [label for example in batch.examples for label in example.answers]
        target = torch.tensor([float(labels[i]) for i in packed.order], device=device)
        window = F.binary_cross_entropy_with_logits(
            torch.cat([v.answers for v in verdicts]), target
        )
        total = span + self.recipe.answer_weight * window
        return Loss(total, {"span": span.item(), "window": window.item()})

    def evaluate(self, *, is_final: bool) -> dict[str, float]:
        """See `Task.evaluate`: `valid` fits the calibration, `test` and `unseen` do not."""
        most, many = (_FULL, _FULL_MANY) if is_final else (_QUICK, 0)
        valid = read_cases(
            self._held_out("valid", most, many), self.model, self._options, self._dtype
        )
        calibration = fit_calibration(valid)
        self._options = dataclasses.replace(self._options, calibration=calibration)
        found = prefixed("valid", figures(valid, calibration))
        for split in ("test", "unseen") if is_final else ():
            cases = self._held_out(split, most, many)
            reads = read_cases(cases, self.model, self._options, self._dtype)
            found |= prefixed(split, figures(reads, calibration))
        return found

    def export(self, folder: Path) -> None:
        """See `Task.export` and `stored_tensors`."""
        tensors = stored_tensors(self.model)
        try:
            save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
        except SafetensorError as exc:
            raise TrainingError(f"{folder}: the model cannot be written: {exc}.") from exc
        raw = {"model_type": "bert", **dataclasses.asdict(self.model.shape)}
        raw["hidden_act"] = "gelu"
        raw["reader"] = dataclasses.asdict(self._options)
        (folder / "config.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
        tokenizer = (self._folder / "tokenizer.json").read_bytes()
        (folder / "tokenizer.json").write_bytes(tokenizer)

    def describe(self) -> dict[str, Any]:
        """See `Task.describe`."""
        name = Path(self.recipe.base).name or "all-MiniLM-L6-v2"
        licence = "see its folder" if self.recipe.base else "Apache-2.0"
        return {
            "what": "Reader: the words of several passages that answer a question, or none",
            "limits": list(_LIMITS),
            "base": {"model": name, "licence": licence},
            "unseen": self.recipe.heldout,
            "questions": {
                split: sum(len(part.questions) for part in parts)
                for split, parts in self._sets.splits.items()
            },
        }

    def _examples(self, split: str) -> list[ExampleSet]:
        return [
            ExampleSet(part, self._pieces, self._options, self._sets.work / "cache")
            for part in self._sets.splits[split]
            if part.questions
        ]

    def _held_out(self, split: str, most: int, many: int) -> list[Case]:
        """Cases of a split, as many of each set of it."""
        key = f"{split}/{most}"
        if key not in self._cases:
            examples = self._examples(split)
            each = max(1, most // max(len(examples), 1))
            each_many = many // max(len(examples), 1)
            self._cases[key] = [
                case
                for some in examples
                for case in make_cases(some, most=each, most_many=each_many, seed=some.asked.name)
            ]
        return self._cases[key]

    def _groups(self, number: int) -> list[tuple[ExampleSet, Group]]:
        """The groups of a pass: one a question."""
        if self._drawn[0] != number:
            groups = []
            for examples in self._train:
                for i in range(len(examples)):
                    chance = seeded(self._seed, number, examples.asked.name, i)
                    groups.append((examples, examples.draw(i, self._drawing, chance)))
            self._drawn = number, groups
        return self._drawn[1]

    def _batches_of_pass(self, number: int) -> list[list[int]]:
        sizes = [examples.tokens(group) for examples, group in self._groups(number)]
        packing = Packing(self.recipe.batch_tokens, self.recipe.growth, self.recipe.cycles)
        chance = seeded(self._seed, number, "order")
        return pack(
            [longest for longest, _ in sizes], [total for _, total in sizes], packing, chance
        )

    def _batch(self, groups: Sequence[tuple[ExampleSet, Group]]) -> ReaderBatch:
        found = [examples.example(group) for examples, group in groups]
        tokens = sum(len(window.ids) for example in found for window in example.windows)
        return ReaderBatch(found, tokens, len(found))


def _deciding(recipe: ReaderRecipe) -> dict[str, Any]:
    """Options that decide the weights: not how often is saved, and not where the base lies."""
    given = dataclasses.asdict(recipe)
    others = ("steps", "save_every", "evaluate_every", "base")
    return {name: value for name, value in given.items() if name not in others}
