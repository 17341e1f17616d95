"""Vectors of all units, embedded once and kept in the run's folder block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import TrainingError
from chunkwise.types import Embedder

_BLOCK = 512


def unit_vectors(texts: Sequence[str], embedder: Embedder, folder: Path) -> NDArray[np.float32]:
    """Unit vectors `(len(texts), dim)`; blocks that are in the folder are not embedded again.

    Args:
        texts: To embed.
        embedder: Embeds them.
        folder: Where blocks are kept.

    Raises:
        TrainingError: A block cannot be written.
    """
    parts = [np.zeros((0, embedder.dim), np.float32)]
    for at in range(0, len(texts), _BLOCK):
        block = texts[at : at + _BLOCK]
        key = "\0".join([embedder.fingerprint, *block]).encode("utf-8", "surrogatepass")
        path = folder / f"{hashlib.blake2b(key, digest_size=16).hexdigest()}.npy"
        parts.append(_stored(path, (len(block), embedder.dim)))
        if not len(parts[-1]):
            parts[-1] = embedder.embed(block)
            _store(path, parts[-1])
    return np.concatenate(parts)


def _stored(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The block of a file; an empty one if it is not there, or was not written to its end."""
    try:
        found = np.load(path)
    except (OSError, ValueError, EOFError):
        return np.zeros((0, shape[1]), np.float32)
    return found if found.shape == shape else np.zeros((0, shape[1]), np.float32)


def _store(path: Path, block: NDArray[np.float32]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".part").open("wb") as file:
            np.save(file, block)
        path.with_suffix(".part").replace(path)
    except OSError as exc:
        raise TrainingError(f"{path}: cannot be written: {exc.strerror or exc}.") from exc
