"""What a checkpoint's work takes at least on this machine: operations, bytes, measured rates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

BYTES = {"none": 2.0, "int8": 1.0, "int4": 0.5}  # of a weight, scales not counted


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-like checkpoint, from its config.json."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int

    @staticmethod
    def of(folder: Path) -> Shape:
        config = json.loads((folder / "config.json").read_text())
        heads = config["num_attention_heads"]
        return Shape(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["intermediate_size"],
            heads,
            config.get("num_key_value_heads") or heads,
            config.get("head_dim") or config["hidden_size"] // heads,
            config["vocab_size"],
        )

    def products(self) -> list[tuple[int, int]]:
        """(inner, out) of the matrix products of a layer, those of equal input in one."""
        qkv = (self.heads + 2 * self.kv_heads) * self.head_dim
        return [
            (self.hidden, qkv),
            (self.heads * self.head_dim, self.hidden),
            (self.hidden, 2 * self.intermediate),
            (self.intermediate, self.hidden),
        ]

    def layer_weights(self) -> int:
        return sum(inner * out for inner, out in self.products())

    def prefill_flops(self, tokens: int) -> float:
        """Of one prompt and its first token; attention sees earlier tokens only."""
        dense = 2.0 * self.layers * self.layer_weights() * tokens
        attention = 2.0 * self.layers * self.heads * self.head_dim * tokens * (tokens + 1)
        return dense + attention + 2.0 * self.hidden * self.vocab

    def token_flops(self, context: int) -> float:
        """Of one token written behind `context` tokens."""
        attention = 4.0 * self.layers * self.heads * self.head_dim * context
        return 2.0 * (self.layers * self.layer_weights() + self.hidden * self.vocab) + attention

    def weight_bytes(self, quantize: str) -> float:
        """Read for every step: the layers and the matrix of the logits."""
        return BYTES[quantize] * (self.layers * self.layer_weights() + self.hidden * self.vocab)

    def kv_bytes(self, tokens: int) -> float:
        """KV of that many tokens in bfloat16."""
        return 4.0 * self.layers * self.kv_heads * self.head_dim * tokens


def gemm_rate(shape: Shape, threads: int, rows: int = 2048, repeats: int = 7) -> float:
    """Gflop/s of the layer's matrix products in bfloat16, the fastest of some repeats."""
    torch.set_num_threads(threads)
    seconds = 0.0
    with torch.inference_mode():
        for inner, out in shape.products():
            x = torch.randn(rows, inner).bfloat16()
            weight = torch.randn(out, inner).bfloat16()
            seconds += min(_timed(lambda: F.linear(x, weight)) for _ in range(repeats))  # noqa: B023
    return round(2e-9 * rows * shape.layer_weights() / seconds, 1)


def bandwidth(threads: int, repeats: int = 7) -> float:
    """GB/s at which a sum reads memory that no cache holds, the fastest of some repeats."""
    torch.set_num_threads(threads)
    numbers = torch.ones(2**28)  # 1 GiB
    with torch.inference_mode():
        return round(numbers.nbytes * 1e-9 / min(_timed(numbers.sum) for _ in range(repeats)), 1)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
