"""Other layouts: GGUF files (written here, block by block) and pytorch_model.bin."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from chunkwise.errors import ModelFormatError
from chunkwise.llm.kernels.reference import ReferenceKernels
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.convert import convert
from chunkwise.llm.models.fake import BEGIN, END, SPECIAL_TOKENS, byte_tokenizer, write_fake
from chunkwise.llm.models.gguf import GGUFFile, hf_names
from chunkwise.llm.models.llama import Decoder
from chunkwise.llm.models.tokenizer import Tokenizer, byte_chars
from tests.llm.models.plans import logits

TOKENS = [256, 72, 101, 108, 108, 111, 33]


def gguf(fields: dict[str, Any], tensors: dict[str, tuple[tuple[int, ...], int, bytes]]) -> bytes:
    """A GGUF file of version 3: (shape, kind, content) by name."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(fields))
    head += b"".join(text(name) + value(said) for name, said in fields.items())
    data = b""
    for name, (shape, kind, content) in tensors.items():
        head += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += struct.pack("<IQ", kind, len(data))
        data += content + bytes(-len(content) % 32)
    return head + bytes(-len(head) % 32) + data


def text(said: str) -> bytes:
    return struct.pack("<Q", len(said.encode())) + said.encode()


def value(said: Any) -> bytes:
    if isinstance(said, str):
        return struct.pack("<I", 8) + text(said)
    if isinstance(said, list):
        kind = 8 if isinstance(said[0], str) else 5
        items = [text(s) if kind == 8 else struct.pack("<i", s) for s in said]
        return struct.pack("<IIQ", 9, kind, len(said)) + b"".join(items)
    if isinstance(said, bool):
        return struct.pack("<I?", 7, said)
    return struct.pack("<If", 6, said) if isinstance(said, float) else struct.pack("<II", 4, said)


def llama_fields() -> dict[str, Any]:
    tokens = [*byte_chars(), *SPECIAL_TOKENS, "ab", *(f"<unused{i}>" for i in range(57))]
    return {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 512,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 256 + [3] * 6 + [1] + [3] * 57,
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": tokens.index(BEGIN),
        "tokenizer.ggml.eos_token_id": tokens.index(END),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }


