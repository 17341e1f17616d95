"""Texts: treebank files, plain files, what is held out, lists that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chunkwise.errors import TrainingDataError
from chunkwise.evaluation.segmentation import GoldText
from chunkwise.training.sentences.texts import (
    HELD_OUT,
    Document,
    document_of,
    read_all,
    read_conllu,
    silver_document,
    split_held_out,
)
from tests.training.test_segmenter import write_data

CONLLU = """# newdoc id = a
# text = Eins ist eins.
1\tEins\t_\t_\t_\t_\t_\t_\t_\t_
2\t.\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No

# text = Zwei?
1\tZwei\t_\t_\t_\t_\t_\t_\t_\t_

# newdoc id = b
# text = Drei
1\tDrei\t_\t_\t_\t_\t_\t_\t_\t_
"""


def row(language: str, first: int, n: int) -> GoldText:
    sentences = [f"This is number {first + i} of {language}." for i in range(n)]
    ends, at = [], 0
    for sentence in sentences:
        at += len(sentence)
        ends.append(at)
        at += 1
    return GoldText(" ".join(sentences), tuple(ends), language)


def test_treebank_files_give_documents_with_gaps(tmp_path: Path) -> None:
    path = tmp_path / "x.conllu"
    path.write_text(CONLLU, encoding="utf-8")
    one, other = read_conllu(path, "de")
    assert one == Document("de", ("Eins ist eins.", "Zwei?"), ("", " "), False, True)
    assert other.sentences == ("Drei",)
    assert read_conllu(path, "ja")[0].gaps == ("", "")


def test_gold_texts_give_sentences_and_gaps() -> None:
    found = document_of(GoldText("A b.\nC d. ", (4, 9), "en"), has_lines=True)
    assert found == Document("en", ("A b.", "C d."), ("\n", "\n"), True, True)


def test_plain_text_has_the_sentences_of_the_rules() -> None:
    found = silver_document(["One is it. Two is it.", "Three"], "en")
    assert found.sentences == ("One is it.", "Two is it.", "Three")
    assert found.gaps == (" ", "\n\n", "\n\n")


def test_held_out_texts_are_split_by_language_and_never_by_order() -> None:
    rows = [row("en", 0, 1000), *(row("pt", 100 * i, 30) for i in range(20))]
    adapt, test = split_held_out(rows)
    for language, total in (("en", 1000), ("pt", 600)):
        sizes = [sum(len(t.ends) for t in part if t.language == language) for part in (adapt, test)]
        assert 200 < sizes[0] <= 256
        assert sum(sizes) == total
    assert split_held_out(rows[::-1]) == (adapt, test)
    assert all(text.text[: text.ends[0]].startswith("This is") for text in adapt)


def test_held_out_sentences_are_not_learnt(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    corpora = tmp_path / "corpora"
    corpora.mkdir()
    held = read_all(data, None).test[0]
    sentence = held.text[: held.ends[0]]
    long_lines = "\n".join(f"A line that is long enough to be read {i}." for i in range(300))
    (corpora / "en.txt").write_text(f"{long_lines}\n{sentence} And one more behind it.\n")
    entry = {"file": "en.txt", "language": "en", "licence": "MIT", "origin": "o", "is_confirmed": 1}
    (corpora / "sources.json").write_text(json.dumps([entry]))
    texts = read_all(data, corpora)
    learnt = {each for document in texts.documents for each in document.sentences}
    assert "And one more behind it." in learnt
    assert sentence not in learnt
    assert texts.sources[-1].file == "o/en.txt"
    assert HELD_OUT in texts.hashes
    assert HELD_OUT not in [source.file for source in texts.sources]


@pytest.mark.parametrize(
    ("listed", "reason"),
    [(None, "cannot be read"), ("[{}]", "another form"), ("x", "form")],
)
def test_a_list_of_corpora_that_cannot_be_used_is_named(
    tmp_path: Path, listed: str | None, reason: str
) -> None:
    data = write_data(tmp_path / "data")
    (tmp_path / "corpora").mkdir()
    if listed is not None:
        (tmp_path / "corpora" / "sources.json").write_text(listed)
    with pytest.raises(TrainingDataError, match=rf"sources\.json.*{reason}"):
        read_all(data, tmp_path / "corpora")
