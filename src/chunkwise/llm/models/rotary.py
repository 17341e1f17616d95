"""Rotary positions: the angles of every supported type, computed once for a whole engine."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chunkwise.llm.kernels.ops import RotaryTable
from chunkwise.llm.models.base import RopeConfig


def rotary_table(
    rope: RopeConfig, head_dim: int, positions: int, device: torch.device | str = "cpu"
) -> RotaryTable:
    """Cosine and sine at the first `positions` positions: `(positions, head_dim / 2)` float32.

    Angles are products in float32, as in transformers, so that a model sees the very angles that
    it was trained with.
    """
    steps = torch.arange(positions, dtype=torch.float32)
    angles = torch.outer(steps, frequencies(rope, head_dim))
    factor = attention_factor(rope)
    return RotaryTable((angles.cos() * factor).to(device), (angles.sin() * factor).to(device))


def frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Radians per token of each pair of channels: `(head_dim / 2,)` float32."""
    channels = torch.arange(0, head_dim, 2, dtype=torch.float32)
    plain = 1.0 / (rope.theta ** (channels / head_dim))
    if rope.type == "linear":
        return plain / rope.factor
    if rope.type == "llama3":
        return _llama3(plain, rope)
    if rope.type == "yarn":
        return _yarn(plain, rope, head_dim)
    return plain


def attention_factor(rope: RopeConfig) -> float:
    """The factor on cosine and sine; 1 for all types but YaRN."""
    if rope.type != "yarn":
        return 1.0
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return _mscale(rope.factor, rope.mscale) / _mscale(rope.factor, rope.mscale_all_dim)
    return _mscale(rope.factor, 1.0)


def _mscale(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _llama3(plain: Tensor, rope: RopeConfig) -> Tensor:
    """Long waves are stretched, short ones kept, those between blended (Llama 3.1)."""
    waves = rope.original_max_positions / (2 * math.pi / plain)  # turns in the original context
    span = rope.high_freq_factor - rope.low_freq_factor
    keep = (waves - rope.low_freq_factor) / span
    blended = (1 - keep) * plain / rope.factor + keep * plain
    stretched = torch.where(waves < rope.low_freq_factor, plain / rope.factor, blended)
    return torch.where(waves > rope.high_freq_factor, plain, stretched)


def _yarn(plain: Tensor, rope: RopeConfig, head_dim: int) -> Tensor:
    """NTK by parts (YaRN, arXiv 2309.00071, section 3.2)."""

    def channel(turns: float) -> float:
        """Which pair of channels makes that many turns in the original context."""
        wave = rope.original_max_positions / (turns * 2 * math.pi)
        return head_dim * math.log(wave) / (2 * math.log(rope.theta))

    low, high = channel(rope.beta_fast), channel(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low if high != low else 0.001
    ramp = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    return plain / rope.factor * ramp + plain * (1 - ramp)
