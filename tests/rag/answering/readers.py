"""Small random encoders and readers in folders, for tests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import tokenizers
import torch
from safetensors.torch import save_file

from chunkwise.rag.answering.network import NetworkShape, ReaderNetwork
from chunkwise.rag.answering.reading import ReadingOptions, SpanReader

_LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [str(d) for d in range(10)]
_WORDS = ["the", "a", "of", "is", "in", "what", "who", "costs", "cost", "coins", "lives", "near"]
_WORDS += ["how", "many", "green", "red", "blue", "old"]
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*_SPECIAL, *_WORDS, *_LETTERS, *(f"##{x}" for x in _LETTERS), ".", ",", "?", "é"]
SHAPE = NetworkShape(len(VOCABULARY), 32, 2, 4, 64, 96)
OPTIONS = ReadingOptions(question_tokens=16, window_tokens=40, stride_tokens=20, answer_tokens=8)


def write_tokenizer(folder: Path) -> None:
    """BERT's tokenizer with a small vocabulary: letters, digits and a few words."""
    ids = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = tokenizers.BertWordPieceTokenizer(ids, lowercase=True)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_encoder(folder: Path, seed: int = 0) -> Path:
    """A BERT encoder with random weights under Hugging Face's names."""
    write_tokenizer(folder)
    chance = torch.Generator().manual_seed(seed)
    hidden, inner = SHAPE.hidden_size, SHAPE.intermediate_size

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance) * 0.1

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": 1 + drawn(hidden), f"{name}.bias": drawn(hidden)}

    def linear(name: str, out: int, into: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": drawn(out, into), f"{name}.bias": drawn(out)}

    tensors = norm("embeddings.LayerNorm")
    tensors["embeddings.word_embeddings.weight"] = drawn(SHAPE.vocab_size, hidden) * 5
    tensors["embeddings.position_embeddings.weight"] = drawn(SHAPE.max_position_embeddings, hidden)
    tensors["embeddings.token_type_embeddings.weight"] = drawn(2, hidden)
    for i in range(SHAPE.num_hidden_layers):
        at = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            tensors |= linear(f"{at}.attention.self.{part}", hidden, hidden)
        tensors |= linear(f"{at}.attention.output.dense", hidden, hidden)
        tensors |= norm(f"{at}.attention.output.LayerNorm")
        tensors |= linear(f"{at}.intermediate.dense", inner, hidden)
        tensors |= linear(f"{at}.output.dense", hidden, inner)
        tensors |= norm(f"{at}.output.LayerNorm")
    save_file(tensors, folder / "model.safetensors")
    raw = {"model_type": "bert", "hidden_act": "gelu", **dataclasses.asdict(SHAPE)}
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def write_reader(folder: Path, seed: int = 0) -> Path:
    """A reader with random weights: it answers nonsense, verbatim."""
    write_tokenizer(folder)
    torch.manual_seed(seed)
    network = ReaderNetwork(SHAPE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    save_file(network.state_dict(), folder / "model.safetensors")
    raw = {"model_type": "bert", "hidden_act": "gelu", **dataclasses.asdict(SHAPE)}
    raw["reader"] = dataclasses.asdict(OPTIONS)
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def make_reader(folder: Path, seed: int = 0) -> SpanReader:
    return SpanReader(write_reader(folder, seed), torch.float32)
