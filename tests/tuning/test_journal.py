"""The journal keeps whole lines, whatever happens in the middle of one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from chunkwise.errors import StoreError
from chunkwise.tuning.journal import Journal

ROWS = {"q1": {"recall": 0.5}, "q2": {"recall": 1.0}}


def test_rows_come_back_and_add_up(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("a", ROWS, {"chunks": 3}, {"configuration": {"size": 100}})
    journal.append("a", {"q3": {"recall": 0.0}}, {"chunks": 3}, {})
    journal.append("b", ROWS, {"chunks": 5}, {})
    for each in (journal, Journal(path)):
        assert each.rows("a") == {**ROWS, "q3": {"recall": 0.0}}
        assert each.sizes("b") == {"chunks": 5}
        assert each.rows("c") == each.sizes("c") == {}


def test_a_half_written_last_line_is_dropped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append("a", ROWS, {}, {})
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        journal = Journal(path)
    assert "not whole" in caplog.text
    journal.append("b", ROWS, {}, {})
    caplog.clear()
    again = Journal(path)
    assert again.rows("a") == again.rows("b") == ROWS
    assert not caplog.text


@pytest.mark.parametrize("line", [b"{}", b"3", b'{"key": 1, "sizes": 2, "rows": 3}', b"\xff\x00"])
def test_a_damaged_line_is_named_and_left_out(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append("a", ROWS, {}, {})
    path.write_bytes(line + b"\n" + path.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert Journal(path).rows("a") == ROWS
    assert "line 1 is damaged" in caplog.text


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        Journal(tmp_path)
