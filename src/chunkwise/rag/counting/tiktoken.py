"""Counts tokens with a byte-pair file of OpenAI's kind, kept on disk, through `tiktoken`."""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, MissingDependencyError

try:
    from tiktoken import Encoding
except ImportError as exc:
    raise MissingDependencyError(
        "Counting with a .tiktoken file needs the package `tiktoken`: pip install tiktoken"
    ) from exc

__all__ = ["TiktokenCounter"]

_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)


@dataclass(frozen=True)
class TiktokenCounter:
    """Token counts of a `.tiktoken` or `.tiktoken.gz` file; special tokens are plain text.

    Attributes:
        path: The file of ranks: base64 of the token's bytes and its rank on each line.
        pattern: Regular expression that cuts the text before pairs are merged; that of
            `cl100k_base` by default.

    Raises:
        ConfigError: The file cannot be read.
    """

    path: str
    pattern: str = _CL100K
    fingerprint: str = field(init=False, repr=False)
    is_additive: bool = field(default=False, init=False, repr=False)
    _encoding: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            data = Path(self.path).read_bytes()
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            lines = (line.split() for line in data.splitlines() if line)
            ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
            encoding = Encoding(
                "chunkwise", pat_str=self.pattern, mergeable_ranks=ranks, special_tokens={}
            )
        except (OSError, EOFError, ValueError) as exc:
            raise ConfigError(f"Token counter {self.path!r}: no .tiktoken file ({exc}).") from exc
        digest = hashlib.blake2b(data + self.pattern.encode(), digest_size=8).hexdigest()
        object.__setattr__(self, "fingerprint", f"tiktoken-{digest}")
        object.__setattr__(self, "_encoding", encoding)

    def starts(self, text: str) -> NDArray[np.int32]:
        """Character offset at which each token starts; see `TokenCounter`."""
        tokens = self._encoding.encode_ordinary(text)
        lengths = [len(token) for token in self._encoding.decode_tokens_bytes(tokens)]
        at = np.cumsum([0, *lengths[:-1]])[: len(lengths)]
        return np.asarray(_char_of_byte(text)[at])

    def count(self, text: str) -> int:
        """Number of tokens of `text`."""
        return len(self._encoding.encode_ordinary(text))


def _char_of_byte(text: str) -> NDArray[np.int32]:
    """Which character each byte of the UTF-8 text belongs to."""
    data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    is_first = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80
    return np.cumsum(is_first, dtype=np.int32) - np.int32(1)
