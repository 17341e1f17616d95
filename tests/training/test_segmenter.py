"""The segmenter's recipe: the loss falls, the exported model is the trained one."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from chunkwise.errors import ConfigError, TrainingDataError
from chunkwise.rag.sentences.learned import LearnedSegmenter
from chunkwise.rag.sentences.network import BoundaryNetwork
from chunkwise.training.base import recipes
from chunkwise.training.loop import Loop
from chunkwise.training.segmenter import SegmenterRecipe, SegmenterTask
from chunkwise.training.sentences.network import tensors_of
from chunkwise.training.sentences.texts import BOOKS, EWT, HELD_OUT

RECIPE = SegmenterRecipe(
    steps=20, windows=4, length=64, width=24, buckets=512, embedding=16, evaluate_every=0
)
CPU = torch.device("cpu")
NOUNS = ["dog", "cat", "house", "river", "teacher", "storm", "garden", "engine", "letter", "doctor"]
VERBS = ["saw", "found", "left", "built", "liked", "feared"]


def write_data(folder: Path, *, sentences: int = 400) -> Path:
    """A data folder of made-up English; a sentence begins with `The` or `Then`."""
    for name in ("segmentation", "text"):
        (folder / name).mkdir(parents=True)
    chance = random.Random(0)
    for name, seed in ((HELD_OUT, 1), (EWT, 2)):
        chance = random.Random(seed)
        rows = [_row(chance, 20) for _ in range(sentences // 20)]
        _write(folder / name, rows)
    book = "\n\n".join(" ".join(_row(chance, 5)["text"].split()) for _ in range(40))
    _write(folder / BOOKS, [{"id": "a", "markdown": book}])
    return folder


def _row(chance: random.Random, n: int) -> dict[str, object]:
    spans, parts, at = [], [], 0
    for _ in range(n):
        a, b = chance.sample(NOUNS, 2)
        opening = chance.choice(["The", "Then the"])
        sentence = f"{opening} {a} {chance.choice(VERBS)} a {b} {chance.randrange(1000)}."
        gap = chance.choice([" ", " ", "\n"])
        spans.append([at, at + len(sentence)])
        parts += [sentence, gap]
        at += len(sentence) + len(gap)
    return {"lang": "en", "text": "".join(parts), "spans": spans}


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def prepared(data: Path, work: Path, recipe: SegmenterRecipe = RECIPE) -> SegmenterTask:
    return recipe.prepare(data, work, seed=0, device=CPU, dtype=torch.float32)


def test_it_is_found_by_its_name() -> None:
    assert recipes.load("segmenter") is SegmenterRecipe


def test_twenty_steps_lower_the_loss_and_the_export_can_be_used(data: Path, tmp_path: Path) -> None:
    task = prepared(data, tmp_path)
    loop = Loop(task, RECIPE.plan(None), seed=0, device=CPU, dtype=torch.float32)
    losses = [loop.step().loss for _ in range(20)]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    figures = task.evaluate(is_final=True)
    assert {"clean/en", "clean_rules/en", "stripped/en", "stripped_rules/all"} <= figures.keys()
    assert figures["clean/en"] >= figures["clean_rules/en"]
    task.export(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 100_000
    spans = LearnedSegmenter(str(tmp_path)).split("The dog left. Then it rained.")
    assert spans[-1].end == 29


def test_numpy_scores_are_those_of_torch(data: Path, tmp_path: Path) -> None:
    task = prepared(data, tmp_path)
    task.model.eval()
    ids = task.batches(0)[0].ids
    with torch.inference_mode():
        expected = task.model(ids).numpy()
    network = BoundaryNetwork(RECIPE.shape, tensors_of(task.model))
    for window, scores in zip(ids.numpy(), expected, strict=True):
        np.testing.assert_allclose(network.score(window.astype(np.int32)), scores, atol=1e-4)


def test_batches_are_a_function_of_seed_and_step(data: Path, tmp_path: Path) -> None:
    one, other = prepared(data, tmp_path), prepared(data, tmp_path)
    other.batches(7)
    assert torch.equal(one.batches(3)[0].ids, other.batches(3)[0].ids)
    assert not torch.equal(one.batches(3)[0].ids, one.batches(4)[0].ids)


def test_the_card_says_what_is_held_out(data: Path, tmp_path: Path) -> None:
    said = prepared(data, tmp_path).describe()
    held_out = said["held_out"]
    assert held_out["adapt_sentences"]["en"] <= 256
    assert held_out["adapt_sentences"]["en"] + held_out["test_sentences"]["en"] == 400


def test_a_safetensors_reader_reads_the_weights(data: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    task = prepared(data, tmp_path)
    task.export(tmp_path)
    tensors = safetensors.load_file(str(tmp_path / "model.safetensors"))
    table = tensors["table"].float() * tensors["table_scale"][:, None]
    assert torch.allclose(table, task.model.table, atol=0.02)
    assert tensors["head"].dtype == torch.bfloat16


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"sentences_ud\.jsonl\.gz.*--data"):
        prepared(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"length": 8}, "`length`"), ({"dropout": 1.0}, "`dropout`"), ({"power": 2.0}, "`power`")],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, float], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        SegmenterRecipe(**options)  # type: ignore[arg-type]
