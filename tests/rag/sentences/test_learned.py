"""The learned segmenter: streams, look-ahead, limits, languages, folders that cannot be used."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError, ModelFormatError
from chunkwise.rag.sentences.heads import SURE, UNADAPTED, Head, situations
from chunkwise.rag.sentences.learned import LearnedSegmenter
from chunkwise.rag.sentences.model import read_model, write_model
from chunkwise.rag.sentences.network import NUM_OUTPUTS, BoundaryNetwork, expected
from chunkwise.rag.sentences.rules import RuleSegmenter
from chunkwise.rag.sentences.tokens import tokenize
from tests.rag.sentences.models import SHAPE, write_random_model

WORDS = [
    "house",
    "the",
    "and.",
    "Er",
    "ging",
    "文章",
    "です。",
    "ก",
    "it",
    "3.5",
    "x" * 70,
    "\n",
    "?",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_random_model(tmp_path_factory.mktemp("model"))


def random_text(length: int, seed: int = 0) -> str:
    chance = random.Random(seed)
    words: list[str] = []
    while sum(map(len, words)) + len(words) < length:
        words.append(chance.choice(WORDS))
    return " ".join(words)


def test_a_stream_is_the_whole_text(folder: str) -> None:
    segmenter = LearnedSegmenter(folder, max_chars=400)
    text = random_text(300_000)
    spans = segmenter.split(text)
    chance = random.Random(1)
    edges = sorted({0, len(text), *(chance.randrange(len(text)) for _ in range(50))})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    streamed = list(segmenter.stream(pieces))
    assert [span for span, _ in streamed] == spans
    assert all(text[span.start : span.end] == part for span, part in streamed)
    assert len(spans) > 1000


def test_windows_give_what_the_whole_text_gives() -> None:
    chance = np.random.default_rng(0)
    tensors = {
        name: chance.normal(0, 0.3, size).astype(np.float32)
        for name, size in expected(SHAPE).items()
    }
    network = BoundaryNetwork(SHAPE, tensors)
    ids = tokenize(random_text(60_000), np.zeros(0, np.int64), SHAPE.buckets).ids
    np.testing.assert_allclose(network.score(ids), network._pass(ids), atol=1e-4)


@pytest.mark.parametrize("unit", ["sentence", "paragraph"])
def test_a_prefix_is_cut_the_same_whatever_follows(folder: str, unit: str) -> None:
    segmenter = LearnedSegmenter(folder, unit=unit, max_chars=300)  # type: ignore[arg-type]
    text = random_text(30_000)
    for end in (9_000, 15_001, 22_222):
        sure = end - segmenter.look_ahead_chars
        assert sure > 1000
        prefix = [span for span in segmenter.split(text[:end]) if span.end <= sure]
        other = segmenter.split(text[:end] + random_text(5_000, seed=7)[::-1])
        assert prefix == [span for span in other if span.end <= sure]
        assert prefix == [span for span in segmenter.split(text) if span.end <= sure]


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet="ab .\n文", max_size=600), low=st.integers(1, 32))
def test_no_sentence_is_longer_than_the_limit(folder: str, text: str, low: int) -> None:
    segmenter = LearnedSegmenter(folder, min_chars=low, max_chars=64)
    assert all(span.end - span.start <= 64 for span in segmenter.split(text))


def test_short_sentences_are_joined(folder: str) -> None:
    text = random_text(20_000)
    short = [s for s in LearnedSegmenter(folder).split(text) if s.end - s.start < 20]
    joined = [s for s in LearnedSegmenter(folder, min_chars=20).split(text) if s.end - s.start < 20]
    assert len(short) > 50
    assert len(joined) <= 1


def test_a_higher_threshold_gives_fewer_sentences(folder: str) -> None:
    text = random_text(20_000)
    counts = [len(LearnedSegmenter(folder, threshold=t).split(text)) for t in (0.05, 0.5, 0.95)]
    assert counts[0] > counts[1] > counts[2]


def test_a_language_has_its_own_head(folder: str) -> None:
    segmenter = LearnedSegmenter(folder)
    text = random_text(5_000)
    assert segmenter.split(text, "de") != segmenter.split(text, "fi")
    assert segmenter.split(text, "fi") == segmenter.split(text, "xx")


def test_the_rules_alone_decide_where_the_head_says_so(tmp_path: Path) -> None:
    write_random_model(tmp_path)
    model = read_model(tmp_path)
    head = Head(UNADAPTED.weights, (-SURE, SURE) * 3)
    tensors = {
        name: np.zeros(size, np.float32) for name, size in expected(model.network.shape).items()
    }
    write_model(tmp_path, model.network.shape, tensors, {"": head})
    text = "Dr. Smith left. He was late!\n\nA heading\n\nThen it rained. " * 40
    segmenter = LearnedSegmenter(str(tmp_path))
    assert segmenter.split(text) == RuleSegmenter().split(text)


def test_situations_know_marks_around() -> None:
    tokens = tokenize("a " * 200 + ", " + "b " * 200, np.zeros(0, np.int64), 512)
    cells = situations(tokens, np.arange(401) == 5)
    assert cells[5] == 1
    assert np.flatnonzero(cells == 4).tolist() == list(range(200 - 48, 200 + 81))
    tokens = tokenize("文" * 200 + "。" + "字" * 300, np.zeros(0, np.int64), 512)
    cells = situations(tokens, np.zeros(501, bool))
    assert np.flatnonzero(cells).tolist() == list(range(200 - 95, 200 + 161))


def test_situations_know_capitals_around() -> None:
    tokens = tokenize("a " * 200 + "B " + "c " * 20 + "d, e", np.zeros(0, np.int64), 512)
    cells = situations(tokens, np.zeros(len(tokens.ends), bool))
    assert set(cells[152:173].tolist()) == {2}
    assert set(cells[:152].tolist()) == {0}
    assert cells[-1] == 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"unit": "word"}, "sentence or paragraph"),
        ({"threshold": 1.0}, r"`threshold` must be in \(0, 1\)"),
        ({"max_chars": 10}, "`max_chars` must be at least 64"),
        ({"min_chars": 0}, "`min_chars` must be in"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    folder: str, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        LearnedSegmenter(folder, **options)  # type: ignore[arg-type]


def test_a_missing_folder_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="chunkwise train segmenter"):
        LearnedSegmenter(str(tmp_path / "none"))


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    with pytest.raises(ModelFormatError, match="not a segmenter's"):
        LearnedSegmenter(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert", "format": 1}')
    with pytest.raises(ModelFormatError, match="'bert'"):
        LearnedSegmenter(str(tmp_path))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    write_random_model(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for raw in (b"", whole[:4], whole[:-10], b"\xff" * len(whole)):
        path.write_bytes(raw)
        with pytest.raises(ModelFormatError, match="damaged"):
            read_model(tmp_path)
    path.unlink()
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read_model(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_random_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["shape"]["width"] = 32
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match="'enter' must have shape"):
        read_model(tmp_path)
    config["heads"].pop("")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match="no head for any language"):
        read_model(tmp_path)


def test_a_model_comes_back_as_it_was_written_within_rounding(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    tensors = {
        name: chance.normal(0, 1, size).astype(np.float32) for name, size in expected(SHAPE).items()
    }
    write_model(tmp_path, SHAPE, tensors, {"": UNADAPTED})
    ids = tokenize(random_text(2_000), np.zeros(0, np.int64), SHAPE.buckets).ids
    exact, stored = (
        BoundaryNetwork(SHAPE, tensors).score(ids),
        read_model(tmp_path).network.score(ids),
    )
    assert stored.shape == (len(ids), NUM_OUTPUTS)
    assert np.corrcoef(exact.ravel(), stored.ravel())[0, 1] > 0.999


def test_fingerprints_tell_models_and_options_apart(folder: str, tmp_path: Path) -> None:
    other = write_random_model(tmp_path, seed=1)
    made = [
        LearnedSegmenter(folder),
        LearnedSegmenter(other),
        LearnedSegmenter(folder, max_chars=100),
        LearnedSegmenter(folder, unit="paragraph"),
    ]
    assert len({segmenter.fingerprint for segmenter in made}) == 4
    assert LearnedSegmenter(folder).fingerprint == made[0].fingerprint
