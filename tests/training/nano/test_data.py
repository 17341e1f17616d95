"""What is trained on: texts with an open licence, and questions that people wrote."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from chunkwise.errors import TrainingDataError
from chunkwise.training.nano import real
from chunkwise.training.nano.corpus import Corpus
from chunkwise.training.nano.prompts import Prompts
from chunkwise.training.nano.texts import is_held_out, read_texts
from tests.training.toys import write_rows, write_span_data

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


def write_package(root: Path, name: str, copyright_text: str) -> None:
    """A package as dpkg lists it: a README and a manual page."""
    doc, man = root / "usr/share/doc" / name, root / "usr/share/man/man1"
    info = root / "var/lib/dpkg/info"
    for folder in (doc, man, info):
        folder.mkdir(parents=True, exist_ok=True)
    (doc / "copyright").write_text(copyright_text)
    (doc / "README.md").write_text(f"The tool {name}. " * 50)
    page = f'.TH {name} 1\n.SH NAME\n{name} \\- does \\fBthings\\fR\n.\\" hidden\n' * 30
    (man / f"{name}.1.gz").write_bytes(gzip.compress(page.encode()))
    paths = ["copyright", "README.md"]
    lines = [f"/usr/share/doc/{name}/{path}" for path in paths]
    (info / f"{name}.list").write_text("\n".join([*lines, f"/usr/share/man/man1/{name}.1.gz"]))


def test_only_packages_with_a_known_licence_are_read(tmp_path: Path) -> None:
    write_package(tmp_path, "free", FORMAT + "License: MIT or GPL-2+\nLicense: BSD-3-clause\n")
    write_package(tmp_path, "odd", FORMAT + "License: MIT\nLicense: non-commercial\n")
    write_package(tmp_path, "old", "This was packaged by hand.\n")
    (found,) = read_texts(tmp_path / "no data", str(tmp_path))
    assert found.source.file == "debian/free"
    assert found.source.licence == "BSD-3-clause and MIT or GPL-2+"
    assert len(found.documents) == 2
    page = next(text for text in found.documents if "NAME" in text)
    assert "free - does things" in page
    assert "hidden" not in page


def test_texts_of_the_data_folder_come_with_their_licences(data: Path, tmp_path: Path) -> None:
    (found,) = read_texts(data, "")
    assert found.source.licence == "Public domain"
    assert len(found.source.sha256) == 64
    damaged = tmp_path / "text" / "peps_rst.jsonl.gz"
    damaged.parent.mkdir()
    damaged.write_bytes(b"no gzip")
    with pytest.raises(TrainingDataError, match=r"peps_rst\.jsonl\.gz"):
        read_texts(tmp_path, "")


def test_pieces_have_one_length_and_stay_in_their_document(data: Path, prompts: Prompts) -> None:
    corpus = Corpus(read_texts(data, ""), prompts.tokenizer)
    chance = random.Random(1)
    for _ in range(20):
        pieces = corpus.draw(chance, 700)
        assert len({len(piece) for piece in pieces}) == 1
        assert len(pieces[0]) - 1 in (64, 128, 256, 512)
        assert sum(len(piece) - 1 for piece in pieces) <= max(700, len(pieces[0]) - 1)
    with pytest.raises(TrainingDataError, match="too short"):
        Corpus([], prompts.tokenizer)


def test_documents_are_held_out_by_their_hash() -> None:
    share = sum(is_held_out(f"document {i}") for i in range(2000)) / 2000
    assert 0.005 < share < 0.04


def test_real_questions_become_contexts_with_their_passage(tmp_path: Path) -> None:
    write_span_data(tmp_path)
    row = {
        "supporting_facts": [["Ada", 0], ["Mill", 0]],
        "question": "Who built the mill of Ada?",
        "answer": "Bob",
        "context": [["Other", ["No."]], ["Ada", ["Ada has a mill."]], ["Mill", ["Bob built it."]]],
    }
    write_rows(tmp_path / "qa_multihop" / "hotpotqa_train100_distractor.jsonl.gz", [row])
    write_rows(tmp_path / "qa_multihop" / "2wikimultihopqa_dev200.jsonl.gz", [row])
    cases, sources, hashes = real.read_cases(tmp_path)
    assert {case.split for case in cases} == {"train", "valid", "test"}
    assert set(hashes) == {"squad2", "hotpot", "2wiki_dev"}
    assert len(sources) == 2, "what is only measured on is no source"
    assert all(source.is_confirmed for source in sources)
    chance = random.Random(0)
    for case in cases:
        context = real.as_context(case, ["Nothing at all."], chance, most=1)
        assert set(case.passages) <= set(context.passages)
        for question in context.questions:
            is_there = any(question.answer in passage for passage in context.passages)
            assert is_there or question.answer == "NOT_FOUND"


def test_a_row_of_another_form_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "qa_multihop" / "musique_train100.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(json.dumps({"question": "Who?"}).encode()))
    with pytest.raises(TrainingDataError, match="line 1"):
        real.read_cases(tmp_path)
