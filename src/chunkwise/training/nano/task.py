"""The recipe over its data: batches by stage, the loss, measurements that end stages, the model."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chunkwise.errors import MissingDependencyError, TrainingDataError
from chunkwise.training.base import Loss
from chunkwise.training.nano import real, stages
from chunkwise.training.nano.history import History, Measured
from chunkwise.training.nano.questions.names import Split
from chunkwise.training.nano.recipe import NanoRecipe
from chunkwise.training.nano.texts import Texts, read_texts, sample

try:
    import torch
    import torch.nn.functional as F

    from chunkwise.training.nano import final, measure, vocabulary
    from chunkwise.training.nano.best import Best
    from chunkwise.training.nano.corpus import Corpus
    from chunkwise.training.nano.export import export, load
    from chunkwise.training.nano.network import Llama, Shape
    from chunkwise.training.nano.prompts import Prompts, Row, document_names
    from chunkwise.training.nano.sight import Table, sight
    from chunkwise.training.nano.start import start
except ImportError as exc:
    raise MissingDependencyError(
        'Training nano needs torch, tokenizers and safetensors: `pip install "chunkwise[train]"`.'
    ) from exc

_VERSION = 2  # raised when the same options and data would give other weights
_LIMITS = (
    "Answers in the words of its passages what it was trained to ask of them; it knows "
    "nothing of the world and cannot chat.",
    "Questions that people wrote are answered far worse than generated ones: see `real/...`.",
    "English only; contexts of up to 1,600 tokens were trained on.",
)  # what the model cannot do
_VOCABULARY_CHARS = 8_000_000
_VOCABULARY_CONTEXTS = 6000
_MAX_ROW_TOKENS = 1600
_LEAST_PACE = 0.02  # of the last stage
SHAPES = {
    "nano": Shape(384, 1024, 6, 6, 2),
    "draft": Shape(192, 480, 5, 6, 2),
    "tiny": Shape(32, 64, 2, 2, 1),
}
"""Shapes by size."""


class QuestionBatch(NamedTuple):
    """Contexts with their questions; `size` counts tokens of answers."""

    rows: Sequence[Row]
    hidden: Sequence[Sequence[frozenset[int]]]
    tokens: int
    size: int


class TextBatch(NamedTuple):
    """Pieces of text of one length."""

    pieces: Sequence[Sequence[int]]
    tokens: int
    size: int


class NanoTask:
    """The recipe over its data; see `Task`.

    Args:
        recipe: The options.
        data: The data folder.
        work: The run's folder: tokenizer, history and best weights are kept in it.
        seed: Of new weights and of everything drawn.
        device: Where the model computes.
        dtype: Of the products.
    """

    def __init__(
        self,
        recipe: NanoRecipe,
        data: Path,
        work: Path,
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.recipe, self._seed, self._device, self._dtype = recipe, seed, device, dtype
        texts = read_texts(data, recipe.debian)
        self._cases, real_sources, hashes = real.read_cases(data)
        self.sources = [each.source for each in texts] + real_sources
        self.tokenizer = _tokenizer(recipe, work, lambda: _vocabulary_texts(texts, seed))
        self._prompts = Prompts(vocabulary.wrapped(self.tokenizer))
        self._corpus = Corpus(texts, self._prompts.tokenizer)
        self._others = [case.passages[0] for case in self._cases if case.split == "train"]
        self._real = [case for case in self._cases if case.split == "train" and self._may(case)]
        self.model = self._first_model(seed)
        self._stages = stages.STAGES[stages.stage_names().index(recipe.start) :]
        self._history = History(work / "stages.json", self._stages, recipe.steps)
        self._best = Best(work)
        self._step = max((row.step for row in self._history.rows), default=1) - 1
        self.identity: Mapping[str, Any] = {
            "options": _deciding(recipe),
            "data": {each.file: each.sha256 for each in self.sources} | hashes,
            "tokenizer": hashlib.sha256(self.tokenizer.encode()).hexdigest(),
            "weights": _weights_hash(recipe.weights),
            "stages": [dataclasses.asdict(stage) for stage in self._stages],
            "version": _VERSION,
        }

    def _first_model(self, seed: int) -> Llama:
        if self.recipe.weights:
            return load(Path(self.recipe.weights))
        model = Llama(SHAPES[self.recipe.size], self._prompts.tokenizer.vocab_size)
        start(model, seed, with_circuits=self.recipe.circuits)
        return model

    def batches(self, step: int) -> list[QuestionBatch | TextBatch]:
        """See `Task.batches`: a function of seed, step, and what was measured up to the step."""
        self._history.forget_after(step)
        if step and step % self.recipe.evaluate_every == 0 and not self._history.has(step):
            self._measure(step)  # a run that goes on from just before it was measured
        self._step = step
        stage = self._stages[self._history.place(step).stage]
        chance = self._chance("step", step)
        drawn = chance.random()
        if drawn < stage.text or stage.mix is None:
            pieces = self._corpus.draw(chance, self.recipe.batch_tokens)
            tokens = sum(len(piece) - 1 for piece in pieces)
            return [TextBatch(pieces, tokens, tokens)]
        is_real = drawn < stage.text + stage.real and self._real
        rows = list(self._real_rows(chance) if is_real else self._rows(stage.mix, chance, "train"))
        some = measure.in_batches(self._filling(rows), self.recipe.micro_tokens)
        return [self._batch(each, chance) for each in some]

    def loss(self, batch: QuestionBatch | TextBatch) -> Loss:
        """See `Task.loss`: of answers only, or of every token of plain text."""
        if isinstance(batch, TextBatch):
            ids = torch.tensor(batch.pieces, device=self._device)
            total = measure.next_token_loss(self.model, ids)
            return Loss(total, {"text": float(total.detach())})
        table = Table.of(batch.rows, self._device)
        hidden = self.model(table.ids, table.positions, sight(table, hidden=batch.hidden))
        asked = table.targets >= 0
        logits = self.model.logits(hidden[asked]).float()
        answer = F.cross_entropy(logits, table.targets[asked])
        parts = {"answer": float(answer.detach())}
        if not self.recipe.question_weight:
            return Loss(answer, parts)
        inner = (table.branch[:, :-1] > 0) & (table.branch[:, :-1] == table.branch[:, 1:])
        inner &= ~asked[:, :-1]
        logits = self.model.logits(hidden[:, :-1][inner]).float()
        question = F.cross_entropy(logits, table.ids[:, 1:][inner])
        parts["question"] = float(question.detach())
        return Loss(answer + self.recipe.question_weight * question, parts)

    def rate(self, step: int, planned: float) -> float:
        """See `Paced.rate`: risen again at each stage, falling to nearly nothing in the last.

        Args:
            step: The step.
            planned: What the plan says; not asked, since a stage may end early.
        """
        place = self._history.place(step)
        is_new = place.stage == 0  # new weights rise slowly, from nothing
        steps = self.recipe.rewarm * (4 if is_new else 1)
        least = 0.0 if is_new else 0.2
        risen = least + (1 - least) * min(1.0, (place.since + 1) / steps)
        rate = self._stages[place.stage].pace * self.recipe.lr * risen
        if place.stage + 1 < len(self._stages):
            return rate
        whole = max(self.recipe.steps - (step - place.since), 1)
        return rate * max(1 - place.since / whole, _LEAST_PACE)

    def evaluate(self, *, is_final: bool) -> dict[str, float]:
        """See `Task.evaluate`. Along the way: the stage and its figures, which may end it."""
        if not is_final:
            measured = self._measure(self._step + 1)
            return {"stage": float(measured.stage), **measured.figures}
        if not self._history.has(self._step + 1):
            self._measure(self._step + 1)
        self._best.take(self.model, self._history.rows, len(self._stages) - 1)
        tools = final.Tools(self.model, self._prompts, self._dtype, self.recipe.micro_tokens)
        found = final.figures(tools, self._cases, self._corpus.held_out, self._seed)
        found["stage"] = float(self._history.place(self._step).stage)
        return found

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        export(self.model, self.tokenizer, folder)

    def describe(self) -> dict[str, Any]:
        """See `Task.describe`."""
        return {
            "what": "Causal language model in Llama's format that answers from passages",
            "limits": list(_LIMITS),
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "shape": dataclasses.asdict(self.model.shape),
            "stages": [
                {"stage": self._stages[row.stage].name, "step": row.step, **row.figures}
                for row in self._history.rows
                if row.is_reached
            ],
            "generated": "questions of the kinds in `stages`, by this package (Apache-2.0)",
        }

    def _measure(self, step: int) -> Measured:
        """Accuracy on fresh questions of the stage, kept in the history."""
        number = self._history.place(step).stage
        stage = self._stages[number]
        chance = self._chance("valid", step)
        figures: dict[str, float] = {}
        if stage.mix is not None:
            rows: list[Row] = []
            while sum(len(row.questions) for row in rows) < self.recipe.questions:
                rows += self._rows(stage.mix, chance, "valid")
            verdicts = measure.judge(
                self.model, rows, dtype=self._dtype, batch_tokens=self.recipe.micro_tokens
            )
            figures = measure.accuracy(verdicts)
        elif self._corpus.held_out:
            pieces = self._corpus.held_out[:8]
            figures = {"text_loss": measure.text_loss(self.model, pieces, dtype=self._dtype)}
        measured = Measured(step, number, figures, stage.is_reached(figures))
        self._history.add(measured)
        if number == len(self._stages) - 1:
            self._best.offer(self.model, measured, self._history.rows)
        return measured

    def _rows(self, mix: stages.Mix, chance: random.Random, split: Split) -> Iterator[Row]:
        """Generated contexts, about as many tokens as a step has."""
        tokens = 0
        while tokens < self.recipe.batch_tokens:
            context = mix.draw(chance, split)
            row = self._prompts.row(context, document_names(chance, len(context.passages)))
            tokens += len(row.ids)
            yield row

    def _real_rows(self, chance: random.Random) -> Iterator[Row]:
        tokens = 0
        while tokens < self.recipe.batch_tokens:
            context = real.draw(self._real, self._others, chance, most=2)
            row = self._prompts.row(context, document_names(chance, len(context.passages)))
            if len(row.ids) <= _MAX_ROW_TOKENS:
                tokens += len(row.ids)
                yield row

    def _filling(self, rows: Sequence[Row]) -> list[Row]:
        """The rows without the last if it goes beyond a step's tokens, but one at least."""
        total = sum(len(row.ids) for row in rows)
        is_over = total > 1.2 * self.recipe.batch_tokens and len(rows) > 1
        return list(rows[:-1] if is_over else rows)

    def _batch(self, rows: Sequence[Row], chance: random.Random) -> QuestionBatch:
        nothing: frozenset[int] = frozenset()
        hidden = [
            [q.indirect if chance.random() < self.recipe.narrow else nothing for q in row.questions]
            for row in rows
        ]
        size = sum(target >= 0 for row in rows for target in row.targets)
        return QuestionBatch(rows, hidden, sum(len(row.ids) for row in rows), size)

    def _may(self, case: real.Case) -> bool:
        """Whether a case fits in a row, roughly: four characters a token and more."""
        return sum(map(len, case.passages)) < 3 * _MAX_ROW_TOKENS

    def _chance(self, *key: object) -> random.Random:
        text = "/".join(map(str, (self._seed, *key)))
        return random.Random(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _tokenizer(recipe: NanoRecipe, work: Path, make_texts: Callable[[], Iterator[str]]) -> str:
    """tokenizer.json: of another model, of this run, or a new one."""
    kept = work / "tokenizer.json"
    named = recipe.weights or recipe.tokenizer
    given = Path(named) / "tokenizer.json" if named else kept
    if given.exists():
        return given.read_text(encoding="utf-8")
    if named:
        raise TrainingDataError(
            f"{given} is missing: `tokenizer` and `weights` name a model's folder."
        )
    made = vocabulary.train_tokenizer(make_texts(), recipe.vocabulary)
    text: str = made.to_str()
    work.mkdir(parents=True, exist_ok=True)
    kept.write_text(text, encoding="utf-8")
    return text


def _weights_hash(folder: str) -> str:
    """Of the model that is gone on from; empty for new weights."""
    if not folder:
        return ""
    return hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()


def _vocabulary_texts(texts: Sequence[Texts], seed: int) -> Iterator[str]:
    """What the tokenizer is made from: text, and prompts as they will be."""
    chance = random.Random(seed)
    yield from sample(texts, _VOCABULARY_CHARS, chance)
    for _ in range(_VOCABULARY_CONTEXTS):
        context = stages.EVERYTHING.draw(chance, "train")
        yield vocabulary.as_text(context, document_names(chance, len(context.passages)))


def _deciding(recipe: NanoRecipe) -> dict[str, Any]:
    """Options that decide the weights."""
    given = dataclasses.asdict(recipe)
    others = ("save_every", "tokenizer", "weights", "debian")
    return {name: value for name, value in given.items() if name not in others}
