"""Checkpoints in other layouts to folders that the engine loads: GGUF, and `pytorch_model.bin`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chunkwise.errors import ModelFormatError
from chunkwise.llm.models.base import read_json
from chunkwise.llm.models.checkpoint import SINGLE, write_safetensors
from chunkwise.llm.models.gguf import GGUFFile, gguf_tokenizer, hf_names

_BIN, _BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_ARCHITECTURES = {
    "llama": ("LlamaForCausalLM", "llama"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
}


def convert(source: str | Path, folder: str | Path, *, dtype: str = "bfloat16") -> Path:
    """Write a Hugging Face folder with `model.safetensors` and return it.

    Args:
        source: A `.gguf` file, or a folder with `pytorch_model.bin` (or shards and an index).
        folder: Where to write; made if it is not there.
        dtype: How to store: bfloat16, float16 or float32. Floating tensors of another type are
            rounded.

    Raises:
        ModelFormatError: Nothing there that can be converted.
    """
    given, target = Path(source), Path(folder)
    if given.is_file() and given.suffix == ".gguf":
        _convert_gguf(GGUFFile(given), target, dtype)
    elif (given / _BIN).exists() or (given / _BIN_INDEX).exists():
        _convert_bin(given, target, dtype)
    else:
        raise ModelFormatError(
            f"{str(source)!r} is no .gguf file and no folder with {_BIN} or {_BIN_INDEX}."
        )
    return target


def _convert_gguf(file: GGUFFile, folder: Path, dtype: str) -> None:
    config = _gguf_config(file, dtype)
    names = _gguf_names(file, config["num_hidden_layers"])
    shapes = {theirs: file.tensors[ours].shape for ours, theirs in names.items()}
    tensors = (_gguf_tensor(file, ours, config) for ours in names)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / SINGLE, shapes, tensors, getattr(torch, dtype))
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id")}
    _write_json(folder / "generation_config.json", ends)
    gguf_tokenizer(file).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _gguf_tokenizer_settings(file))
    _write_json(folder / "config.json", config)  # last: a folder without it is no checkpoint yet


def _gguf_config(file: GGUFFile, dtype: str) -> dict[str, Any]:
    kind = file.field("general.architecture")
    if kind not in _ARCHITECTURES:
        raise ModelFormatError(
            f"{file.path}: the architecture {kind!r} is not converted, only "
            f"{', '.join(_ARCHITECTURES)}."
        )
    scaling = file.fields.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in file.tensors:
        raise ModelFormatError(
            f"{file.path}: scaled rotary positions ({scaling!r}) are not converted: give the "
            "model as a Hugging Face folder."
        )
    if "token_embd.weight" not in file.tensors:
        raise ModelFormatError(f"{file.path} has no tensor 'token_embd.weight'.")
    architecture, model_type = _ARCHITECTURES[kind]
    fields = {theirs: file.field(f"{kind}.{ours}") for ours, theirs in _FIELDS.items()}
    heads = fields["num_attention_heads"]
    head_dim = file.fields.get(f"{kind}.attention.key_length", fields["hidden_size"] // heads)
    return {
        "architectures": [architecture],
        "model_type": model_type,
        **fields,
        "num_key_value_heads": file.fields.get(f"{kind}.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "rope_theta": file.fields.get(f"{kind}.rope.freq_base", 10_000.0),
        "hidden_act": "silu",
        "attention_bias": kind == "llama" and "blk.0.attn_q.bias" in file.tensors,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": file.fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.fields.get("tokenizer.ggml.eos_token_id"),
        "torch_dtype": dtype,
    }


_FIELDS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}


def _gguf_names(file: GGUFFile, num_layers: int) -> dict[str, str]:
    wanted = {
        f"{ours}.{part}": f"{theirs}.{part}"
        for ours, theirs in hf_names(num_layers)
        for part in ("weight", "bias")
    }
    if unknown := sorted(set(file.tensors) - set(wanted)):
        raise ModelFormatError(f"{file.path}: the tensor {unknown[0]!r} is not known.")
    return {ours: theirs for ours, theirs in wanted.items() if ours in file.tensors}


def _gguf_tensor(file: GGUFFile, name: str, config: Mapping[str, Any]) -> Tensor:
    """llama.cpp turns neighbouring channels for Llama: put them back in halves."""
    tensor = file.read(name)
    part = name.split(".")[-2]
    if config["model_type"] != "llama" or part not in ("attn_q", "attn_k"):
        return tensor
    heads = config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"]
    paired = tensor.view(heads, tensor.shape[0] // heads // 2, 2, *tensor.shape[1:])
    return paired.transpose(1, 2).reshape(tensor.shape)


def _gguf_tokenizer_settings(file: GGUFFile) -> dict[str, Any]:
    tokens = file.field("tokenizer.ggml.tokens")
    names = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
    ids = {said: file.fields.get(f"tokenizer.ggml.{ours}_token_id") for ours, said in names.items()}
    settings: dict[str, Any] = {said: tokens[i] for said, i in ids.items() if i is not None}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["add_bos_token"] = bool(file.fields.get("tokenizer.ggml.add_bos_token", False))
    settings["clean_up_tokenization_spaces"] = False
    if template := file.fields.get("tokenizer.chat_template"):
        settings["chat_template"] = template
    return settings


def _convert_bin(source: Path, folder: Path, dtype: str) -> None:
    config = {**read_json(source / "config.json"), "torch_dtype": dtype}
    loaded: dict[str, Tensor] = {}
    for file in _bin_files(source):
        loaded |= _load_bin(file)
    kept = {n: t for n, t in loaded.items() if not n.endswith("rotary_emb.inv_freq")}
    shapes = {name: tuple(tensor.shape) for name, tensor in kept.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / SINGLE, shapes, iter(kept.values()), getattr(torch, dtype))
    for found in source.iterdir():
        copied = found.suffix in (".json", ".jinja", ".model")
        if copied and found.name not in (_BIN_INDEX, "config.json"):
            shutil.copyfile(found, folder / found.name)
    _write_json(folder / "config.json", config)  # last, as above


def _bin_files(source: Path) -> list[Path]:
    index = source / _BIN_INDEX
    if not index.exists():
        return [source / _BIN]
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(n, str) for n in placed.values()):
        raise ModelFormatError(f"{index}: `weight_map` must name a file for each tensor.")
    return sorted({source / Path(name).name for name in placed.values()})


def _load_bin(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped: nothing is read before it is written."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as exc:  # pickle and torch raise all kinds for a file that is not theirs
        reason = (str(exc) or repr(exc)).partition("\n")[0]
        raise ModelFormatError(f"{file} cannot be read as a PyTorch checkpoint: {reason}") from exc
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ModelFormatError(f"{file} holds something else than tensors by name.")
    return found


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
