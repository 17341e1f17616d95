"""A model of sections: whether a topic ends between two neighbouring paragraphs or sentences.

Source: SAGE (arXiv 2503.01713), segmentation model; Structural Text Segmentation of Legal
    Documents (arXiv 2012.03619): labels from headings, consecutive paragraphs.
Differs: yes-or-no loss, with both classes weighing the same; the threshold is fitted to the Pk of
    held-out documents; layout beside vectors. The embedder stays as it is.
Cost: embedding the documents once; then a millisecond a step.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, MissingDependencyError
from chunkwise.training.base import Loss, Plan

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from chunkwise.rag.chunking.sections import (
        SectionModel,
        Unit,
        num_features,
        pair_features,
        write_model,
    )
    from chunkwise.rag.embedding import embedders
    from chunkwise.rag.sentences import segmenters
    from chunkwise.training.sections.documents import Corpus, Part, read_corpus
    from chunkwise.training.sections.scores import auc, best_threshold, pooled_pk, random_pk
    from chunkwise.training.sections.vectors import unit_vectors
except ImportError as exc:
    raise MissingDependencyError(
        'Training needs torch and tokenizers: `pip install "chunkwise[train]"`.'
    ) from exc

__all__ = ["BoundariesRecipe"]

_VERSION = 1  # raised when the same options and data would give other weights
_LIMIT = "Looks at two neighbours only, not at what else the document holds."


@dataclass(frozen=True)
class BoundariesRecipe:
    """Ends of sections.

    Attributes:
        steps: Optimizer steps.
        lr: Peak of the learning rate.
        batch: Pairs of a step.
        unit: `paragraph`, of which sections are made by headings, or `sentence`, of which
            paragraphs are made.
        hidden: Width of the network.
        dropout: Of features and hidden states.
        embedder: `encoder`, or another one of the room.
        encoder: Folder of the encoder; empty: all-MiniLM-L6-v2.
        documents: Most documents, by the hash of their text; 0: all.
        weight_decay: Of matrices.
        warmup_ratio: Share of the steps in which the learning rate rises.
        save_every: Steps between checkpoints.
        evaluate_every: Steps between short evaluations; 0: only at the end.
    """

    steps: int = 1500
    lr: float = 1e-3
    batch: int = 256
    unit: str = "paragraph"
    hidden: int = 256
    dropout: float = 0.3
    embedder: str = "encoder"
    encoder: str = ""
    documents: int = 0
    weight_decay: float = 0.1
    warmup_ratio: float = 0.05
    save_every: int = 250
    evaluate_every: int = 500

    def __post_init__(self) -> None:
        self.plan(None)
        if self.unit not in get_args(Unit):
            raise ConfigError(f"`unit` must be paragraph or sentence, got {self.unit!r}.")
        for name, low in (("batch", 1), ("hidden", 1), ("documents", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"`{name}` must be at least {low}, got {getattr(self, name)!r}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"`dropout` must be in [0, 1), got {self.dropout!r}.")
        if self.encoder and self.embedder != "encoder":
            raise ConfigError("`encoder` is the folder of the embedder 'encoder'; leave it out.")

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
    ) -> BoundariesTask:
        """See `Recipe.prepare`; vectors are kept in the work folder."""
        unit: Unit = "sentence" if self.unit == "sentence" else "paragraph"
        corpus = read_corpus(data, unit, segmenters.build("rules"), self.documents)
        spec = {"name": self.embedder, **({"path": self.encoder} if self.encoder else {})}
        embedder = embedders.build(spec)
        texts = [text for document in corpus.documents for text in document.texts]
        vectors = unit_vectors(texts, embedder, work / "vectors")
        return BoundariesTask(self, unit, corpus, vectors, embedder.fingerprint, seed)


class PairBatch(NamedTuple):
    """Pairs of neighbours.

    Attributes:
        features: `(batch, num_features)`.
        ends: Whether a section ends between them, 0 or 1: `(batch,)`.
    """

    features: Tensor
    ends: Tensor

    @property
    def tokens(self) -> int:
        """Pairs."""
        return len(self.ends)

    @property
    def size(self) -> int:
        """Pairs."""
        return len(self.ends)


class BoundariesTask:
    """The recipe over its documents; see `Task`."""

    def __init__(
        self,
        recipe: BoundariesRecipe,
        unit: Unit,
        corpus: Corpus,
        vectors: NDArray[np.float32],
        embedder: str,
        seed: int,
    ) -> None:
        self.recipe, self.corpus, self.sources = recipe, corpus, corpus.sources
        self._unit, self._embedder, self._seed = unit, embedder, seed
        self._dim = vectors.shape[1]
        edges = np.cumsum([0, *(len(document.texts) for document in corpus.documents)])
        self._vectors = [vectors[a:b] for a, b in itertools.pairwise(edges)]
        train = corpus.of("train")
        self._features = np.concatenate([self._features_of(i) for i in train])
        self._ends = np.concatenate([corpus.documents[i].ends for i in train])
        share = float(self._ends.mean())
        self._rarity = (1 - share) / share
        torch.manual_seed(seed)
        self.model: nn.Module = nn.Sequential(
            nn.Dropout(recipe.dropout),
            nn.Linear(num_features(self._dim), recipe.hidden),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(recipe.hidden, 1),
        )
        self._threshold = 0.0
        self.identity: Mapping[str, Any] = {
            "options": _deciding(recipe),
            "data": dict(corpus.hashes),
            "embedder": embedder,
            "version": _VERSION,
        }

    def batches(self, step: int) -> list[PairBatch]:
        """See `Task.batches`."""
        chance = np.random.default_rng([self._seed, step])
        rows = chance.integers(0, len(self._ends), self.recipe.batch)
        features, ends = torch.from_numpy(self._features[rows]), self._ends[rows]
        return [PairBatch(features, torch.from_numpy(ends.astype(np.float32)))]

    def loss(self, batch: PairBatch) -> Loss:
        """Yes or no, both weighing the same."""
        device = next(self.model.parameters()).device
        logits = self.model(batch.features.to(device)).float()[:, 0]
        total = F.binary_cross_entropy_with_logits(
            logits, batch.ends.to(device), pos_weight=torch.tensor(self._rarity, device=device)
        )
        return Loss(total, {})

    def evaluate(self, *, is_final: bool) -> dict[str, float]:
        """See `Task.evaluate`: the threshold is fitted on one part of what is held out."""
        model = self._made()
        learnt = {part: self._scored(part, model) for part in ("valid", "test")}
        self._threshold = best_threshold(learnt["valid"], self._gold("valid"))
        figures = _figures("", learnt["test"], self._gold("test"), self._threshold)
        if is_final:
            near = {part: self._distances(part) for part in ("valid", "test")}
            threshold = best_threshold(near["valid"], self._gold("valid"))
            figures |= _figures("cosine/", near["test"], self._gold("test"), threshold)
            share = float(np.concatenate(self._gold("valid")).mean())
            figures["random/pk"] = round(random_pk(self._gold("test"), share, self._seed), 5)
        return figures

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        write_model(folder, self._made())

    def describe(self) -> dict[str, Any]:
        """See `Task.describe`."""
        parts: tuple[Part, ...] = ("train", "valid", "test")
        return {
            "what": f"Sections: whether a topic ends between two {self._unit}s",
            "limits": [self._limit(), _LIMIT],
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "embedder": self._embedder,
            "held_out": {
                "split": "documents by hash of their text: a tenth fits the threshold (valid), a "
                "tenth is measured on (test); headings are hidden",
                "documents": {part: len(self.corpus.of(part)) for part in parts},
                "ends": {part: int(sum(e.sum() for e in self._gold(part))) for part in parts},
                "pairs": {part: sum(len(e) for e in self._gold(part)) for part in parts},
            },
        }

    def _limit(self) -> str:
        """What was learnt from, so what was not."""
        known = all(source.is_confirmed for source in self.sources)
        what = "technical documents in English" if known else "documents in the user's folder"
        ends = "headings" if self._unit == "paragraph" else "paragraphs"
        return (
            f"Learnt from {ends} of {len(self.corpus.of('train'))} {what}; other kinds of "
            "documents were not seen."
        )

    def _features_of(self, document: int) -> NDArray[np.float32]:
        return pair_features(self._vectors[document], self.corpus.documents[document].layout)

    def _gold(self, part: Part) -> list[NDArray[np.bool_]]:
        return [self.corpus.documents[i].ends for i in self.corpus.of(part)]

    def _scored(self, part: Part, model: SectionModel) -> list[NDArray[np.float64]]:
        """Log-odds of each document's gaps, thresholds left out."""
        documents = self.corpus.documents
        return [
            model.odds(self._vectors[i], documents[i].layout) + model.threshold
            for i in self.corpus.of(part)
        ]

    def _distances(self, part: Part) -> list[NDArray[np.float64]]:
        """Cosine distance of neighbours."""
        found = [self._vectors[i].astype(np.float64) for i in self.corpus.of(part)]
        return [1 - (v[:-1] * v[1:]).sum(axis=1) for v in found]

    def _made(self) -> SectionModel:
        """The model as it is now."""
        enter, leave = (m for m in self.model.modules() if isinstance(m, nn.Linear))
        weights = {
            "enter": enter.weight.T,
            "enter_bias": enter.bias,
            "leave": leave.weight[0],
            "leave_bias": leave.bias,
        }
        arrays = {
            name: np.ascontiguousarray(each.detach().float().cpu().numpy())
            for name, each in weights.items()
        }
        return SectionModel(self._unit, self._embedder, self._dim, self._threshold, arrays)


def _figures(
    prefix: str,
    scores: Sequence[NDArray[np.float64]],
    ends: Sequence[NDArray[np.bool_]],
    threshold: float,
) -> dict[str, float]:
    return {
        f"{prefix}pk": round(pooled_pk(scores, ends, threshold), 5),
        f"{prefix}auc": round(auc(scores, ends), 5),
    }


def _deciding(recipe: BoundariesRecipe) -> dict[str, Any]:
    """Options that decide the weights: not how often is saved, nor where the encoder lies."""
    given = dataclasses.asdict(recipe)
    others = ("steps", "save_every", "evaluate_every", "encoder")
    return {name: value for name, value in given.items() if name not in others}
