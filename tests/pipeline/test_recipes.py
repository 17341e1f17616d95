"""Recipes side by side: a derived corpus is what a new one by its settings would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chunkwise
from chunkwise.errors import ConfigError, StoreError, UnknownNameError
from chunkwise.llm.kv.disk import file_name
from chunkwise.pipeline import recipes
from chunkwise.pipeline.corpus import Corpus
from tests.cli.test_commands import HASHING, parsed, process, run

WORDS = ["ferry", "harbour", "ticket", "winter", "crew", "valve", "fuel", "engine"]
PLAIN: dict[str, Any] = {"embedder": "hashing", "retriever": "hybrid", "workers": 1}


def text(number: int) -> str:
    return ". ".join(f"{WORDS[(number + n) % 8]} {number} {n} sails" for n in range(60)) + "."


@pytest.fixture
def corpus(tmp_path: Path) -> Iterator[Corpus]:
    (tmp_path / "docs").mkdir()
    for number in range(4):
        (tmp_path / "docs" / f"{number}.txt").write_text(text(number))
    with chunkwise.open(tmp_path / "corpus", size=60, **PLAIN) as opened:
        opened.add(tmp_path / "docs")
        yield opened


def stored(corpus: Corpus) -> dict[str, Any]:
    """What is stored, and found, independent of row numbers."""
    spans = {i.name: [c.span for c in corpus.store.chunks(i.name)] for i in corpus.documents()}
    hits = corpus.search("ferry 2 17 sails", 5)
    return {"spans": spans, "hits": [(h.document, h.chunk.span, round(h.score, 6)) for h in hits]}


def fresh(corpus: Corpus, **settings: Any) -> dict[str, Any]:
    """What a new corpus with these settings would store."""
    folder = corpus.folder.with_name("fresh")
    with chunkwise.open(folder, **(PLAIN | {"size": 60} | settings)) as made:
        made.add(corpus.folder.with_name("docs"), prune=True)
        return stored(made)


def test_a_derived_corpus_is_what_a_new_one_would_be(corpus: Corpus) -> None:
    settings = {"size": 30, "chunker": "sentence"}
    with recipes.derive(corpus, corpus.folder / "recipes" / "b", **settings, **PLAIN) as derived:
        assert stored(derived) == fresh(corpus, **settings)
        assert derived.check() == []
    assert corpus.settings.size == 60


def test_what_both_embed_alike_is_not_embedded_again(corpus: Corpus) -> None:
    (corpus.folder.with_name("docs") / "short.txt").write_text("A short one, which both cut alike.")
    corpus.add(corpus.folder.with_name("docs"))
    folder = corpus.folder / "recipes" / "b"
    recipes.derive(corpus, folder, size=30).close()
    with recipes.open_recipe(corpus, "b") as derived:
        assert recipes.update(corpus, "b").embedded == 0
        shared = set(derived.store.content_ids()) & set(corpus.store.content_ids())
        report = Corpus(folder, context_tokens=0).recut()
    assert len(shared) == 1
    assert report.embedded == 0  # documents without headings have the same forms


def test_only_new_forms_are_embedded_when_a_corpus_is_cut_again(corpus: Corpus) -> None:
    with Corpus(corpus.folder, size=30) as other:
        report = other.recut()
        distinct = len(other.store.content_ids())
    assert 0 < report.embedded <= distinct
    with Corpus(corpus.folder, size=30) as other:
        assert other.recut().unchanged == 4


def test_an_update_follows_changed_new_and_removed_documents(corpus: Corpus) -> None:
    recipes.derive(corpus, corpus.folder / "recipes" / "b", size=30, **PLAIN).close()
    docs = corpus.folder.with_name("docs")
    (docs / "0.txt").write_text(text(9))
    (docs / "1.txt").unlink()
    (docs / "5.txt").write_text(text(5))
    corpus.add(docs, prune=True)
    report = recipes.update(corpus, "b")
    assert (report.updated, report.added, report.removed, report.unchanged) == (1, 1, 1, 2)
    with recipes.open_recipe(corpus, "b") as derived:
        assert stored(derived) == fresh(corpus, size=30)


def test_another_embedder_alone_cuts_nothing_again(corpus: Corpus) -> None:
    folder = corpus.folder / "recipes" / "b"
    recipes.derive(corpus, folder).close()
    other = {"embedder": {"name": "hashing", "dim": 64}}
    with recipes.derive(corpus, folder, **other) as derived:
        assert derived.store.documents()[0].version == 1
        assert derived.parts.embedder.dim == 64
        assert derived.check() == []
        assert "cut" not in Corpus(folder, **other).recut().seconds


def test_adopting_a_recipe_makes_the_corpus_what_the_recipe_is(corpus: Corpus) -> None:
    with recipes.derive(corpus, corpus.folder / "recipes" / "b", size=30, **PLAIN) as derived:
        wanted = stored(derived)
    assert recipes.adopt(corpus, "b").embedded == 0
    with chunkwise.open(corpus.folder, retriever="hybrid") as changed:
        assert changed.settings.size == 30
        assert stored(changed) == wanted


def test_what_a_file_sets_is_not_adopted_against_it(corpus: Corpus) -> None:
    recipes.derive(corpus, corpus.folder / "recipes" / "b", size=30).close()
    (corpus.folder / "chunkwise.toml").write_text("size = 60\n")
    with (
        chunkwise.open(corpus.folder) as opened,
        pytest.raises(ConfigError, match=r"chunkwise\.toml sets `size` to 60"),
    ):
        recipes.adopt(opened, "b")


def test_a_recipe_keeps_its_own_settings_over_those_of_the_corpus(corpus: Corpus) -> None:
    odd = {"name": "recursive"}
    others = {"retriever": "bm25", "answerer": {"name": "extractive"}, "chunker": odd}
    recipes.derive(corpus, corpus.folder / "recipes" / "b", size=30, **others).close()
    (corpus.folder / "chunkwise.toml").write_text('size = 50\npassages = 3\nretriever = "dense"\n')
    with recipes.open_recipe(corpus, "b") as derived:
        settings = derived.settings
        assert (settings.size, settings.passages, settings.retriever) == (30, 3, "bm25")
        assert settings.answerer == {"name": "extractive"}


def test_variables_do_not_change_what_a_recipe_is(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus.folder / "recipes" / "b"
    recipes.derive(corpus, folder, size=30).close()
    monkeypatch.setenv("CHUNKWISE_SIZE", "45")
    assert recipes.update(corpus, "b").unchanged == 4
    assert recipes.stored_recipe(folder)["size"] == 30
    with Corpus(corpus.folder) as opened, pytest.raises(ConfigError, match="CHUNKWISE_SIZE sets"):
        recipes.adopt(opened, "b")


def test_what_a_killed_run_has_begun_is_made_anew(corpus: Corpus) -> None:
    folder = corpus.folder / "recipes" / "b"
    folder.mkdir(parents=True)
    (folder / "chunkwise.toml").write_text('retriever = "bm25"\n')
    recipes.derive(corpus, folder, size=30, retriever="bm25").close()
    with recipes.open_recipe(corpus, "b") as derived:
        assert (derived.settings.size, derived.settings.retriever) == (30, "bm25")


def test_documents_go_to_the_origin_only(corpus: Corpus) -> None:
    with (
        recipes.derive(corpus, corpus.folder / "recipes" / "b", size=30) as derived,
        pytest.raises(ConfigError, match="recipe update"),
    ):
        derived.add(corpus.folder.with_name("docs"))


def test_what_cannot_be_derived_is_refused_and_nothing_is_touched(corpus: Corpus) -> None:
    folder = corpus.folder / "recipes" / "b"
    with pytest.raises(ConfigError, match="Did you mean 'size'"):
        recipes.derive(corpus, folder, sise=3)
    with pytest.raises(ConfigError, match="at least 1"):
        recipes.derive(corpus, folder, size=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'recursive'"):
        recipes.derive(corpus, folder, chunker="recursiv")
    assert not folder.exists()
    with pytest.raises(ConfigError, match="other things"):
        recipes.derive(corpus, corpus.folder.with_name("docs"), size=3)
    with pytest.raises(ConfigError, match="corpus of its own"):
        recipes.derive(corpus, corpus.folder, size=3)
    with (
        recipes.derive(corpus, folder, size=30) as derived,
        pytest.raises(StoreError, match="derive from that one"),
    ):
        recipes.derive(derived, folder / "c", size=20)
    with pytest.raises(ConfigError, match="cannot name a recipe"):
        recipes.folder_of(corpus, "../b")
    with pytest.raises(ConfigError, match="no recipe beside it"):
        recipes.remove(corpus, recipes.OWN)


def test_moving_the_corpus_takes_its_recipes_along(corpus: Corpus, tmp_path: Path) -> None:
    recipes.derive(corpus, corpus.folder / "recipes" / "b", size=30).close()
    corpus.close()
    (tmp_path / "elsewhere").mkdir()
    moved = corpus.folder.rename(tmp_path / "elsewhere" / "corpus")
    with chunkwise.open(moved / "recipes" / "b") as derived:
        assert derived.origin == moved


def test_chunks_that_only_a_recipe_has_are_kept_for_it(corpus: Corpus) -> None:
    with recipes.derive(corpus, corpus.folder / "recipes" / "b", size=30) as derived:
        only = set(derived.store.content_ids()) - set(corpus.store.content_ids())
    folder = corpus.folder / "kv" / ("a" * 24)
    folder.mkdir(parents=True)
    kept = folder / file_name(min(only))
    gone = folder / file_name("f" * 32)
    for path in (kept, gone):
        path.write_bytes(b"")
    corpus.remove("docs/3.txt")
    assert kept.exists()
    assert not gone.exists()


def test_a_killed_run_is_gone_on_with(corpus: Corpus) -> None:
    folder = corpus.folder / "recipes" / "b"
    script = """
        import sys, time
        from pathlib import Path
        from chunkwise.pipeline import recipes
        from chunkwise.pipeline.corpus import Corpus

        def told(progress):
            print(progress.done, flush=True)
            time.sleep(0.2)

        with Corpus(sys.argv[1]) as corpus:
            recipes.derive(corpus, Path(sys.argv[2]), size=30, retriever="bm25", progress=told)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(corpus.folder), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "1"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    recipes.update(corpus, "b")
    with recipes.open_recipe(corpus, "b") as derived:
        assert derived.settings.retriever == "bm25"
        assert derived.settings.size == 30
        assert len(derived.documents()) == 4


