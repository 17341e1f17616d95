"""The recipe over its data: batches by stage, the loss, measurements that end stages, the model."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chunkwise.errors import MissingDependencyError, TrainingDataError
from chunkwise.training.base import Loss
from chunkwise.training.nano import real, stages
from chunkwise.training.nano.history import History, Measured
from chunkwise.training.nano.recipe import NanoRecipe
from chunkwise.training.nano.texts import Texts, read_texts, sample

try:
    import torch
    import torch.nn.functional as F

    from chunkwise.training.nano import final, measure, repair, vocabulary
    from chunkwise.training.nano.ahead import Ahead
    from chunkwise.training.nano.best import Best
    from chunkwise.training.nano.corpus import Corpus, Pieces
    from chunkwise.training.nano.drawing import Drawing, QuestionBatch
    from chunkwise.training.nano.export import export, load
    from chunkwise.training.nano.network import Llama, Shape
    from chunkwise.training.nano.prompts import NONE, Row, document_names
    from chunkwise.training.nano.reused import ReusedBatch
    from chunkwise.training.nano.sight import Table, sight
    from chunkwise.training.nano.start import start
except ImportError as exc:
    raise MissingDependencyError(
        'Training nano needs torch, tokenizers and safetensors: `pip install "chunkwise[train]"`.'
    ) from exc

_VERSION = 4  # raised when the same options and data would give other weights
_LIMITS = (
    "Answers in the words of its passages what it was trained to ask of them; it knows "
    "nothing of the world and cannot chat.",
    "Questions that people wrote are answered far worse than generated ones: see `real/...`.",
    "English only; contexts of up to 1,600 tokens were trained on.",
)  # what the model cannot do
_VOCABULARY_CHARS = 8_000_000
_VOCABULARY_CONTEXTS = 6000
_LEAST_PACE = 0.02  # of the last stage
SHAPES = {
    "nano": Shape(384, 1024, 6, 6, 2),
    "draft": Shape(192, 480, 5, 6, 2),
    "tiny": Shape(32, 64, 2, 2, 1),
}
"""Shapes by size."""


class TextBatch(NamedTuple):
    """Pieces of text of one length."""

    pieces: Pieces
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
        self._stages = stages.STAGES[stages.stage_names().index(recipe.start) :]
        trained = [case for case in self._cases if case.split == "train"]
        self._drawing = Drawing(recipe, seed, self.tokenizer, trained, self._stages)
        self._ahead = Ahead(self._drawing, recipe.workers)
        self._prompts = self._drawing.prompts
        self._corpus = Corpus(texts, self._prompts.tokenizer)
        self.model = self._first_model(seed)
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

    def batches(self, step: int) -> Sequence[QuestionBatch | ReusedBatch | TextBatch]:
        """See `Task.batches`: a function of seed, step, and what was measured up to the step."""
        self._history.forget_after(step)
        if step and step % self.recipe.evaluate_every == 0 and not self._history.has(step):
            self._measure(step)  # a run that goes on from just before it was measured
        self._step = step
        stage = self._history.place(step).stage
        kind = self._drawing.kind(step, stage)
        if kind.is_text:
            pieces = self._corpus.draw(kind.chance, self.recipe.batch_tokens)
            tokens = pieces.size - len(pieces)
            return [TextBatch(pieces, tokens, tokens)]
        return self._ahead.get(step, stage, self._known(step), self._stage)

    def loss(self, batch: QuestionBatch | ReusedBatch | TextBatch) -> Loss:
        """See `Task.loss`: of answers only, or of every token of plain text."""
        if isinstance(batch, TextBatch):
            ids = torch.from_numpy(batch.pieces).to(self._device).long()
            total = measure.next_token_loss(self.model, ids)
            return Loss(total, {"text": float(total.detach())})
        if isinstance(batch, ReusedBatch):
            answered = repair.answering(self.model, batch)
            return self._answer_loss(*answered, name="reused")
        table = Table(*torch.from_numpy(batch.table).to(self._device).long())
        hidden = self.model(table.ids, table.positions, sight(table, hidden=batch.hidden))
        inner = (table.branch[:, :-1] > 0) & (table.branch[:, :-1] == table.branch[:, 1:])
        following = table.ids[:, 1:].masked_fill(~inner | (table.targets[:, :-1] >= 0), NONE)
        following = F.pad(following, (0, 1), value=NONE)
        return self._answer_loss(hidden, table.targets, following, name="answer")

    def _answer_loss(
        self, hidden: torch.Tensor, targets: torch.Tensor, following: torch.Tensor, name: str
    ) -> Loss:
        """Of answers, and by a weight of the questions' own tokens.

        Args:
            hidden: `(rows, tokens, hidden_size)`.
            targets: Of each token, inside of answers.
            following: Next token of each, inside of questions.
            name: Of the first part in the log.
        """
        answer = self._cross_entropy(hidden, targets)
        parts = {name: float(answer.detach())}
        if not self.recipe.question_weight:
            return Loss(answer, parts)
        question = self._cross_entropy(hidden, following)
        parts["question"] = float(question.detach())
        return Loss(answer + self.recipe.question_weight * question, parts)

    def _cross_entropy(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        asked = targets >= 0
        return F.cross_entropy(self.model.logits(hidden[asked]).float(), targets[asked])

    def _stage(self, step: int) -> int:
        return self._history.place(step).stage

    def _known(self, step: int) -> int:
        """Up to which step stages are known: in the last one all are, else a measurement may end
        the stage."""
        if self._stage(step) == len(self._stages) - 1:
            return sys.maxsize
        return (step // self.recipe.evaluate_every + 1) * self.recipe.evaluate_every

    def close(self) -> None:
        """See `Closing.close`."""
        self._ahead.close()

    def rate(self, step: int, steps: int, planned: float) -> float:
        """See `Paced.rate`: risen again at each stage, falling to nearly nothing in the last.

        Args:
            step: The step.
            steps: Of the plan.
            planned: What the plan says; not asked, since a stage may end early.
        """
        place = self._history.place(step)
        is_new = place.stage == 0  # weights and moments are new: a slow rise from nothing
        rewarm = self.recipe.rewarm * (4 if is_new else 1)
        least = 0.0 if is_new else 0.2
        risen = least + (1 - least) * min(1.0, (place.since + 1) / rewarm)
        rate = self._stages[place.stage].pace * self.recipe.lr * risen
        if place.stage + 1 < len(self._stages):
            return rate
        whole = max(steps - (step - place.since), 1)
        return rate * max(1 - place.since / whole, _LEAST_PACE)

    def evaluate(self, *, is_final: bool) -> dict[str, float]:
        """See `Task.evaluate`. Along the way: the stage and its figures, which may end it."""
        if not is_final:
            measured = self._measure(self._step + 1)
            return {"stage": float(measured.stage), **measured.figures}
        if not self._history.has(self._step + 1):
            self._measure(self._step + 1)
        self._best.take(self.model, self._history.rows, len(self._stages) - 1)
        self._ahead.close()
        found = final.figures(self._tools(), self._cases, self._corpus.held_out, self._seed)
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
        chance = self._drawing.chance("valid", step)
        figures: dict[str, float] = {}
        if stage.mix is not None:
            rows: list[Row] = []
            while sum(len(row.questions) for row in rows) < self.recipe.questions:
                rows += self._drawing.rows(stage.mix, chance, "valid")
            tools = self._tools()
            told = tools.judged(rows)
            figures = measure.accuracy(told) | {"all": measure.share_right(told)}
            if stage.reused:
                verdicts = tools.judged_reused(rows, chance, ratio=final.RATIO)
                figures["reused"] = measure.two_passage(verdicts)
        elif self._corpus.held_out:
            pieces = self._corpus.held_out[:8]
            figures = {"text_loss": measure.text_loss(self.model, pieces, dtype=self._dtype)}
        measured = Measured(step, number, figures, stage.is_reached(figures))
        self._history.add(measured)
        if number == len(self._stages) - 1:
            self._best.offer(self.model, measured, self._history.rows)
        return measured

    def _tools(self) -> final.Tools:
        return final.Tools(self.model, self._prompts, self._dtype, self.recipe.micro_tokens)


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
    others = ("save_every", "tokenizer", "weights", "debian", "workers")
    return {name: value for name, value in given.items() if name not in others}
