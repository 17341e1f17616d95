"""Checkpoints: whole or in shards, damaged ones refused by name, fingerprints of the content."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from chunkwise.errors import ConfigError, ModelFormatError
from chunkwise.llm.kernels.reference import ReferenceKernels
from chunkwise.llm.models.checkpoint import Checkpoint, fingerprint, write_safetensors
from chunkwise.llm.models.fake import write_fake
from chunkwise.llm.models.llama import Decoder
from tests.llm.models.plans import logits

TOKENS = [256, 72, 101, 108, 108, 111]
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake("tiny-llama3", tmp_path_factory.mktemp("model"), dtype="float32")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def load(folder: Path) -> Decoder:
    return Decoder.from_folder(folder, ReferenceKernels())


def test_shards_give_the_same_model(made: Path, tmp_path: Path) -> None:
    write_fake("tiny-llama3", tmp_path, dtype="float32", max_shard_bytes=50_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert torch.equal(logits(load(tmp_path), TOKENS), logits(load(made), TOKENS))


def test_files_of_the_safetensors_library_read_the_same(folder: Path, made: Path) -> None:
    rewrite(folder, lambda tensors: None)
    assert torch.equal(logits(load(folder), TOKENS), logits(load(made), TOKENS))


@pytest.mark.parametrize("name", ["model.norm.weight", UP])
def test_missing_tensors_are_named(name: str, folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelFormatError, match=f"'{name}' .* is missing"):
        load(folder)


def test_misshapen_tensors_are_named(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({UP: torch.zeros(96, 63)}))
    with pytest.raises(ModelFormatError) as caught:
        load(folder)
    said = str(caught.value)
    assert UP in said
    assert "[96, 63]" in said
    assert "asks for [96, 64]" in said
    assert "model.safetensors" in said


def test_other_types_are_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({UP: torch.zeros(96, 64, dtype=torch.int8)}))
    with pytest.raises(ModelFormatError, match=r"type 'I8'; BF16, F16, F32 are read"):
        load(folder)


def test_unknown_tensors_are_logged_and_rotary_ones_are_not(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8), "odd": torch.ones(1)}
    rewrite(folder, lambda tensors: tensors.update(more))
    with caplog.at_level(logging.INFO):
        load(folder)
    assert "1 tensors not used: ['odd']" in caplog.text


def test_a_head_beside_a_tied_embedding_is_not_read(
    folder: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(folder, lambda t: t.update({"lm_head.weight": torch.full((320, 64), torch.nan)}))
    with caplog.at_level(logging.INFO):
        assert torch.equal(logits(load(folder), TOKENS), logits(load(made), TOKENS))
    assert "lm_head" not in caplog.text


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.999))
def test_files_cut_short_are_refused(made: Path, share: float) -> None:
    content = (made / "model.safetensors").read_bytes()
    folder = made.parent / "cut"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(made / "config.json", folder / "config.json")
    (folder / "model.safetensors").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        load(folder)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        fingerprint(folder)


@pytest.mark.parametrize(
    "said",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
        {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": 4, "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4]},
        {"shape": [4], "data_offsets": [0, 16]},
        "nothing",
    ],
)
def test_headers_that_lie_are_refused(said: Any, tmp_path: Path) -> None:
    text = json.dumps({"a": said}).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(16)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFormatError, match="'a'"):
        Checkpoint(tmp_path)


def test_an_index_must_name_files_of_the_folder(made: Path, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    for name in ("../model/model.safetensors", "/etc/passwd", 3, "", ".."):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ModelFormatError, match="`weight_map` must name a file"):
            Checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "lost.safetensors"}}))
    with pytest.raises(ModelFormatError, match=r"lost\.safetensors"):
        Checkpoint(tmp_path)
    shutil.copyfile(made / "model.safetensors", tmp_path / "x.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    with pytest.raises(ModelFormatError, match="'a' is missing"):
        Checkpoint(tmp_path)


def test_other_layouts_name_the_conversion(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match=r"pytorch_model\.bin.*chunkwise models convert"):
        load(folder)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), st.lists(st.integers(0, 5), max_size=3)))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, sizes: dict[str, list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    shapes = {name: tuple(shape) for name, shape in sizes.items() if name != "__metadata__"}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", shapes, tensors.values(), torch.float32)
    theirs = load_file(folder / "model.safetensors")
    assert set(theirs) == set(tensors)
    with Checkpoint(folder) as checkpoint:
        for name, tensor in tensors.items():
            into = torch.empty_like(tensor)
            checkpoint.read(name, into)
            assert torch.equal(into, tensor)
            assert torch.equal(theirs[name], tensor)


def test_fingerprints_follow_the_content(folder: Path, made: Path) -> None:
    assert fingerprint(folder) == fingerprint(made)
    rewrite(folder, lambda tensors: tensors[UP].mul_(1.01))
    assert fingerprint(folder) != fingerprint(made)
    shutil.copyfile(made / "model.safetensors", folder / "model.safetensors")
    assert fingerprint(folder) == fingerprint(made)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 9999.0}))
    assert fingerprint(folder) != fingerprint(made)


def test_fakes_are_the_same_for_the_same_seed(made: Path, tmp_path: Path) -> None:
    write_fake("tiny-llama3", tmp_path / "again", dtype="float32")
    write_fake("tiny-llama3", tmp_path / "other", dtype="float32", seed=1)
    assert fingerprint(tmp_path / "again") == fingerprint(made) != fingerprint(tmp_path / "other")
    with pytest.raises(ConfigError, match="Did you mean 'tiny-llama"):
        write_fake("tiny-lama", tmp_path)
