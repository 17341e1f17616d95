"""Which files are found in folders, under which names, and what is said of the rest."""

import os
from pathlib import Path

import pytest

from chunkwise.rag.parsing.files import Skipped, document_name, walk
from chunkwise.rag.parsing.worker import Job


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with `docs` inside."""
    for name in ("docs/b.md", "docs/a.txt", "docs/sub/c.md", "docs/.hidden/d.md", "docs/.e.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*paths: str, **options: object) -> list[str]:
    return [item.name for item in walk(paths, **options)]  # type: ignore[arg-type]


def skipped(*paths: str) -> dict[str, str]:
    return {item.name: item.error for item in walk(paths) if isinstance(item, Skipped)}


def test_folders_are_expanded_in_order_without_hidden_files(here: Path) -> None:
    assert names("docs") == ["docs/a.txt", "docs/b.md", "docs/sub/c.md"]
    assert names("./docs/", "docs/sub/../b.md") == names("docs")
    assert names(".") == names("docs")
    assert names("docs/.hidden", "docs/.e.md") == ["docs/.hidden/d.md", "docs/.e.md"]
    assert all(Path(item.path).is_file() for item in walk(["docs"]) if isinstance(item, Job))


def test_names_inside_a_root_do_not_depend_on_where_we_are(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ["docs/a.txt", "docs/b.md", "docs/sub/c.md"]
    assert names("docs", root=here) == expected
    assert names(str(here / "docs"), root=here) == expected
    monkeypatch.chdir(here / "docs" / "sub")
    assert names("..", root=here) == expected
    assert names("c.md", root=here) == ["docs/sub/c.md"]
    assert document_name("c.md", here / "elsewhere") == str(here / "docs/sub/c.md")
    (here / "link").symlink_to(here / "docs")
    assert document_name(here / "link" / "a.txt", here / "docs") == "a.txt"


def test_patterns_choose_files(here: Path) -> None:
    assert names("docs", include=["*.md"]) == ["docs/b.md", "docs/sub/c.md"]
    assert names("docs", exclude=["sub"]) == ["docs/a.txt", "docs/b.md"]
    assert names("docs", exclude=["sub/*"]) == ["docs/a.txt", "docs/b.md"]
    assert names("docs", include=["docs/sub/*"]) == ["docs/sub/c.md"]
    assert names("docs/a.txt", include=["*.md"]) == ["docs/a.txt"]
    assert names("docs", leave_out=["docs/sub"]) == ["docs/a.txt", "docs/b.md"]


def test_each_real_folder_is_visited_once(here: Path) -> None:
    (here / "docs/sub/loop").symlink_to(here / "docs")
    (here / "docs/sub/root").symlink_to("/")
    (here / "docs/aa").symlink_to(here / "docs/sub")
    (here / "other").mkdir()
    (here / "other/f.md").write_text("text")
    (here / "other/self").symlink_to(here / "other")
    (here / "docs/away").symlink_to(here / "other")
    (here / "docs/z").symlink_to(here / "other")
    assert names("docs") == ["docs/a.txt", "docs/away/f.md", "docs/b.md", "docs/sub/c.md"]


def test_what_cannot_be_taken_is_reported(here: Path) -> None:
    os.mkfifo(here / "docs/fifo")
    (here / "docs/gone").symlink_to(here / "nowhere")
    (here / "docs/round").symlink_to(here / "docs/round")
    (here / "docs/film.xyz").write_bytes(b"\0\1\2" * 100)
    (here / "docs/notes.xyz").write_text("plain")
    (here / "docs/wide.xyz").write_bytes("plain".encode("utf-16"))
    (here / os.fsdecode(b"docs/\xff.txt")).write_text("text")
    found = skipped("docs", "missing")
    assert set(found) == {
        "docs/fifo",
        "docs/gone",
        "docs/round",
        "docs/film.xyz",
        "docs/\\udcff.txt",
        "missing",
    }
    assert "'.xyz'" in found["docs/film.xyz"]
    assert "not there" in found["missing"]
    assert "Unicode" in found["docs/\\udcff.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_without_permission_is_reported(here: Path) -> None:
    os.chmod(here / "docs/sub", 0)
    try:
        assert "permission denied" in skipped("docs")["docs/sub"]
    finally:
        os.chmod(here / "docs/sub", 0o700)
