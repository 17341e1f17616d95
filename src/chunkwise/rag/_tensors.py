"""Files of tensors in safetensors' format, read and written with numpy alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_TO_NUMPY: Final[Mapping[str, str]] = {"F32": "<f4", "BF16": "<u2", "I8": "<i1"}
_FROM_NUMPY: Final[Mapping[str, str]] = {"<f4": "F32", "<u2": "BF16", "|i1": "I8"}


def read_tensors(path: Path) -> tuple[dict[str, Floats], bytes]:
    """Tensors of a file as float32, and its bytes.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged, or holds another type than float32, bfloat16 and int8.
    """
    raw = path.read_bytes()
    try:
        (size,) = struct.unpack_from("<Q", raw)
        header = json.loads(raw[8 : 8 + size])
        header.pop("__metadata__", None)
        return {name: _tensor(raw, 8 + size, entry) for name, entry in header.items()}, raw
    except (struct.error, KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"no tensors can be read: {exc!r}") from exc


def safetensors_bytes(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A file of these tensors: float32, int8, or bfloat16 as `bfloat16` gives it."""
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    at = 0
    for name, data in tensors.items():
        header[name] = {
            "dtype": _FROM_NUMPY[data.dtype.str],
            "shape": list(data.shape),
            "data_offsets": [at, at + data.nbytes],
        }
        at += data.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join(
        [struct.pack("<Q", len(text)), text, *(data.tobytes() for data in tensors.values())]
    )


def bfloat16(values: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """The upper halves of float32, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2")


def _tensor(raw: bytes, base: int, entry: Mapping[str, Any]) -> Floats:
    first, last = entry["data_offsets"]
    values = np.frombuffer(raw[base + first : base + last], dtype=_TO_NUMPY[entry["dtype"]])
    values = values.reshape(entry["shape"])
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32)
