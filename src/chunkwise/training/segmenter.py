"""A segmenter: ends of sentences and paragraphs, also where punctuation and case were lost.

Source: SaT (arXiv 2406.16678) and WtP (arXiv 2305.18893): line breaks as labels, punctuation as a
    second task, corrupted copies, limited look-ahead, a head fitted on some sentences a language.
Differs: see `rag/sentences/network.py`. Sentences of treebanks, and of the rules on other text,
    are labels too; the rules' sentences of the corrupted text are a feature.
Cost: 0.45 s a step on one core without AMX.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunkwise.errors import ConfigError, MissingDependencyError
from chunkwise.packaged import packaged_folder
from chunkwise.training.base import Loss, Plan

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from chunkwise.evaluation.segmentation import GoldText
    from chunkwise.rag.sentences import segmenters
    from chunkwise.rag.sentences.heads import UNADAPTED, Head
    from chunkwise.rag.sentences.model import BoundaryModel, read_model, write_model
    from chunkwise.rag.sentences.network import (
        FIRST_MARK,
        NEWLINE,
        SENTENCE,
        NetworkShape,
    )
    from chunkwise.training.sentences.adapting import adapt
    from chunkwise.training.sentences.fitting import fit_head, paragraph_offset, pooled, samples
    from chunkwise.training.sentences.network import TrainedNetwork, tensors_of
    from chunkwise.training.sentences.scores import compare
    from chunkwise.training.sentences.texts import ADAPT_SENTENCES, Texts, read_all
    from chunkwise.training.sentences.windows import IGNORED, WindowBatch, Windows
except ImportError as exc:
    raise MissingDependencyError(
        'Training a segmenter needs torch: `pip install "chunkwise[train]"`.'
    ) from exc

__all__ = ["SegmenterRecipe"]

_VERSION = 1  # raised when the same options and data would give other weights
_LIMITS = (
    "Text with punctuation is cut as the rules cut it, but for some places in English, "
    "Finnish and Dutch: the gain is where punctuation and case were lost.",
    "Without punctuation about half of the ends are found (F1 by language in "
    "`stripped/...`); rare turns of phrase are not.",
    "Thai, whose sentences end at some of the spaces, is cut no better than at every space.",
    "The texts of most languages are handbooks of software; speech, poetry and chat were "
    "hardly seen.",
)  # what the model cannot do
_QUICK = 100  # sentences a language that are measured on along the way, at least


@dataclass(frozen=True)
class SegmenterRecipe:
    """Sentence and paragraph boundaries.

    Attributes:
        steps: Optimizer steps.
        lr: Peak of the learning rate.
        windows: Windows of a step.
        length: Tokens of a window.
        corpora: Folder of further texts with a `sources.json`; empty: English only.
        width: Length of a token's state.
        buckets: Rows of the table of n-grams.
        embedding: Length of a row.
        dropout: Of states.
        feature_dropout: Share of a token's features that are left out.
        power: Languages are drawn by their size to this power, in [0, 1].
        line_weight: Weight of the loss of line breaks beside that of sentences.
        mark_weight: Weight of the loss of punctuation marks.
        weight_decay: Of matrices.
        warmup_ratio: Share of the steps in which the learning rate rises.
        save_every: Steps between checkpoints.
        evaluate_every: Steps between short evaluations; 0: only at the end.
    """

    steps: int = 10_000
    lr: float = 2e-3
    windows: int = 16
    length: int = 512
    corpora: str = ""
    width: int = 192
    buckets: int = 32_768
    embedding: int = 64
    dropout: float = 0.1
    feature_dropout: float = 0.1
    power: float = 0.3
    line_weight: float = 0.5
    mark_weight: float = 0.3
    weight_decay: float = 0.01
    warmup_ratio: float = 0.05
    save_every: int = 500
    evaluate_every: int = 2000

    def __post_init__(self) -> None:
        self.plan(None)
        for name, low in (("windows", 1), ("length", 64), ("width", 8), ("buckets", 256)):
            if getattr(self, name) < low:
                raise ConfigError(f"`{name}` must be at least {low}, got {getattr(self, name)!r}.")
        for name in ("dropout", "feature_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be in [0, 1), got {getattr(self, name)!r}.")
        if not 0 <= self.power <= 1:
            raise ConfigError(f"`power` must be in [0, 1], got {self.power!r}.")

    @property
    def shape(self) -> NetworkShape:
        """Of the network."""
        return NetworkShape(self.buckets, self.embedding, self.width)

    def plan(self, steps: int | None) -> Plan:
        """See `Recipe.plan`."""
        return Plan(
            self.steps if steps is None else steps,
            self.lr,
            warmup_ratio=self.warmup_ratio,
            floor_ratio=0.02,
            weight_decay=self.weight_decay,
            save_every=self.save_every,
            evaluate_every=self.evaluate_every,
        )

    def prepare(
        self, data: Path, work: Path, *, seed: int, device: torch.device, dtype: torch.dtype
    ) -> SegmenterTask:
        """See `Recipe.prepare`."""
        texts = read_all(data, Path(self.corpora) if self.corpora else None)
        return SegmenterTask(self, texts, seed)

    def adapt(self, examples: Path, model: Path | None, out: Path) -> dict[str, Any]:
        """See `Adapting.adapt`: the head and its thresholds; the weights stay."""
        base = model or packaged_folder("segmenter")
        if base is None:
            raise ConfigError(
                "No segmenter is packaged: name the folder of one with --model, as `chunkwise "
                "train segmenter` makes it."
            )
        found = adapt(base, examples, out)
        return {"sentences": found.sentences, "language": found.languages[0] or "any"}


class SegmenterTask:
    """The recipe over its texts; see `Task`."""

    def __init__(self, recipe: SegmenterRecipe, texts: Texts, seed: int) -> None:
        self.recipe, self.texts, self.sources = recipe, texts, texts.sources
        torch.manual_seed(seed)
        self.model = TrainedNetwork(
            recipe.shape, dropout=recipe.dropout, feature_dropout=recipe.feature_dropout
        )
        self._windows = Windows(
            texts.documents,
            length=recipe.length,
            num_buckets=recipe.buckets,
            power=recipe.power,
            seed=seed,
        )
        self._heads: dict[str, Head] = {"": UNADAPTED}
        self._paragraph_offset = 0.0
        self.identity: Mapping[str, Any] = {
            "options": _deciding(recipe),
            "data": dict(texts.hashes),
            "version": _VERSION,
        }

    def batches(self, step: int) -> list[WindowBatch]:
        """See `Task.batches`."""
        return [self._windows.batch(step, self.recipe.windows)]

    def loss(self, batch: WindowBatch) -> Loss:
        """Sentences and lines: yes or no behind each token; marks: which one."""
        device = self.model.head.weight.device
        outputs = self.model(batch.ids.to(device)).float()
        sentence = _binary(outputs[..., SENTENCE], batch.sentences.to(device))
        line = _binary(outputs[..., NEWLINE], batch.lines.to(device))
        marks = outputs[..., FIRST_MARK:].flatten(0, 1)
        mark = F.cross_entropy(marks, batch.marks.to(device).flatten())
        total = sentence + self.recipe.line_weight * line + self.recipe.mark_weight * mark
        parts = {"sentence": sentence.item(), "line": line.item(), "mark": mark.item()}
        return Loss(total, parts)

    def evaluate(self, *, is_final: bool) -> dict[str, float]:
        """See `Task.evaluate`: heads are fitted on one part of what is held out."""
        test = self.texts.test if is_final else _few(self.texts.test)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._heads, self._paragraph_offset = {"": UNADAPTED}, 0.0
            self.export(folder)
            self._fit(read_model(folder))
            self.export(folder)
            return compare(
                test,
                segmenters.build({"name": "learned", "folder": name}),
                segmenters.build("rules"),
            )

    def export(self, folder: Path) -> None:
        """See `Task.export`: the table as int8, all else as bfloat16."""
        tensors = tensors_of(self.model)
        write_model(folder, self.recipe.shape, tensors, self._heads, self._paragraph_offset)

    def describe(self) -> dict[str, Any]:
        """See `Task.describe`."""
        languages = sorted({text.language for text in self.texts.test})
        return {
            "what": "Segmenter: ends of sentences and paragraphs, robust to lost punctuation",
            "limits": list(_LIMITS),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "held_out": {
                "split": "segmentation/sentences_ud by hash of document or block of 20 sentences: "
                f"up to {ADAPT_SENTENCES} sentences a language fit heads and thresholds, "
                "the others are measured on; no sentence of either is learnt",
                "adapt_sentences": _num_sentences(self.texts.adapt),
                "test_sentences": _num_sentences(self.texts.test),
            },
            "languages": languages,
        }

    def _fit(self, model: BoundaryModel) -> None:
        """Heads by language, one for any, and the threshold of paragraphs."""
        found = {
            language: samples(model, [t for t in self.texts.adapt if t.language == language])
            for language in sorted({text.language for text in self.texts.adapt})
        }
        self._heads = {"": fit_head(pooled(list(found.values())), UNADAPTED)}
        self._heads |= {language: fit_head(made, UNADAPTED) for language, made in found.items()}
        self._paragraph_offset = paragraph_offset(model, self.texts.adapt)


def _binary(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the tokens that are not ignored; 0 if all are."""
    is_used = labels != IGNORED
    losses = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0), reduction="none")
    return (losses * is_used).sum() / is_used.sum().clamp(min=1)


def _deciding(recipe: SegmenterRecipe) -> dict[str, Any]:
    """Options that decide the weights: not how often is saved, nor where texts lie."""
    given = dataclasses.asdict(recipe)
    others = ("steps", "save_every", "evaluate_every", "corpora")
    return {name: value for name, value in given.items() if name not in others}


def _few(texts: Sequence[GoldText]) -> list[GoldText]:
    """Some texts of each language, the same ones each time."""
    taken: dict[str, int] = {}
    found = []
    for text in texts:
        if taken.get(text.language, 0) < _QUICK:
            taken[text.language] = taken.get(text.language, 0) + len(text.ends)
            found.append(text)
    return found


def _num_sentences(texts: Sequence[GoldText]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in texts:
        found[text.language] = found.get(text.language, 0) + len(text.ends)
    return dict(sorted(found.items()))
