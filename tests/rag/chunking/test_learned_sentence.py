"""`learned_sentence`: thresholding, priors on length, limits."""

from __future__ import annotations

import dataclasses
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from chunkwise.config import Settings
from chunkwise.errors import ConfigError
from chunkwise.pipeline import parts
from chunkwise.rag.chunking import Chunker, chunkers
from chunkwise.rag.chunking.learned_sentence import LearnedSentenceChunker
from chunkwise.rag.counting import named_counter
from chunkwise.rag.sentences.learned import LearnedSegmenter
from chunkwise.types import BoundaryOdds, BoundaryScorer, Document
from tests.fakes import CharCounter, SimpleSegmenter, WordBoundaries
from tests.rag.sentences.models import write_random_model

WORDS = named_counter("words")


@dataclass(frozen=True)
class Scripted(SimpleSegmenter):
    """A `BoundaryScorer` with these log-odds, one a word; the last of them for all further ones."""

    values: tuple[float, ...] = (0.0,)

    def log_odds(self, text: str, language: str | None = None) -> BoundaryOdds:
        starts, ends, _ = WordBoundaries().log_odds(text)
        filled = itertools.islice(
            itertools.chain(self.values, itertools.repeat(self.values[-1])), len(starts)
        )
        return BoundaryOdds(starts, ends, np.array(list(filled), np.float64))


def build(boundaries: BoundaryScorer, **options: object) -> Chunker:
    return chunkers.build(
        {"name": "learned_sentence", **options}, counter=WORDS, boundaries=boundaries
    )


def texts(chunker: Chunker, text: str) -> list[str]:
    return [text[a:b] for a, b in chunker.split(Document("d", text))]


def words(n: int) -> str:
    return " ".join(f"w{i}" for i in range(n))


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9, 0.97])
def test_a_flat_prior_is_plain_thresholding(threshold: float) -> None:
    rng = np.random.default_rng(0)
    values = tuple(rng.normal(-1, 2, 120).tolist())
    found = texts(
        build(Scripted(values=values), size=200, prior="uniform", threshold=threshold), words(120)
    )
    limit = np.log(threshold / (1 - threshold))
    ends = [i + 1 for i, value in enumerate(values[:-1]) if value > limit]
    expected = [
        " ".join(f"w{i}" for i in range(a, b)) for a, b in itertools.pairwise([0, *ends, 120])
    ]
    assert found == expected


def test_a_flat_prior_gives_the_sentences_of_the_trained_segmenter(tmp_path: Path) -> None:
    segmenter = LearnedSegmenter(write_random_model(tmp_path))
    text = "The dog ran home. it slept well there today and\nNobody came by, he said. " * 30
    odds = segmenter.log_odds(text)
    ends = {*odds.ends[odds.values > 0].tolist(), len(text.rstrip())}
    chunker = LearnedSentenceChunker(
        counter=WORDS, boundaries=segmenter, prior="uniform", threshold=0.5
    )
    assert {b for _, b in chunker.split(Document("d", text))} == ends
    assert {b for _, b in segmenter.split(text)} == ends


@pytest.mark.parametrize("prior", ["gaussian", "polynomial"])
def test_priors_draw_lengths_to_the_target(prior: str) -> None:
    sentences = Scripted(values=(-3.0, -3.0, -3.0, -3.0, 9.0) * 40)
    options = {"size": 40, "prior": prior, "target": 0.5, "spread": 0.1}
    found = texts(build(sentences, **options), words(200))
    assert [WORDS.count(chunk) for chunk in found] == [20] * 10


def test_the_shortest_length_is_kept_where_it_can_be() -> None:
    sure = Scripted(values=(9.0,))
    found = texts(build(sure, size=20, prior="uniform", min_size=6), words(50))
    assert min(map(WORDS.count, found)) >= 6
    assert texts(build(sure, size=20, prior="uniform", min_size=6), words(3)) == ["w0 w1 w2"]


def test_where_no_end_is_likely_the_likeliest_is_taken() -> None:
    values = [-3.0] * 60
    values[14] = values[29] = -1.0
    found = texts(build(Scripted(values=tuple(values)), size=20, prior="uniform"), words(45))
    assert [WORDS.count(chunk) for chunk in found] == [15, 15, 15]


def test_chinese_is_cut_at_its_sentences(tmp_path: Path) -> None:
    segmenter = LearnedSegmenter(write_random_model(tmp_path))
    text = "今天天气很好。我们去公园散步，看到很多花。" * 40
    chunker = LearnedSentenceChunker(counter=CharCounter(), boundaries=segmenter, size=90)
    spans = chunker.split(Document("d", text))
    assert "".join(text[a:b] for a, b in spans) == text
    assert max(b - a for a, b in spans) <= 90


def test_log_odds_of_a_long_text_are_those_of_its_parts_together(tmp_path: Path) -> None:
    segmenter = LearnedSegmenter(write_random_model(tmp_path))
    text = "Some words stand here. And then more of them came, in 1999! " * 3000
    odds = segmenter.log_odds(text)
    assert (np.diff(odds.starts) > 0).all()
    assert "".join(text.split()) == "".join(text[a:b] for a, b in zip(*odds[:2], strict=True))
    ends = odds.ends[odds.values > 0].tolist()
    assert ends[:-1] == [b for _, b in segmenter.split(text)][: len(ends) - 1]


@pytest.mark.slow
def test_ten_megabytes_in_one_line_take_linear_time() -> None:
    line = "some words in one line, " * 416_666
    chunker = LearnedSentenceChunker(counter=WORDS, boundaries=Scripted(values=(-3.0,)))
    began = time.perf_counter()
    spans = chunker.split(Document("d", line))
    assert time.perf_counter() - began < 60
    assert max(WORDS.count(line[a:b]) for a, b in spans) <= 200


@pytest.mark.parametrize(
    "options",
    [{"prior": "flat"}, {"threshold": 1.0}, {"spread": 0.0}, {"target": 2.0}, {"min_size": 201}],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        build(WordBoundaries(), **options)


def test_without_a_trained_segmenter_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(chunker="learned_sentence", counter="words")
    monkeypatch.setattr(parts, "packaged_folder", lambda name: None)
    with pytest.raises(ConfigError, match=r"'rules' cannot say how sure it is.*train segmenter"):
        _ = parts.Parts(settings).chunker
    folder = write_random_model(tmp_path)
    own = dataclasses.replace(
        settings, embedder="hashing", segmenter={"name": "learned", "folder": folder}
    )
    built = parts.Parts(own)
    assert built.chunker.boundaries is built.segmenter  # type: ignore[attr-defined]
    assert built.segmenter.fingerprint in built.recipe()["chunk"]
