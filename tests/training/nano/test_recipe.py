"""The recipe by the loop of all recipes: it learns, and goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from chunkwise.errors import ConfigError, TrainingDataError
from chunkwise.training.base import recipes
from chunkwise.training.nano import stages
from chunkwise.training.run import Asked, Outcome, run

OPTIONS: dict[str, Any] = {
    "size": "tiny",
    "vocabulary": 1000,
    "debian": "",
    "batch_tokens": 300,
    "questions": 10,
    "evaluate_every": 4,
    "save_every": 3,
    "steps": 20,
    "lr": 1e-2,
    "rewarm": 1,
}


def train(out: Path, data: Path, stop_at: int = 0, **more: Any) -> Outcome:
    losses: list[int] = []
    asked = Asked("nano", out, data, {**OPTIONS, **more}, dtype="float32")
    if (out / "run.json").exists():
        asked = Asked("nano", out, resume=True)
    return run(
        asked,
        on_step=lambda progress: losses.append(progress.step),
        should_stop=lambda: bool(stop_at) and losses[-1:] == [stop_at],
    )


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    assert train(out, data).is_finished
    return out


def test_twenty_steps_lower_the_loss(unbroken: Path) -> None:
    losses = [row["loss"] for row in rows(unbroken) if "loss" in row]
    assert len(losses) == 20
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_the_learning_rate_is_that_of_the_stage(data: Path, tmp_path: Path) -> None:
    names = stages.stage_names()
    train(tmp_path, data, start="four facts", steps=15, rewarm=3, evaluate_every=1)
    reached = {row["step"]: row["figures"]["stage"] for row in rows(tmp_path) if "figures" in row}
    rates = [row["lr"] for row in rows(tmp_path) if "lr" in row]
    first, second = stages.STAGES[names.index("four facts") :][:2]
    assert rates[0] == pytest.approx(first.pace * 1e-2 / 12)
    changed = next(step for step, stage in sorted(reached.items()) if stage == 1)
    assert rates[changed] == pytest.approx(second.pace * 1e-2 * (0.2 + 0.8 / 3))


def test_the_learning_rate_falls_evenly_in_the_last_stage(data: Path, tmp_path: Path) -> None:
    train(tmp_path, data, start="reused", steps=20, rewarm=1, evaluate_every=20)
    rates = [row["lr"] for row in rows(tmp_path) if "lr" in row]
    peak = stages.STAGES[-1].pace * 1e-2
    assert rates[3:] == pytest.approx([peak * (1 - step / 20) for step in range(3, 20)])


def test_accuracy_is_logged_by_stage_and_kind(unbroken: Path) -> None:
    figures = [row["figures"] for row in rows(unbroken) if row.get("figures")]
    assert all("stage" in each for each in figures)
    assert "test/bridge" in figures[-1]
    assert {"two_passage", "two_passage_separate", "drop", "reused", "verbatim"} <= set(figures[-1])
    card = json.loads((unbroken / "model" / "card.json").read_text())
    assert card["data"][0]["licence"]
    assert card["is_releasable"]


@pytest.mark.parametrize("stop_at", [4, 10])
def test_a_run_that_goes_on_ends_as_an_unbroken_one(
    stop_at: int, unbroken: Path, data: Path, tmp_path: Path
) -> None:
    assert not train(tmp_path, data, stop_at=stop_at).is_finished
    assert train(tmp_path, data).is_finished
    file = "model/model.safetensors"
    assert (tmp_path / file).read_bytes() == (unbroken / file).read_bytes()
    assert (tmp_path / "stages.json").read_text() == (unbroken / "stages.json").read_text()


def test_a_draft_takes_the_tokenizer_of_its_model(
    unbroken: Path, data: Path, tmp_path: Path
) -> None:
    train(tmp_path, data, tokenizer=str(unbroken / "model"), steps=2, start="two hops")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        mine, theirs = (each / "model" / name for each in (tmp_path, unbroken))
        assert mine.read_bytes() == theirs.read_bytes()


def test_training_goes_on_from_a_model(unbroken: Path, data: Path, tmp_path: Path) -> None:
    train(tmp_path, data, weights=str(unbroken / "model"), steps=1, start="reused", lr=1e-9)
    first, second = (
        load_file(str(each / "model" / "model.safetensors")) for each in (unbroken, tmp_path)
    )
    for name, weight in first.items():
        assert torch.allclose(second[name].float(), weight.float(), atol=1e-6), name
    missing = {"weights": str(tmp_path / "none"), "steps": 1}
    with pytest.raises(TrainingDataError, match=r"none/tokenizer\.json is missing"):
        train(tmp_path / "other", data, **missing)


def test_data_without_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="no text to train on"):
        train(tmp_path / "out", tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "large"},
        {"narrow": 2},
        {"start": "three hops"},
        {"vocabulary": 10},
        {"steps": 0},
        {"workers": -1},
    ],
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        recipes.build({"name": "nano", **wrong})
