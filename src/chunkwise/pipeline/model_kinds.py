"""What kind of model a folder holds, and whether it can be used here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chunkwise import config
from chunkwise.errors import ModelFormatError
from chunkwise.rag.embedding import embedders
from chunkwise.rag.embedding.folder import POSITION_OFFSETS
from chunkwise.rag.sentences import segmenters


class ModelKind(NamedTuple):
    """A kind of model.

    Attributes:
        name: What it is called.
        setting: How a model of this kind is used: `{}` stands for its name, `{folder}` for where
            it lies.
    """

    name: str
    setting: str


LANGUAGE_MODEL = ModelKind("language model", "--model {}")
READER = ModelKind("reader", "-s reader_model={}")
SEGMENTER = ModelKind("segmenter", '-s segmenter=\'{{"name": "learned", "folder": "{folder}"}}\'')
ENCODER = ModelKind("embedder", '-s embedder=\'{{"name": "encoder", "path": "{folder}"}}\'')


def checked_kind(folder: Path) -> ModelKind:
    """The kind of a folder's model, whose files have been read as far as it takes to trust them.

    Raises:
        ModelFormatError: It is no model's, or one that is damaged or not supported.
        MissingDependencyError: A package that it needs is not installed.
    """
    kind = _kind(folder)
    _CHECKS[kind.name](folder)
    return kind


def _kind(folder: Path) -> ModelKind:
    raw = _config(folder)
    if "reader" in raw:
        return READER
    if raw.get("model_type") == "chunkwise-segmenter":
        return SEGMENTER
    return ENCODER if raw.get("model_type") in POSITION_OFFSETS else LANGUAGE_MODEL


def _config(folder: Path) -> Mapping[str, Any]:
    """`config.json`; nothing where there is none, which the check then says with a remedy."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelFormatError(f"{path} cannot be read: {exc}.") from exc
    if not isinstance(raw, dict):
        raise ModelFormatError(f"{path} is not a model's: it holds no JSON object.")
    return raw


def _check_language_model(folder: Path) -> None:
    config.require_llm()
    from chunkwise.llm.models.base import ModelConfig
    from chunkwise.llm.models.checkpoint import Checkpoint
    from chunkwise.llm.models.tokenizer import Tokenizer

    Tokenizer.from_folder(folder, ModelConfig.from_folder(folder))
    Checkpoint(folder).close()


def _check_reader(folder: Path) -> None:
    config.require_llm()
    from chunkwise.rag.answering.reading import SpanReader
    from chunkwise.rag.embedding.bert import fastest_dtype
    from chunkwise.rag.embedding.folder import read_config

    SpanReader(folder, fastest_dtype(read_config(folder))[0])


def _check_segmenter(folder: Path) -> None:
    segmenters.build({"name": "learned", "folder": str(folder)})


def _check_encoder(folder: Path) -> None:
    embedders.build({"name": "encoder", "path": str(folder)})


_CHECKS: Mapping[str, Callable[[Path], None]] = {
    LANGUAGE_MODEL.name: _check_language_model,
    READER.name: _check_reader,
    SEGMENTER.name: _check_segmenter,
    ENCODER.name: _check_encoder,
}
