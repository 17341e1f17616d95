"""A learned segmenter's folder: weights, configuration, and no package needed to read them.

`model.safetensors` holds the table of n-grams as int8 with a scale a row, all else as bfloat16;
`config.json` the shape and the heads. `chunkwise train segmenter` makes one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ModelFormatError
from chunkwise.rag._tensors import bfloat16, read_tensors, safetensors_bytes
from chunkwise.rag.sentences.heads import Head, read_head, situations, write_head
from chunkwise.rag.sentences.network import BoundaryNetwork, Floats, NetworkShape
from chunkwise.rag.sentences.tokens import Ints, Tokens, tokenize

MODEL_TYPE: Final = "chunkwise-segmenter"
_FORMAT: Final = 1
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_REMEDY = "`chunkwise train segmenter` makes one."


class Reading(NamedTuple):
    """A text as the network sees it.

    Attributes:
        tokens: Its tokens.
        outputs: The network's outputs for each: `(n, NUM_OUTPUTS)`.
        cells: Each one's situation; see `heads.CELLS`.
    """

    tokens: Tokens
    outputs: Floats
    cells: Ints


@dataclass(frozen=True, slots=True)
class BoundaryModel:
    """What a folder holds.

    Attributes:
        network: Scores tokens.
        heads: From scores to sentence ends, by language; `""` for any other.
        paragraph_offset: Added to the log-odds of a line's end: minus those of its threshold.
        fingerprint: Hash of weights and configuration.
    """

    network: BoundaryNetwork
    heads: Mapping[str, Head]
    paragraph_offset: float
    fingerprint: str

    def head(self, language: str) -> Head:
        """The head for a language, or for any."""
        return self.heads.get(language, self.heads[""])

    def read(self, text: str, ruled: Ints) -> Reading:
        """Outputs of the network for a text.

        Args:
            text: The text.
            ruled: Where its sentences end by rules.
        """
        tokens = tokenize(text, ruled, self.network.shape.buckets)
        cells = situations(tokens, np.isin(tokens.ends, ruled))
        return Reading(tokens, self.network.score(tokens.ids), cells)


def read_model(folder: Path) -> BoundaryModel:
    """The model of a folder.

    Raises:
        ModelFormatError: A file is missing, damaged, or of another kind of model.
    """
    config, raw_config = _read_config(folder)
    tensors, raw_weights = _read_tensors(folder / _WEIGHTS)
    digest = hashlib.blake2b(raw_config + raw_weights, digest_size=8).hexdigest()
    try:
        shape = NetworkShape(**{**config["shape"], **_distances(config["shape"])})
        heads = {name: read_head(head) for name, head in config["heads"].items()}
        offset = float(config["paragraph_offset"])
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ModelFormatError(f"{folder / _CONFIG} is damaged: {exc!r}. {_REMEDY}") from exc
    if "" not in heads:
        raise ModelFormatError(f"{folder / _CONFIG} has no head for any language. {_REMEDY}")
    return BoundaryModel(BoundaryNetwork(shape, tensors), heads, offset, digest)


def write_model(
    folder: Path,
    shape: NetworkShape,
    tensors: Mapping[str, Floats],
    heads: Mapping[str, Head],
    paragraph_offset: float = 0.0,
) -> None:
    """Write weights and configuration into a folder that is there.

    Args:
        folder: Where to.
        shape: Of the network.
        tensors: Its weights; see `network.expected`.
        heads: By language, one for `""`.
        paragraph_offset: See `BoundaryModel`.

    Raises:
        OSError: They cannot be written.
    """
    (folder / _WEIGHTS).write_bytes(_safetensors(tensors))
    write_config(folder, shape, heads, paragraph_offset)


def write_config(
    folder: Path, shape: NetworkShape, heads: Mapping[str, Head], paragraph_offset: float
) -> None:
    """Write the configuration alone: other heads over the same weights."""
    config = {
        "model_type": MODEL_TYPE,
        "format": _FORMAT,
        "shape": dataclasses.asdict(shape),
        "paragraph_offset": round(paragraph_offset, 5),
        "heads": {name: write_head(head) for name, head in heads.items()},
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _read_config(folder: Path) -> tuple[dict[str, Any], bytes]:
    path = folder / _CONFIG
    try:
        raw = path.read_bytes()
        config = json.loads(raw)
        found = (config["model_type"], config["format"])
    except OSError as exc:
        raise ModelFormatError(
            f"{str(folder)!r} is no segmenter: no {_CONFIG} ({exc.strerror}). {_REMEDY}"
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelFormatError(f"{path} is not a segmenter's: {exc!r}. {_REMEDY}") from exc
    if found != (MODEL_TYPE, _FORMAT):
        raise ModelFormatError(
            f"{path} is of type and format {found!r}, not {(MODEL_TYPE, _FORMAT)!r}. {_REMEDY}"
        )
    return config, raw


def _distances(raw: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(value) for value in raw[name]) for name in ("before", "behind")}


def _read_tensors(path: Path) -> tuple[dict[str, Floats], bytes]:
    try:
        tensors, raw = read_tensors(path)
        scale = tensors.pop("table_scale")
        tensors["table"] *= scale[:, None]
    except OSError as exc:
        raise ModelFormatError(f"{path} cannot be read: {exc.strerror}. {_REMEDY}") from exc
    except (ValueError, KeyError) as exc:
        raise ModelFormatError(f"{path} is damaged, or not a segmenter's: {exc!r}.") from exc
    return tensors, raw


def _safetensors(tensors: Mapping[str, Floats]) -> bytes:
    table = np.ascontiguousarray(tensors["table"], np.float32)
    scale = np.maximum(np.abs(table).max(axis=1), 1e-8) / 127
    parts: dict[str, NDArray[Any]] = {
        "table": np.rint(table / scale[:, None]).astype(np.int8),
        "table_scale": scale.astype("<f4"),
    }
    parts |= {name: bfloat16(each) for name, each in tensors.items() if name != "table"}
    return safetensors_bytes(parts)
