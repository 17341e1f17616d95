"""Small random models of the learned segmenter."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chunkwise.rag.sentences.heads import Head
from chunkwise.rag.sentences.model import write_model
from chunkwise.rag.sentences.network import NUM_OUTPUTS, NetworkShape, expected

SHAPE = NetworkShape(buckets=512, embedding=8, width=16, before=(1, 3), behind=(2, 4))


def write_random_model(folder: Path, *, seed: int = 0, often: float = -2.0) -> str:
    """Write a model that ends sentences anywhere, more often the larger `often`."""
    chance = np.random.default_rng(seed)
    tensors = {
        name: chance.normal(0, 1 / np.sqrt(size[0]), size).astype(np.float32)
        for name, size in expected(SHAPE).items()
    }
    tensors["table"] *= 10
    weights = chance.normal(0, 0.3, NUM_OUTPUTS)
    heads = {
        "": Head(
            tuple(weights.tolist()), (often, 2 + often, often, often + 2, often - 1, often + 2)
        ),
        "de": Head(tuple(weights[::-1].tolist()), (often,) * 6),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder, SHAPE, tensors, heads)
    return str(folder)
