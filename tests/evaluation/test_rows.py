"""Lines in and out: errors name file and line, nothing is left half written."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from pathlib import Path

import pytest

from chunkwise.errors import ConfigError, DocumentError
from chunkwise.evaluation.rows import Line, read_lines, writing_rows


def test_reads_lines_gzipped_or_not_and_passes_over_blank_ones(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": "\xe4\xb8\xad"}'
    for name, content in (("x.jsonl", data), ("x.jsonl.gz", gzip.compress(data))):
        file = tmp_path / name
        file.write_bytes(content)
        lines = list(read_lines(file))
        assert [(line.number, line.values["a"]) for line in lines] == [(1, 1), (4, "中")]
        assert {line.file for line in lines} == {str(file)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.jsonl: is empty; it must hold one JSON object a line"),
        (b"\n \n", "x.jsonl: is empty"),
        (b'{"a": 1}\n{"a": \n', "x.jsonl, line 2: is no JSON: Expecting value"),
        (b'{"a": 1}\n\n[1]\n', r"x.jsonl, line 3: must be a JSON object, got \[1\]"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "x.jsonl, line 2: is no UTF-8 text"),
        (b"[" * 200_000, "x.jsonl, line 1: is no JSON"),
        (b"1" * 5000, "x.jsonl, line 1: is no JSON"),
        (gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-9], "x.jsonl: cannot be read: "),
        (b"\x1f\x8bgarbage", "x.jsonl: cannot be read: "),
    ],
)
def test_a_bad_file_is_named_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(DocumentError, match=message):
        list(read_lines(tmp_path / "x.jsonl"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"none\.jsonl: cannot be read: No such file"):
        list(read_lines(tmp_path / "none.jsonl"))
    with pytest.raises(DocumentError, match="cannot be read: Is a directory"):
        list(read_lines(tmp_path))


def test_values_of_another_type_are_refused() -> None:
    line = Line("f", 7, {"t": 1, "l": ["a", 2], "n": "x", "id": 1.5, "nan": float("nan")})
    with pytest.raises(DocumentError, match="f, line 7: `t` must be text, got 1"):
        line.text("t")
    with pytest.raises(DocumentError, match="f, line 7: has no `u`; it has: t, l, n, id, nan"):
        line.text("u")
    with pytest.raises(DocumentError, match=r"`l` must be a list of texts, got \['a', 2\]"):
        line.texts("l")
    with pytest.raises(DocumentError, match="`n` must be a number, got 'x'"):
        line.number_at("n")
    with pytest.raises(DocumentError, match="`nan` must be a number"):
        line.number_at("nan")
    with pytest.raises(DocumentError, match=r"`id` must be text or a whole number, got 1\.5"):
        line.id()
    assert line.text("u", "") == ""
    assert (Line("f", 7, {}).id(), Line("f", 7, {"id": 3}).id()) == ("7", "3")


def test_rows_that_were_written_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"a": "中 \ud800 \u2028", "b": None}, {"a": "\n", "b": 0.5}]
    with writing_rows(file) as write:
        for row in rows:
            write(row)
        assert not file.exists()
    assert [dict(line.values) for line in read_lines(file)] == rows
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_a_run_that_is_stopped_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("before")
    with contextlib.suppress(KeyboardInterrupt), writing_rows(file) as write:
        write({"a": 1})
        raise KeyboardInterrupt
    assert file.read_text() == "before"
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_errors_of_the_body_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of another file"), writing_rows(tmp_path / "r"):
        raise OSError("of another file")


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "rows.jsonl")
    with writing_rows(tmp_path / "link") as write:
        write({"a": 1})
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"a": 1}
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/rows", "none/rows' cannot be written: No such file or directory"),
        ("file/rows", "file/rows' cannot be written: Not a directory"),
        ("folder", "folder' cannot be written: it is there and no file"),
        ("n" * 300, "cannot be written: File name too long"),
        ("/dev/null", "cannot be written: it is there and no file"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_the_work(
    name: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=message), writing_rows(tmp_path / name):
        pytest.fail("the work began")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
