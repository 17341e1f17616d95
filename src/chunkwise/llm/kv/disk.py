"""Chunks' segments on disk: a file each, mapped where it is read.

A file is written beside its place and renamed, so it is there whole or not at all, whenever a
process dies. Each holds what it was made for (model, anchor, tokens) and checksums of its numbers;
one that does not agree is removed and never used. Several processes may read and write: names say
what is in a file, and whoever removes one leaves it to those who have mapped it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import os
import re
import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from chunkwise.errors import ConfigError
from chunkwise.llm.kv.int8 import Quantised
from chunkwise.llm.kv.memory import KVShape, Segment, Statistics, TokenIds

logger = logging.getLogger(__name__)

_MAGIC = b"CWKV0001"
_PAGE = 4096
_HEAD = struct.Struct("<8sII")  # magic, length of the header, its CRC-32
_SUFFIX, _PART, _PINNED = ".kv", ".part", "pinned"
_FOLDER, _FILE = re.compile("[0-9a-f]{24}"), re.compile(r"[0-9a-f]{32}\.kv")
_PART_S = 600.0  # nobody writes a chunk for so long


class _Unusable(Exception):
    """Why a file cannot be used."""


class DiskStats(NamedTuple):
    """What is on disk for one model and anchor.

    Attributes:
        made_for: The model and its number type.
        chunks: Files.
        nbytes: Bytes of all.
    """

    made_for: str
    chunks: int
    nbytes: int


def stats(root: Path) -> list[DiskStats]:
    """What a folder holds, by model and anchor."""
    found = []
    for folder in _folders(root):
        files = list(_files(folder))
        if files:
            try:
                made_for = _checked(files[0][0])[0]["made_for"].partition(":(")[0]
            except (_Unusable, OSError):
                made_for = "unknown"
            found.append(DiskStats(made_for, len(files), sum(s.st_size for _, s in files)))
    return found


def verify(root: Path) -> tuple[int, list[str]]:
    """Read all files of a folder; how many are whole, and why the others were removed."""
    whole, problems = 0, []
    for folder in _folders(root):
        for path, _ in list(_files(folder)):
            try:
                _checked(path)
                whole += 1
            except (_Unusable, OSError) as exc:
                problems.append(f"{path.name}: {exc}")
                _remove(path)
    return whole, problems


def drop_others(root: Path, content_ids: Iterable[str]) -> int:
    """Remove all chunks but these, of all models, and their pins; how many files that were."""
    kept = {_stem(content_id) for content_id in content_ids}
    for name in pinned(root) - kept:
        _remove(root / _PINNED / name)
    return sum(
        _remove(path)
        for folder in _folders(root)
        for path, _ in list(_files(folder))
        if path.stem not in kept
    )


def file_name(content_id: str) -> str:
    """The name of a chunk's file."""
    return _stem(content_id) + _SUFFIX


def _stem(content_id: str) -> str:
    return hashlib.blake2b(content_id.encode(), digest_size=16).hexdigest()


def pin(root: Path, content_ids: Iterable[str]) -> int:
    """Let chunks, there or not, stay until `unpin`: the budget and their age remove others only.

    Returns:
        How many were not pinned before.

    Raises:
        ConfigError: The folder cannot be written.
    """
    folder = root / _PINNED
    new = {_stem(content_id) for content_id in content_ids} - pinned(root)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in new:
            (folder / name).touch()
    except OSError as exc:
        raise ConfigError(f"{str(folder)!r} cannot be written: {exc.strerror}.") from exc
    return len(new)


def unpin(root: Path, content_ids: Iterable[str]) -> int:
    """Undo `pin`; of how many chunks."""
    names = {_stem(content_id) for content_id in content_ids}
    return sum(_remove(root / _PINNED / name) for name in names & pinned(root))


def pinned(root: Path) -> set[str]:
    """Names of pinned chunks' files, without suffix."""
    folder = root / _PINNED
    return set(os.listdir(folder)) if folder.is_dir() else set()


