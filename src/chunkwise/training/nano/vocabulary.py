"""The tokenizer: byte-level BPE of the training text, and the chat template that goes with it.

The frame of a passage (`<passage 3>` with its label) is one token and its end another, and the
system text of our prompts is one: a prompt of eight passages has some fifty tokens beside their
texts. None of them is a control token: a document that holds such a text gets the same tokens as
ours, and cannot begin or end a turn. (What keeps documents from forging frames is `prompting`.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers

from chunkwise.llm.models.tokenizer import Tokenizer
from chunkwise.prompting import answer_prompt, passage_segments, text_hit
from chunkwise.training.nano.questions import Context

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
CONTROL = (BEGIN, END, PAD, "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Answers begin with a space, as the words that they repeat do in the passages."""

SYSTEM = answer_prompt("", []).segments[0].text
"""The system text of our prompts."""

_PATTERN = "|".join(
    (
        r"<passage \d+>\n\[\d+\]",
        r"\n</passage \d+>\n\n",
        r" ?NOT_FOUND",
        r"Question:",
        r"'(?:s|d|m|t|ll|ve|re)\b",
        r" ?\p{L}+",
        r" ?\p{N}{1,2}",
        r"\s*\n+",
        r" ?[^\s\p{L}\p{N}]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


def train_tokenizer(texts: Iterable[str], size: int) -> tokenizers.Tokenizer:
    """A tokenizer of `size` tokens in all, control tokens first."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(SYSTEM, normalized=False, special=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return tokenizer


def write_tokenizer(text: str, folder: Path) -> None:
    """The tokenizer's files in Hugging Face's layout.

    Args:
        text: Content of tokenizer.json.
        folder: Where to; must be there.
    """
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    written = json.dumps(settings, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(written, encoding="utf-8")


def wrapped(text: str) -> Tokenizer:
    """The content of tokenizer.json as the engine's tokenizer, its wall checked."""
    return Tokenizer(text, {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD})


def as_text(context: Context, documents: Sequence[str]) -> str:
    """A context as its prompts write it, for counting."""
    parts = []
    for number, (text, document) in enumerate(
        zip(context.passages, documents, strict=True), start=1
    ):
        parts += [segment.text for segment in passage_segments(number, text_hit(text, document))]
    parts += [f"Question: {q.text} {q.answer}\n" for q in context.questions]
    return "".join(parts)
