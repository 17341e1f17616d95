"""The exported folder computes what was trained: by transformers, and by our own engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from chunkwise.errors import TrainingDataError
from chunkwise.llm.kernels.reference import ReferenceKernels
from chunkwise.llm.local import LLM
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.llama import Decoder
from chunkwise.llm.models.tokenizer import Tokenizer
from chunkwise.training.nano.export import export, load
from chunkwise.training.nano.network import Llama
from chunkwise.training.nano.start import start
from chunkwise.training.nano.task import SHAPES
from chunkwise.training.nano.vocabulary import wrapped
from chunkwise.types import SamplingParams
from tests.llm.models.plans import logits


@pytest.fixture(scope="module")
def made(tokenizer_text: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Llama, Path]:
    model = Llama(SHAPES["tiny"], wrapped(tokenizer_text).vocab_size)
    start(model, 1)
    with torch.no_grad():  # weights as uneven as trained ones: every norm and head counts
        for weight in model.parameters():
            weight.mul_(5) if weight.ndim > 1 else weight.mul_(torch.rand_like(weight) + 0.5)
    folder = tmp_path_factory.mktemp("model")
    export(model, tokenizer_text, folder, dtype=torch.float32)
    return model, folder


@torch.no_grad()
def test_logits_equal_those_of_transformers_and_of_our_engine(made: tuple[Llama, Path]) -> None:
    model, folder = made
    tokens = torch.randint(0, model.vocab_size, (1, 90), generator=torch.Generator().manual_seed(2))
    ours = model.logits(model(tokens, torch.arange(90).unsqueeze(0), None))[0]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits[0]
    engine = logits(Decoder.from_folder(folder, ReferenceKernels()), tokens[0].tolist())
    assert ours.std() > 0.2, "a flat model proves nothing"
    for found in (theirs, engine):
        assert (found - ours).abs().max() <= 1e-4 * ours.abs().max()


def test_the_folder_is_a_model_of_ours(made: tuple[Llama, Path]) -> None:
    folder = made[1]
    config = ModelConfig.from_folder(folder)
    tokenizer = Tokenizer.from_folder(folder, config)
    assert config.eos_token_ids == (tokenizer.eos_token_id,)
    engine = LLM(folder, dtype="float32", kernels="reference", kv_budget_mb=16)
    texts = [delta.text for delta in engine.stream("Who?", SamplingParams(max_tokens=3))]
    assert isinstance("".join(texts), str)


def test_an_exported_model_is_read_back_unchanged(made: tuple[Llama, Path], tmp_path: Path) -> None:
    model, folder = made
    again = load(folder)
    assert again.shape == model.shape
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    with pytest.raises(TrainingDataError, match="no model of `chunkwise train nano`"):
        load(tmp_path)


@pytest.mark.parametrize(("size", "low", "high"), [("nano", 10, 30), ("draft", 3, 5)])
def test_sizes_have_the_parameters_they_promise(size: str, low: int, high: int) -> None:
    with torch.device("meta"):
        count = sum(weight.numel() for weight in Llama(SHAPES[size], 8192).parameters())
    assert low <= count / 1e6 <= high
