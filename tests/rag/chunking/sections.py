"""Small models of sections for the embedder of the tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from chunkwise.rag.chunking.sections import SectionModel, Unit, num_features, write_model
from tests.fakes import HashingEmbedder


def write_near_model(folder: Path, *, unit: Unit = "paragraph", threshold: float = 0.0) -> str:
    """Write a model whose log-odds are 6 less twelve times the cosine of two neighbours."""
    dim = HashingEmbedder().dim
    enter = np.zeros((num_features(dim), 2), np.float32)
    enter[3 * dim : 4 * dim, 0] = 1 / dim  # the products of scaled vectors: the cosine
    enter[3 * dim : 4 * dim, 1] = -1 / dim
    weights = {
        "enter": enter,
        "enter_bias": np.zeros(2, np.float32),
        "leave": np.array([-12, 12], np.float32),
        "leave_bias": np.array([6], np.float32),
    }
    folder.mkdir(parents=True, exist_ok=True)
    embedder = HashingEmbedder().fingerprint
    write_model(folder, SectionModel(unit, embedder, dim, threshold, weights))
    return str(folder)


@functools.cache
def near_model() -> str:
    """The folder of a model of paragraphs that is kept while the tests run."""
    return write_near_model(Path(tempfile.mkdtemp(prefix="chunkwise-")) / "sections")
