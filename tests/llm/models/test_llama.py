"""The decoder against transformers, and against itself in other segments and slices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from chunkwise.errors import ModelFormatError
from chunkwise.llm.kernels.reference import ReferenceKernels
from chunkwise.llm.models.fake import FAKES, write_fake
from chunkwise.llm.models.llama import Decoder
from tests.llm.models.plans import logits

TINY = [name for name in FAKES if name.startswith("tiny-")]
TOKENS = torch.randint(0, 262, (73,), generator=torch.Generator().manual_seed(5)).tolist()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: write_fake(name, root / name, dtype="float32") for name in TINY}


def by_transformers(folder: Path, dtype: torch.dtype = torch.float32) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    with torch.inference_mode():
        return model(torch.tensor([TOKENS])).logits[0].float()


def decoder_of(folder: Path, **options: object) -> Decoder:
    return Decoder.from_folder(folder, ReferenceKernels(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TINY)
def test_logits_equal_those_of_transformers(name: str, folders: dict[str, Path]) -> None:
    wanted = by_transformers(folders[name])
    found = logits(decoder_of(folders[name]), TOKENS)
    assert wanted.std() > 0.5, "a flat model proves nothing"
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral", "tiny-qwen3"])
@pytest.mark.parametrize(("lengths", "step"), [([], 7), ([30, 20, 23], 0), ([1, 40, 32], 9)])
def test_segments_and_slices_change_nothing(
    name: str, lengths: list[int], step: int, folders: dict[str, Path]
) -> None:
    decoder = decoder_of(folders[name])
    whole = logits(decoder, TOKENS)
    found = logits(decoder, TOKENS, lengths=lengths, step=step)
    assert (found - whole).abs().max() <= 1e-4 * whole.abs().max()  # other angles, other rounding


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_bf16_runs_from_any_stored_type(stored: str, tmp_path: Path) -> None:
    write_fake("tiny-llama3", tmp_path, dtype=stored)  # type: ignore[arg-type]
    wanted = by_transformers(tmp_path, torch.bfloat16)
    found = logits(decoder_of(tmp_path, dtype=torch.bfloat16), TOKENS)
    exact = by_transformers(tmp_path)
    error, theirs = (found - exact).abs().mean(), (wanted - exact).abs().mean()
    assert error <= 1.25 * theirs  # as near to float32 as transformers in bf16


def test_tied_head_is_the_embedding(folders: dict[str, Path]) -> None:
    tied, untied = decoder_of(folders["tiny-llama3"]), decoder_of(folders["tiny-llama"])
    assert tied.head.dense is not None
    assert tied.head is tied.embedding
    assert untied.nbytes - tied.nbytes == untied.embedding.nbytes


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_quantised_layers_stay_near(quantization: str, folders: dict[str, Path]) -> None:
    whole = logits(decoder_of(folders["tiny-llama"]), TOKENS)
    decoder = decoder_of(folders["tiny-llama"], quantization=quantization)
    assert decoder.head.quantization == "int8"
    assert decoder.layers[0].qkv.quantization == quantization
    error = (logits(decoder, TOKENS) - whole).std() / whole.std()
    assert 0 < error < (0.05 if quantization == "int8" else 0.5)


def test_taps_see_every_layer_before_the_rotation(folders: dict[str, Path]) -> None:
    from tests.llm.models.plans import OneSequence, table

    decoder, seen = decoder_of(folders["tiny-qwen3"]), []
    config = decoder.config
    plan = OneSequence(config, [5], torch.float32).plan(0, 5)
    decoder.forward(
        torch.tensor(TOKENS[:5]),
        plan,
        table(config, 5),
        lambda layer, q, k, v: seen.append((layer, q.shape, k.shape, v.shape)),
    )
    q, kv = (5, config.num_heads, config.head_dim), (5, config.num_kv_heads, config.head_dim)
    assert seen == [(i, q, kv, kv) for i in range(config.num_layers)]


def test_half_precision_activations_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelFormatError, match=r"bfloat16 or float32, got torch\.float16"):
        decoder_of(folders["tiny-llama"], dtype=torch.float16)
