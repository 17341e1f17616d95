"""Span data: answers are found again, documents stay on one side, licences are kept."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import ConfigError, TrainingDataError
from chunkwise.training.spans.data import (
    FILES,
    chosen_names,
    cut_text,
    part,
    read_set,
    split_of,
)
from tests.training.toys import write_rows, write_span_data


def squad(context: str, *qas: tuple[str, str, int], **row: Any) -> dict[str, Any]:
    asked = [
        {"question": q, "answers": [{"text": text, "answer_start": start}]}
        for q, text, start in qas
    ]
    return {"title": "t", "paragraphs": [{"context": context, "qas": asked}], **row}


def read(data: Path, name: str, *rows: dict[str, Any]) -> list[tuple[str, list[str]]]:
    write_rows(data / FILES[name].path, rows)
    found, _ = read_set(data, name)
    texts = [p.text for p in found.passages]
    return [(q.text, [texts[q.passage][a:b] for a, b in q.answers]) for q in found.questions]


def test_answers_are_looked_up_again_where_offsets_are_wrong(tmp_path: Path) -> None:
    context = "red and blue and red"
    found = read(
        tmp_path,
        "policy",
        squad(context, ("right", "blue", 8), ("off", "red", 15), ("none", "green", 0)),
    )
    assert found == [("right", ["blue"]), ("off", ["red"])]
    whole, _ = read_set(tmp_path, "policy")
    assert whole.questions[1].answers[0] == (17, 20)


def test_long_documents_become_passages_that_hold_their_answers(tmp_path: Path) -> None:
    context = "".join(f"Sentence number {i} is here. " for i in range(400))
    place = context.index("number 333")
    found = read(tmp_path, "covid", squad(context, ("which", "number 333", place)))
    assert found == [("which", ["number 333"])]
    whole, _ = read_set(tmp_path, "covid")
    assert len(whole.passages) > 8
    assert "".join(p.text for p in whole.passages) == context


def test_other_languages_are_left_out(tmp_path: Path) -> None:
    rows = [squad("drei Eier", ("wie viele", "drei", 0), lang="de")]
    rows.append(squad("three eggs", ("how many", "three", 0), lang="en"))
    assert read(tmp_path, "xquad", *rows) == [("how many", ["three"])]


def test_sentences_of_clapnq_are_loose_answers(tmp_path: Path) -> None:
    passage = {"title": "t", "text": "One is one . Two is two .", "sentences": []}
    rows = [
        {
            "answerable": True,
            "input": "two",
            "passages": [passage],
            "output": [{"selected_sentences": ["Two is two ."]}],
        },
        {"answerable": False, "input": "three", "passages": [passage], "output": [{}]},
    ]
    assert read(tmp_path, "clapnq", *rows) == [("two", ["Two is two ."]), ("three", [])]
    assert all(q.is_loose for q in read_set(tmp_path, "clapnq")[0].questions)


def test_natural_questions_take_answers_that_stand_in_the_passage(tmp_path: Path) -> None:
    passage = {"title": "t", "text": "It has 291 episodes, in all 291 episodes."}
    rows = [
        {"question": "how many", "answers": ["291 episodes", "none", "291"], "ctxs": [passage]},
        {"question": "who", "answers": ["nobody"], "ctxs": [passage]},
    ]
    assert read(tmp_path, "nq", *rows) == [("how many", ["291 episodes", "291"])]


@given(st.text(max_size=400), st.integers(1, 50))
def test_pieces_tile_the_text(text: str, size: int) -> None:
    spans = cut_text(text, size)
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(b - a <= size for a, b in spans)


def test_a_document_is_in_one_split_however_its_title_is_written(tmp_path: Path) -> None:
    assert split_of("French_and_Indian_War") == split_of("french and  indian war")
    whole, _ = read_set(write_span_data(tmp_path), "squad2")
    parts = {name: part(whole, name) for name in ("train", "valid", "test")}
    documents = [{p.document for p in some.passages} for some in parts.values()]
    assert all(documents)
    assert not documents[0] & documents[1] | documents[1] & documents[2]
    assert sum(len(p.questions) for p in parts.values()) == len(whole.questions)
    for some in parts.values():
        for question in some.questions:
            text = some.passages[question.passage].text
            assert all(text[a:b] for a, b in question.answers)


def test_what_nobody_licensed_is_used_only_when_named(monkeypatch: pytest.MonkeyPatch) -> None:
    licensed = chosen_names("licensed", "amazon")
    assert licensed == ["squad2", "xquad", "policy", "covid", "clapnq", "nq", "reddit"]
    assert all(FILES[name].is_confirmed for name in licensed)
    unlicensed = dataclasses.replace(FILES["covid"], is_confirmed=False)
    monkeypatch.setitem(FILES, "covid", unlicensed)
    assert chosen_names("licensed", "amazon") == [name for name in licensed if name != "covid"]
    assert chosen_names("all", "amazon") == licensed
    assert chosen_names("reddit, squad2", "amazon") == ["reddit", "squad2"]
    for wrong in ("amazon", "", "squad3"):
        with pytest.raises(ConfigError):
            chosen_names(wrong, "amazon")
    with pytest.raises(ConfigError, match="Did you mean 'squad2'"):
        chosen_names("squad3", "amazon")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing: the set 'squad2' needs it"),
        (b"no gzip", "cannot be read as gzipped text"),
        (gzip.compress(b"no json\n", mtime=0), "line 1: not in the form"),
        (gzip.compress(b'{"paragraphs": []}\n{"title": 1}\n', mtime=0), "line 2: not in the form"),
        (gzip.compress(b"[]\n", mtime=0), "line 1: not in the form"),
        (gzip.compress(b'{"title": "t", "paragraphs": []}', mtime=0), "has no questions"),
        (gzip.compress("é".encode("latin-1"), mtime=0), "cannot be read as gzipped text"),
    ],
)
def test_missing_and_wrong_files_are_named(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / FILES["squad2"].path
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingDataError, match=message):
        read_set(tmp_path, "squad2")
    with pytest.raises(TrainingDataError, match="no such data folder"):
        read_set(tmp_path / "nowhere", "squad2")
