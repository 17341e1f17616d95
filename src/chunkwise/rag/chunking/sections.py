"""Whether a topic ends between two paragraphs or sentences: features, a small network, its folder.

`model.safetensors` holds the weights as bfloat16; `config.json` the kind of units, the embedder and
the threshold. `chunkwise train boundaries` makes one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ModelFormatError
from chunkwise.rag._tensors import Floats, bfloat16, read_tensors, safetensors_bytes
from chunkwise.rag.chunking.pieces import trim
from chunkwise.types import Document, Span

MODEL_TYPE: Final = "chunkwise-sections"
Unit = Literal["paragraph", "sentence"]

LAYOUT: Final = (
    *("left_length", "left_number", "left_bullet", "left_colon", "left_stop", "left_short"),
    *("right_length", "right_number", "right_bullet", "right_lower", "right_short"),
    *("indented", "outdented"),
)
"""What is looked at besides meaning, each about in [0, 1]: of the unit before a gap its length,
whether it begins with a number or bullet, ends with a colon or full stop, or is short as a title;
of the unit behind about the same; whether the second one is indented more, or less."""

_FORMAT: Final = 1
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_NAMES = ("enter", "enter_bias", "leave", "leave_bias")
_REMEDY = "`chunkwise train boundaries` makes one."
_ROWS = 4096  # gaps that are scored together
_EMBEDDED = 800  # characters
_SHORT = 80  # characters
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_NUMBER = re.compile(r"[(\[]?(?:\d+(?:\.\d+)*|[ivxlcIVXLC]+|[a-zA-Z])[.)\]](?=\s)|§")
_BULLET = re.compile(r"[-*+•‣◦▪–](?=\s)")
_STOP = re.compile(r"[.!?。！？…؟।][\"'”’»)\]*_`]*\Z")


@dataclass(frozen=True, slots=True)
class SectionModel:
    """A network over pairs of neighbours.

    Attributes:
        unit: What the pairs are of.
        embedder: Fingerprint of the embedder whose vectors it was trained on.
        dim: Length of a vector.
        threshold: Log-odds above which a topic ends.
        weights: `enter (num_features, hidden)`, `enter_bias`, `leave (hidden,)`, `leave_bias (1,)`.
        fingerprint: Hash of weights and configuration.
    """

    unit: Unit
    embedder: str
    dim: int
    threshold: float
    weights: Mapping[str, Floats]
    fingerprint: str = ""

    def odds(self, vectors: Floats, layout: Floats) -> NDArray[np.float64]:
        """Log-odds, less the threshold, that a topic ends behind each unit but the last.

        Args:
            vectors: Unit vectors of the units: `(n, dim)`.
            layout: Of the gaps: `(n - 1, len(LAYOUT))`.
        """
        parts = [
            self._score(pair_features(vectors[at : at + _ROWS + 1], layout[at : at + _ROWS]))
            for at in range(0, len(layout), _ROWS)
        ]
        return np.concatenate(parts) - self.threshold if parts else np.zeros(0)

    def _score(self, features: Floats) -> NDArray[np.float64]:
        w = self.weights
        hidden = np.maximum(features @ w["enter"] + w["enter_bias"], 0)
        return np.asarray(hidden @ w["leave"] + w["leave_bias"][0], np.float64)


def num_features(dim: int) -> int:
    """Features of a pair."""
    return 4 * dim + len(LAYOUT)


def pair_features(vectors: Floats, layout: Floats) -> Floats:
    """`[x1, x2, x1 - x2, x1 * x2]` of neighbours, then their layout: `(n - 1, num_features)`.

    Vectors are brought to a mean square of 1.
    """
    scaled = vectors * np.float32(math.sqrt(vectors.shape[1]))
    left, right = scaled[:-1], scaled[1:]
    return np.concatenate([left, right, left - right, left * right, layout], axis=1)


def layout_features(text: str, spans: Sequence[Span]) -> Floats:
    """`LAYOUT` of the gaps between neighbouring units: `(n - 1, len(LAYOUT))`."""
    looks = [_look(text, span) for span in spans]
    found = np.zeros((max(0, len(spans) - 1), len(LAYOUT)), np.float32)
    for row, (left, right) in enumerate(itertools.pairwise(looks)):
        deeper = right.indent - left.indent
        found[row] = (
            *(left.length, left.number, left.bullet, left.colon, left.stop, left.short),
            *(right.length, right.number, right.bullet, right.lower, right.short),
            *(deeper > 0, deeper < 0),
        )
    return found


def paragraphs(document: Document) -> list[Span]:
    """Blocks of a document but headings; where it has none, what stands between blank lines."""
    if document.blocks:
        found = [Span(b.start, b.end) for b in document.blocks if b.kind != "heading"]
        return [span for span in found if document.text[slice(*span)].strip()]
    text, at, spans = document.text, 0, []
    for gap in [*_BLANK_LINES.finditer(text), None]:
        end = gap.start() if gap else len(text)
        if text[at:end].strip():
            spans.append(Span(at, end))
        at = gap.end() if gap else end
    return spans


def embedded(text: str) -> str:
    """What of a unit is embedded, in training and after: its first characters."""
    return text.strip()[:_EMBEDDED]


def read_model(folder: Path) -> SectionModel:
    """The model of a folder.

    Raises:
        ModelFormatError: A file is missing, damaged, or of another kind of model.
    """
    try:
        raw = (folder / _CONFIG).read_bytes()
        config = json.loads(raw)
        tensors, data = read_tensors(folder / _WEIGHTS)
        found = (config["model_type"], config["format"])
        unit, dim = config["unit"], int(config["dim"])
        embedder, threshold = str(config["embedder"]), float(config["threshold"])
    except OSError as exc:
        raise ModelFormatError(
            f"{str(folder)!r} holds no model of sections: {exc.filename}: {exc.strerror}. {_REMEDY}"
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelFormatError(
            f"{str(folder)!r} is damaged, or no model of sections: {exc!r}. {_REMEDY}"
        ) from exc
    if found != (MODEL_TYPE, _FORMAT) or unit not in get_args(Unit):
        raise ModelFormatError(
            f"{str(folder)!r} is of type, format and unit {(*found, unit)!r}, not "
            f"{(MODEL_TYPE, _FORMAT)!r} of {' or '.join(get_args(Unit))}. {_REMEDY}"
        )
    _check_shapes(folder, tensors, dim)
    digest = hashlib.blake2b(raw + data, digest_size=8).hexdigest()
    return SectionModel(unit, embedder, dim, threshold, tensors, digest)


def write_model(folder: Path, model: SectionModel) -> None:
    """Write weights and configuration into a folder that is there.

    Raises:
        OSError: They cannot be written.
    """
    config: dict[str, Any] = {
        "model_type": MODEL_TYPE,
        "format": _FORMAT,
        "unit": model.unit,
        "embedder": model.embedder,
        "dim": model.dim,
        "threshold": round(model.threshold, 5),
    }
    weights = {name: bfloat16(model.weights[name]) for name in _NAMES}
    (folder / _WEIGHTS).write_bytes(safetensors_bytes(weights))
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _check_shapes(folder: Path, tensors: Mapping[str, Floats], dim: int) -> None:
    shapes = {name: each.shape for name, each in tensors.items()}
    hidden = shapes.get("leave", (0,))[0]
    expected = {
        "enter": (num_features(dim), hidden),
        "enter_bias": (hidden,),
        "leave": (hidden,),
        "leave_bias": (1,),
    }
    if shapes != expected:
        raise ModelFormatError(
            f"{folder / _WEIGHTS} has tensors {shapes}, not {expected}: weights and {_CONFIG} are "
            f"not of one model. {_REMEDY}"
        )


@dataclass(frozen=True, slots=True)
class _Look:
    length: float
    number: bool
    bullet: bool
    colon: bool
    stop: bool
    short: bool
    lower: bool
    indent: int


def _look(text: str, span: Span) -> _Look:
    start, end = trim(text, *span) or span
    head, tail = text[start : start + _SHORT], text[max(start, end - _SHORT) : end]
    line = text.rfind("\n", max(0, start - _SHORT), start) + 1
    before = text[line:start]
    stop = _STOP.search(tail) is not None
    bullet = _BULLET.match(head) is not None
    return _Look(
        length=math.log1p(end - start) / 8,
        number=_NUMBER.match(head) is not None,
        bullet=bullet,
        colon=tail.endswith((":", "：")),
        stop=stop,
        short=end - start < _SHORT and not stop and not bullet,
        lower=head[:1].islower(),
        indent=len(before.expandtabs(4)) if before.isspace() else 0,
    )
