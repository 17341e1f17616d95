"""The registry of token counters, and the choice of one by a name or a path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.registry import Registry
from chunkwise.types import TokenCounter

_MIN_CHARS = 2000  # of a text worth remembering: headings are counted between two looks at it

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


class RememberingCounter:
    """A counter that keeps the token starts of the last text: cutting asks for them twice.

    Args:
        counter: Counts.
    """

    def __init__(self, counter: TokenCounter) -> None:
        self.fingerprint, self.is_additive = counter.fingerprint, counter.is_additive
        self._counter = counter
        self._last: tuple[str, NDArray[np.int32]] | None = None

    def starts(self, text: str) -> NDArray[np.int32]:
        """See `TokenCounter`. The array is shared and not to be changed."""
        last = self._last  # read once: threads may share the counter
        if last is None or last[0] is not text:
            last = (text, self._counter.starts(text))
            last[1].setflags(write=False)
            self._last = last if len(text) >= _MIN_CHARS else self._last
        return last[1]

    def count(self, text: str) -> int:
        """See `TokenCounter`."""
        return self._counter.count(text)
