"""Models by name: links and folders of the user's data folder, and what goes wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chunkwise import config, model_names
from chunkwise.errors import ChunkwiseError, ConfigError


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kept" / "models"
    monkeypatch.setenv(model_names.VARIABLE, str(folder))
    return folder


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_an_added_folder_is_found_by_its_name_and_stays_where_it_is(tmp_path: Path) -> None:
    folder = make(tmp_path / "Some-Model_1.5")
    assert model_names.add(folder).name == "Some-Model_1.5"
    assert model_names.find_model("Some-Model_1.5") == folder
    assert [m.name for m in model_names.named_models()] == ["Some-Model_1.5"]
    assert model_names.remove("Some-Model_1.5") is None
    assert (folder / "config.json").exists()
    assert list(model_names.named_models()) == []


def test_a_path_that_is_there_comes_before_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_names.add(make(tmp_path / "elsewhere"), "m")
    monkeypatch.chdir(tmp_path)
    assert model_names.find_model("m") == tmp_path / "elsewhere"
    make(tmp_path / "m")
    assert model_names.find_model("m") == Path("m")


def test_a_folder_that_is_gone_is_listed_and_not_found(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    model_names.add(folder)
    folder.rename(tmp_path / "moved")
    (found,) = model_names.named_models()
    assert not found.is_there
    assert model_names.find_model("m") is None
    model_names.remove("m")
    assert list(model_names.named_models()) == []


def test_a_taken_name_is_refused_and_what_has_it_is_kept(tmp_path: Path) -> None:
    model_names.add(make(tmp_path / "a"), "m")
    with pytest.raises(ConfigError, match=r"'m' is taken by .*/a.*models remove m"):
        model_names.add(make(tmp_path / "b"), "m")
    assert model_names.find_model("m") == tmp_path / "a"


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "with space", "x" * 101, "x.part"])
def test_names_that_are_no_file_names_are_refused(name: str, tmp_path: Path, models: Path) -> None:
    with pytest.raises(ConfigError, match="Choose one with --name"):
        model_names.add(make(tmp_path / "m"), name)
    with pytest.raises(ConfigError, match="no added model"):
        model_names.remove(name)
    assert not models.exists()
    assert model_names.find_model("a/../b") is None


def test_a_near_name_is_suggested(tmp_path: Path) -> None:
    model_names.add(make(tmp_path / "Qwen2.5-0.5B"))
    assert model_names.suggestion("qwen2.5-0.5B") == " Did you mean 'Qwen2.5-0.5B'?"
    with pytest.raises(ConfigError, match=r"Did you mean 'Qwen2\.5-0\.5B'"):
        model_names.remove("Qwen2.5-0.5")


def test_a_pulled_model_is_deleted_when_it_is_removed(models: Path) -> None:
    folder = make(models / "pulled")
    make(models / "half.part")
    assert [m.name for m in model_names.named_models()] == ["pulled"]
    assert model_names.remove("pulled") == folder
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(model_names.VARIABLE, str(tmp_path / "file" / "models"))
    with pytest.raises(ChunkwiseError, match=r"file/models: Not a directory.*CHUNKWISE_MODELS"):
        model_names.add(make(tmp_path / "m"))


@pytest.mark.parametrize("repository", ["gpt2", "a/b/c", "/b", "a/", "../b"])
def test_what_is_no_repository_is_refused_before_anything_is_asked(repository: str) -> None:
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        model_names.pull(repository)


def test_models_lie_in_the_data_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(model_names.VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert model_names.models_folder() == Path("/data/chunkwise/models")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert model_names.models_folder() == Path(
        os.path.expanduser("~/.local/share/chunkwise/models")
    )


def test_the_reader_of_the_settings_may_be_a_name(tmp_path: Path) -> None:
    folder = make(tmp_path / "reading")
    model_names.add(folder)
    settings = config.load(arguments={"reader_model": "reading"}).settings
    assert config.reader_folder(settings) == folder


def test_a_folder_of_models_that_cannot_be_read_is_named(models: Path) -> None:
    models.parent.mkdir()
    models.write_text("no folder")
    with pytest.raises(ChunkwiseError, match=r"kept/models: Not a directory.*CHUNKWISE_MODELS"):
        list(model_names.named_models())


def test_a_name_that_is_nearly_one_of_the_package_is_suggested() -> None:
    assert "nano" in model_names.suggestion("nanoo")
