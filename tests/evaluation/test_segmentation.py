"""Segmenters against gold sentences: files, texts without punctuation, sums by language."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DocumentError
from chunkwise.evaluation.boundaries import BoundaryCounts, boundaries
from chunkwise.evaluation.segmentation import (
    GoldText,
    by_language,
    corrupted,
    evaluate_segmenter,
    read_texts,
    summarise_segmentation,
)
from tests.fakes import SimpleSegmenter


def write(path: Path, *rows: dict[str, Any]) -> Path:
    data = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_reads_texts(name: str, tmp_path: Path) -> None:
    rows = (
        {"text": "Ja. Nein.", "spans": [[0, 3], [4, 9]], "lang": "de", "doc": 1},
        {"text": "中", "spans": []},
    )
    assert read_texts(write(tmp_path / name, *rows)) == [
        GoldText("Ja. Nein.", (3, 9), "de"),
        GoldText("中", ()),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"spans": []}, "line 2: has no `text`"),
        ({"text": "a"}, r"line 2: `spans` must be a list of \[start, end\].*the line has: text"),
        ({"text": "a", "spans": [[0, 2]]}, r"line 2: `spans` holds \[0, 2\].*<= 1: in order"),
        ({"text": "abcd", "spans": [[0, 3], [2, 4]]}, r"holds \[2, 4\].*with 3 <= start"),
        ({"text": "a", "spans": [[0, 0]]}, r"holds \[0, 0\]"),
        ({"text": "a", "spans": [[0, 1.0]]}, r"holds \[0, 1.0\]"),
        ({"text": "a", "spans": [[False, True]]}, r"holds \[False, True\]"),
        ({"text": "a", "spans": [1]}, "holds 1"),
        ({"text": "a", "spans": [], "lang": 3}, "`lang` must be text, got 3"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "t.jsonl", {"text": "", "spans": []}, row)
    with pytest.raises(DocumentError, match=message):
        read_texts(file)


@pytest.mark.parametrize(
    ("text", "ends", "plain", "moved"),
    [
        ("Oui ! Non.", (5, 10), "oui non", (4, 7)),
        ("Don't stop: it's well-known.", (28,), "dont stop its wellknown", (23,)),
        ("“Go,” he said. 中文。好", (14, 18, 19), "go he said 中文好", (10, 13, 14)),
        ("A - B\n- C!", (5, 10), "a b\nc", (3, 5)),
        ("Oui !\nNon.", (5, 10), "oui \nnon", (4, 8)),  # a line break stays
        ("... So.", (3, 7), "so", (0, 2)),  # a sentence of punctuation only is gone
        ("a  b $5", (7,), "a  b $5", (7,)),  # blanks and symbols that were there stay
        ("İst. Öl.", (4, 8), "i̇st öl", (4, 7)),  # lower case may be longer
    ],
)
def test_corrupted_worked_values(
    text: str, ends: tuple[int, ...], plain: str, moved: tuple[int, ...]
) -> None:
    assert corrupted(GoldText(text, ends, "xx")) == GoldText(plain, moved, "xx")


@given(st.text(alphabet="aB. ,!'\n中。ß", max_size=40), st.data())
def test_corrupted_keeps_the_other_characters_and_the_order_of_ends(
    text: str, data: st.DataObject
) -> None:
    ends = tuple(sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6))))
    found = corrupted(GoldText(text, ends))
    kept = [c.lower() for c in text if not c.isspace() and c not in ".,!'。"]
    assert [c for c in found.text if not c.isspace()] == kept
    assert found.text.count("\n") == text.count("\n")
    # The same letters stand before every end.
    letters = [sum(c not in " \n.,!'。" for c in text[:end]) for end in ends]
    places, _ = boundaries(found.text, found.ends)
    assert places == set(letters) - {0, len(kept)}
    assert corrupted(found) == GoldText(found.text, tuple(dict.fromkeys(found.ends)))


TEXTS = [
    GoldText("Ja. Nein. Doch", (3, 9, 14), "de"),
    GoldText("Yes. No, Mr. X.", (4, 15), "en"),  # one too many is found
    GoldText("One. Two.", (4, 9), "en"),
    GoldText("Hm", (2,)),
]


def test_sums_are_over_texts_by_language() -> None:
    counts = list(evaluate_segmenter(TEXTS, SimpleSegmenter()))
    assert [(c.shared, c.found, c.gold) for c in counts] == [
        (2, 2, 2),
        (1, 2, 1),
        (1, 1, 1),
        (0,) * 3,
    ]
    grouped = by_language(TEXTS, counts)
    assert {language: len(each) for language, each in grouped.items()} == {
        "de": 1,
        "en": 2,
        "und": 1,
    }
    english = summarise_segmentation(grouped["en"])
    assert (english.num_texts, english.num_ends) == (2, 2)
    assert english.measures["precision"].value == pytest.approx(2 / 3)
    assert english.measures["f1"].value == pytest.approx(4 / 5)
    assert english.measures["f1"].low == pytest.approx(2 / 3)  # the first text alone
    german = summarise_segmentation(grouped["de"]).measures["f1"]
    assert german.value == 1
    assert math.isnan(german.low)  # one text says nothing of chance
    unknown = summarise_segmentation(grouped["und"]).measures
    assert math.isnan(unknown["f1"].value)
    assert unknown["pk"].value == 0
    overall = summarise_segmentation(counts).measures
    assert overall["f1"].value == pytest.approx(8 / 9)


def test_the_segmenter_is_told_the_language() -> None:
    told = []

    class Listening(SimpleSegmenter):
        def split(self, text: str, language: str | None = None) -> list[Any]:
            told.append(language)
            return []

    counts = list(evaluate_segmenter(TEXTS, Listening()))
    assert told == ["de", "en", "en", None]
    assert isinstance(counts[0], BoundaryCounts)
