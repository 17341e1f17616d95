"""The reader's network: a BERT encoder over packed windows, with a span head and two verdicts.

Source: Zhang et al., Retrospective Reader for Machine Reading Comprehension (arXiv 2001.09694):
    a sketchy verdict from `[CLS]`, an intensive one from the spans, both weighed in the end.
Differs: one encoder for both; the intensive verdict compares spans of all passages with one "no
    answer" whose logit is 0, and `[CLS]` lifts or lowers all spans of its window (the gate), so
    that windows can be computed apart.
Exact when: always: a window's scores do not depend on what it is packed with (float32).
Cost: linear layers see no padding; attention is one call a run of windows of equal length, on
    CUDA one call in all, over padded windows.

Shared by the reader and its training. Parameters are float32 or bfloat16; the heads compute in
float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chunkwise.errors import MissingDependencyError

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as exc:
    raise MissingDependencyError('The reader needs torch: `pip install "chunkwise[llm]"`.') from exc


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The shape of the encoder, as in BERT's `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12


class Packed(NamedTuple):
    """Windows one behind the other, shortest first.

    Attributes:
        ids: Token ids `(total_tokens,)`.
        positions: Place of each in its window.
        types: 0 for `[CLS] question [SEP]`, 1 for the rest.
        runs: (length, number) of windows of equal length, in order.
        order: For each place in the pack, the window's index among those given.
    """

    ids: Tensor
    positions: Tensor
    types: Tensor
    runs: list[tuple[int, int]]
    order: list[int]


class Verdicts(NamedTuple):
    """Scores of a run of windows of equal length.

    Attributes:
        spans: Log-odds of each token as first and as last: `(n, length, 2)` float32.
        answers: Log-odds that a window answers: `(n,)` float32.
    """

    spans: Tensor
    answers: Tensor


def pack(windows: Sequence[Sequence[int]], heads: Sequence[int], device: torch.device) -> Packed:
    """Windows as one row of tokens.

    Args:
        windows: Token ids of each, none empty.
        heads: Tokens of type 0 at each one's start.
        device: Where to.
    """
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    lengths = [len(windows[i]) for i in order]
    ids = torch.tensor(list(itertools.chain.from_iterable(windows[i] for i in order)))
    positions = torch.cat([torch.arange(n) for n in lengths])
    first = torch.repeat_interleave(torch.tensor([heads[i] for i in order]), torch.tensor(lengths))
    types = (positions >= first).long()
    runs = [(length, len(list(run))) for length, run in itertools.groupby(lengths)]
    return Packed(ids.to(device), positions.to(device), types.to(device), runs, order)


class ReaderNetwork(nn.Module):
    """Encoder and heads.

    Args:
        shape: Of the encoder.
        dropout: Of hidden states, in training only.
    """

    def __init__(self, shape: NetworkShape, dropout: float = 0.0) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.shape, self.dropout = shape, dropout
        self.words = nn.Embedding(shape.vocab_size, hidden)
        self.positions = nn.Embedding(shape.max_position_embeddings, hidden)
        self.types = nn.Embedding(shape.type_vocab_size, hidden)
        self.norm = nn.LayerNorm(hidden, eps=shape.layer_norm_eps)
        self.layers = nn.ModuleList(_Layer(shape, dropout) for _ in range(shape.num_hidden_layers))
        self.span = nn.Linear(hidden, 2)
        self.gate = nn.Linear(hidden, 3)  # lift of starts, lift of ends, answer

    def forward(self, packed: Packed) -> list[Verdicts]:
        """Scores of each run, in the order of `packed.runs`."""
        x = self.words(packed.ids) + self.positions(packed.positions) + self.types(packed.types)
        x = F.dropout(self.norm(x), self.dropout, self.training)  # (total_tokens, hidden)
        grid = padded_grid(packed.runs, x.device) if x.is_cuda else None
        for layer in self.layers:
            x = layer(x, packed.runs, grid)
        sizes = [length * n for length, n in packed.runs]
        with torch.autocast(x.device.type, enabled=False):
            spans = _float_linear(self.span, x.float())
            return [
                self._verdicts(states.view(n, length, -1), spans.view(n, length, 2))
                for states, spans, (length, n) in zip(
                    torch.split(x, sizes), torch.split(spans, sizes), packed.runs, strict=True
                )
            ]

    def _verdicts(self, states: Tensor, spans: Tensor) -> Verdicts:
        lifts = _float_linear(self.gate, states[:, 0].float())  # (n, 3)
        return Verdicts(spans + lifts[:, None, :2], lifts[:, 2])


class _Layer(nn.Module):
    def __init__(self, shape: NetworkShape, dropout: float) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.heads, self.dropout = shape.num_attention_heads, dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=shape.layer_norm_eps)
        self.up = nn.Linear(hidden, shape.intermediate_size)
        self.down = nn.Linear(shape.intermediate_size, hidden)
        self.norm = nn.LayerNorm(hidden, eps=shape.layer_norm_eps)

    def forward(self, x: Tensor, runs: list[tuple[int, int]], grid: Grid | None) -> Tensor:
        qkv = self.qkv(x)
        inner = self._attend(qkv, runs) if grid is None else attend_padded(qkv, grid, self.heads)
        attended = self.out(inner)
        x = self.attention_norm(x + F.dropout(attended, self.dropout, self.training))
        fed: Tensor = self.down(F.gelu(self.up(x)))
        return self.norm(x + F.dropout(fed, self.dropout, self.training))  # type: ignore[no-any-return]

    def _attend(self, qkv: Tensor, runs: list[tuple[int, int]]) -> Tensor:
        """Attention of every window to itself: `(total_tokens, 3 * hidden)` to `(…, hidden)`."""
        parts = []
        sizes = [length * n for length, n in runs]
        for part, (length, n) in zip(torch.split(qkv, sizes), runs, strict=True):
            q, k, v = part.view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            attended = _attention(q, k, v)  # (n, heads, length, head_dim)
            parts.append(attended.transpose(1, 2).reshape(n * length, -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class Grid(NamedTuple):
    """Windows of a pack as rows of one table, padded to the longest.

    Attributes:
        shape: Windows, tokens of the longest.
        places: Where each token of the pack stands in the table `(total_tokens,)`.
        is_there: Which places hold a token: `(windows, 1, 1, longest)`.
    """

    shape: tuple[int, int]
    places: Tensor
    is_there: Tensor


def padded_grid(runs: Sequence[tuple[int, int]], device: torch.device) -> Grid:
    """The table of a pack's windows."""
    lengths = torch.tensor([length for length, n in runs for _ in range(n)], device=device)
    shape = len(lengths), runs[-1][0]
    is_there = torch.arange(shape[1], device=device) < lengths[:, None]
    return Grid(shape, is_there.flatten().nonzero().squeeze(1), is_there[:, None, None])


