"""How good a segmenter is by language: clean and stripped texts, beside the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from chunkwise.evaluation.boundaries import measures
from chunkwise.evaluation.segmentation import (
    GoldText,
    by_language,
    corrupted,
    evaluate_segmenter,
)
from chunkwise.types import Segmenter

ALL = "all"
"""The unweighted mean over languages."""


def f1_by_language(texts: Sequence[GoldText], segmenter: Segmenter) -> dict[str, float]:
    """F1 of each language's texts together; 0 where nothing could be found and nothing was."""
    counts = by_language(texts, list(evaluate_segmenter(texts, segmenter)))
    found = {}
    for language, rows in counts.items():
        totals = np.array(rows, dtype=np.float64).sum(axis=0)[None]
        found[language] = float(np.nan_to_num(measures(totals)["f1"])[0])
    return found


def compare(texts: Sequence[GoldText], segmenter: Segmenter, rules: Segmenter) -> dict[str, float]:
    """Figures `clean/de`, `clean_rules/de`, `stripped/de`, `stripped_rules/de`, each also `all`.

    Args:
        texts: Clean ones.
        segmenter: What was trained.
        rules: The baseline.
    """
    found: dict[str, float] = {}
    for name, some in (("clean", list(texts)), ("stripped", [corrupted(text) for text in texts])):
        for suffix, each in (("", segmenter), ("_rules", rules)):
            found |= _named(f"{name}{suffix}", f1_by_language(some, each))
    return found


def shortfalls(figures: Mapping[str, float], least: Mapping[str, float]) -> list[str]:
    """Languages in which less is gained over the rules than asked for.

    Args:
        figures: As of `compare`.
        least: Gain in F1 that `clean` and `stripped` need.
    """
    missing = []
    for name, gain in least.items():
        for key, value in figures.items():
            kind, _, language = key.partition("/")
            if kind == name and value - figures[f"{name}_rules/{language}"] < gain:
                missing.append(key)
    return missing


def _named(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    found = {f"{prefix}/{language}": round(value, 5) for language, value in values.items()}
    return found | {f"{prefix}/{ALL}": round(_mean(values.values()), 5)}


def _mean(values: Iterable[float]) -> float:
    all_values = list(values)
    return sum(all_values) / max(len(all_values), 1)
