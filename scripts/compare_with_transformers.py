"""Does a checkpoint give in our engine what it gives in transformers?

    python scripts/compare_with_transformers.py FOLDER [--dtype float32] [--tokens 48] [--text ...]
    python scripts/compare_with_transformers.py SOURCE --convert FOLDER [--store bfloat16]

The first form loads the folder twice, compares the logits of texts (largest difference, KL
divergence, agreement of the likeliest token) and the tokens that greedy decoding gives, prints a
table and, on its last line, one JSON object. It ends with status 1 if the models disagree.

The second form first writes FOLDER from a checkpoint in another layout and then compares it.
SOURCE is a .gguf file (Llama, Qwen2, Qwen3; F32, F16, BF16, Q4_0, Q4_1, Q8_0; byte-level BPE) or a
folder with pytorch_model.bin, single or in shards. float16 safetensors need no conversion.

Needs transformers (in the `dev` extra). Both sides run on the CPU, ours with the kernels named.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

from chunkwise.errors import ChunkwiseError
from chunkwise.llm.kernels.ops import AttentionPlan, Part, Write, choose
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.convert import convert
from chunkwise.llm.models.llama import Decoder
from chunkwise.llm.models.rotary import rotary_table
from chunkwise.llm.models.tokenizer import Tokenizer

TEXTS = (
    "The capital of France is",
    "Once upon a time, there was a little girl named",
    "def fibonacci(n):\n",
    "Water boils at 100 degrees Celsius at sea level. On a high mountain it boils",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert if asked to, compare, print; 1 if the two disagree."""
    options = _options(arguments)
    folder = options.source
    try:
        if options.convert:
            folder = str(convert(options.source, options.convert, dtype=options.store))
            _say(f"{options.source} -> {folder}")
        rows = compare(folder, options)
    except ChunkwiseError as exc:
        _say(f"error: {exc}")
        return 2
    for row in rows:
        _say(
            f"{row['text']!r:40.40}  prompt {row['prompt_tokens']:4}  "
            f"max |d| {row['max_abs']:.2e} of {row['largest']:.1f}  KL {row['kl']:.2e}  "
            f"same likeliest {row['same_top']:.3f}  greedy {row['greedy_same']}/{row['greedy']}"
        )
        _say(f"    {row['completion']!r}")
    agrees = all(row["max_abs"] <= options.tolerance * row["largest"] for row in rows)
    _say(json.dumps({"folder": folder, "dtype": options.dtype, "agrees": agrees, "texts": rows}))
    return 0 if agrees else 1


@torch.inference_mode()
def compare(folder: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per text."""
    dtype = getattr(torch, options.dtype)
    config = ModelConfig.from_folder(folder)
    kernels = choose(options.kernels, torch.device("cpu"), dtype)
    ours = OneSequence(Decoder.from_folder(folder, kernels, dtype=dtype), options.tokens)
    tokenizer = Tokenizer.from_folder(folder, config)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return [_compare_text(text, ours, theirs, tokenizer, options) for text in options.text]


def _compare_text(
    text: str, ours: OneSequence, theirs: Any, tokenizer: Tokenizer, options: argparse.Namespace
) -> dict[str, Any]:
    ids = tokenizer.encode(text, add_bos=True)
    wanted = theirs(torch.tensor([ids])).logits[0].float()
    found = ours.logits(ids)
    kl = F.kl_div(found.log_softmax(-1), wanted.log_softmax(-1), log_target=True, reduction="none")
    greedy = theirs.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=options.tokens,
        do_sample=False,
        pad_token_id=0,
    )[0, len(ids) :].tolist()
    completion = ours.greedy(ids)
    same = [a == b for a, b in zip(greedy, completion, strict=False)]
    return {
        "text": text,
        "prompt_tokens": len(ids),
        "max_abs": float((found - wanted).abs().max()),
        "largest": float(wanted.abs().max()),
        "kl": float(kl.sum(-1).mean()),
        "same_top": float((found.argmax(-1) == wanted.argmax(-1)).float().mean()),
        "greedy": len(greedy),
        "greedy_same": [*same, False].index(False),
        "completion": tokenizer.decode(completion),
    }


class OneSequence:
    """A decoder with one segment for one sequence at a time: no engine, so only models are judged."""

    def __init__(self, decoder: Decoder, max_new_tokens: int) -> None:
        self.decoder, self.max_new_tokens = decoder, max_new_tokens

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Logits of all tokens: `(len(ids), vocab_size)` float32."""
        self._start(len(ids) + self.max_new_tokens)
        return self._run(ids, 0)

    def greedy(self, ids: Sequence[int]) -> list[int]:
        """The likeliest tokens behind a prompt, up to the end token."""
        row, made = self.logits(ids)[-1], list[int]()
        while True:
            made.append(int(row.argmax()))
            if made[-1] in self.decoder.config.eos_token_ids or len(made) == self.max_new_tokens:
                return made
            row = self._run(made[-1:], len(ids) + len(made) - 1)[-1]

    def _start(self, length: int) -> None:
        config = self.decoder.config
        shape = (config.num_layers, config.num_kv_heads, length, config.head_dim)
        self._kv = [torch.empty(shape, dtype=self.decoder.dtype) for _ in "kv"]
        self._rotary = rotary_table(config.rope, config.head_dim, length)

    def _run(self, ids: Sequence[int], start: int) -> Tensor:
        (k, v), rows = self._kv, torch.arange(len(ids))
        part = Part(k, v, 0, rows, rows + start, rows + start + 1)
        write = Write(k, v, 0, len(ids), start, start)
        plan = AttentionPlan(len(ids), [part], [write])
        return self.decoder.logits(self.decoder.forward(torch.tensor(ids), plan, self._rotary))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_KeepLines)
    parser.add_argument("source", help="a model folder, or with --convert another checkpoint")
    parser.add_argument("--convert", metavar="FOLDER", help="write this folder first")
    parser.add_argument("--store", default="bfloat16", help="how --convert stores numbers")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--kernels", default="reference", help="auto, reference, cpu")
    parser.add_argument("--tokens", type=int, default=48, help="greedy tokens per text")
    parser.add_argument("--text", nargs="+", default=list(TEXTS), help="texts to compare on")
    parser.add_argument(
        "--tolerance", type=float, default=None, help="relative to the largest logit"
    )
    options = parser.parse_args(arguments)
    if options.tolerance is None:
        options.tolerance = 1e-4 if options.dtype == "float32" else 5e-2
    return options


_KeepLines = argparse.RawDescriptionHelpFormatter


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