def attend_padded(qkv: Tensor, grid: Grid, heads: int) -> Tensor:
    """Attention of every window to itself: `(total_tokens, 3 * hidden)` to `(…, hidden)`."""
    table = qkv.new_zeros(grid.shape[0] * grid.shape[1], qkv.shape[1])
    table = table.index_copy(0, grid.places, qkv)
    q, k, v = table.view(*grid.shape, 3, heads, -1).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=grid.is_there)
    rows = attended.transpose(1, 2).flatten(0, 1).flatten(1)
    return rows.index_select(0, grid.places)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention without a mask.

    With gradients in bfloat16 on a processor in plain products: torch's fused backward takes two
    to six times as long there at the lengths of windows.
    """
    if q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu":
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        return weights.to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


def stored_tensors(network: ReaderNetwork) -> dict[str, Tensor]:
    """What a file keeps, a byte a weight: the matrices of the encoder as whole numbers of 8 bits
    with one scale a row (`NAME.scale` beside `NAME.weight`); the rest in bfloat16, heads in
    float32."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        is_head = name.startswith(("span.", "gate."))
        if tensor.ndim == 2 and not is_head:
            tensors[name], tensors[_scale_of(name)] = _rounded(tensor.detach().float().cpu())
            continue
        dtype = torch.float32 if is_head else torch.bfloat16
        tensors[name] = tensor.to("cpu", dtype).contiguous()
    return tensors


def restored_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float32 weights that `stored_tensors` stands for."""
    return {
        name: tensor.float() * tensors.get(_scale_of(name), 1.0)
        for name, tensor in tensors.items()
        if not name.endswith(".scale")
    }


def _scale_of(weight: str) -> str:
    return weight.removesuffix("weight") + "scale"


def _rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers of 8 bits, and the scale of each row that makes them weights again."""
    scale = matrix.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (matrix / scale).round().to(torch.int8), scale


def _float_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.float(), layer.bias.float())
