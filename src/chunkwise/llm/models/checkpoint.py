"""Tensors of a safetensors checkpoint: mapped, copied once to where they stay, and let go.

Source: the safetensors format: 8 bytes with the length of a JSON header, the header, the data.
Read by our own few lines, so that a tensor goes from the mapped file into its rows of a fused
matrix without a stop, and pages that were copied are given back at once: the peak is the weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from chunkwise.errors import ModelFormatError
from chunkwise.llm.models.base import other_formats, read_json

logger = logging.getLogger(__name__)

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
"""Types of tensors that are read, in the names of safetensors."""

_MAX_HEADER_BYTES = 100_000_000
_SAMPLES, _SAMPLE_BYTES = 8, 256


class TensorEntry(NamedTuple):
    """Where a tensor lies: bytes `start .. end` of a file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Checkpoint:
    """The tensors of a folder by name. A context manager: mappings last until its end.

    Args:
        path: A folder with `model.safetensors`, or shards and their index.

    Raises:
        ModelFormatError: No such files, or files that are cut short or not safetensors.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path)
        self.entries = _entries(self.folder)
        self._unread = set(self.entries)
        self._maps: dict[Path, mmap.mmap] = {}

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def read(self, name: str, into: Tensor) -> None:
        """Copy a tensor into one of the same shape, of any floating type and device.

        Raises:
            ModelFormatError: It is missing, has another shape, or a type that is not read.
        """
        entry = self._entry(name, tuple(into.shape))
        source = self._map(entry.file)
        count = math.prod(entry.shape)
        if count:
            dtype = DTYPES[entry.dtype]
            stored = torch.frombuffer(source, dtype=dtype, count=count, offset=entry.start)
            into.copy_(stored.view(entry.shape))
            _give_back(source, entry)
        self._unread.discard(name)

    def ignore(self, names: Iterable[str]) -> None:
        """Tensors that need not be read: they are not reported as unknown."""
        self._unread -= set(names)

    def close(self) -> None:
        """Drop the mappings and log what nobody read."""
        unknown = sorted(n for n in self._unread if not n.endswith("rotary_emb.inv_freq"))
        if unknown:
            logger.info("%s: %d tensors not used: %s", self.folder, len(unknown), unknown[:8])
        self._unread.clear()
        while self._maps:
            self._maps.popitem()[1].close()

    def _entry(self, name: str, shape: tuple[int, ...]) -> TensorEntry:
        entry = self.entries.get(name)
        if entry is None:
            raise ModelFormatError(
                f"{self.folder}: the tensor {name!r} {list(shape)} is missing from the "
                f"{len(self.entries)} tensors of the checkpoint."
            )
        if entry.shape != shape:
            raise ModelFormatError(
                f"{entry.file}: the tensor {name!r} has the shape {list(entry.shape)}, "
                f"config.json asks for {list(shape)}."
            )
        if entry.dtype not in DTYPES:
            raise ModelFormatError(
                f"{entry.file}: the tensor {name!r} has the type {entry.dtype!r}; "
                f"{', '.join(DTYPES)} are read."
            )
        return entry

    def _map(self, file: Path) -> mmap.mmap:
        if file not in self._maps:
            with file.open("rb") as opened:  # private and writable: torch wants no read-only memory
                self._maps[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._maps[file]


def fingerprint(path: str | Path) -> str:
    """Names a model by what decides its numbers: config, tensors, samples of each tensor, and the
    tokenizer.

    Reads about 2 KB a tensor. 32 hex digits, the same for a copy of the folder; a change of
    weights that misses every sample goes unseen.

    Raises:
        ModelFormatError: See `Checkpoint`.
    """
    folder = Path(path)
    config = read_json(folder / "config.json")
    digest = hashlib.blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=16)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        digest.update((folder / name).read_bytes() if (folder / name).exists() else b"\0")
    entries = _entries(folder)
    opened = {file: file.open("rb") for file in {entry.file for entry in entries.values()}}
    try:
        for name, entry in sorted(entries.items()):
            digest.update(f"{name}|{entry.dtype}|{entry.shape}|".encode())
            for start in _sample_places(entry):
                opened[entry.file].seek(start)
                digest.update(opened[entry.file].read(min(_SAMPLE_BYTES, entry.end - start)))
    finally:
        for file in opened.values():
            file.close()
    return digest.hexdigest()


def write_safetensors(
    file: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[Tensor], dtype: torch.dtype
) -> None:
    """Write tensors one by one, as they come: no more than one is in memory."""
    names = {kind: name for name, kind in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in shapes.items():
        end = place + math.prod(shape) * dtype.itemsize
        offsets = [place, end]
        header[name] = {"dtype": names[dtype], "shape": list(shape), "data_offsets": offsets}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # data starts aligned
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            opened.write(tensor.to(dtype).reshape(-1).view(torch.uint8).numpy().data)


def _sample_places(entry: TensorEntry) -> list[int]:
    last = max(entry.start, entry.end - _SAMPLE_BYTES)
    places = {entry.start + (last - entry.start) * i // (_SAMPLES - 1) for i in range(_SAMPLES)}
    return sorted(places)


def _entries(folder: Path) -> dict[str, TensorEntry]:
    if (folder / SINGLE).exists():
        return _read_header(folder / SINGLE)
    if not (folder / INDEX).exists():
        raise ModelFormatError(f"{folder} has no {SINGLE} and no {INDEX}.{other_formats(folder)}")
    placed = read_json(folder / INDEX).get("weight_map")
    if not isinstance(placed, dict) or not all(map(_is_file_name, placed.values())):
        raise ModelFormatError(f"{folder / INDEX}: `weight_map` must name a file for each tensor.")
    headers = {name: _read_header(folder / name) for name in sorted(set(placed.values()))}
    lost = [name for name, file in placed.items() if name not in headers[file]]
    if lost:
        raise ModelFormatError(f"{folder / placed[lost[0]]}: the tensor {lost[0]!r} is missing.")
    return {name: headers[file][name] for name, file in placed.items()}


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", "..") and Path(name).name == name


def _read_header(file: Path) -> dict[str, TensorEntry]:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
                raise ModelFormatError(
                    f"{file} ({size} bytes) is cut short or no safetensors file; get it again."
                )
            header = json.loads(opened.read(length))
    except (OSError, ValueError) as exc:
        raise ModelFormatError(f"{file} cannot be read as safetensors: {exc}") from exc
    if not isinstance(header, dict):
        raise ModelFormatError(f"{file} cannot be read as safetensors: its header is no object.")
    header.pop("__metadata__", None)
    return {name: _entry(file, size, 8 + length, name, said) for name, said in header.items()}


def _entry(file: Path, size: int, base: int, name: str, said: Mapping[str, Any]) -> TensorEntry:
    try:
        shape = tuple(int(n) for n in said["shape"])
        start, end = (base + int(n) for n in said["data_offsets"])
        dtype = str(said["dtype"])
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelFormatError(f"{file}: the header of {name!r} is damaged: {said!r}.") from exc
    if end > size:
        raise ModelFormatError(
            f"{file} is cut short: {name!r} ends at byte {end}, the file at byte {size}; get it "
            "again."
        )
    known = DTYPES.get(dtype)
    wanted = math.prod(shape) * known.itemsize if known else end - start
    if min(shape, default=0) < 0 or not base <= start <= end or wanted != end - start:
        raise ModelFormatError(
            f"{file}: {name!r} {list(shape)} {dtype} takes {wanted} bytes, "
            f"its place has {end - start}."
        )
    return TensorEntry(file, dtype, shape, start, end)


def _give_back(source: mmap.mmap, entry: TensorEntry) -> None:
    """Pages that were copied no longer count as ours; the page cache keeps them."""
    if hasattr(mmap, "MADV_DONTNEED"):
        first = -(-entry.start // mmap.PAGESIZE) * mmap.PAGESIZE
        if entry.end > first:
            source.madvise(mmap.MADV_DONTNEED, first, entry.end - first)
