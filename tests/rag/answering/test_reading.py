"""The reader's network and folder: packed windows equal single ones, spans are exact characters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from chunkwise.errors import ModelFormatError
from chunkwise.rag.answering.network import (
    ReaderNetwork,
    pack,
    restored_tensors,
    stored_tensors,
)
from chunkwise.rag.answering.reading import SpanReader, WordPieces, windows_of
from tests.rag.answering.readers import OPTIONS, SHAPE, make_reader, write_reader

TEXTS = st.text(max_size=120) | st.sampled_from(
    [
        "é" * 30,
        "e\u0301t\u0301",
        "漢字とかな",
        "👩‍👩‍👧 lives",
        "a\r\nb\0c",
        "한국어 the red",
        "x" * 300,
    ]
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> SpanReader:
    return make_reader(tmp_path_factory.mktemp("reader"))


@settings(deadline=None, max_examples=80)
@given(question=TEXTS, passages=st.lists(TEXTS, max_size=4))
def test_spans_are_characters_of_their_passage(
    reader: SpanReader, question: str, passages: list[str]
) -> None:
    found = reader.read(question, passages)
    assert len(found) <= 8
    for span in found:
        assert 0 <= span.start < span.end <= len(passages[span.passage])
        assert 0 <= span.confidence <= 1
        text = passages[span.passage]
        assert not text[span.start].isspace()
        assert not text[span.end - 1].isspace()
    if any(piece.ids for piece in reader.pieces.encode(passages)):
        assert found


@settings(deadline=None)
@given(TEXTS)
def test_offsets_count_the_text_as_it_was_given(reader: SpanReader, text: str) -> None:
    (encoded,) = reader.pieces.encode([text])
    assert len(encoded.ids) == len(encoded.offsets)
    assert all(0 <= a < b <= len(text) for a, b in encoded.offsets)
    assert encoded.offsets == sorted(encoded.offsets)


def test_lone_surrogates_and_control_tokens_are_plain_text(reader: SpanReader) -> None:
    surrogate, control = reader.pieces.encode(["the \ud800 red", "the [SEP] red [CLS]"])
    assert [(a, b) for a, b in surrogate.offsets][-1] == (6, 9)
    assert not set(reader.pieces.edges) & set(control.ids)


def test_packed_windows_equal_single_ones(reader: SpanReader) -> None:
    question, *texts = reader.pieces.encode(["who lives near", "the red " * 60, "a b c", "old"])
    windows = windows_of(question.ids, [t.ids for t in texts], reader.pieces.edges, OPTIONS)
    assert len(windows) > 4
    together = reader.score(windows)
    for window, packed in zip(windows, together, strict=True):
        (single,) = reader.score([window])
        np.testing.assert_allclose(packed.starts, single.starts, atol=2e-5)
        np.testing.assert_allclose(packed.ends, single.ends, atol=2e-5)
        assert packed.answer == pytest.approx(single.answer, abs=2e-5)
        assert len(packed.starts) == window.own


def test_the_encoder_equals_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=SHAPE.vocab_size,
        hidden_size=SHAPE.hidden_size,
        num_hidden_layers=SHAPE.num_hidden_layers,
        num_attention_heads=SHAPE.num_attention_heads,
        intermediate_size=SHAPE.intermediate_size,
        max_position_embeddings=SHAPE.max_position_embeddings,
    )
    theirs = transformers.BertModel(config).eval()
    theirs.save_pretrained(tmp_path)
    from chunkwise.training.spans.initial import initial_network

    ours = initial_network(tmp_path, dropout=0.0, seed=0).eval()
    windows, heads = [[2, 9, 9, 3, 8, 7, 3], [2, 5, 3, 6, 3]], [4, 3]
    with torch.no_grad():
        verdicts = ours(pack(windows, heads, torch.device("cpu")))
        for window, head, verdict in zip(windows[::-1], heads[::-1], verdicts, strict=True):
            types = torch.tensor([[int(i >= head) for i in range(len(window))]])
            states = theirs(torch.tensor([window]), token_type_ids=types).last_hidden_state
            lifts = ours.gate(states[:, 0])
            torch.testing.assert_close(
                verdict.spans, ours.span(states) + lifts[:, None, :2], atol=2e-5, rtol=0
            )
            torch.testing.assert_close(verdict.answers, lifts[:, 2], atol=2e-5, rtol=0)


def test_gradients_in_bfloat16_are_near_those_of_float32() -> None:
    torch.manual_seed(0)
    network = ReaderNetwork(SHAPE)
    packed = pack([[2, 5, 6, 3, 8, 7, 9, 3]] * 3, [4] * 3, torch.device("cpu"))
    grads = []
    for is_mixed in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed):
            (verdict,) = network(packed)
        (verdict.spans.square().mean() + verdict.answers.mean()).backward()
        grads.append(network.layers[0].qkv.weight.grad.clone())
    assert torch.cosine_similarity(grads[0].flatten(), grads[1].flatten(), dim=0) > 0.98


def test_weights_are_stored_in_a_byte_each_and_come_back_within_half_a_step() -> None:
    torch.manual_seed(0)
    network = ReaderNetwork(SHAPE)
    stored = stored_tensors(network)
    restored = restored_tensors(stored)
    matrices = [name for name, t in stored.items() if t.dtype == torch.int8]
    assert {"words.weight", "layers.0.qkv.weight", "layers.0.down.weight"} <= set(matrices)
    assert restored.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        largest = tensor.abs().amax(-1, keepdim=True)
        step = largest / 127 if name in matrices else largest / 128
        assert ((restored[name] - tensor).abs() <= step / 2 + 1e-7).all(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{}"), "not a reader's"),
        (lambda f: (f / "config.json").write_text("no"), "not a reader's"),
        (lambda f: (f / "tokenizer.json").write_text("no"), "tokenizer.json cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no"), "cannot be read"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
    ],
)
def test_a_damaged_folder_is_named(change: object, message: str, tmp_path: Path) -> None:
    folder = write_reader(tmp_path / "r")
    change(folder)  # type: ignore[operator]
    with pytest.raises(ModelFormatError, match=message):
        SpanReader(folder, torch.float32)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = write_reader(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n != "span.bias"}, folder / "model.safetensors")
    with pytest.raises(ModelFormatError, match=r"does not fit config\.json.*span\.bias"):
        SpanReader(folder, torch.float32)
    raw = json.loads((folder / "config.json").read_text())
    raw["reader"]["windw"] = 3
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ModelFormatError, match="windw"):
        SpanReader(folder, torch.float32)


def test_a_tokenizer_without_edges_is_refused(tmp_path: Path) -> None:
    import tokenizers

    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFormatError, match="CLS"):
        WordPieces(tmp_path / "tokenizer.json")
