"""Models that come with the package: folders below `models/`, each with a card and checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunkwise.errors import ModelFormatError

FOLDER = Path(__file__).parent / "models"
CARD = "card.json"


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model's folder and what its card says."""

    folder: Path
    card: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it is called: the name of its folder."""
        return self.folder.name

    @property
    def nbytes(self) -> int:
        """Size of its files."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def damaged(self) -> list[str]:
        """Files that are missing or are not those that the card was written for."""
        expected = self.card.get("files", {})
        found = checksums(self.folder)
        return sorted(name for name, checksum in expected.items() if found.get(name) != checksum)


def packaged_models(folder: Path = FOLDER) -> Iterator[PackagedModel]:
    """The models that are there, by name.

    Raises:
        ModelFormatError: A card cannot be read.
    """
    for path in sorted(folder.glob(f"*/{CARD}")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise ModelFormatError(
                f"{path} cannot be read: {exc}. Install the package anew."
            ) from exc
        yield PackagedModel(path.parent, card)


def packaged_folder(name: str) -> Path | None:
    """The folder of a packaged model; None where it is not packaged."""
    folder = FOLDER / name
    return folder if (folder / CARD).is_file() else None


def checksums(folder: Path) -> dict[str, str]:
    """BLAKE2b-128 of each file of a model but its card."""
    return {
        path.name: _checksum(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != CARD
    }


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
