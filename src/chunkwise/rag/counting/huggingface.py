"""Counts tokens with a Hugging Face tokenizer kept on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, MissingDependencyError

try:
    from tokenizers import Tokenizer
except ImportError as exc:
    raise MissingDependencyError(
        "Counting with a Hugging Face tokenizer needs the package `tokenizers`: "
        'pip install "chunkwise[llm]"'
    ) from exc

__all__ = ["HuggingFaceCounter"]


@dataclass(frozen=True)
class HuggingFaceCounter:
    """Token counts of a `tokenizer.json`; names of special tokens in a text are plain text.

    Attributes:
        path: A `tokenizer.json`, or a folder that holds one.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """

    path: str
    fingerprint: str = field(init=False, repr=False)
    is_additive: bool = field(init=False, repr=False)
    _tokenizer: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        path = Path(self.path)
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            data = path.read_bytes()
            tokenizer = Tokenizer.from_buffer(data)
            described = json.loads(data)
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"Token counter {self.path!r}: no readable tokenizer.json ({exc})."
            ) from exc
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        digest = hashlib.blake2b(data, digest_size=8).hexdigest()
        object.__setattr__(self, "fingerprint", f"huggingface-{digest}")
        object.__setattr__(self, "is_additive", _is_bert(described))
        object.__setattr__(self, "_tokenizer", tokenizer)

    def starts(self, text: str) -> NDArray[np.int32]:
        """Character offset at which each token starts; see `TokenCounter`."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        starts = np.array([start for start, _ in encoding.offsets], dtype=np.int32)
        return np.maximum.accumulate(starts)

    def count(self, text: str) -> int:
        """Number of tokens of `text`."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))


def _is_bert(described: dict[str, Any]) -> bool:
    """Words are cut at white space before anything else, and each is tokenised alone."""
    before = described.get("pre_tokenizer") or {}
    normalizer = described.get("normalizer") or {}
    return (
        described.get("model", {}).get("type") == "WordPiece"
        and before.get("type") == "BertPreTokenizer"
        and normalizer.get("type", "BertNormalizer") == "BertNormalizer"
        and all(token["special"] for token in described.get("added_tokens", []))
    )
