"""Which paths may be added to a corpus."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from chunkwise.errors import ConfigError, DocumentError
from chunkwise.store import Store


def check_paths(folder: Path, paths: Sequence[object]) -> None:
    """Refuse what cannot be meant to be added to the corpus in a folder."""
    if not paths:
        raise ConfigError("Nothing to add: name at least one file or folder.")
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"A path is text or a Path, got {path!r}; use add(*paths).")
        if Path(path).resolve() == folder.resolve():
            raise ConfigError(f"{str(path)!r} is the corpus itself; keep them apart.")
    if not Store.exists(folder) and not any(os.path.lexists(str(p)) for p in paths):
        raise DocumentError(str(paths[0]), "it is not there")
