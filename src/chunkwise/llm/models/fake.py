"""Random checkpoints in real shapes, for tests and for speed: `write_fake("llama-3.2-1b", folder)`.

Folders load in transformers unchanged. They hold a byte tokenizer of our own (token `b` is byte
`b`; special tokens follow) unless one is given. What they write is noise.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor

from chunkwise.errors import ConfigError
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.checkpoint import INDEX, SINGLE, write_safetensors
from chunkwise.llm.models.tokenizer import byte_chars
from chunkwise.registry import nearest

Shapes = Mapping[str, tuple[int, ...]]

BEGIN, END = "<|begin|>", "<|end|>"
SPECIAL_TOKENS = (BEGIN, END, "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-5}
_MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "rms_norm_eps": 1e-5}
_QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rms_norm_eps": 1e-6}
_QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "rms_norm_eps": 1e-6}


def _shape(
    family: Mapping[str, Any],
    layers: int,
    hidden: int,
    width: int,
    heads: tuple[int, int],
    vocab: int,
    max_positions: int,
    **more: Any,
) -> dict[str, Any]:
    return {
        **family,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocab,
        "max_position_embeddings": max_positions,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
        **more,
    }


def _tiny(family: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return _shape(family, 2, 64, 96, (4, 2), 320, 512, **more)


def _llama3(factor: float, original: int) -> dict[str, Any]:
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": original,
    }


_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

FAKES: Mapping[str, Mapping[str, Any]] = {
    "llama-3.2-1b": _shape(
        _LLAMA, 16, 2048, 8192, (32, 8), 128256, 131072,
        head_dim=64, rope_theta=500_000.0, rope_scaling=_llama3(32.0, 8192),
    ),
    "llama-190m": _shape(_LLAMA, 12, 1024, 3072, (16, 8), 32000, 16384),
    "qwen2.5-0.5b": _shape(
        _QWEN2, 24, 896, 4864, (14, 2), 151936, 32768,
        rope_theta=1_000_000.0, use_sliding_window=False, sliding_window=32768,
    ),
    "qwen3-0.6b": _shape(
        _QWEN3, 28, 1024, 3072, (16, 8), 151936, 40960, head_dim=128, rope_theta=1_000_000.0
    ),
    "tiny-llama": _tiny(_LLAMA, tie_word_embeddings=False),
    "tiny-llama3": _tiny(_LLAMA, rope_scaling=_llama3(8.0, 64)),
    "tiny-linear": _tiny(_LLAMA, rope_scaling={"rope_type": "linear", "factor": 4.0}),
    "tiny-yarn": _tiny(_LLAMA, rope_scaling=_YARN),
    "tiny-bias": _tiny(_LLAMA, attention_bias=True, mlp_bias=True),
    "tiny-mistral": _tiny(_MISTRAL, sliding_window=24, tie_word_embeddings=False),
    "tiny-qwen2": _tiny(_QWEN2),
    "tiny-qwen2-window": _tiny(
        _QWEN2, use_sliding_window=True, sliding_window=24, max_window_layers=1
    ),
    "tiny-qwen3": _tiny(_QWEN3, head_dim=32),
    "tiny-smollm": _shape(_LLAMA, 2, 48, 96, (3, 1), 320, 512, rope_theta=100_000.0),
}  # fmt: skip
"""Shapes by name: fields of config.json."""


def write_fake(
    like: str,
    folder: str | Path,
    *,
    seed: int = 0,
    layers: int | None = None,
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    tokenizer: str | Path | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> Path:
    """Write a checkpoint of random numbers and return its folder.

    Args:
        like: A name in `FAKES`.
        folder: Where to write; made if it is not there.
        seed: Same seed, same numbers.
        layers: Other than the model's own number of layers.
        dtype: How to store the numbers.
        tokenizer: A tokenizer.json, or a folder with one, to copy instead of the byte tokenizer.
        max_shard_bytes: Files larger than this are split.

    Raises:
        ConfigError: No such model, or a tokenizer that is not there.
    """
    if like not in FAKES:
        raise ConfigError(
            f"There is no fake model {like!r}.{nearest(like, FAKES)} There are: {', '.join(FAKES)}."
        )
    target = Path(folder)
    raw = {**FAKES[like], "hidden_act": "silu", "torch_dtype": dtype}
    raw["num_hidden_layers"] = layers or raw["num_hidden_layers"]
    raw |= _write_tokenizer(target, tokenizer)
    ends = {"bos_token_id": raw["bos_token_id"], "eos_token_id": raw["eos_token_id"]}
    _write_json(target / "generation_config.json", ends)
    config = ModelConfig.from_dict(raw, generation={})
    _write_weights(target, config, torch.Generator().manual_seed(seed), dtype, max_shard_bytes)
    _write_json(target / "config.json", raw)  # last: a folder without it is no checkpoint yet
    return target


def byte_tokenizer() -> Tokenizer:
    """The byte tokenizer: ids 0 to 255 are bytes, then `SPECIAL_TOKENS`."""
    vocabulary = {char: byte for byte, char in enumerate(byte_chars())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return tokenizer


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a checkpoint, in Hugging Face's layout."""
    hidden, width, head = config.hidden_size, config.intermediate_size, config.head_dim
    q, kv = config.num_heads * head, config.num_kv_heads * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for i in range(config.num_layers):
        at = f"model.layers.{i}"
        shapes[f"{at}.input_layernorm.weight"] = (hidden,)
        for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            shapes |= _linear(f"{at}.self_attn.{name}", rows, hidden, bias=config.qkv_bias)
        if config.qk_norm:
            shapes |= {f"{at}.self_attn.{name}_norm.weight": (head,) for name in "qk"}
        shapes |= _linear(f"{at}.self_attn.o_proj", hidden, q, bias=config.o_bias)
        shapes[f"{at}.post_attention_layernorm.weight"] = (hidden,)
        shapes |= _linear(f"{at}.mlp.gate_proj", width, hidden, bias=config.mlp_bias)
        shapes |= _linear(f"{at}.mlp.up_proj", width, hidden, bias=config.mlp_bias)
        shapes |= _linear(f"{at}.mlp.down_proj", hidden, width, bias=config.mlp_bias)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def _linear(name: str, rows: int, columns: int, *, bias: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (rows, columns)}
    return shapes | {f"{name}.bias": (rows,)} if bias else shapes


