"""The command line as other programs and people use it: real processes, real files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parent.parent.parent / "samples"
HASHING = ("--embedder", "hashing")


def run(*arguments: str | Path, code: int = 0, cwd: Path | None = None) -> str:
    """Standard output of a command that must end with `code`."""
    done = process(*arguments, cwd=cwd)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def process(
    *arguments: str | Path, cwd: Path | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CHUNKWISE_")}
    return subprocess.run(
        [sys.executable, "-m", "chunkwise", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environ,
        input=text,
        check=False,
    )


def parsed(*arguments: str | Path, code: int = 0, cwd: Path | None = None) -> Any:
    return json.loads(run(*arguments, "--json", code=code, cwd=cwd))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "c"
    run("add", SAMPLES, "--corpus", folder, *HASHING)
    return folder


def test_add_reports_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    first = parsed("add", SAMPLES, "--corpus", tmp_path / "c", *HASHING)
    assert first["added"] == 9
    assert first["failed"] == []
    assert first["embedded"] > 0
    second = parsed("add", SAMPLES, "--corpus", tmp_path / "c")
    assert second["added"] == second["updated"] == 0
    assert second["unchanged"] == 9
    assert second["embedded"] == second["chunks"]["new"] == 0


def test_search_json_has_the_shape_that_programs_rely_on(corpus: Path) -> None:
    found = parsed("search", "battery pack cost", "-k", "3", "--corpus", corpus)
    assert 1 <= len(found["hits"]) <= 3
    hit = found["hits"][0]
    assert {"id", "score", "document", "start", "end", "text", "page"} <= set(hit)
    assert "battery" in hit["text"]
    assert hit["document"].endswith("annual-report-2025.pdf")
    assert hit["page"] == 1  # where the chunk begins; the words are on the next


def test_search_can_narrow_hits_to_whole_sentences(corpus: Path) -> None:
    spec = '{"name": "span_grounding", "hits": 2, "mode": "beam"}'
    whole = parsed("search", "battery pack cost", "--corpus", corpus)["hits"]
    found = parsed("search", "battery pack cost", "--corpus", corpus, "--retriever", spec)["hits"]
    assert found
    for hit in found:
        assert any(hit["text"] in each["text"] for each in whole)
        assert hit["end"] - hit["start"] == len(hit["text"])


def test_chunk_offsets_count_characters_of_the_text_it_writes(tmp_path: Path) -> None:
    for name in ("crew-handbook.md", "annual-report-2025.pdf", "fares.xlsx", "fuel_model.py"):
        file = SAMPLES / name
        text_out = tmp_path / "text"
        lines = run("chunk", file, "--size", "40", "--json", "--text-out", text_out)
        text = text_out.read_bytes().decode("utf-8")
        for line in lines.splitlines():
            piece = json.loads(line)
            assert text[piece["start"] : piece["end"]] == piece["text"]
            assert 0 < piece["tokens"] <= 40


def test_chunk_shows_what_is_embedded_before_each(tmp_path: Path) -> None:
    file = SAMPLES / "crew-handbook.md"
    flags = ("--enriched", "--set", "enrich=headings,keywords", "--set", "embedder=hashing")
    lines = run("chunk", file, *flags, "--json", "--corpus", tmp_path / "c").splitlines()
    assert all(json.loads(line)["enrichment"]["keywords"] for line in lines)
    shown = run("chunk", file, *flags, "--corpus", tmp_path / "c")
    assert "keywords: " in shown
    assert "headings: " in shown


def test_ask_cites_exact_characters(corpus: Path) -> None:
    answer = parsed("ask", "How much did the battery pack cost?", "--corpus", corpus)
    assert {"text", "citations", "usage", "fidelity", "timings_ms"} <= set(answer)
    assert "9.4 million" in answer["text"]
    citation = answer["citations"][0]
    assert {"document", "start", "end", "text", "page"} <= set(citation)
    assert citation["page"] == 2
    assert answer["fidelity"]["kind"] == "verbatim"


def test_ask_says_when_nothing_is_found(corpus: Path) -> None:
    answer = parsed("ask", "Who won the chess world cup in Baku?", "--corpus", corpus)
    assert answer["found"] is False
    assert answer["citations"] == []


def test_filters_come_before_ranking(corpus: Path) -> None:
    found = parsed("search", "battery", "--path", "*.pptx", "--corpus", corpus)
    assert found["hits"]
    assert all(hit["document"].endswith(".pptx") for hit in found["hits"])


def test_ls_and_rm(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    run("add", SAMPLES, "--corpus", folder, *HASHING)
    documents = parsed("ls", "--corpus", folder)["documents"]
    assert len(documents) == 9
    assert all(d["version"] == 1 and d["chunks"] > 0 and d["recipe"] for d in documents)
    assert parsed("rm", "*.csv", "--corpus", folder)["documents"] == 1
    assert len(parsed("ls", "--corpus", folder)["documents"]) == 8
    assert not parsed("doctor", "--corpus", folder)["problems"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "x", "--corpus", "nowhere"], 1, "no corpus"),
        (["add", "x", "--sise", "3"], 2, "No such option"),
        (["add", "x.txt", "--chunker", "recursiv"], 2, "Did you mean 'recursive'"),
        (["add", "x.txt", "--set", "sise=3"], 2, "Did you mean 'size'"),
        (["add", "x.txt", "--size", "0"], 2, "at least 1"),
        (["ask", " ", "--corpus", "nowhere"], 2, "must be text and not empty"),
        (["serch", "x"], 2, "search"),
        (["chunk", "missing.txt"], 1, "missing.txt"),
    ],
)
def test_wrong_usage_is_named(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = process(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_one_bad_file_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "good.md").write_text("# Tea\n\nWater boils at 100 degrees.\n")
    (tmp_path / "docs" / "bad.pdf").write_bytes(b"%PDF-1.7\ngarbage")
    (tmp_path / "docs" / "empty.txt").write_bytes(b"")
    (tmp_path / "docs" / "song.xyz").write_bytes(bytes(range(256)))
    report = parsed("add", "docs", *HASHING, code=1, cwd=tmp_path)
    assert report["added"] == 1
    failed = {f["name"]: f["reason"] for f in report["failed"]}
    assert set(failed) == {"docs/bad.pdf", "docs/empty.txt"}
    assert "empty" in failed["docs/empty.txt"]
    assert [f["name"] for f in report["skipped"]] == ["docs/song.xyz"]


def test_names_do_not_depend_on_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("Tides are caused by the moon.")
    run("add", "docs", *HASHING, cwd=tmp_path)
    again = parsed("add", "a.txt", "--corpus", "../.chunkwise", cwd=tmp_path / "docs")
    assert again["unchanged"] == 1
    assert [d["name"] for d in parsed("ls", cwd=tmp_path)["documents"]] == ["docs/a.txt"]


def test_chat_answers_line_by_line(corpus: Path) -> None:
    questions = "How many bicycles may each ship carry?\n\nHow long is a deck watch?\n"
    done = process("chat", "--json", "--corpus", corpus, "--answerer", "extractive", text=questions)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 2
    assert "30 bicycles" in answers[0]["text"]
    assert "four hours" in answers[1]["text"]


def test_config_tells_where_a_value_comes_from(corpus: Path) -> None:
    rows = parsed("config", "--corpus", corpus, "--set", "size=77")["settings"]
    found = {row["name"]: row for row in rows}
    assert (found["size"]["value"], found["size"]["source"]) == (77, "argument")
    assert (found["embedder"]["value"], found["embedder"]["source"]) == ("hashing", "corpus")


def test_ctrl_c_keeps_what_was_committed(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for i in range(400):
        (docs / f"{i:03}.txt").write_text(f"Station {i} reports rain.\n\n" * 1000)
    command = [sys.executable, "-m", "chunkwise", "add", "docs", *HASHING]
    running = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    database = tmp_path / ".chunkwise"
    while not database.exists() and running.poll() is None:
        time.sleep(0.02)
    time.sleep(0.6)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert "Traceback" not in errors
    assert "what was stored stays" in errors
    assert running.returncode == 130
    assert not parsed("doctor", cwd=tmp_path)["problems"]
    report = parsed("add", "docs", cwd=tmp_path)
    assert report["added"] + report["unchanged"] == 400


def test_doctor_remakes_lost_vectors(tmp_path: Path) -> None:
    run("add", SAMPLES, "--corpus", tmp_path / "c", *HASHING)
    before = parsed("search", "battery", "--retriever", "dense", "--corpus", tmp_path / "c")
    for file in (tmp_path / "c" / "vectors").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert parsed("doctor", "--corpus", tmp_path / "c", code=1)["problems"]
    repaired = parsed("doctor", "--repair", "--corpus", tmp_path / "c")
    assert repaired["repaired"]
    assert repaired["problems"] == []
    after = parsed("search", "battery", "--retriever", "dense", "--corpus", tmp_path / "c")
    assert after == before


def test_embed_changes_the_embedder_and_add_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    run("add", SAMPLES / "crew-handbook.md", "--corpus", folder, *HASHING)
    changed = '{"name": "hashing", "dim": 64}'
    done = process("add", SAMPLES, "--corpus", folder, "--embedder", changed)
    assert done.returncode == 2
    assert "chunkwise embed" in done.stderr
    assert parsed("embed", "--corpus", folder, "--embedder", changed)["embedded"] > 0
    assert parsed("add", SAMPLES, "--corpus", folder)["added"] == 8
    assert parsed("search", "dogs", "--retriever", "dense", "--corpus", folder)["hits"]


def test_a_wrong_name_leaves_nothing_behind(tmp_path: Path) -> None:
    file = SAMPLES / "crew-handbook.md"
    run("add", file, "--corpus", tmp_path / "c", "--embedder", "hashin", code=2)
    assert not (tmp_path / "c").exists()
    run("add", file, "--corpus", tmp_path / "c", *HASHING)
    run("add", file, "--corpus", tmp_path / "c", "--chunker", "recursiv", code=2)
    assert parsed("add", file, "--corpus", tmp_path / "c")["unchanged"] == 1


def test_prune_removes_only_what_is_gone_and_was_named(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / name).write_text(f"{name} speaks of tides.")
    elsewhere = tmp_path / "elsewhere" / "home"
    elsewhere.mkdir(parents=True)
    corpus = elsewhere / ".chunkwise"
    run("add", tmp_path / "docs", "--corpus", corpus, *HASHING)
    (tmp_path / "docs").rename(tmp_path / "unplugged")
    gone = parsed("add", tmp_path / "docs", "--prune", "--corpus", corpus, code=1)
    assert gone["removed"] == 0
    assert parsed("add", ".", "--prune", "--corpus", corpus, cwd=elsewhere)["removed"] == 0
    (tmp_path / "unplugged").rename(tmp_path / "docs")
    (tmp_path / "docs" / "b.txt").unlink()
    assert parsed("add", tmp_path / "docs", "--prune", "--corpus", corpus)["removed"] == 1


def test_file_names_with_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "docs" / "bad [").mkdir(parents=True)
    (tmp_path / "docs" / "notes [draft].txt").write_text("Tides are caused by the moon.")
    (tmp_path / "docs" / "bad [/red].txt").write_text("")
    done = process("add", "docs", *HASHING, cwd=tmp_path)
    assert done.returncode == 1
    assert "bad [/red].txt" in done.stderr
    assert "notes [draft].txt" in run("ls", cwd=tmp_path)


def test_a_parent_folder_gives_the_same_names(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "docs").mkdir(parents=True)
    (home / "docs" / "a.txt").write_text("Tides are caused by the moon.")
    run("add", "docs", *HASHING, cwd=home)
    assert parsed("add", "..", cwd=home)["unchanged"] == 1


def test_threshold_needs_an_answerer_that_has_one(corpus: Path) -> None:
    flags = ("--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--threshold", "0.5")
    done = process("ask", "x", "--corpus", corpus, *flags)
    assert done.returncode == 2
    assert "threshold" in done.stderr


def test_a_bad_settings_file_is_named(tmp_path: Path) -> None:
    run("add", SAMPLES / "timetable.csv", "--corpus", tmp_path / "c", *HASHING)
    (tmp_path / "c" / "chunkwise.toml").write_text("sise = 3\n")
    done = process("search", "ferry", "--corpus", tmp_path / "c")
    assert done.returncode == 2
    assert "Did you mean 'size'" in done.stderr
    assert "chunkwise.toml" in done.stderr


def test_algorithms_that_need_an_option_say_which(tmp_path: Path) -> None:
    file = SAMPLES / "timetable.csv"
    for flags, option in (
        (("--counter", "huggingface"), "path"),
        (("--embedder", "openai"), "model"),
    ):
        done = process("add", file, "--corpus", tmp_path / "c", *flags)
        assert done.returncode == 2
        assert f"needs the option '{option}'" in done.stderr
    done = process("add", file, "--corpus", tmp_path / "c", *HASHING, "--set", "segmenter=nope")
    assert done.returncode == 2
    assert not (tmp_path / "c").exists()


def test_paths_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    assert "not there" in process("add", "nope", *HASHING, cwd=tmp_path).stderr
    assert not (tmp_path / ".chunkwise").exists()
    (tmp_path / "d").mkdir()
    done = process("add", "d", "--corpus", "d", *HASHING, cwd=tmp_path)
    assert done.returncode == 2
    assert "is the corpus itself" in done.stderr


def test_a_server_without_a_model_is_an_error(corpus: Path) -> None:
    done = process("ask", "x", "--corpus", corpus, "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert "no `model` is named" in done.stderr


def test_a_full_disk_under_the_output_is_no_traceback(corpus: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chunkwise", "ls", "--json", "--corpus", str(corpus)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