def test_the_command_compares_uses_and_removes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text(1))
    run("add", "a.txt", "--corpus", "c", "--size", "60", *HASHING, cwd=tmp_path)
    made = parsed("recipe", "add", "b", "-s", "size=30", "-c", "c", cwd=tmp_path)
    assert made["settings"] == {"size": [60, 30]}
    assert made["stages"] == ["chunk"]
    assert made["sides"][1]["chunks"] > made["sides"][0]["chunks"]
    listed = parsed("recipe", "ls", "-c", "c", cwd=tmp_path)["recipes"]
    assert [row["name"] for row in listed] == [".", "b"]
    assert parsed("recipe", "diff", "b", "-c", "c", cwd=tmp_path)["settings"] == {"size": [30, 60]}
    asked = ("recipe", "ask", "Which engine sails?", "-c", "c", "-s", "answerer=extractive")
    assert set(parsed(*asked, cwd=tmp_path)["answers"]) == {".", "b"}
    wrong = process("recipe", "use", "bb", "-c", "c", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Did you mean 'b'" in wrong.stderr
    assert "give --set" in process("recipe", "add", "d", "-c", "c", cwd=tmp_path).stderr
    used = parsed("recipe", "use", "b", "-c", "c", cwd=tmp_path)
    assert used["embedded"] == 0
    run("recipe", "rm", "b", "-c", "c", cwd=tmp_path)
    rows = parsed("recipe", "ls", "-c", "c", cwd=tmp_path)["recipes"]
    assert [(row["name"], row["size"]) for row in rows] == [(".", 30)]
