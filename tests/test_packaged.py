"""Models of the package: found by their cards, checked by their checksums."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from chunkwise import config
from chunkwise.errors import ModelFormatError
from chunkwise.packaged import FOLDER, checksums, packaged_folder, packaged_models
from chunkwise.pipeline.parts import Parts
from chunkwise.rag.sentences import segmenters

MOST_BYTES = 60_000_000


def make(folder: Path, name: str) -> Path:
    model = folder / name
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "card.json").write_text(json.dumps({"files": checksums(model)}))
    return model


def test_models_are_found_by_name_and_whole(tmp_path: Path) -> None:
    for name in ("b", "a"):
        make(tmp_path, name)
    (tmp_path / "no model").mkdir()
    found = list(packaged_models(tmp_path))
    assert [model.name for model in found] == ["a", "b"]
    assert [model.damaged() for model in found] == [[], []]
    assert found[0].nbytes == sum(p.stat().st_size for p in (tmp_path / "a").iterdir())


def test_changed_and_missing_files_are_named(tmp_path: Path) -> None:
    model = make(tmp_path, "a")
    (model / "model.safetensors").write_bytes(b"weightz")
    assert next(packaged_models(tmp_path)).damaged() == ["model.safetensors"]
    (model / "model.safetensors").unlink()
    assert next(packaged_models(tmp_path)).damaged() == ["model.safetensors"]


def test_a_damaged_card_is_named(tmp_path: Path) -> None:
    (make(tmp_path, "a") / "card.json").write_text("{")
    with pytest.raises(ModelFormatError, match=r"card\.json cannot be read.*anew"):
        list(packaged_models(tmp_path))


def test_what_is_shipped_is_whole_small_and_says_what_it_is() -> None:
    found = list(packaged_models())
    assert sum(model.nbytes for model in found) <= MOST_BYTES
    for model in found:
        assert model.damaged() == []
        assert model.card["files"].keys() == checksums(model.folder).keys()
        assert all(source["licence"] for source in model.card["data"])
        assert model.card["is_releasable"]
        assert model.card["figures"]
        assert model.card["limits"]
        assert model.card["command"].startswith("chunkwise train ")
        assert packaged_folder(model.name) == FOLDER / model.name


def test_the_shipped_segmenter_cuts_what_rules_cannot() -> None:
    text = "i went home yesterday it was raining all day what did you do my sister called me"
    parts = Parts(config.load(arguments={"segmenter": "learned"}).settings)
    found = [text[start:end] for start, end in parts.segmenter.split(text, "en")]
    assert found[:2] == ["i went home yesterday", "it was raining all day"]
    assert len(segmenters.build("rules").split(text, "en")) == 1
    clean = "Dr. Smith went home. It rained all day."
    assert [clean[a:b] for a, b in parts.segmenter.split(clean, "en")] == [
        "Dr. Smith went home.",
        "It rained all day.",
    ]


def test_weights_are_not_kept_out_of_the_package() -> None:
    root = Path(__file__).parent.parent
    files = [str(path) for path in FOLDER.rglob("*") if path.is_file()]
    assert files
    if not (root / ".git").exists():
        pytest.skip("not in a checkout")
    done = subprocess.run(
        ["git", "-C", root, "check-ignore", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr  # 1: none is ignored; 128: git could not tell
    assert done.stdout == "", "the wheel leaves out what git ignores"


def test_what_is_not_shipped_has_no_folder() -> None:
    assert packaged_folder("no such model") is None
