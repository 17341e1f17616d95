"""Small random encoder folders, saved by `transformers`, for tests against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

WORDS = ["the", "a", "of", "and", "to", "in", "is", "it", "that", "for", "on", "with", "as", "was"]
WORDS += ["at", "by", "an", "be", "this", "from"]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]  # padding is 1, as in RoBERTa
VOCABULARY = [*SPECIAL, *WORDS, *LETTERS, *(f"##{x}" for x in LETTERS), ".", ",", "?", ":"]
SHAPE = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "pad_token_id": 1,
}
DISTIL = {
    "vocab_size": len(VOCABULARY),
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 48,
}


def build(model_type: str) -> Any:
    """A random model of the architecture, its biases and norms random too."""
    torch.manual_seed(0)
    classes = {
        "bert": lambda: transformers.BertModel(transformers.BertConfig(**SHAPE)),
        "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**SHAPE)),
        "xlm-roberta": lambda: transformers.XLMRobertaModel(
            transformers.XLMRobertaConfig(**{**SHAPE, "type_vocab_size": 1})
        ),
        "distilbert": lambda: transformers.DistilBertModel(transformers.DistilBertConfig(**DISTIL)),
    }
    model = classes[model_type]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def save(folder: Path, model: Any, **sentence_bert: Any) -> Path:
    """Write the model and a WordPiece tokenizer as a Hugging Face folder."""
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    tokenizer = tokenizers.BertWordPieceTokenizer(
        {word: i for i, word in enumerate(VOCABULARY)}, lowercase=True
    )
    tokenizer.enable_truncation(8)  # as published folders have it; must not be kept
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "sentence_bert_config.json").write_text(json.dumps(sentence_bert))
    return folder


def write(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
