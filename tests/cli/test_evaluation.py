"""`chunkwise eval` in real processes: tables, JSON, rows, comparison, and what is wrong."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import HASHING, parsed, process, run

WEAK = ("--set", "embedder=hashing")
EXTRACTIVE = ("--answerer", "extractive")
QUESTIONS: list[dict[str, Any]] = [
    {
        "question": "When did the museum in Port Grey open?",
        "answers": ["1931", "The museum in Port Grey opened in 1931."],
        "contexts": ["The pier is green.", "The museum in Port Grey opened in 1931."],
    },
    {
        "question": "Who won the chess world cup in Baku?",
        "answers": [],
        "context": "Bread is baked at noon.",
        "id": "chess",
    },
]
TEXTS = [
    {"text": "Ja. Nein. Doch.", "spans": [[0, 3], [4, 9], [10, 15]], "lang": "de"},
    {"text": "Mr. Fox ran. He fell.", "spans": [[0, 12], [13, 21]], "lang": "en"},
    {"text": "Yes! No.", "spans": [[0, 4], [5, 8]], "lang": "en"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_answers_from_contexts_need_no_corpus(tmp_path: Path) -> None:
    file, rows = write(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "rows.jsonl"
    found = parsed("eval", "qa", file, "--rows", rows, *EXTRACTIVE, *WEAK, cwd=tmp_path)
    assert found["questions"] == 2
    assert found["answerable"] == 1
    assert found["failed"] == []
    assert found["answerer"] == "extractive"
    assert found["baseline"] is None
    assert found["exact"]["value"] == found["f1"]["value"] == found["auc"]["value"] == 1
    assert found["answered"] == {"value": 0.5, "low": 0.0, "high": 1.0}
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["id"] for row in written] == ["1", "chess"]
    assert [row["prediction"] for row in written] == ["The museum in Port Grey opened in 1931.", ""]
    assert [row["exact"] for row in written] == [1, 1]
    assert not (tmp_path / ".chunkwise").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["q.jsonl", "rows.jsonl"]


def test_a_run_is_compared_with_an_earlier_one(tmp_path: Path) -> None:
    file, rows = write(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "rows.jsonl"
    run("eval", "qa", file, "--rows", rows, *EXTRACTIVE, *WEAK)
    flags = ("--baseline", rows, "--threshold", "1", *EXTRACTIVE, *WEAK)
    found = parsed("eval", "qa", file, *flags)
    assert found["exact"]["value"] == 0.5  # nothing is answered any more
    against = found["baseline"]
    assert against["file"] == str(rows)
    assert against["exact"] == {"value": -0.5, "low": -1.0, "high": 0.0}
    assert against["auc"]["value"] == 0
    table = run("eval", "qa", file, *flags)
    assert "less the baseline" in table
    assert "-0.500 [-1.000, +0.000]" in table
    assert "AUC of abstention" in table
    assert "2 questions, 1 answerable, by extractive" in table


def test_answers_from_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The pier is green. The museum in Port Grey opened in 1931.")
    run("add", "a.txt", *HASHING, cwd=tmp_path)
    asked = [{k: v for k, v in QUESTIONS[0].items() if k != "contexts"}]
    found = parsed("eval", "qa", write(tmp_path / "q.jsonl", asked), cwd=tmp_path)
    assert found["f1"]["value"] > 0.5
    assert found["f1"]["low"] is None  # one question has no interval
    assert found["auc"] == {"value": None, "low": None, "high": None}


def test_a_question_that_is_too_long_for_the_model_is_named_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jinja2")
    run("models", "fake", "m", "--like", "tiny-llama", "--dtype", "float32", cwd=tmp_path)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["max_position_embeddings"] = 4096  # bytes of a prompt, with this tokenizer
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    long = {"question": "Who?", "answers": [], "context": "Ann came. " * 1000, "id": "long"}
    file, rows = write(tmp_path / "q.jsonl", [long, QUESTIONS[0]]), tmp_path / "rows.jsonl"
    flags = ("--model", "m", "--set", "max_tokens=4", "-s", "kernels=reference", *WEAK)
    found = parsed("eval", "qa", file, "--rows", rows, *flags, code=1, cwd=tmp_path)
    assert found["answerer"] == "generative"
    assert [failed["id"] for failed in found["failed"]] == ["long"]
    first, second = (json.loads(line) for line in rows.read_text().splitlines())
    assert "too long" in first["error"] or "tokens" in first["error"]
    assert (first["exact"], first["prediction"]) == (0, "")
    assert second["error"] == ""
    done = process("eval", "qa", file, *flags, cwd=tmp_path)
    assert done.returncode == 1
    assert "failed: long: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["eval", "qa", "none.jsonl"], 1, "none.jsonl: cannot be read: No such file"),
        (["eval", "qa", "empty.jsonl"], 1, "empty.jsonl: is empty"),
        (["eval", "qa", "bad.jsonl"], 1, "bad.jsonl, line 2: is no JSON"),
        (["eval", "qa", "t.jsonl"], 1, "t.jsonl, line 1: has no `question`"),
        (["eval", "qa", "q.jsonl", "--rows", "none/r"], 2, "'none/r' cannot be written"),
        (["eval", "qa", "q.jsonl", "--rows", "q.jsonl"], 2, "is the file that is read"),
        (["eval", "qa", "q.jsonl", "--baseline", "none"], 1, "none: cannot be read"),
        (["eval", "qa", "q.jsonl", "--baseline", "q.jsonl"], 1, "has no `prediction`"),
        (["eval", "qa", "q.jsonl", "--answerer", "extractiv"], 2, "Did you mean 'extractive'"),
        (["eval", "qa", "open.jsonl", "--corpus", "nowhere"], 1, "no corpus"),
        (["eval", "segmentation", "none.jsonl"], 1, "none.jsonl: cannot be read"),
        (["eval", "segmentation", "q.jsonl"], 1, "q.jsonl, line 1: has no `text`"),
        (["eval", "segmentation", "t.jsonl", "--segmenter", "rule"], 2, "Did you mean 'rules'"),
        (["eval", "segmentation", "t.jsonl", "--rows", "t.jsonl"], 2, "is the file that is read"),
        (["eval", "perplexity", "q.jsonl"], 1, "q.jsonl, line 1: has no `text`"),
        (["eval", "perplexity", "t.jsonl"], 2, "No language model is set"),
        (["eval", "perplexity", "t.jsonl", "--model", "nan"], 2, "`model` is 'nan'"),
        (
            ["eval", "perplexity", "t.jsonl", "-s", "base_url=http://localhost:1/v1"],
            2,
            "by a local model only",
        ),
    ],
)
def test_what_is_wrong_is_named(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    write(tmp_path / "q.jsonl", QUESTIONS)
    write(tmp_path / "open.jsonl", [*QUESTIONS, {"question": "Who?", "answers": []}])
    write(tmp_path / "t.jsonl", TEXTS)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.jsonl").write_text(json.dumps(QUESTIONS[0]) + "\n{\n")
    flags = WEAK if arguments[1] == "qa" else ()
    done = process(*arguments, *flags, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part")]


def test_sentences_by_language_and_overall(tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl.gz", TEXTS)
    found = parsed("eval", "segmentation", file, "--segmenter", "rules", cwd=tmp_path)
    assert found["segmenter"] == "rules"
    assert found["corrupted"] is False
    assert list(found["languages"]) == ["de", "en"]
    english = found["languages"]["en"]
    assert (english["texts"], english["ends"]) == (2, 2)
    assert english["f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert english["pk"]["value"] == english["windowdiff"]["value"] == 0
    assert found["languages"]["de"]["f1"] == {"value": 1.0, "low": None, "high": None}
    assert found["overall"]["texts"] == 3
    table = run("eval", "segmentation", file, cwd=tmp_path)
    assert "boundary F1" in table
    assert "1.000 [1.000, 1.000]" in table
    assert [line.split()[0] for line in table.splitlines()] == ["language", "de", "en", "all"]


def test_what_was_counted_in_each_text_is_written(tmp_path: Path) -> None:
    file, rows = write(tmp_path / "t.jsonl", TEXTS), tmp_path / "rows.jsonl"
    run("eval", "segmentation", file, "--segmenter", "rules", "--rows", rows)
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [(row["lang"], row["gold"], row["found"]) for row in written] == [
        ("de", 2, 2),
        ("en", 1, 1),
        ("en", 1, 1),
    ]
    assert [row["text"] for row in written] == [each["text"] for each in TEXTS]


def test_perplexity_of_a_local_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run("models", "fake", "m", "--like", "tiny-llama", "--dtype", "float32", cwd=tmp_path)
    file, rows = write(tmp_path / "t.jsonl", TEXTS), tmp_path / "rows.jsonl"
    flags = ("--model", "m", "-s", "kernels=reference")
    found = parsed("eval", "perplexity", file, "--rows", rows, *flags, cwd=tmp_path)
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    nats, tokens = (sum(row[key] for row in written) for key in ("nats", "tokens"))
    assert (found["model"], found["texts"], found["tokens"]) == ("m", 3, tokens)
    assert found["perplexity"]["value"] == pytest.approx(math.exp(nats / tokens))
    assert sum(row["bytes"] for row in written) == sum(len(each["text"]) for each in TEXTS)
    table = run("eval", "perplexity", file, *flags, cwd=tmp_path)
    assert "bits per byte" in table
    assert f"3 texts, {tokens} tokens, by m" in table


def test_sentences_without_punctuation_and_case(tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl", TEXTS)
    found = parsed("eval", "segmentation", file, "--corrupt", cwd=tmp_path)
    assert found["corrupted"] is True
    assert found["overall"]["ends"] == 4
    assert found["overall"]["f1"]["value"] == 0  # rules go by punctuation
    assert found["overall"]["pk"]["value"] > 0
