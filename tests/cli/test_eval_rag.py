"""`chunkwise eval rag` in real processes: scores, rows, comparison, remembered verdicts, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import HASHING, parsed, process, run
from tests.cli.test_evaluation import write

EXTRACTIVE = ("--answerer", "extractive")
PIER = "The pier of Oban was built by Ann Lee in 1931. Boats leave it at noon."
ASKED: list[dict[str, Any]] = [
    {"question": "When was the pier of Oban built?", "answers": ["1931"], "id": "pier"},
    {"question": "Who won the chess cup in Baku?", "answers": [], "id": "chess"},
    {
        "question": "What is baked at noon?",
        "answers": ["Bread is baked at noon."],
        "contexts": ["Bread is baked at noon.", "The oven is older than the mill."],
        "id": "bread",
    },
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pier.txt").write_text(PIER)
    run("add", "pier.txt", "-c", "c", *HASHING, cwd=tmp_path)
    write(tmp_path / "q.jsonl", ASKED)
    return tmp_path


def rag(*more: str) -> tuple[str, ...]:
    return ("eval", "rag", "q.jsonl", "-c", "c", *EXTRACTIVE, *more)


def test_answers_and_passages_are_judged_kept_and_compared(folder: Path) -> None:
    found = parsed(*rag("--rows", "r.jsonl", "--verdicts", "v.jsonl"), cwd=folder)
    assert (found["judge"], found["answerer"], found["questions"]) == ("offline", "extractive", 3)
    assert found["weak_embedder"] is True
    assert found["failed"] == []
    assert found["faithfulness"]["value"] == 1
    assert found["context_recall"]["value"] == 1
    rows = {
        row["id"]: row for row in map(json.loads, (folder / "r.jsonl").read_text().splitlines())
    }
    assert list(rows) == ["pier", "chess", "bread"]
    assert "1931" in rows["pier"]["prediction"]
    assert rows["chess"]["context_recall"] is None
    assert rows["bread"]["context_precision"] == 1
    assert 0 < rows["bread"]["noise_share"] < 1
    verdicts = (folder / "v.jsonl").read_text()
    table = run(*rag("--baseline", "r.jsonl", "--verdicts", "v.jsonl"), cwd=folder)
    assert (folder / "v.jsonl").read_text() == verdicts != ""
    assert "less the baseline" in table
    assert "context precision" in table
    assert "+0.000" in table
    strict = ("--judge", '{"name": "offline", "min_overlap": 0.9}')
    done = process(*rag("--baseline", "r.jsonl", *strict), cwd=folder)
    assert done.returncode == 1
    assert "compare runs of one judge" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--judge", "offlin"), "Did you mean 'offline'"),
        (("--judge", "{"), "is not JSON"),
        (("--judge", '{"name": "offline", "min_overlap": 7}'), "must be in (0, 1]"),
        (("--judge", "model"), "No language model is set"),
        (("--baseline", "q.jsonl"), "has no `judge`"),
        (("--verdicts", "q.jsonl"), "is the file that is read"),
        (("--verdicts", "v", "--rows", "v"), "--verdicts and --rows both name"),
        (("--rows", "q.jsonl"), "is the file that is read"),
    ],
)
def test_what_is_wrong_is_named(more: tuple[str, ...], message: str, folder: Path) -> None:
    done = process(*rag(*more), cwd=folder)
    assert done.returncode in (1, 2)
    assert message in done.stderr.replace("\n", " ")
