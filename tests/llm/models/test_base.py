"""Configs: Hugging Face's defaults, both ways of writing rotary settings, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import transformers

from chunkwise.errors import ModelFormatError
from chunkwise.llm.models.base import FAMILIES, ModelConfig
from chunkwise.llm.models.fake import FAKES, tensor_shapes

LLAMA = dict(FAKES["tiny-llama"])
QWEN = dict(FAKES["tiny-qwen2"])


def config(raw: dict[str, Any], generation: dict[str, Any] | None = None) -> ModelConfig:
    return ModelConfig.from_dict(raw, generation=generation or {})


@pytest.mark.parametrize("name", sorted(FAKES))
def test_configs_saved_by_transformers_read_the_same(name: str, tmp_path: Path) -> None:
    """transformers 5 writes other fields (`rope_parameters`, `layer_types`) for the same model."""
    raw = {**FAKES[name], "bos_token_id": 5, "eos_token_id": [6, 7], "torch_dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    ours = ModelConfig.from_folder(tmp_path)
    transformers.AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert "rope_parameters" in json.loads((tmp_path / "config.json").read_text())
    assert ModelConfig.from_folder(tmp_path) == ours


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_missing_fields_mean_what_they_mean_in_transformers(architecture: str) -> None:
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    raw: dict[str, Any] = {name: LLAMA[name] for name in sizes}
    raw |= {"architectures": [architecture], "max_position_embeddings": 512}
    raw |= {"num_attention_heads": 32, "hidden_size": 512}
    theirs = getattr(transformers, architecture.replace("ForCausalLM", "Config"))(**raw)
    ours = config(raw)
    assert ours.num_kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == getattr(theirs, "head_dim", 512 // 32)
    assert ours.rms_norm_eps == theirs.rms_norm_eps
    assert ours.tie_embeddings == theirs.tie_word_embeddings
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]
    assert set(ours.windows) == {getattr(theirs, "sliding_window", 0) or 0}


def test_end_tokens_of_both_files_count() -> None:
    raw = {**LLAMA, "eos_token_id": 2, "bos_token_id": None}
    assert config(raw, {"eos_token_id": [9, 2, 10]}).eos_token_ids == (9, 2, 10)
    assert config(raw).eos_token_ids == (2,)
    assert config(raw).bos_token_id is None


def test_windows_by_layer() -> None:
    raw = {**QWEN, "num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": 9}
    assert config({**raw, "max_window_layers": 3}).windows == (0, 0, 0, 9)
    assert config({**raw, "max_window_layers": 0}).windows == (9, 9, 9, 9)
    kinds = ["sliding_attention", "full_attention"] * 2
    assert config({**raw, "layer_types": kinds}).windows == (9, 0, 9, 0)
    assert config({**raw, "use_sliding_window": False}).windows == (0,) * 4


def test_yarn_stretches_the_context() -> None:
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    assert config({**QWEN, "rope_scaling": scaling}).max_context == 2048
    assert config(QWEN).max_context == 512


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel' is not supported"),
        ({"architectures": ["Qwen3MoeForCausalLM"]}, "Did you mean 'Qwen3ForCausalLM'"),
        ({"architectures": ["SmolLM3ForCausalLM"]}, "layers without rotary positions"),
        ({"architectures": None, "model_type": "mamba"}, "Supported: LlamaForCausalLM"),
        ({"hidden_act": "gelu"}, "`hidden_act` must be 'silu', got 'gelu'"),
        ({"hidden_size": None}, "`hidden_size` must be a whole number from 1, got None"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers`"),
        ({"num_attention_heads": "4"}, "`num_attention_heads`"),
        ({"num_key_value_heads": 3}, "must divide num_attention_heads"),
        ({"head_dim": 15}, "head_dim must be even"),
        ({"rms_norm_eps": -1}, "`rms_norm_eps` must be a number above 0, got -1"),
        ({"tie_word_embeddings": "yes"}, "must be true or false, got 'yes'"),
        ({"quantization_config": {"bits": 4}}, "`quantization_config` must not be set"),
        ({"num_local_experts": 8}, "mixtures of experts"),
        ({"partial_rotary_factor": 0.5}, "`partial_rotary_factor` must be 1"),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, "must be 1"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic' is not supported"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "default, linear, llama3, yarn"),
        ({"rope_scaling": {"rope_type": "linear"}}, "`factor` must be a number above 0"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "one object for all"),
    ],
)
def test_what_is_not_supported_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFormatError) as caught:
        config({**LLAMA, **change})
    assert said in str(caught.value)


def test_wrong_layer_types_are_refused() -> None:
    window = {"use_sliding_window": True, "sliding_window": 9}
    with pytest.raises(ModelFormatError, match="`layer_types` must hold 2 of"):
        config({**QWEN, **window, "layer_types": ["chunked_attention", "full_attention"]})


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="There is no model folder"):
        ModelConfig.from_folder(tmp_path / "none")
    with pytest.raises(ModelFormatError, match=r"config\.json is missing"):
        ModelConfig.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelFormatError, match="cannot be read as JSON"):
        ModelConfig.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelFormatError, match="must hold a JSON object, got list"):
        ModelConfig.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("llama-3.2-1b", 1_235_814_400), ("qwen2.5-0.5b", 494_032_768), ("qwen3-0.6b", 596_049_920)],
)
def test_fakes_have_the_size_of_the_models_they_stand_for(name: str, parameters: int) -> None:
    shapes = tensor_shapes(config(dict(FAKES[name])))
    assert sum(map(math.prod, shapes.values())) == parameters
