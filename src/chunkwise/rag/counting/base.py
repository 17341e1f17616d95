"""The registry of token counters, and the choice of one by a name or a path."""

from __future__ import annotations

from pathlib import Path

from chunkwise.errors import ConfigError
from chunkwise.registry import Registry
from chunkwise.types import TokenCounter

counters: Registry[TokenCounter] = Registry("chunkwise.rag.counting", shared=("base", "bert"))


def named_counter(name: str) -> TokenCounter:
    """The counter called `name`: one of the room's names, or a path.

    Args:
        name: `minilm`, `words`, `chars`; or a path to a `tokenizer.json`, to a Hugging Face
            folder that holds one, or to a `.tiktoken` or `.tiktoken.gz` file.

    Raises:
        ConfigError: Neither a known name nor a path of those kinds.
        MissingDependencyError: The tokenizer needs an extra that is not installed.
    """
    path = Path(name)
    if path.is_dir() or path.suffix == ".json":
        return counters.build({"name": "huggingface", "path": name})
    if path.name.endswith((".tiktoken", ".tiktoken.gz")):
        return counters.build({"name": "tiktoken", "path": name})
    if path.exists():
        raise ConfigError(
            f"Token counter {name!r}: a file must be a tokenizer.json or end in .tiktoken or "
            ".tiktoken.gz."
        )
    return counters.build(name)
