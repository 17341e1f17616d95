"""Checkpoints that survive a kill and a full disk: written aside, synced, then renamed.

A checkpoint is a folder `step-00000120` with `state.safetensors` and `checkpoint.json`, which has
the tensors' checksum. The last two are kept; a damaged one is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from chunkwise.errors import CheckpointError

_log = logging.getLogger(__name__)

_STATE, _META, _PREFIX, _PART = "state.safetensors", "checkpoint.json", "step-", ".part"
_KEPT = 2
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after some steps.

    Attributes:
        step: Steps done.
        tensors: Weights and optimizer state by name.
        identity: What decides the weights: recipe, options, seed, hashes of data, plan.
        progress: Counts so far: tokens, seconds.
    """

    step: int
    tensors: Mapping[str, Tensor]
    identity: Mapping[str, Any]
    progress: Mapping[str, float]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they are; made by the first `save`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, oldest first; they may be damaged."""
        names = [p.name for p in self.folder.glob(f"{_PREFIX}*") if p.is_dir()]
        numbers = [name.removeprefix(_PREFIX) for name in names]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint and drop all but the last two. Earlier ones survive a failure.

        Raises:
            CheckpointError: It cannot be written, because the disk is full for example.
        """
        target = self._place(checkpoint.step)
        part = target.with_name(target.name + _PART)
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            _write(part, checkpoint)
            shutil.rmtree(target, ignore_errors=True)
            os.rename(part, target)
            _sync(self.folder)
        except (OSError, SafetensorError) as exc:
            shutil.rmtree(part, ignore_errors=True)
            reason = getattr(exc, "strerror", None) or str(exc)
            size = sum(t.numel() * t.element_size() for t in checkpoint.tensors.values())
            raise CheckpointError(
                f"{target}: the checkpoint of step {checkpoint.step} cannot be written: {reason}. "
                f"It takes {size / 1e6:.0f} MB. {self._survivor()}"
            ) from exc
        for step in self.steps()[:-_KEPT]:
            shutil.rmtree(self._place(step), ignore_errors=True)
        return target

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none at all.

        Raises:
            CheckpointError: There are some and all are damaged.
        """
        reasons = []
        for step in reversed(self.steps()):
            try:
                return _read(self._place(step))
            except CheckpointError as exc:
                _log.warning("%s The one before is taken.", exc)
                reasons.append(str(exc))
        if reasons:
            raise CheckpointError(
                f"No checkpoint in {self.folder} can be used: {reasons[0]} Start anew with "
                "another --out."
            )
        return None

    def _place(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:08d}"

    def _survivor(self) -> str:
        steps = self.steps()
        if not steps:
            return "Make room and start again."
        return f"The checkpoint of step {steps[-1]} is whole: make room and go on with --resume."


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
    save_file(tensors, str(folder / _STATE))
    meta = {
        "format": _FORMAT,
        "step": checkpoint.step,
        "identity": dict(checkpoint.identity),
        "progress": dict(checkpoint.progress),
        "checksum": _checksum(folder / _STATE),
    }
    (folder / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
    for path in (folder / _STATE, folder / _META, folder):
        _sync(path)


def _read(folder: Path) -> Checkpoint:
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        if meta["format"] != _FORMAT:
            raise CheckpointError(
                f"{folder} has format {meta['format']!r}; this version reads {_FORMAT}."
            )
        if _checksum(folder / _STATE) != meta["checksum"]:
            raise CheckpointError(f"{folder} is damaged: its checksum is another one.")
        tensors = load_file(str(folder / _STATE))
        return Checkpoint(meta["step"], tensors, meta["identity"], meta["progress"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as exc:
        raise CheckpointError(f"{folder} cannot be read: {exc}.") from exc


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