def paired(weight: Tensor, heads: int) -> Tensor:
    """What llama.cpp does to q and k: halves of a head become neighbours."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def as_gguf(folder: Path, fields: dict[str, Any]) -> bytes:
    stored, made = load_file(folder / "model.safetensors"), {}
    for ours, theirs in hf_names(2):
        tensor = stored.get(f"{theirs}.weight")
        if tensor is not None:
            tensor = paired(tensor, 4) if ours.endswith("attn_q") else tensor
            tensor = paired(tensor, 2) if ours.endswith("attn_k") else tensor
            made[f"{ours}.weight"] = (tuple(tensor.shape), 0, tensor.contiguous().numpy().tobytes())
    return gguf(fields, made)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake("tiny-llama", tmp_path_factory.mktemp("model"), dtype="float32")


def load(folder: Path) -> Tensor:
    return logits(Decoder.from_folder(folder, ReferenceKernels()), TOKENS)


def test_gguf_gives_the_same_model(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(as_gguf(source, llama_fields()))
    made = convert(file, tmp_path / "made", dtype="float32")
    assert torch.equal(load(made), load(source))
    config = ModelConfig.from_folder(made)
    assert (config.bos_token_id, config.eos_token_ids) == (256, (257,))
    assert not config.tie_embeddings


def test_gguf_gives_the_tokenizer_and_the_template(source: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(as_gguf(source, llama_fields()))
    made = convert(tmp_path / "model.gguf", tmp_path / "made")
    ours = Tokenizer.from_folder(made, ModelConfig.from_folder(made))
    said = "cab 123 né <|end|>"
    assert ours.decode(ours.encode(said)) == said
    assert ours.prefix_ids == [256]
    theirs = AutoTokenizer.from_pretrained(made)
    assert ours.encode(said, special=True) == theirs.encode(said, add_special_tokens=False)
    assert theirs.chat_template == "{{ messages[0].content }}"


def q4_0(scale: float, levels: list[int]) -> bytes:
    halves = bytes(levels[i] | levels[i + 16] << 4 for i in range(16))
    return np.float16(scale).tobytes() + halves


def q4_1(scale: float, levels: list[int]) -> bytes:
    return np.float16(scale).tobytes() + np.float16(-1.5).tobytes() + q4_0(scale, levels)[2:]


def q8_0(scale: float, levels: list[int]) -> bytes:
    return np.float16(scale).tobytes() + np.array(levels, np.int8).tobytes()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=64, max_size=64), st.floats(-4, 4, width=16))
def test_blocks_stand_for_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, levels: list[int], scale: float
) -> None:
    kinds: list[tuple[int, Callable[[float, list[int]], bytes], Callable[[int], float]]] = [
        (2, q4_0, lambda n: scale * (n - 8)),
        (3, q4_1, lambda n: scale * n - 1.5),
        (8, q8_0, lambda n: scale * n),
    ]
    tensors = {
        str(kind): ((2, 32), kind, pack(scale, levels[:32]) + pack(scale, levels[32:]))
        for kind, pack, _ in kinds
    }
    tensors["1"] = ((2, 32), 1, np.array(levels, np.float16).tobytes())
    tensors["30"] = (
        (2, 32),
        30,
        (np.array(levels, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes(),
    )
    path = tmp_path_factory.mktemp("blocks") / "x.gguf"
    path.write_bytes(gguf({}, tensors))
    file = GGUFFile(path)
    for kind, _, number in kinds:
        wanted = torch.tensor([number(n) for n in levels]).view(2, 32)
        torch.testing.assert_close(file.read(str(kind)), wanted)
    for kind in ("1", "30"):
        assert file.read(kind).flatten().tolist() == levels


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"general.architecture": "gpt2"}, "'gpt2' is not converted"),
        ({"llama.rope.scaling.type": "yarn"}, "scaled rotary positions"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer 'llama'"),
        ({"tokenizer.ggml.pre": "odd"}, "'odd' is not read"),
    ],
)
def test_what_gguf_files_are_refused_for(
    change: dict[str, Any], said: str, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.gguf").write_bytes(as_gguf(source, {**llama_fields(), **change}))
    with pytest.raises(ModelFormatError, match=said):
        convert(tmp_path / "x.gguf", tmp_path / "made")


def test_unknown_formats_and_tensors_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(gguf({}, {"a": ((32,), 12, bytes(99))}))
    with pytest.raises(ModelFormatError, match=r"'a' has ggml's format 12; F32, F16"):
        GGUFFile(tmp_path / "x.gguf").read("a")
    with pytest.raises(ModelFormatError, match="no tensor 'b'"):
        GGUFFile(tmp_path / "x.gguf").read("b")


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.999))
def test_gguf_files_cut_short_are_refused(source: Path, share: float) -> None:
    content = as_gguf(source, llama_fields())
    file = source.parent / "cut.gguf"
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFormatError):
        convert(file, source.parent / "made")


def test_pytorch_files_give_the_same_model(source: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(source, tmp_path / "old"))
    tensors = load_file(old / "model.safetensors")
    (old / "model.safetensors").unlink()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    torch.save(tensors, old / "pytorch_model.bin")
    made = convert(old, tmp_path / "made", dtype="float32")
    assert torch.equal(load(made), load(source))
    assert (made / "tokenizer.json").exists()


def test_nothing_to_convert_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"no \.gguf file and no folder with"):
        convert(tmp_path, tmp_path / "made")


def test_the_byte_tokenizer_is_the_one_of_byte_level_models() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(byte_chars()) == sorted(ByteLevel.alphabet())
    assert byte_tokenizer().encode("né", add_special_tokens=False).ids == list("né".encode())


def test_a_conversion_that_fails_leaves_no_checkpoint(tmp_path: Path, source: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    shutil.copyfile(source / "config.json", given / "config.json")
    for content in (b"text", b"", b"PK\x03\x04 cut short"):
        (given / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"pytorch_model\.bin cannot be read"):
            convert(given, tmp_path / "new")
    torch.save([1, 2], given / "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match="something else than tensors"):
        convert(given, tmp_path / "new")
    (given / "pytorch_model.bin.index.json").write_text("{}")
    with pytest.raises(ModelFormatError, match="`weight_map` must name a file"):
        convert(given, tmp_path / "new")
    assert not (tmp_path / "new").exists()
