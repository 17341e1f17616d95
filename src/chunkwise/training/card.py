"""`card.json`: what a model was made from, by what, and how good it is."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from chunkwise import __version__
from chunkwise.training.base import Source


def make_card(
    recipe: str,
    *,
    sources: Sequence[Source],
    identity: Mapping[str, Any],
    counts: Mapping[str, float],
    figures: Mapping[str, float],
    description: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of a finished run.

    `is_releasable` is false when the licence of a source was not confirmed.

    Args:
        recipe: Name of the recipe.
        sources: What was trained on.
        identity: Options, seed, plan and hashes.
        counts: Steps, tokens, seconds.
        figures: On held-out data.
        description: What the recipe says of the model.
    """
    unconfirmed = [source.file for source in sources if not source.is_confirmed]
    return {
        "recipe": recipe,
        **description,
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "is_releasable": not unconfirmed,
        "unconfirmed_licences": unconfirmed,
        "data": [dataclasses.asdict(source) for source in sources],
        "counts": dict(counts),
        "figures": dict(figures),
        "identity": dict(identity),
        "versions": {
            "chunkwise": __version__,
            "commit": _commit(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def _commit() -> str:
    """The commit of the source folder, `-dirty` if it was changed; `unknown` outside of git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
