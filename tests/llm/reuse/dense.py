"""Selective recompute written out: dense float32 attention over the tensors of a Llama folder.

Independent of the engine: whole matrices, masks by position, keys kept without rotation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

Cache = list[tuple[Tensor, Tensor]]
"""By layer: keys, not rotated, and values: `(kv_heads, tokens, size)`."""


class Prompt(NamedTuple):
    """A prompt of which some runs are chunks: `(first, end)` each."""

    ids: list[int]
    chunks: list[tuple[int, int]]


class Dense:
    """A Llama with the usual rotary angles."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")
        self.num_layers, self.eps = config["num_hidden_layers"], config["rms_norm_eps"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.size = config.get("head_dim") or config["hidden_size"] // self.heads
        self.theta = config["rope_theta"]

    def empty(self, tokens: int) -> Cache:
        full = self.kv_heads, tokens, self.size
        return [(torch.zeros(full), torch.zeros(full)) for _ in range(self.num_layers)]

    def stale(self, prompt: Prompt, anchor: list[int]) -> Cache:
        """What the chunks are behind the anchor; zeros elsewhere."""
        cache = self.empty(len(prompt.ids))
        for first, end in prompt.chunks:
            ids = anchor + prompt.ids[first:end]
            alone = self.empty(len(ids))
            self.compute(ids, alone, list(range(len(ids))))
            for (k, v), (new_k, new_v) in zip(cache, alone, strict=True):
                k[:, first:end], v[:, first:end] = new_k[:, len(anchor) :], new_v[:, len(anchor) :]
        return cache

    def compute(
        self,
        ids: list[int],
        cache: Cache,
        rows: list[int],
        unseen: tuple[int, ...] = (),
        asked: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Compute rows, whose keys and values go into the cache; all others stay. Nobody looks at
        tokens that are `unseen`.

        Returns:
            Logits of the rows, and how much each row attends to each token, summed over heads
            and the `asked` share of the layers: `(rows, tokens)`.
        """
        at, w = torch.tensor(rows), self.weights
        x = w["model.embed_tokens.weight"][torch.tensor(ids)[at]]
        looked = torch.zeros(len(rows), len(ids))
        for layer in range(self.num_layers):
            x, weights = self._layer(layer, x, at, cache[layer], unseen)
            if layer < asked * self.num_layers:
                looked += weights.sum(0)
        head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
        return self._norm(x, w["model.norm.weight"]) @ head.T, looked

    def _layer(
        self,
        layer: int,
        x: Tensor,
        at: Tensor,
        cache: tuple[Tensor, Tensor],
        unseen: tuple[int, ...] = (),
    ) -> tuple[Tensor, Tensor]:
        """Rows behind a layer, and their attention: `(heads, rows, tokens)`."""
        w, name, (keys, values) = self.weights, f"model.layers.{layer}", cache
        y = self._norm(x, w[f"{name}.input_layernorm.weight"])
        q, k, v = (self._heads(y, f"{name}.self_attn.{p}_proj.weight") for p in "qkv")
        keys[:, at], values[:, at] = k, v
        tokens = torch.arange(keys.shape[1])
        seen = tokens <= at[:, None]
        seen[:, list(unseen)] = False
        group = self.heads // self.kv_heads
        turned = self._turn(keys, tokens).repeat_interleave(group, 0)
        scores = self._turn(q, at) @ turned.transpose(1, 2) * self.size**-0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        found = weights @ values.repeat_interleave(group, 0)
        x = x + found.transpose(0, 1).flatten(1) @ w[f"{name}.self_attn.o_proj.weight"].T
        y = self._norm(x, w[f"{name}.post_attention_layernorm.weight"])
        gate, up = (y @ w[f"{name}.mlp.{p}_proj.weight"].T for p in ("gate", "up"))
        return x + (F.silu(gate) * up) @ w[f"{name}.mlp.down_proj.weight"].T, weights

    def answer(self, prompt: Prompt, anchor: list[int], picked: set[int]) -> Tensor:
        """Logits behind the prompt, with these tokens of its chunks computed afresh."""
        reused = {i for first, end in prompt.chunks for i in range(first, end)}
        rows = [i for i in range(len(prompt.ids)) if i not in reused or i in picked]
        return self.compute(prompt.ids, self.stale(prompt, anchor), rows)[0][-1]

    def looks(self, prompt: Prompt, anchor: list[int], cached: int = 0) -> Tensor:
        """How much the question's last 64 tokens attend to each token, over the chunks as they
        are and without what lies between them, in the first two thirds of the layers; also without
        what lies before them behind a cached prefix."""
        reused = {i for first, end in prompt.chunks for i in range(first, end)}
        end = prompt.chunks[-1][1]
        start = cached or prompt.chunks[0][0]
        rows = [*range(start), *range(end, len(prompt.ids))]
        between = tuple(i for i in range(start, end) if i not in reused)
        cache = self.stale(prompt, anchor)
        _, looked = self.compute(prompt.ids, cache, rows, between, asked=2 / 3)
        return looked[start:][-64:].sum(0)

    def alone(self, ids: list[int], anchor: list[int]) -> tuple[Tensor, float, float]:
        """A chunk behind the anchor: weight of each token on the anchor, and mean weight on one
        token of it and on one of the chunk's own, over all pairs, heads and layers."""
        size, n = len(anchor), len(ids)
        _, looked = self.compute(anchor + ids, self.empty(size + n), list(range(size + n)))
        mean = looked[size:] / (self.heads * self.num_layers)
        inside = float(mean[:, size:].tril(-1).sum())
        outside = mean[:, :size].sum(1)
        return outside, float(outside.sum()) / (n * size), inside / n**2

    def filtered(
        self, prompt: Prompt, anchor: list[int], layer: int, shares: list[float], *, of_keys: bool
    ) -> set[int]:
        """Tokens that survive gradual filtering: all are computed up to a layer, and in each layer
        behind it those whose keys or values were furthest off in the one before."""
        tokens = [i for first, end in prompt.chunks for i in range(first, end)]
        text = [i for i in range(len(prompt.ids)) if i not in tokens]
        stale, blended = self.stale(prompt, anchor), self.stale(prompt, anchor)
        at, kept = torch.arange(len(prompt.ids)), tokens
        x = self.weights["model.embed_tokens.weight"][torch.tensor(prompt.ids)]
        for below in range(layer):
            x, _ = self._layer(below, x, at, blended[below])
        for number, share in enumerate(shares, start=layer):
            x, _ = self._layer(number, x, at, blended[number])
            which = 0 if of_keys else 1
            off = (blended[number][which] - stale[number][which]).square().sum((0, 2))
            kept = sorted(kept, key=lambda i: -float(off[i]))[: round(share * len(tokens))]
            going = torch.tensor(sorted(text + kept))
            x, at = x[torch.isin(at, going)], going
        return set(kept)

    def deviates(self, prompt: Prompt, anchor: list[int], layer: int, *, of_keys: bool) -> Tensor:
        """Squared distance of each token's keys or values in a layer to those of a full prefill."""
        full, which = self.empty(len(prompt.ids)), 0 if of_keys else 1
        self.compute(prompt.ids, full, list(range(len(prompt.ids))))
        stale = self.stale(prompt, anchor)[layer][which]
        return (full[layer][which] - stale).square().sum((0, 2))

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)

    def _heads(self, x: Tensor, name: str) -> Tensor:
        return (x @ self.weights[name].T).unflatten(1, (-1, self.size)).transpose(0, 1)

    def _turn(self, x: Tensor, positions: Tensor) -> Tensor:
        angles = positions[:, None] * self.theta ** -(torch.arange(0, self.size, 2) / self.size)
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
        low, high = x.chunk(2, -1)
        return x * cos + torch.cat([-high, low], -1) * sin