class DiskTier:
    """Files of one model and anchor.

    Args:
        folder: Where those of all models are; made if need be.
        made_for: Model and anchor: files made for others are not used.
        shape: What a token's keys and values look like.
        budget_bytes: Most bytes; the files that were used longest ago go first, pinned ones never.
        ttl_s: Files that were not used for so many seconds go; 0: none.
        is_int8: Keys and values are written as whole numbers: half the bytes, some loss.
        with_statistics: Files without attention statistics count as not there, until the chunk is
            saved with them.

    Raises:
        ConfigError: The folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        made_for: str,
        shape: KVShape,
        budget_bytes: int,
        *,
        ttl_s: float = 0.0,
        is_int8: bool = False,
        with_statistics: bool = False,
    ) -> None:
        made_for = f"int8 {made_for}" if is_int8 else made_for
        self.made_for, self.shape, self.budget_bytes = made_for, shape, budget_bytes
        self.ttl_s, self.is_int8, self.with_statistics = ttl_s, is_int8, with_statistics
        self.root = folder
        self.folder = folder / hashlib.blake2b(made_for.encode(), digest_size=12).hexdigest()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(
                f"{str(folder)!r} cannot hold chunks: {exc.strerror}. Name another folder."
            ) from exc
        self._unusable: set[str] = set()  # files that are damaged and could not be removed
        self._used: int | None = None  # bytes of all models, as far as this process knows
        if ttl_s:
            self._make_room(0)  # for what is too old goes then

    def load(self, content_id: str, token_ids: TokenIds) -> Segment | None:
        """The segment of a chunk, mapped; None if it is not there or cannot be used."""
        path = self._path(content_id)
        if not self.has(content_id):
            return None
        try:
            segment = self._read(path, content_id, token_ids)
        except FileNotFoundError:
            return None
        except _Unusable as exc:
            logger.warning("%s cannot be used and is removed: %s", path, exc)
            if not _remove(path):
                self._unusable.add(path.name)
            return None
        except OSError as exc:  # for this process, at this moment
            logger.warning("%s cannot be read: %s", path, exc)
            return None
        if self.with_statistics and segment.statistics is None:
            return None
        self.touch(content_id)
        return segment

    def save(self, content_id: str, segment: Segment) -> bool:
        """Write a complete segment; False where it cannot be kept, which is logged.

        Files that were used longest ago, of any model, make room for it.
        """
        path, part = self._path(content_id), None
        head, arrays = self._packed(content_id, segment)
        size = len(head) + sum(_padded(array.nbytes) for array in arrays)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._make_room(size):
                return False
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=_PART, delete=False) as file:
                part = Path(file.name)
                file.write(head)
                for array in arrays:
                    file.write(memoryview(array).cast("B"))
                    file.write(bytes(_padded(array.nbytes) - array.nbytes))
            part.replace(path)
        except OSError as exc:
            logger.warning("%s cannot be written, and is not kept: %s", path, exc.strerror)
            if part is not None:
                _remove(part)
            return False
        self._unusable.discard(path.name)
        self._used = (self._used or 0) + size
        return True

    def free_bytes(self) -> int:
        """Room that is left before anything is removed."""
        self._used = sum(status.st_size for _, status in _all_files(self.root))
        return max(self.budget_bytes - self._used, 0)

    def has(self, content_id: str) -> bool:
        """Whether there is a file of a chunk; whether it can be used, `load` finds out."""
        path = self._path(content_id)
        if path.name in self._unusable:
            return False
        if self.with_statistics and not _has_statistics(path):
            return False
        if not self.ttl_s:
            return path.exists()
        try:
            return not self._is_old(path.stat()) or path.stem in pinned(self.root)
        except FileNotFoundError:
            return False

    def touch(self, content_id: str) -> None:
        """Note that a chunk was used now."""
        with contextlib.suppress(OSError):  # not there, or a folder that can only be read
            os.utime(self._path(content_id))

    def as_stored(self, segment: Segment) -> Segment:
        """A segment as `load` gives it once it was saved: another one with int8."""
        if not self.is_int8:
            return segment
        k, v = Quantised.of(segment.k, segment.v).restored(self.shape.dtype)
        return dataclasses.replace(segment, k=k, v=v)

    def drop(self, content_id: str) -> bool:
        """Remove a chunk; whether it was there."""
        return _remove(self._path(content_id))

    def _path(self, content_id: str) -> Path:
        return self.folder / file_name(content_id)

    def _make_room(self, size: int) -> bool:
        """Remove what is too old, and what was used longest ago until `size` bytes fit."""
        if size > self.budget_bytes:
            return False
        if self._used is not None and self._used + size <= self.budget_bytes:
            return True
        files = sorted(_all_files(self.root), key=lambda file: file[1].st_mtime_ns)
        stay = pinned(self.root)
        self._used = sum(status.st_size for _, status in files)
        for path, status in files:
            is_over = self._used + size > self.budget_bytes
            if (is_over or self._is_old(status)) and path.stem not in stay and _remove(path):
                self._used -= status.st_size
        return self._used + size <= self.budget_bytes

    def _is_old(self, status: os.stat_result) -> bool:
        """Whether a file was not used for too long."""
        return self.ttl_s > 0 and status.st_mtime + self.ttl_s < time.time()

    def _packed(self, content_id: str, segment: Segment) -> tuple[bytes, list[Any]]:
        arrays = [segment.token_ids, *map(_as_bytes, self._numbers(segment))]
        statistics = segment.statistics
        if statistics is not None:
            arrays.append(statistics.external)
        header = {
            "made_for": self.made_for,
            "content_id": content_id,
            "tokens": len(segment.token_ids),
            "start": segment.start,
            "dtype": str(segment.k.dtype),
            "statistics": statistics and [statistics.inter, statistics.intra],
            "sizes": [array.nbytes for array in arrays],
            "crc": [zlib.crc32(memoryview(array).cast("B")) for array in arrays],
        }
        text = json.dumps(header).encode()
        head = _HEAD.pack(_MAGIC, len(text), zlib.crc32(text)) + text
        return head + bytes(_padded(len(head)) - len(head)), arrays

    def _numbers(self, segment: Segment) -> tuple[Tensor, ...]:
        """What is written of a segment, beside its tokens."""
        if self.is_int8:
            return tuple(Quantised.of(segment.k, segment.v))
        return segment.k, segment.v

    def _read(self, path: Path, content_id: str, token_ids: TokenIds) -> Segment:
        header, parts = _checked(path)
        if header["made_for"] != self.made_for:
            raise _Unusable("it was made for another model or anchor")
        if header["content_id"] != content_id:
            raise _Unusable("it holds another chunk")
        return self._segment(header, parts, token_ids)

    def _segment(self, header: dict[str, Any], parts: list[Tensor], token_ids: TokenIds) -> Segment:
        layers, heads, size, dtype, device = self.shape
        count = header["tokens"]
        ids = parts[0].numpy().view(np.int32)
        if header["dtype"] != str(dtype):
            raise _Unusable(f"its numbers are {header['dtype']}, not {dtype}")
        if ids.tobytes() != token_ids.tobytes():
            raise _Unusable("its tokens are others")
        kinds = [((layers, heads, count, size), torch.int8 if self.is_int8 else dtype)] * 2
        if self.is_int8:
            kinds += [((layers, heads, 1, size), torch.float32)]
            kinds += [((layers, heads, count, 1), torch.float32)]
        numbers, rest = parts[1 : 1 + len(kinds)], parts[1 + len(kinds) :]
        if [part.nbytes for part in numbers] != [math.prod(s) * t.itemsize for s, t in kinds]:
            raise _Unusable("its numbers have another shape")
        found = [
            part.view(kind).view(shape).to(device)
            for part, (shape, kind) in zip(numbers, kinds, strict=True)
        ]
        k, v = Quantised(*found).restored(dtype) if self.is_int8 else found
        statistics = _statistics(header, rest)
        return Segment(k, v, ids, header["start"], count, count, count, 0, statistics=statistics)


def _statistics(header: dict[str, Any], parts: list[Tensor]) -> Statistics | None:
    """Statistics in a file; older files, and those of policies that need none, have none."""
    if header.get("statistics") is None:
        return None
    if [part.nbytes for part in parts] != [4 * header["tokens"]]:
        raise _Unusable("its statistics have another shape")
    return Statistics(parts[0].numpy().view(np.float32), *header["statistics"])


def _has_statistics(path: Path) -> bool:
    """Whether a file says that it holds statistics; its numbers are not read."""
    try:
        with path.open("rb") as file:
            header, _ = _header(memoryview(file.read(16 * _PAGE)))
    except (OSError, _Unusable, struct.error):
        return False  # not there, or `load` will say why it cannot be used
    return header.get("statistics") is not None


def _checked(path: Path) -> tuple[dict[str, Any], list[Tensor]]:
    """Header and numbers of a file, as bytes: mapped, and as they were written."""
    size = path.stat().st_size
    if size < _PAGE:
        raise _Unusable(f"it ends after {size} bytes")
    try:  # torch's own mapping keeps no file open
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except RuntimeError as exc:
        raise OSError(str(exc)) from exc
    header, at = _header(mapped.numpy().data)
    parts = []
    for nbytes, crc in zip(header["sizes"], header["crc"], strict=True):
        if at + nbytes > size:
            raise _Unusable(f"it ends after {size} bytes")
        part = mapped[at : at + nbytes]
        if zlib.crc32(part.numpy().data) != crc:
            raise _Unusable("its checksum is wrong")
        parts.append(part)
        at += _padded(nbytes)
    return header, parts


def _folders(root: Path) -> list[Path]:
    """Our folders in a folder that may hold others."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in found if _FOLDER.fullmatch(path.name) and path.is_dir())


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Chunks of one of our folders; what others left half written long ago is removed."""
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            if _FILE.fullmatch(entry.name):
                yield Path(entry.path), entry.stat()
            elif entry.name.endswith(_PART) and entry.stat().st_mtime < time.time() - _PART_S:
                _remove(Path(entry.path))


def _all_files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder in _folders(root):
        yield from _files(folder)


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _header(data: memoryview) -> tuple[dict[str, Any], int]:
    """The header of a file, and where its numbers begin."""
    magic, length, crc = _HEAD.unpack_from(data)
    text = bytes(data[_HEAD.size : _HEAD.size + length])
    if magic != _MAGIC or zlib.crc32(text) != crc:
        raise _Unusable("it is no file of chunks, or one of another version")
    header: dict[str, Any] = json.loads(text)
    return header, _padded(_HEAD.size + length)


def _as_bytes(x: Tensor) -> Any:
    return x.contiguous().cpu().view(torch.uint8).numpy()


def _padded(nbytes: int) -> int:
    return -(-nbytes // _PAGE) * _PAGE
