"""A reader's network before training: from a BERT encoder's folder, or from an earlier reader."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chunkwise.errors import ModelFormatError
from chunkwise.rag.answering.network import NetworkShape, ReaderNetwork
from chunkwise.rag.answering.reading import load_network, read_config, shape_of
from chunkwise.rag.embedding import folder as folders

_EMBEDDINGS = {
    "words": "word_embeddings",
    "positions": "position_embeddings",
    "types": "token_type_embeddings",
}
_LINEAR = {
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
_HEAD_STD = 0.02


def is_reader(folder: Path) -> bool:
    """Whether the folder holds a trained reader rather than a bare encoder."""
    raw = folders.read_json(folder / "config.json", required=True)
    return isinstance(raw, Mapping) and "reader" in raw


def initial_network(folder: Path, *, dropout: float, seed: int) -> ReaderNetwork:
    """The network that training starts from.

    Args:
        folder: A reader, to train on; or a BERT encoder, whose heads are drawn by `seed`.
        dropout: Of hidden states.
        seed: Of the heads.

    Raises:
        ModelFormatError: Neither, or a tensor is missing.
    """
    if is_reader(folder):
        return load_network(folder, read_config(folder)[0], dropout)
    raw = folders.read_json(folder / "config.json", required=True)
    if raw.get("model_type") != "bert" or folders.read_config(folder).activation != "gelu":
        raise ModelFormatError(
            f"{folder}: a reader starts from a BERT encoder with gelu, got "
            f"{raw.get('model_type')!r} with {raw.get('hidden_act')!r}."
        )
    network = ReaderNetwork(shape_of(raw), dropout)
    tensors = _from_bert(folder / "model.safetensors", network.shape)
    chance = torch.Generator().manual_seed(seed)
    for name, parameter in network.state_dict().items():
        if name.startswith(("span.", "gate.")):
            drawn = torch.randn(parameter.shape, generator=chance) * _HEAD_STD
            tensors[name] = drawn if parameter.ndim > 1 else torch.zeros(parameter.shape)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as exc:
        raise ModelFormatError(f"{folder}: the weights do not fit config.json: {exc}") from exc
    return network


def fingerprint(folder: Path) -> str:
    """Hash of a folder's weights and config."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("config.json", "model.safetensors"):
        try:
            digest.update((folder / name).read_bytes())
        except OSError as exc:
            raise ModelFormatError(f"{folder / name} cannot be read: {exc.strerror}.") from exc
    return digest.hexdigest()


def _from_bert(path: Path, shape: NetworkShape) -> dict[str, Tensor]:
    """A BERT encoder's tensors under our names, in float32."""
    try:
        theirs = {name.removeprefix("bert."): t.float() for name, t in load_file(str(path)).items()}
    except (OSError, SafetensorError) as exc:
        raise ModelFormatError(f"{path} cannot be read: {exc}.") from exc
    try:
        ours = {f"{a}.weight": theirs[f"embeddings.{b}.weight"] for a, b in _EMBEDDINGS.items()}
        for end in ("weight", "bias"):
            ours[f"norm.{end}"] = theirs[f"embeddings.LayerNorm.{end}"]
            for i in range(shape.num_hidden_layers):
                at = f"encoder.layer.{i}"
                parts = [
                    theirs[f"{at}.attention.self.{part}.{end}"]
                    for part in ("query", "key", "value")
                ]
                ours[f"layers.{i}.qkv.{end}"] = torch.cat(parts)
                for mine, name in _LINEAR.items():
                    ours[f"layers.{i}.{mine}.{end}"] = theirs[f"{at}.{name}.{end}"]
    except KeyError as exc:
        raise ModelFormatError(f"{path} has no tensor {exc.args[0]!r}.") from exc
    return ours
