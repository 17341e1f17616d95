"""GGUF files (llama.cpp) as tensors and a tokenizer: read to be converted, not to be run.

Source: the GGUF format, version 3, and the block formats of ggml.
Differs: only the formats in `_DECODE`; rotary scaling is refused.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from tokenizers import decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from chunkwise.errors import ModelFormatError

Blocks = NDArray[np.uint8]

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_MAX_TENSORS = 1_000_000


class GGUFTensor(NamedTuple):
    """Where a tensor lies: `shape` is that of torch, `start` a byte of the file."""

    shape: tuple[int, ...]
    kind: int
    start: int


class GGUFFile:
    """A mapped GGUF file.

    Attributes:
        fields: Metadata by name.
        tensors: Tensors by name.

    Raises:
        ModelFormatError: It is no GGUF file, or cut short.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as opened:
                self._data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as exc:
            raise ModelFormatError(f"{self.path} cannot be read: {exc}") from exc
        self._place = 0
        try:
            self._read_head()
        except (struct.error, IndexError, KeyError, UnicodeDecodeError) as exc:
            raise ModelFormatError(
                f"{self.path} is damaged or cut short; get it again ({exc})."
            ) from exc

    def field(self, name: str) -> Any:
        """Metadata that must be there.

        Raises:
            ModelFormatError: It is not.
        """
        if name not in self.fields:
            raise ModelFormatError(f"{self.path} has no field {name!r}.")
        return self.fields[name]

    def read(self, name: str) -> Tensor:
        """A tensor in float32.

        Raises:
            ModelFormatError: It is missing, stored in a format that is not read, or cut short.
        """
        if name not in self.tensors:
            raise ModelFormatError(f"{self.path} has no tensor {name!r}.")
        shape, kind, start = self.tensors[name]
        if kind not in _DECODE:
            known = ", ".join(entry.name for entry in _DECODE.values())
            raise ModelFormatError(
                f"{self.path}: the tensor {name!r} has ggml's format {kind}; {known} are read."
            )
        _, numbers, size, decode = _DECODE[kind]
        count = math.prod(shape) // numbers
        if math.prod(shape) % numbers or start + count * size > len(self._data):
            raise ModelFormatError(f"{self.path}: the tensor {name!r} {list(shape)} is cut short.")
        blocks = np.frombuffer(self._data, np.uint8, count * size, start).reshape(count, size)
        return torch.from_numpy(decode(blocks).astype(np.float32).reshape(shape))

    def _read_head(self) -> None:
        magic, version, num_tensors, num_fields = self._take("4sIQQ")
        if magic != b"GGUF" or version not in (2, 3) or num_tensors > _MAX_TENSORS:
            raise ModelFormatError(f"{self.path} is no GGUF file of version 2 or 3.")
        self.fields = {self._text(): self._value(self._one("I")) for _ in range(num_fields)}
        named = {self._text(): self._tensor() for _ in range(num_tensors)}
        step = int(self.fields.get("general.alignment", 32))
        base = -(-self._place // step) * step
        self.tensors = {n: t._replace(start=base + t.start) for n, t in named.items()}

    def _tensor(self) -> GGUFTensor:
        sizes = self._take(f"{self._one('I')}Q")
        kind, start = self._take("IQ")
        return GGUFTensor(tuple(reversed(sizes)), kind, start)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            inner, count = self._take("IQ")
            if inner in _SCALARS:
                return list(self._take(f"{count}{_SCALARS[inner]}"))
            return [self._value(inner) for _ in range(count)]
        return self._one(_SCALARS[kind])

    def _text(self) -> str:
        (raw,) = self._take(f"{self._one('Q')}s")
        return bytes(raw).decode("utf-8")

    def _one(self, pattern: str) -> Any:
        return self._take(pattern)[0]

    def _take(self, pattern: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{pattern}", self._data, self._place)
        self._place += struct.calcsize(f"<{pattern}")
        return found


def gguf_tokenizer(file: GGUFFile) -> tokenizers.Tokenizer:
    """The byte-level BPE tokenizer of a GGUF file.

    Raises:
        ModelFormatError: It is of another kind, or splits words in a way that is not known.
    """
    kind, split = file.field("tokenizer.ggml.model"), file.fields.get("tokenizer.ggml.pre", "")
    if kind != "gpt2" or split not in _SPLITS:
        raise ModelFormatError(
            f"{file.path}: the tokenizer {kind!r} with the split {split!r} is not read, only "
            f"'gpt2' with {', '.join(_SPLITS)}: give the model as a Hugging Face folder."
        )
    tokens = file.field("tokenizer.ggml.tokens")
    kinds = file.fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    merges = [tuple(merge.split(" ", 1)) for merge in file.field("tokenizer.ggml.merges")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    try:
        made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    except Exception as exc:  # the library raises nothing more exact
        raise ModelFormatError(f"{file.path}: the tokenizer is damaged: {exc}") from exc
    made.pre_tokenizer = pre_tokenizers.Sequence(_SPLITS[split]())
    made.normalizer = normalizers.NFC() if split == "qwen2" else None
    made.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    given = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED]
    made.add_special_tokens(control)
    made.add_tokens(given)
    return made


_CONTROL, _USER_DEFINED = 3, 4


def _split_on(pattern: str) -> list[Any]:
    return [
        pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def _gpt2() -> list[Any]:
    return [pre_tokenizers.ByteLevel(add_prefix_space=False)]


_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: dict[str, Callable[[], list[Any]]] = {
    "gpt-2": _gpt2,
    "smollm": lambda: [pre_tokenizers.Digits(individual_digits=True), *_gpt2()],
    "qwen2": lambda: _split_on(_WORDS % ""),
    "llama-bpe": lambda: _split_on(_WORDS % "{1,3}"),
}


class _Format(NamedTuple):
    """A block format: its name, numbers and bytes of a block, and how to read rows of blocks."""

    name: str
    numbers: int
    size: int
    decode: Callable[[Blocks], NDArray[Any]]


def _halves(blocks: Blocks, start: int) -> NDArray[np.float32]:
    """The half-precision number at a byte of each block: `(blocks, 1)`."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view(np.float16).astype(np.float32)


def _nibbles(blocks: Blocks) -> NDArray[np.uint8]:
    """Sixteen bytes as 32 numbers: low halves first."""
    return np.concatenate([blocks & 15, blocks >> 4], axis=1)


def _q4_0(blocks: Blocks) -> NDArray[np.float32]:
    return _halves(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: Blocks) -> NDArray[np.float32]:
    return _halves(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _halves(blocks, 2)


def _q8_0(blocks: Blocks) -> NDArray[np.float32]:
    return _halves(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8)


def _bf16(blocks: Blocks) -> NDArray[np.float32]:
    return (blocks.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


_DECODE = {
    0: _Format("F32", 1, 4, lambda blocks: blocks.view(np.float32)),
    1: _Format("F16", 1, 2, lambda blocks: blocks.view(np.float16)),
    2: _Format("Q4_0", 32, 18, _q4_0),
    3: _Format("Q4_1", 32, 20, _q4_1),
    8: _Format("Q8_0", 32, 34, _q8_0),
    30: _Format("BF16", 1, 2, _bf16),
}


def hf_names(num_layers: int) -> Iterator[tuple[str, str]]:
    """Names of tensors: llama.cpp's and Hugging Face's."""
    yield from (("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"))
    yield "output", "lm_head"
    for i in range(num_layers):
        for ours, theirs in _LAYER_NAMES.items():
            yield f"blk.{i}.{ours}", f"model.layers.{i}.{theirs}"


_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
