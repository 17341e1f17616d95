"""Rotary tables against transformers, for every type that is supported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.fake import FAKES
from chunkwise.llm.models.rotary import rotary_table

LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}

SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.5},
    {**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 8192},
    {**LLAMA3, "factor": 8.0},  # the original length is then the model's
    YARN,
    {**YARN, "attention_factor": 1.3},
    {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2},
    {**YARN, "beta_fast": 20, "beta_slow": 2, "truncate": False},
    {**YARN, "factor": 1.0},
    {**YARN, "original_max_position_embeddings": 16},  # every channel is stretched
]


@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
def test_tables_equal_those_of_transformers(scaling: dict[str, Any], head_dim: int) -> None:
    positions, theta = 4096, 500_000.0
    raw = {**FAKES["tiny-llama"], "head_dim": head_dim, "max_position_embeddings": positions}
    raw |= {"rope_scaling": scaling, "rope_theta": theta}
    rope = ModelConfig.from_dict(raw, generation={}).rope
    theirs = LlamaRotaryEmbedding(
        LlamaConfig(
            head_dim=head_dim,
            max_position_embeddings=positions,
            rope_parameters={**scaling, "rope_theta": theta},
        )
    )
    cos, sin = theirs(torch.ones(1), torch.arange(positions)[None])
    ours = rotary_table(rope, head_dim, positions)
    assert ours.cos.shape == (positions, head_dim // 2)
    assert ours.cos.dtype == torch.float32
    half = head_dim // 2
    # angles up to 4096 in float32 are known to 2e-4; the last bit of a frequency may differ
    torch.testing.assert_close(ours.cos, cos[0, :, :half], rtol=0, atol=6e-4)
    torch.testing.assert_close(ours.sin, sin[0, :, :half], rtol=0, atol=6e-4)
    torch.testing.assert_close(ours.cos[:64], cos[0, :64, :half], rtol=0, atol=1e-5)