def _write_weights(
    folder: Path, config: ModelConfig, generator: torch.Generator, dtype: str, max_bytes: int
) -> None:
    kind: torch.dtype = getattr(torch, dtype)
    shards = _shards(tensor_shapes(config), kind.itemsize, max_bytes)
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    names = [SINGLE] if len(shards) == 1 else names
    for name, shapes in zip(names, shards, strict=True):
        made = (_random(key, shape, generator) for key, shape in shapes.items())
        write_safetensors(folder / name, shapes, made, kind)
    if len(shards) > 1:
        placed = {key: name for name, shapes in zip(names, shards, strict=True) for key in shapes}
        sizes = (math.prod(shape) for shapes in shards for shape in shapes.values())
        total = sum(sizes) * kind.itemsize
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": placed})


def _shards(shapes: Shapes, itemsize: int, max_bytes: int) -> list[dict[str, tuple[int, ...]]]:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * itemsize
        if shards[-1] and held + size > max_bytes:
            shards.append({})
            held = 0
        shards[-1][name] = shape
        held += size
    return shards


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Scaled so that activations keep their size and logits have a deviation of about 2."""
    if name.endswith("norm.weight"):
        return 1 + 0.1 * torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return 0.2 * torch.randn(shape, generator=generator)
    gain = 2.0 if "embed_tokens" in name or "lm_head" in name else 1.0
    return torch.randn(shape, generator=generator) * (gain / math.sqrt(shape[1]))


def _write_tokenizer(folder: Path, given: str | Path | None) -> dict[str, Any]:
    """Writes tokenizer files and returns the fields of config.json that depend on them."""
    if given is not None:
        return _copy_tokenizer(Path(given), folder)
    tokenizer = byte_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    _write_json(folder / "tokenizer_config.json", settings)
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    return {"bos_token_id": ids[BEGIN], "eos_token_id": ids[END], "pad_token_id": ids["<|pad|>"]}


def _copy_tokenizer(source: Path, folder: Path) -> dict[str, Any]:
    file = source / "tokenizer.json" if source.is_dir() else source
    if not file.exists():
        raise ConfigError(f"There is no tokenizer {str(file)!r}.")
    settings = file.parent / "tokenizer_config.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
        said = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    except Exception as exc:  # the library raises nothing more exact
        raise ConfigError(f"{str(file)!r} cannot be read as a tokenizer: {exc}") from exc
    folder.mkdir(parents=True, exist_ok=True)
    for found in (file, settings, file.parent / "chat_template.jinja"):
        if found.exists():
            shutil.copyfile(found, folder / ("tokenizer.json" if found == file else found.name))
    ids = {}
    for kind in ("bos", "eos"):
        token = said.get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        ids[f"{kind}_token_id"] = tokenizer.token_to_id(token) if token else None
    return ids


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
