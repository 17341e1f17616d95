"""Plans made by hand: what the engine's KV segments do, for one sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable, Write
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.llama import Decoder
from chunkwise.llm.models.rotary import rotary_table


class OneSequence:
    """One sequence over segments of the given lengths, each rotated from its own start."""

    def __init__(self, config: ModelConfig, lengths: Sequence[int], dtype: torch.dtype) -> None:
        shapes = [(config.num_layers, config.num_kv_heads, n, config.head_dim) for n in lengths]
        nan = float("nan")  # what was never written must never be read
        self.segments = [
            (torch.full(s, nan, dtype=dtype), torch.full(s, nan, dtype=dtype)) for s in shapes
        ]
        self.bases = [sum(lengths[:i]) for i in range(len(lengths))]
        self.lengths = list(lengths)

    def plan(self, start: int, end: int) -> AttentionPlan:
        """Positions `start .. end` of the sequence as the rows of one step."""
        parts, writes = [], []
        for (k, v), base, length in zip(self.segments, self.bases, self.lengths, strict=True):
            first, last = max(start, base), min(end, base + length)
            if first < last:
                writes.append(Write(k, v, first - start, last - first, first - base, first - base))
            if first < end:
                positions = torch.arange(first, end)
                rel = positions - base
                limit = torch.clamp(rel + 1, max=length)
                parts.append(Part(k, v, 0, positions - start, rel, limit))
        return AttentionPlan(end - start, parts, writes)


def hidden_states(
    decoder: Decoder, token_ids: Sequence[int], *, lengths: Sequence[int] = (), step: int = 0
) -> Tensor:
    """Hidden states of all rows: in segments of `lengths`, `step` rows at a time (0: all)."""
    sequence = OneSequence(decoder.config, lengths or [len(token_ids)], decoder.dtype)
    rotary = table(decoder.config, len(token_ids))
    tokens, step = torch.tensor(token_ids), step or len(token_ids)
    made = []
    for start in range(0, len(token_ids), step):
        end = min(start + step, len(token_ids))
        made.append(decoder.forward(tokens[start:end], sequence.plan(start, end), rotary))
    return torch.cat(made)


def logits(
    decoder: Decoder, token_ids: Sequence[int], *, lengths: Sequence[int] = (), step: int = 0
) -> Tensor:
    """Logits of all rows; see `hidden_states`."""
    return decoder.logits(hidden_states(decoder, token_ids, lengths=lengths, step=step))


def table(config: ModelConfig, positions: int) -> RotaryTable:
    """The rotary table of a model."""
    return rotary_table(config.rope, config.head_dim, positions)
