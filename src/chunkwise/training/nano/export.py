"""A trained model as a folder in Hugging Face's layout (`LlamaForCausalLM`), and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from chunkwise.errors import TrainingDataError, TrainingError
from chunkwise.training.nano.network import EPS, THETA, Llama, Shape
from chunkwise.training.nano.vocabulary import BEGIN, END, PAD, wrapped, write_tokenizer


def export(
    model: Llama, tokenizer: str, folder: Path, *, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write weights, config and tokenizer.

    Args:
        model: The model.
        tokenizer: Content of tokenizer.json.
        folder: Where to; must be there.
        dtype: Of the stored weights.

    Raises:
        TrainingError: The weights cannot be written.
    """
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in _tensors(model)}
    try:
        save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    except SafetensorError as exc:
        raise TrainingError(f"{folder}: the model cannot be written: {exc}.") from exc
    write_tokenizer(tokenizer, folder)
    ids = {name: wrapped(tokenizer).token_id(token) for name, token in _ENDS.items()}
    _write(folder / "generation_config.json", ids)
    _write(folder / "config.json", {**_config(model, dtype), **ids})


def load(folder: Path) -> Llama:
    """A model that `export` wrote, in float32.

    Raises:
        TrainingDataError: The folder is not one, or a file of it is damaged.
    """
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = Llama(_shape(raw), raw["vocab_size"])
        stored = load_file(str(folder / "model.safetensors"))
        with torch.no_grad():
            for name, own in _tensors(model):
                own.copy_(stored[name])
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        raise TrainingDataError(
            f"{folder} is no model of `chunkwise train nano`: {exc!r}. Name the folder `model` of "
            "a run."
        ) from exc
    return model


def _shape(raw: Mapping[str, Any]) -> Shape:
    """The shape that `_config` wrote."""
    return Shape(
        raw["hidden_size"],
        raw["intermediate_size"],
        raw["num_hidden_layers"],
        raw["num_attention_heads"],
        raw["num_key_value_heads"],
        raw["max_position_embeddings"],
    )


_ENDS = {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD}


def _config(model: Llama, dtype: torch.dtype) -> dict[str, Any]:
    shape = model.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": model.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _tensors(model: Llama) -> Iterator[tuple[str, Tensor]]:
    """Tensors in Hugging Face's names; matrices that were trained as one are cut apart."""
    shape = model.shape
    q, kv = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", model.words.weight
    for number, layer in enumerate(model.layers):
        at = f"model.layers.{number}"
        held = layer.state_dict()
        parts = zip("qkv", held["qkv.weight"].split([q, kv, kv]), strict=True)
        yield from ((f"{at}.self_attn.{name}_proj.weight", part) for name, part in parts)
        gate, up = held["gate_up.weight"].chunk(2)
        yield f"{at}.self_attn.o_proj.weight", held["out.weight"]
        yield f"{at}.mlp.gate_proj.weight", gate
        yield f"{at}.mlp.up_proj.weight", up
        yield f"{at}.mlp.down_proj.weight", held["down.weight"]
        yield f"{at}.input_layernorm.weight", held["attention_norm.weight"]
        yield f"{at}.post_attention_layernorm.weight", held["mlp_norm.weight"]
    yield "model.norm.weight", model.norm.weight


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
