"""Small data and a small model for recipes and the loop."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from chunkwise.training.base import Loss, Source

_COLOURS = ("green", "red", "blue", "old")
_NAMES = ("ada", "bob", "cleo", "dan", "eva", "finn", "gus", "hal", "ivy", "jon")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Gzipped JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def write_span_data(data: Path, *, documents: int = 40, seed: int = 0) -> Path:
    """`qa_span` with one set to train on and one to keep out; who lives where, what costs what."""
    chance = random.Random(seed)
    for file, prefix in (
        ("squad_v2_dev_half.jsonl.gz", "wiki"),
        ("squadshifts_amazon_reviews_v1.0.jsonl.gz", "shop"),
    ):
        rows = [
            {"title": f"{prefix} {i}", "paragraphs": [_paragraph(chance, i), _paragraph(chance, i)]}
            for i in range(documents)
        ]
        write_rows(data / "qa_span" / file, rows)
    return data


def _paragraph(chance: random.Random, number: int) -> dict[str, Any]:
    name, colour, cost = chance.choice(_NAMES), chance.choice(_COLOURS), chance.randint(2, 99)
    context = f"{name} lives near the {colour} mill {number}. it costs {cost} coins."
    asked = [
        ("who lives near the mill", name),
        ("how many coins", str(cost)),
        (f"what lives in {number}", None),
    ]
    qas = []
    for question, answer in asked:
        spans = [{"text": answer, "answer_start": context.index(answer)}] if answer else []
        qas.append({"question": question, "answers": spans, "is_impossible": not answer})
    return {"context": context, "qas": qas}


class LineBatch(NamedTuple):
    """Points of a line."""

    x: Tensor
    y: Tensor

    @property
    def tokens(self) -> int:
        return len(self.x)

    @property
    def size(self) -> int:
        return len(self.x)


@dataclass
class LineTask:
    """Fits a small network with dropout to a line. Batches are cut in `parts` of equal size."""

    seed: int = 0
    parts: int = 1
    dropout: float = 0.0
    breaks_at: int = -1

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.model: nn.Module = nn.Sequential(
            nn.Linear(3, 8), nn.Tanh(), nn.Dropout(self.dropout), nn.Linear(8, 1)
        )
        self.sources: Sequence[Source] = ()
        self.identity: Mapping[str, Any] = {"line": self.parts}

    def batches(self, step: int) -> list[LineBatch]:
        chance = torch.Generator().manual_seed(1000 * self.seed + step)
        x = torch.randn(12, 3, generator=chance)
        y = x.sum(dim=1, keepdim=True)
        if step == self.breaks_at:
            y = y * torch.inf
        pairs = zip(x.chunk(self.parts), y.chunk(self.parts), strict=True)
        return [LineBatch(a, b) for a, b in pairs]

    def loss(self, batch: LineBatch) -> Loss:
        total = (self.model(batch.x) - batch.y).square().mean()
        return Loss(total, {"square": total.item()})

    def evaluate(self, *, is_final: bool) -> dict[str, float]:
        return {"final": float(is_final)}

    def export(self, folder: Path) -> None:
        (folder / "done").write_text("done")

    def describe(self) -> dict[str, Any]:
        return {}
