"""The segmenter's network as it is trained: torch, with dropout; scores equal those in numpy.

See `rag/sentences/network.py` for what it is. Norms have no weights: a gain before a product
would only be another factor of its matrix.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chunkwise.rag.sentences.network import EPSILON, NUM_OUTPUTS, Floats, NetworkShape, expected
from chunkwise.rag.sentences.tokens import NUM_FIXED


class TrainedNetwork(nn.Module):
    """The network.

    Args:
        shape: Its shape.
        dropout: Of states.
        feature_dropout: Share of the n-grams of tokens that are left out.
    """

    def __init__(self, shape: NetworkShape, *, dropout: float, feature_dropout: float) -> None:
        super().__init__()
        width = shape.width
        self.shape, self.dropout, self.feature_dropout = shape, dropout, feature_dropout
        self.table = nn.Parameter(torch.empty(NUM_FIXED + shape.buckets, shape.embedding))
        self.enter = nn.Linear(shape.embedding, width)
        self.layers = nn.ModuleList(
            _Layer(width, before, behind, dropout, len(shape.before))
            for before, behind in zip(shape.before, shape.behind, strict=True)
        )
        self.head = nn.Linear(width, NUM_OUTPUTS)
        nn.init.normal_(self.table, std=1 / math.sqrt(shape.embedding))

    def forward(self, ids: Tensor) -> Tensor:
        """Outputs of windows `(num_windows, length, NUM_SLOTS)`: `(…, length, NUM_OUTPUTS)`."""
        flat = ids.flatten(0, 1)
        weights = torch.ones_like(flat, dtype=self.table.dtype)
        if self.training and self.feature_dropout:
            weights = F.dropout(weights, self.feature_dropout)
        x = F.embedding_bag(flat, self.table, mode="sum", per_sample_weights=weights)
        x = self.enter(x.view(*ids.shape[:2], -1))
        x = F.dropout(x, self.dropout, self.training)
        for layer in self.layers:
            x = layer(x)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(normed(x.float()), self.head.weight, self.head.bias)


class _Layer(nn.Module):
    def __init__(
        self, width: int, before: int, behind: int, dropout: float, num_layers: int
    ) -> None:
        super().__init__()
        self.before, self.behind, self.dropout = before, behind, dropout
        self.mix = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.mix.weight, std=math.sqrt(2 / (3 * width)))
        nn.init.normal_(self.out.weight, std=1 / math.sqrt(width * num_layers))
        nn.init.zeros_(self.mix.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        padded = F.pad(normed(x), (0, 0, self.before, self.behind))
        places = (0, self.before, self.before + self.behind)
        wide = torch.cat([padded[:, place : place + length] for place in places], dim=-1)
        inner = F.dropout(F.relu(self.mix(wide)), self.dropout, self.training)
        done: Tensor = x + self.out(inner)
        return done


def normed(x: Tensor) -> Tensor:
    """Vectors of mean square 1."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON)


def tensors_of(network: TrainedNetwork) -> dict[str, Floats]:
    """The weights as `rag.sentences.network` names them."""
    found: dict[str, Tensor] = {
        "table": network.table,
        "enter": network.enter.weight.T,
        "enter_bias": network.enter.bias,
        "head": network.head.weight.T,
        "head_bias": network.head.bias,
    }
    for i, layer in enumerate(network.layers):
        assert isinstance(layer, _Layer), "built above"
        found[f"layers.{i}.mix"], found[f"layers.{i}.mix_bias"] = layer.mix.weight.T, layer.mix.bias
        found[f"layers.{i}.out"], found[f"layers.{i}.out_bias"] = layer.out.weight.T, layer.out.bias
    assert found.keys() == expected(network.shape).keys(), "one list of weights"
    return {
        name: np.ascontiguousarray(tensor.detach().float().cpu().numpy())
        for name, tensor in found.items()
    }
