"""`chunkwise eval chunking` in real processes: scores, a comparison of two ways to cut, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import HASHING, parsed, process, run
from tests.cli.test_evaluation import write

TEXTS = {
    "pier.txt": "The pier is green. It was built by Ann Lee in 1931. "
    "Boats leave it at noon, and return at five. Nobody swims there.",
    "bread.txt": "Bread is baked at six. The oven is older than the mill. "
    "Rye takes two hours, wheat takes one. The shop opens at eight.",
}
ASKED: list[dict[str, Any]] = [
    {
        "question": "Who built the pier?",
        "references": [{"document": "pier.txt", "text": "It was built by Ann Lee in 1931."}],
        "id": "pier",
    },
    {
        "question": "How long does rye take?",
        "references": [{"document": "bread.txt", "start": 56, "end": 75}],
    },
]


def flags(text: str) -> list[str]:
    return ["eval", "chunking", *text.split()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    cut = ("--chunker", "sentence", *HASHING)
    run("add", *TEXTS, "--corpus", "small", "--size", "9", *cut, cwd=tmp_path)
    run("add", *TEXTS, "--corpus", "large", "--size", "200", *cut, cwd=tmp_path)
    write(tmp_path / "q.jsonl", ASKED)
    return tmp_path


def test_chunks_that_hold_more_than_the_answer_lose_precision(folder: Path) -> None:
    small = parsed(*flags("q.jsonl -k 2 -c small --rows s.jsonl"), cwd=folder)
    assert small["questions"] == 2
    assert small["chunker"] == "sentence"
    assert small["recall"]["value"] > 0.5
    asked = flags("q.jsonl -k 2 -c large --baseline s.jsonl --budget 30")
    large = parsed(*asked, cwd=folder)
    assert large["recall"]["value"] == 1
    assert large["best_iou"]["value"] < small["best_iou"]["value"]
    assert large["iou"]["value"] <= large["best_iou"]["value"]
    less = large["baseline"]["precision_omega"]["value"]
    assert less == pytest.approx(
        large["precision_omega"]["value"] - small["precision_omega"]["value"]
    )
    assert "recall_at_400" not in large
    written = [json.loads(line) for line in (folder / "s.jsonl").read_text().splitlines()]
    assert [row["id"] for row in written] == ["pier", "2"]
    table = run(*asked, cwd=folder)
    assert "lost by chunking" in table
    assert "recall at 30" in table
    assert "less the baseline" in table


def test_the_published_arithmetic_is_shown_on_demand(folder: Path) -> None:
    asked = flags("q.jsonl -c small --compat chroma")
    found = parsed(*asked, cwd=folder)
    table = run(*asked, cwd=folder)
    assert f"{found['chroma_precision']['value']:.3f}" in table
    assert "lost by chunking" not in table


def test_questions_are_made_kept_and_measured_with(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name, text in TEXTS.items():
        title = name.partition(".")[0].capitalize()
        page = f"# {title}\n\n{text}\n\n# More of the {title}\n\nThat is all there is to say.\n"
        (tmp_path / "docs" / name).with_suffix(".md").write_text(page)
    run("add", "docs", "-c", "c", "--size", "20", *HASHING, cwd=tmp_path)
    made = parsed("eval", "questions", "-c", "c", "-o", "q.jsonl", "--seed", "1", cwd=tmp_path)
    assert made["made_by"] == "rules"
    assert made["kept"] == made["made"] - sum(made["dropped"].values()) > 0
    assert sum(made["kinds"].values()) == made["kept"]
    lines = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert len(lines) == made["kept"]
    found = parsed(*flags("q.jsonl -c c --rows rows.jsonl"), cwd=tmp_path)
    assert found["questions"] == made["kept"]
    assert found["documents_with_headings"] == 2
    assert 0 <= found["pk_headings"]["value"] <= found["windowdiff_headings"]["value"] <= 1
    row = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
    assert row["lost_by_chunking"] == pytest.approx(1 - row["best_iou"])
    assert row["lost_by_retrieval"] == pytest.approx(row["best_iou"] - row["iou"])
    done = process(*flags("-c c"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "made_by: rules" in done.stdout
    assert "WindowDiff, headings" in done.stdout
    assert "The embedder is weak" in done.stderr
    table = run("eval", "questions", "-c", "c", "-o", "q.jsonl", cwd=tmp_path)
    assert "answered as well elsewhere" in table


def test_a_corpus_that_gives_no_question_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello.")
    run("add", "a.txt", "-c", "c", *HASHING, cwd=tmp_path)
    for arguments in (("eval", "questions", "-c", "c", "-o", "q.jsonl"), flags("-c c")):
        done = process(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "no question could be made by rules" in done.stderr
        assert "give a file of questions" in done.stderr
    assert not (tmp_path / "q.jsonl").exists()


def test_cohesion_is_measured_with_the_packaged_model(folder: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jinja2")
    found = parsed(*flags("q.jsonl -c small --cohesion"), cwd=folder)
    assert 0 < found["boundary_clarity"] < 2
    assert found["separation"] < 0
    assert found["stickiness"] >= 0
    total = 0.3 * found["boundary_clarity"] + 0.7 * found["separation"]
    assert found["chunk_score"] == pytest.approx(total, abs=1e-3)


def test_perplexity_and_intent_cut_by_the_command(folder: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jinja2")
    for chunker in ("perplexity", "intent"):
        add = ("--corpus", chunker, "--size", "20", "--chunker", chunker, *HASHING)
        run("add", *TEXTS, *add, cwd=folder)
        found = parsed(*flags(f"q.jsonl -c {chunker}"), cwd=folder)
        assert found["chunker"] == chunker
        assert found["chunks"] >= 4
        assert found["recall"]["value"] > 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"references": [{"document": "pier.txt", "text": "no such words"}]}, "does not hold"),
        ({"references": [{"document": "pier.txt", "start": 5, "end": 9999}]}, "is not in"),
        ({"references": [{"document": "pier.txt", "start": 5, "end": 5}]}, "is not in"),
        (
            {"references": [{"document": "pier.txt", "start": 0, "end": 3, "text": "Our"}]},
            "has 'The' at 0",
        ),
        ({"references": [{"document": "pear.txt", "text": "x"}]}, "'pear.txt': no such document"),
        ({"references": []}, "must be a list of objects"),
        ({"answers": ["1931"]}, "must be a list of objects"),
    ],
)
def test_spans_that_are_not_there_are_named(
    line: dict[str, Any], message: str, folder: Path
) -> None:
    write(folder / "bad.jsonl", [ASKED[0], {"question": "Who?", **line}])
    done = process(*flags("bad.jsonl -c small"), cwd=folder)
    assert done.returncode == 1
    assert "bad.jsonl, line 2" in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.jsonl -c small", "cannot be read"),
        ("q.jsonl -c nowhere", "no corpus"),
        ("q.jsonl -c small --compat ours", "must be exact or chroma"),
        ("q.jsonl -c small --baseline q.jsonl", "was not scored by the `references`"),
        ("q.jsonl -c small --rows q.jsonl", "is the file that is read"),
        ("q.jsonl -c small --retriever sparse", "sparse"),
    ],
)
def test_what_is_wrong_is_named(given: str, message: str, folder: Path) -> None:
    done = process(*flags(given), cwd=folder)
    assert done.returncode in (1, 2)
    assert message in done.stderr.replace("\n", " ")
