"""The `reader` recipe: its loss, that it learns, what it writes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from chunkwise.errors import ConfigError, ModelFormatError, TrainingDataError
from chunkwise.rag.answering.reading import SpanReader
from chunkwise.training.reader import ReaderRecipe, ReaderTask
from chunkwise.training.run import Asked, run
from chunkwise.training.spans.data import FILES
from tests.rag.answering.readers import write_encoder, write_reader
from tests.training.toys import write_span_data

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_span_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("base"))


def options(base: Path, **more: Any) -> dict[str, Any]:
    small = {"base": str(base), "datasets": "squad2", "batch_tokens": 300, "micro_tokens": 300}
    return {**small, "lr": 3e-3, "dropout": 0.0, "evaluate_every": 0, "trains_words": True, **more}


def task(data: Path, base: Path, work: Path, **more: Any) -> ReaderTask:
    recipe = ReaderRecipe(**options(base, **more))
    return recipe.prepare(data, work, seed=1, device=CPU, dtype=torch.float32)


def test_the_loss_is_that_of_each_question_alone(data: Path, base: Path, tmp_path: Path) -> None:
    """Worked out window by window, without packing, from log-softmax over all passages."""
    made = task(data, base, tmp_path)
    made.model.eval()
    (batch,) = made.batches(0)
    assert batch.size > 3
    losses = []
    with torch.no_grad():
        for example in batch.examples:
            alone = made.loss(type(batch)([example], 0, 1))
            losses.append(alone.parts["span"])
        together = made.loss(batch).parts["span"]
    assert together == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_without_an_answer_the_loss_is_that_of_no_answer(
    data: Path, base: Path, tmp_path: Path
) -> None:
    made = task(data, base, tmp_path)
    with torch.no_grad():  # all scores equal: a start among 1 + n, an end among 1 + n
        for parameter in (*made.model.span.parameters(), *made.model.gate.parameters()):
            parameter.zero_()
    example = made.batches(0)[0].examples[0]
    count = sum(window.own for window in example.windows)
    loss = made.loss(type(made.batches(0)[0])([example], 0, 1))
    expected = 2 * torch.log(torch.tensor(1.0 + count))
    if example.starts:
        expected = expected - 2 * torch.log(torch.tensor(float(len(example.starts))))
    assert loss.parts["span"] == pytest.approx(float(expected), abs=1e-4)
    assert loss.parts["window"] == pytest.approx(0.6931, abs=1e-3)


def test_batches_are_a_function_of_seed_and_step(data: Path, base: Path, tmp_path: Path) -> None:
    one, other = task(data, base, tmp_path), task(data, base, tmp_path)
    far = [other.batches(step) for step in (40, 3, 0)]
    assert [one.batches(step) for step in (40, 3, 0)] == far
    assert one.batches(1) != one.batches(2)


def test_micro_batches_hold_the_examples_of_the_whole(
    data: Path, base: Path, tmp_path: Path
) -> None:
    (whole,) = task(data, base, tmp_path).batches(2)
    parts = task(data, base, tmp_path, micro_tokens=60).batches(2)
    assert len(parts) > 1
    assert [e for part in parts for e in part.examples] == whole.examples


def test_a_short_run_learns_and_writes_a_reader(data: Path, base: Path, tmp_path: Path) -> None:
    rows: list[float] = []
    outcome = run(
        Asked("reader", tmp_path / "run", data, options(base), steps=150, seed=0, dtype="float32"),
        on_step=lambda progress: rows.append(progress.loss),
    )
    assert outcome.is_finished
    assert sum(rows[-20:]) < 0.6 * sum(rows[:20])
    folder = outcome.model
    assert folder is not None
    card = json.loads((folder / "card.json").read_text())
    (source,) = card["data"]
    assert source["file"] == "qa_span/squad_v2_dev_half.jsonl.gz"
    assert source["licence"] == "CC BY-SA 4.0"
    assert card["is_releasable"] is True
    assert card["counts"]["steps"] == 150
    assert card["figures"] == dict(outcome.figures)
    assert {"unseen.f1", "unseen.f1_mixed", "unseen.auc"} <= set(outcome.figures)
    assert card["versions"]["commit"]
    reader = SpanReader(folder, torch.float32)
    text = "ada lives near the red mill 3. it costs 31 coins."
    best = reader.read("how many coins", [text])[0]
    assert text.index("31") <= best.start < best.end <= len(text)
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert len(log) == 151  # one a step, and the figures


def test_a_licence_that_nobody_confirmed_is_said_in_the_card(
    data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FILES, "amazon", dataclasses.replace(FILES["amazon"], is_confirmed=False))
    given = options(base, datasets="amazon", heldout="reddit")
    outcome = run(Asked("reader", tmp_path, data, given, steps=1, dtype="float32"))
    assert outcome.model is not None
    card = json.loads((outcome.model / "card.json").read_text())
    assert card["is_releasable"] is False
    assert card["unconfirmed_licences"] == ["qa_span/squadshifts_amazon_reviews_v1.0.jsonl.gz"]


def test_a_reader_can_be_trained_on_and_is_warmed_again(data: Path, tmp_path: Path) -> None:
    before = write_reader(tmp_path / "before")
    recipe = ReaderRecipe(**options(before))
    assert recipe.plan(None).start_ratio == recipe.plan(None).floor_ratio
    made = recipe.prepare(data, tmp_path, seed=1, device=CPU, dtype=torch.float32)
    theirs = SpanReader(before, torch.float32)
    (batch,) = made.batches(0)
    from chunkwise.rag.answering.reading import score_windows

    windows = batch.examples[0].windows
    ours = score_windows(made.model.eval(), windows)[0]
    assert ours.answer == pytest.approx(theirs.score(windows)[0].answer, abs=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"datasets": "squad3"},
        {"heldout": "squad2"},
        {"heldout": "nothing"},
        {"dropout": 1.0},
        {"unanswerable": -0.1},
        {"micro_tokens": 0},
        {"growth": 0.5},
        {"lr": 0.0},
    ],
)
def test_options_that_cannot_work_are_refused(base: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ReaderRecipe(**options(base, **wrong))


def test_missing_data_and_a_base_of_another_kind_are_named(
    data: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingDataError, match=r"policyqa_dev\.jsonl\.gz is missing"):
        task(data, base, tmp_path, datasets="policy")
    with pytest.raises(ModelFormatError, match=r"no config\.json"):
        task(data, tmp_path, tmp_path)
    raw = json.loads((base / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({**raw, "hidden_act": "relu"}))
    with pytest.raises(ModelFormatError, match="gelu"):
        task(data, other, tmp_path)


def test_every_option_is_a_field_with_a_default() -> None:
    fields = dataclasses.fields(ReaderRecipe)
    assert all(field.default is not dataclasses.MISSING for field in fields)
