"""What a checkpoint is: `ModelConfig` from a Hugging Face folder, or a refusal that says why.

A family of models is a row of `FAMILIES`: architecture names that differ only in biases, norms
and windows share one decoder (`llama.py`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from chunkwise.errors import ModelFormatError
from chunkwise.registry import nearest

RopeType = Literal["default", "linear", "llama3", "yarn"]
ROPE_TYPES: tuple[RopeType, ...] = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class Family:
    """How an architecture differs from Llama. A text names the field of config.json that says it.

    Attributes:
        qkv_bias: Whether the projections to q, k and v have a bias.
        o_bias: Whether the projection from the heads has one.
        mlp_bias: Whether the matrices of the MLP have one.
        qk_norm: Whether q and k are normalised, head by head, before the rotation.
        window: Which layers have a sliding window: `none`; `all`, if the config has one; `some`,
            if `use_sliding_window` is true.
        num_kv_heads: What a config without `num_key_value_heads` means; 0: as many as heads.
        head_dim: What a config without `head_dim` means; 0: `hidden_size / num_heads`.
    """

    qkv_bias: bool | str = False
    o_bias: bool | str = False
    mlp_bias: bool | str = False
    qk_norm: bool = False
    window: Literal["none", "all", "some"] = "none"
    num_kv_heads: int = 0
    head_dim: int = 0


FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family("attention_bias", "attention_bias", "mlp_bias"),
    "MistralForCausalLM": Family(window="all", num_kv_heads=8),
    "Qwen2ForCausalLM": Family(qkv_bias=True, window="some", num_kv_heads=32),
    "Qwen3ForCausalLM": Family(
        "attention_bias",
        "attention_bias",
        qk_norm=True,
        window="some",
        num_kv_heads=32,
        head_dim=128,
    ),
}
"""Hugging Face architecture names that the decoder runs."""

_MODEL_TYPES = {name.removesuffix("ForCausalLM").lower(): name for name in FAMILIES}
_MISTRAL_WINDOW = 4096  # what transformers assumes where a Mistral config names none
_THETA = 10_000.0  # likewise, of all families


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary positions, in the names of transformers' `rope_parameters`.

    Attributes:
        type: How the frequencies are scaled.
        theta: Base of the frequencies.
        factor: By how much the context was stretched.
        original_max_positions: Context before it was stretched.
        low_freq_factor: llama3: below, all is stretched.
        high_freq_factor: llama3: above, nothing is.
        attention_factor: yarn: factor on cosine and sine; None: from `factor` and the mscales.
        beta_fast: yarn: turns in the original context above which nothing is stretched.
        beta_slow: yarn: turns below which all is.
        mscale: yarn: see `attention_factor`.
        mscale_all_dim: yarn: see `attention_factor`.
        truncate: yarn: whether the range between the betas is rounded to whole channels.
    """

    type: RopeType = "default"
    theta: float = _THETA
    factor: float = 1.0
    original_max_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder.

    Attributes:
        architecture: Its name in `FAMILIES`.
        vocab_size: Rows of the embedding.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the MLP.
        num_layers: Layers.
        num_heads: Query heads.
        num_kv_heads: Key and value heads; divides `num_heads`.
        head_dim: Size of a head, even.
        rms_norm_eps: Added to the mean square.
        max_position_embeddings: Longest context in tokens that the config states.
        tie_embeddings: Whether the head is the embedding.
        qkv_bias: See `Family`.
        o_bias: See `Family`.
        mlp_bias: See `Family`.
        qk_norm: See `Family`.
        rope: Rotary positions.
        windows: Sliding window of each layer in tokens, itself included; 0: none.
        eos_token_ids: Tokens that end a completion; generation_config.json's first.
        bos_token_id: Token that begins a text, or None.
        dtype: How the weights are said to be stored: `bfloat16`, `float16` or `float32`.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    max_position_embeddings: int
    tie_embeddings: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool
    rope: RopeConfig
    windows: tuple[int, ...]
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    dtype: str

    @property
    def max_context(self) -> int:
        """Longest context in tokens: YaRN configs may still state the length before it."""
        if self.rope.type != "yarn":
            return self.max_position_embeddings
        stretched = int(self.rope.original_max_positions * self.rope.factor)
        return max(self.max_position_embeddings, stretched)

    @classmethod
    def from_folder(cls, path: str | Path) -> ModelConfig:
        """The config of a Hugging Face folder.

        Raises:
            ModelFormatError: No such folder or file, or something in it that is not supported.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise ModelFormatError(_no_folder(folder))
        if not (file := folder / "config.json").exists():
            raise ModelFormatError(f"{_missing(file)}{other_formats(folder)}")
        generation = folder / "generation_config.json"
        return cls.from_dict(
            read_json(file),
            generation=read_json(generation) if generation.exists() else {},
            where=str(file),
        )

    @classmethod
    def from_dict(
        cls, raw: Mapping[str, Any], *, generation: Mapping[str, Any], where: str = "config.json"
    ) -> ModelConfig:
        """The config that the fields of config.json and generation_config.json say.

        Raises:
            ModelFormatError: See `from_folder`.
        """
        fields = _Fields(raw, where)
        architecture = _architecture(fields)
        family = FAMILIES[architecture]
        _refuse(fields)
        heads, hidden = fields.count("num_attention_heads"), fields.count("hidden_size")
        kv_heads = fields.count("num_key_value_heads", family.num_kv_heads or heads)
        head_dim = fields.count("head_dim", family.head_dim or hidden // heads)
        if heads % kv_heads or head_dim % 2:
            raise fields.error(
                "num_key_value_heads", "must divide num_attention_heads, and head_dim must be even"
            )
        layers, max_positions = fields.count("num_hidden_layers"), fields.count(_MAX_POSITIONS)
        return cls(
            architecture=architecture,
            vocab_size=fields.count("vocab_size"),
            hidden_size=hidden,
            intermediate_size=fields.count("intermediate_size"),
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
            max_position_embeddings=max_positions,
            tie_embeddings=fields.flag("tie_word_embeddings"),
            qkv_bias=fields.flag(family.qkv_bias),
            o_bias=fields.flag(family.o_bias),
            mlp_bias=fields.flag(family.mlp_bias),
            qk_norm=family.qk_norm,
            rope=_rope(fields, max_positions),
            windows=_windows(fields, family, layers),
            eos_token_ids=_token_ids(generation.get("eos_token_id"), raw.get("eos_token_id")),
            bos_token_id=next(iter(_token_ids(raw.get("bos_token_id"))), None),
            dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32").removeprefix(
                "torch."
            ),
        )


def other_formats(folder: Path) -> str:
    """A sentence on checkpoints of other formats in a folder, and how to use them; or nothing."""
    kinds = ("*.gguf", "pytorch_model*.bin")
    found = sorted(p for kind in kinds for p in folder.glob(kind))
    if not found:
        return ""
    source = found[0] if found[0].suffix == ".gguf" else folder
    return f" It has {', '.join(p.name for p in found[:3])}: {_convert(source)}"


def _missing(file: Path) -> str:
    return f"{file} is missing: a model folder in Hugging Face's layout is needed."


def _no_folder(path: Path) -> str:
    if not path.exists():
        return f"There is no model folder {str(path)!r}."
    if path.suffix == ".gguf":
        return f"{str(path)!r} is a GGUF file, a model is a folder: {_convert(path)}"
    return f"{str(path)!r} is a file, a model is a folder in Hugging Face's layout."


def _convert(source: Path) -> str:
    return f"`chunkwise models convert {shlex.quote(str(source))} NEW_FOLDER` makes one of it."


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder.

    Raises:
        ModelFormatError: No such file, or it holds no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFormatError(_missing(path)) from None
    except (OSError, ValueError) as exc:
        raise ModelFormatError(f"{path} cannot be read as JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise ModelFormatError(f"{path} must hold a JSON object, got {type(found).__name__}.")
    return found


_MAX_POSITIONS = "max_position_embeddings"


@dataclass(frozen=True, slots=True)
class _Fields:
    """Fields of config.json, each checked as it is read; null means that it is not there."""

    raw: Mapping[str, Any]
    where: str

    def error(self, name: str, allowed: str) -> ModelFormatError:
        return ModelFormatError(f"{self.where}: `{name}` {allowed}, got {self.raw.get(name)!r}.")

    def count(self, name: str, default: int = 0) -> int:
        value = self.raw.get(name)
        value = default if value is None else value
        if type(value) is not int or value < 1:
            raise self.error(name, "must be a whole number from 1")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.raw.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.error(name, "must be a number above 0")
        return float(value)

    def flag(self, name: bool | str) -> bool:
        if isinstance(name, bool):
            return name
        value = self.raw.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.error(name, "must be true or false")
        return bool(value)


def _architecture(fields: _Fields) -> str:
    names = fields.raw.get("architectures") or [_MODEL_TYPES.get(fields.raw.get("model_type", ""))]
    name = str(names[0])
    if name in FAMILIES:
        return name
    why = "; SmolLM3 has layers without rotary positions" if name.startswith("SmolLM3") else ""
    raise ModelFormatError(
        f"{fields.where}: the architecture {name!r} is not supported{why}."
        f"{nearest(name, FAMILIES)} Supported: {', '.join(FAMILIES)}."
    )


_REFUSED = {
    "quantization_config": "quantised checkpoints are not read: give one in bf16 and `quantize` it",
    "num_experts": "mixtures of experts are not supported",
    "num_local_experts": "mixtures of experts are not supported",
    "attention_sinks": "attention sinks are not supported",
    "attn_logit_softcapping": "capped scores are not supported",
}


def _refuse(fields: _Fields) -> None:
    for name, why in _REFUSED.items():
        if fields.raw.get(name):
            raise fields.error(name, f"must not be set: {why}")
    if fields.raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise fields.error("hidden_act", "must be 'silu'")


def _rope(fields: _Fields, max_positions: int) -> RopeConfig:
    """From `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
    name = "rope_parameters" if fields.raw.get("rope_parameters") else "rope_scaling"
    scaling = fields.raw.get(name) or {}
    if not isinstance(scaling, dict) or any(isinstance(value, dict) for value in scaling.values()):
        raise fields.error(name, "must be one object for all layers")
    given = {k: v for k, v in scaling.items() if v is not None}
    inner = _Fields(
        {"rope_theta": fields.raw.get("rope_theta"), **given}, f"{fields.where}: `{name}`"
    )
    _check_rotary_share(fields, inner)
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise ModelFormatError(
            f"{fields.where}: the rotary type {kind!r} is not supported. Supported: "
            f"{', '.join(ROPE_TYPES)}, whose frequencies do not change with the length."
        )
    theta = inner.number("rope_theta", _THETA)
    if kind == "default":
        return RopeConfig(theta=theta)
    outer = fields.raw.get("original_max_position_embeddings")
    numbers = [n for n in _YARN_NUMBERS if kind == "yarn" and given.get(n)]
    numbers += ["low_freq_factor", "high_freq_factor"] if kind == "llama3" else []
    return RopeConfig(
        type=cast(RopeType, kind),
        theta=theta,
        factor=inner.number("factor"),
        original_max_positions=outer
        or inner.count("original_max_position_embeddings", max_positions),
        truncate=bool(given.get("truncate", True)),
        **{n: inner.number(n) for n in numbers},
    )


_YARN_NUMBERS = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor")


def _check_rotary_share(*places: _Fields) -> None:
    for fields in places:
        if fields.raw.get("partial_rotary_factor") not in (None, 1):
            raise fields.error("partial_rotary_factor", "must be 1 (all channels are rotated)")


def _windows(fields: _Fields, family: Family, layers: int) -> tuple[int, ...]:
    if family.window == "none":
        return (0,) * layers
    if family.window == "all":
        raw = fields.raw
        unset = "sliding_window" in raw and raw["sliding_window"] is None
        return (0 if unset else fields.count("sliding_window", _MISTRAL_WINDOW),) * layers
    if not fields.flag("use_sliding_window") or fields.raw.get("sliding_window") is None:
        return (0,) * layers
    window, kinds = fields.count("sliding_window"), fields.raw.get("layer_types")
    if kinds is None:
        given = fields.raw.get("max_window_layers")
        first = given if given == 0 else fields.count("max_window_layers", 28)
        return tuple(window if i >= first else 0 for i in range(layers))
    known = {"full_attention": 0, "sliding_attention": window}
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= set(known):
        raise fields.error("layer_types", f"must hold {layers} of {', '.join(known)}")
    return tuple(known[kind] for kind in kinds)


def _token_ids(*values: int | list[int] | None) -> tuple[int, ...]:
    flat = [i for v in values if v is not None for i in (v if isinstance(v, list) else [v])]
    return tuple(dict.fromkeys(flat))
