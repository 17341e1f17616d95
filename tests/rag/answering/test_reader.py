"""The `reader` answerer: one verbatim span with its citations, or "not found"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chunkwise import config, packaged
from chunkwise.errors import ConfigError
from chunkwise.pipeline.parts import Parts
from chunkwise.rag.answering.base import NOT_FOUND_TEXT
from chunkwise.rag.answering.reader import ReaderAnswerer
from chunkwise.rag.answering.reading import FoundSpan, SpanReader
from chunkwise.rag.sentences.rules import RuleSegmenter
from chunkwise.types import Answer, Query
from tests.fakes import make_hit
from tests.rag.answering.readers import write_reader


@dataclass
class ScriptedReader:
    """Finds what it was told to."""

    found: list[FoundSpan]
    threshold: float = 0.5
    asked: list[tuple[str, list[str]]] = field(default_factory=list)

    def read(self, question: str, passages: Sequence[str]) -> list[FoundSpan]:
        self.asked.append((question, list(passages)))
        return self.found


HITS = [
    make_hit("The rent is 500 euros.", document="lease.txt", start=10),
    make_hit("Rent: 500  Euros", document="notes.txt", start=3),
    make_hit("Pets are not allowed.", document="lease.txt", start=90),
]
FOUND = [FoundSpan(0, 12, 21, 0.9), FoundSpan(2, 0, 4, 0.4), FoundSpan(1, 6, 16, 0.3)]


def answer(reader: ScriptedReader, **options: float) -> Answer:
    *pieces, last = ReaderAnswerer(reader, **options).stream(Query("rent?"), HITS)  # type: ignore[arg-type]
    assert isinstance(last, Answer)
    assert pieces == [last.text]
    return last


def test_the_answer_is_the_best_span_and_cites_the_same_words_elsewhere() -> None:
    reader = ScriptedReader(FOUND)
    given = answer(reader)
    assert reader.asked == [("rent?", [hit.chunk.text for hit in HITS])]
    assert given.text == "500 euros"
    assert given.confidence == 0.9
    assert [(c.document, c.start, c.end, c.text) for c in given.citations] == [
        ("lease.txt", 22, 31, "500 euros"),
        ("notes.txt", 9, 19, "500  Euros"),
    ]
    assert given.fidelity == {"kind": "verbatim"}
    assert answer(reader, max_citations=1).citations == given.citations[:1]


def test_the_sentence_or_row_around_the_words_is_cited() -> None:
    text = "It is old. The rent is 500 euros.\nPets are not allowed."
    table = "| what | euros |\n| --- | --- |\n| rent | 500 euros |\n| heat | 80 |"
    hits = [make_hit(text, start=10), make_hit(table, document="b.md")]
    spans = [text.index("500"), table.index("500")]
    found = [FoundSpan(i, at, at + len("500 euros"), 0.9) for i, at in enumerate(spans)]
    found.insert(1, FoundSpan(0, spans[0] - 1, spans[0] + 9, 0.8))  # the same, with a blank
    reader = ReaderAnswerer(ScriptedReader(found), segmenter=RuleSegmenter())
    *_, given = reader.stream(Query("rent?"), hits)
    assert isinstance(given, Answer)
    assert given.text == "500 euros"
    assert [c.text for c in given.citations] == ["The rent is 500 euros.", "| rent | 500 euros |"]
    assert given.citations[0].start == 10 + text.index("The")


def test_below_the_threshold_nothing_is_found() -> None:
    for options, reader in (
        ({}, ScriptedReader(FOUND, threshold=0.95)),
        ({"threshold": 0.91}, ScriptedReader(FOUND)),
    ):
        given = answer(reader, **options)
        assert (given.text, given.found, given.citations) == (NOT_FOUND_TEXT, False, ())
        assert given.confidence == 0.9
    assert answer(ScriptedReader(FOUND, threshold=0.95), threshold=0.0).found


def test_without_passages_nothing_is_found() -> None:
    given = answer(ScriptedReader([]))
    assert (given.found, given.confidence) == (False, 0.0)


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"max_citations": 0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ReaderAnswerer(ScriptedReader([]), **options)  # type: ignore[arg-type]


def test_a_reader_that_is_set_answers_unless_a_model_is(tmp_path: Path) -> None:
    folder = str(write_reader(tmp_path / "reader"))
    resolved = config.load(arguments={"reader_model": folder}, environ={})
    assert resolved.settings.answerer == "reader"
    assert "reader_model" in resolved.reasons["answerer"]
    parts = Parts(resolved.settings)
    answerer = parts.answerer()
    assert isinstance(answerer, ReaderAnswerer)
    assert isinstance(answerer.reader, SpanReader)
    assert parts.answerer().reader is answerer.reader  # type: ignore[attr-defined]
    both = config.load(arguments={"reader_model": folder, "model": "m"}, environ={})
    assert both.settings.answerer == "generative"


def test_without_weights_the_default_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    assert config.load(environ={}).settings.answerer == "extractive"
    folder = write_reader(tmp_path / "reader")
    (folder / packaged.CARD).write_text("{}")
    resolved = config.load(environ={})
    assert resolved.settings.answerer == "reader"
    assert "packaged" in resolved.reasons["answerer"]
    assert isinstance(Parts(resolved.settings).answerer(), ReaderAnswerer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reader_model": "nowhere"}, "`reader_model` is 'nowhere': there is no such folder"),
        ({"answerer": "reader"}, "chunkwise train reader"),
    ],
)
def test_a_reader_that_is_not_there_is_an_error(
    arguments: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    settings = config.load(arguments=arguments, environ={}).settings
    with pytest.raises(ConfigError, match=message):
        Parts(settings).answerer()
