"""A Llama to train: plain torch, saved in the layout that Hugging Face and our engine read.

Source: Llama (arXiv 2302.13971): RMSNorm, rotary positions, SwiGLU, tied embeddings.
Differs: q, k, v and gate, up are one matrix each while training, and are cut apart on export.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

THETA = 1_000_000.0  # slow: half of the channels hardly turn over a thousand tokens
EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a model.

    Attributes:
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the MLP.
        num_layers: Layers.
        num_heads: Query heads; `hidden_size` is a multiple of it.
        num_kv_heads: Key and value heads; divides `num_heads`.
        max_positions: Longest context that the config states.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    max_positions: int = 4096

    @property
    def head_dim(self) -> int:
        """Size of a head."""
        return self.hidden_size // self.num_heads


class Past(NamedTuple):
    """What a layer computed before: `(rows, kv_heads, tokens, head_dim)` each.

    Attributes:
        k: Keys, rotated.
        v: Values.
    """

    k: Tensor
    v: Tensor


class Heads(NamedTuple):
    """What a layer attends with, `(rows, heads, tokens, head_dim)` each.

    Attributes:
        q: Queries, rotated.
        k: Keys, rotated, those computed before in front.
        v: Values, likewise.
        raw: The rows' own keys, not rotated.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    raw: Tensor


Tap = Callable[[Heads], None]
"""Called in each layer."""


class Llama(nn.Module):
    """A decoder over padded rows whose sight is given by a mask.

    Args:
        shape: Its shape.
        vocab_size: Rows of the embedding, which is the head too.
    """

    def __init__(self, shape: Shape, vocab_size: int) -> None:
        super().__init__()
        self.shape, self.vocab_size = shape, vocab_size
        self.words = nn.Embedding(vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.num_layers))
        self.norm = _Norm(shape.hidden_size)
        self._cos: Tensor | None = None
        self._sin: Tensor | None = None

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        *,
        past: Sequence[Past] = (),
        tap: Tap | None = None,
    ) -> Tensor:
        """Hidden states after the last norm: `(rows, tokens, hidden_size)`.

        Args:
            ids: `(rows, tokens)`.
            positions: Of each token, same shape.
            mask: What each token sees, `(rows, 1, tokens, past + tokens)`, True for seen; None:
                all tokens before it, and itself.
            past: What was computed before, for a mask to show; where it is given, of each layer
                that is run, the first ones.
            tap: Called in each layer.
        """
        x = self.words(ids)
        cos, sin = self.rotation(positions, x)
        given: Sequence[Past | None] = past or [None] * len(self.layers)
        for layer, before in zip(self.layers[: len(given)], given, strict=True):
            x = layer(x, cos, sin, mask, before, tap)
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, `(..., vocab_size)`."""
        return F.linear(hidden, self.words.weight)

    def rotation(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, `(rows, 1, tokens, head_dim)`, from a table that is kept."""
        if self._cos is None or self._sin is None or self._cos.device != like.device:
            dim = self.shape.head_dim
            steps = torch.arange(0, dim, 2, device=like.device, dtype=torch.float32) / dim
            places = torch.arange(self.shape.max_positions, device=like.device).float()
            angles = torch.outer(places, 1.0 / THETA**steps)
            angles = torch.cat([angles, angles], dim=-1)
            self._cos, self._sin = angles.cos(), angles.sin()
        is_mixed = torch.is_autocast_enabled(like.device.type)
        dtype = torch.bfloat16 if is_mixed else like.dtype
        return (
            self._cos[positions].unsqueeze(1).to(dtype),
            self._sin[positions].unsqueeze(1).to(dtype),
        )


class _Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, EPS)


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden, self.head = shape.hidden_size, shape.head_dim
        self.counts = [shape.num_heads, shape.num_kv_heads, shape.num_kv_heads]
        self.attention_norm, self.mlp_norm = _Norm(hidden), _Norm(hidden)
        self.qkv = nn.Linear(hidden, sum(self.counts) * self.head, bias=False)
        self.out = nn.Linear(shape.num_heads * self.head, hidden, bias=False)
        self.gate_up = nn.Linear(hidden, 2 * shape.intermediate_size, bias=False)
        self.down = nn.Linear(shape.intermediate_size, hidden, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        past: Past | None,
        tap: Tap | None,
    ) -> Tensor:
        x = x + self._attention(self.attention_norm(x), cos, sin, mask, past, tap)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        added: Tensor = self.down(F.silu(gate) * up)
        return x + added

    def _attention(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        past: Past | None,
        tap: Tap | None,
    ) -> Tensor:
        rows, tokens, _ = x.shape
        heads = self.qkv(x).view(rows, tokens, -1, self.head).transpose(1, 2)
        q, raw, v = heads.split(self.counts, dim=1)  # (rows, heads, tokens, head_dim)
        q, k = rotate(q, cos, sin), rotate(raw, cos, sin)
        if past is not None:
            k, v = torch.cat([past.k, k], 2), torch.cat([past.v, v], 2)
        if tap is not None:
            tap(Heads(q, k, v, raw))
        shared = self.counts[0] // self.counts[1]
        if shared > 1:
            k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        seen = _attend(q, k, v, mask)
        out: Tensor = self.out(seen.transpose(1, 2).reshape(rows, tokens, -1))
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention; with a mask on a CPU written out, where torch's own is half as fast backwards."""
    if mask is None or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    weights: Tensor = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    found: Tensor = weights.to(v.dtype) @ v
    return found


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys turned to their positions."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
