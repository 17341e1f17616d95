"""Adaptation: a head fitted on examples cuts as they do; files that cannot be used are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from chunkwise.errors import ModelFormatError, TrainingDataError
from chunkwise.evaluation.segmentation import GoldText
from chunkwise.packaged import checksums
from chunkwise.rag.sentences.heads import SURE, UNADAPTED
from chunkwise.rag.sentences.learned import LearnedSegmenter
from chunkwise.rag.sentences.model import read_model, write_model
from chunkwise.rag.sentences.network import (
    FIRST_MARK,
    MARKS,
    NEWLINE,
    SENTENCE,
    NetworkShape,
    expected,
)
from chunkwise.rag.sentences.rules import RuleSegmenter
from chunkwise.rag.sentences.tokens import tokenize
from chunkwise.training.sentences.adapting import adapt, read_examples
from chunkwise.training.sentences.fitting import Sample, fit_head, fit_offsets
from chunkwise.training.sentences.scores import compare, f1_by_language, shortfalls
from tests.cli.test_commands import process, run

SHAPE = NetworkShape(buckets=4096, embedding=4, width=8, before=(1,), behind=(1,))
PERIOD = FIRST_MARK + MARKS.index("period")


def write_word_model(folder: Path, words: dict[str, int]) -> str:
    """A model whose output number `words[word]` is high behind `word`, and low elsewhere."""
    tensors = {name: np.zeros(size, np.float32) for name, size in expected(SHAPE).items()}
    tensors["table"][:, 3] = 0.2
    for word, output in words.items():
        row = tokenize(word, np.zeros(0, np.int64), SHAPE.buckets).ids[0, 0]
        tensors["table"][row, [SENTENCE, NEWLINE, PERIOD].index(output)] = 9
    tensors["enter"][:4, :4] = np.eye(4)
    for place, output in enumerate((SENTENCE, NEWLINE, PERIOD)):
        tensors["head"][place, output] = 4
    tensors["head_bias"][[SENTENCE, NEWLINE]] = -4
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder, SHAPE, tensors, {"": UNADAPTED})
    return str(folder)


def lines(n: int) -> list[str]:
    return [f"line {i} goes on and on over" for i in range(n)]


def test_examples_change_decisions_in_their_direction(tmp_path: Path) -> None:
    folder = write_word_model(tmp_path / "model", {"over": PERIOD, "on": SENTENCE})
    text = " ".join(lines(40))
    before = LearnedSegmenter(folder)
    gold = GoldText(text, tuple(np.cumsum([len(line) + 1 for line in lines(40)]) - 1))
    (tmp_path / "examples.txt").write_text("\n".join(lines(64)), encoding="utf-8")
    found = adapt(Path(folder), tmp_path / "examples.txt", tmp_path / "adapted")
    after = LearnedSegmenter(str(tmp_path / "adapted"))
    assert found.sentences == 64
    assert found.languages == ("",)
    assert found.head.weights[PERIOD] > 0
    assert f1_by_language([gold], before)["und"] < 0.5
    assert f1_by_language([gold], after)["und"] == 1.0


def test_one_language_is_adapted_alone_and_the_card_says_by_what(tmp_path: Path) -> None:
    folder = Path(write_word_model(tmp_path / "model", {"over": PERIOD}))
    (folder / "card.json").write_text('{"recipe": "segmenter"}')
    text = " ".join(lines(40))
    ends = np.cumsum([len(line) + 1 for line in lines(40)]) - 1
    spans = [[int(end) - len(line), int(end)] for end, line in zip(ends, lines(40), strict=True)]
    row = {"text": text, "spans": spans, "lang": "de"}
    (tmp_path / "examples.jsonl").write_text(json.dumps(row) + "\n")
    adapt(folder, tmp_path / "examples.jsonl", folder)
    model = read_model(folder)
    assert sorted(model.heads) == ["", "de"]
    assert model.heads[""] == UNADAPTED
    card = json.loads((folder / "card.json").read_text())
    assert card["recipe"] == "segmenter"
    assert card["adapted"]["file"] == "examples.jsonl"
    assert card["adapted"]["language"] == "de"


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    folder = Path(write_word_model(tmp_path / "model", {}))
    (tmp_path / "few.txt").write_text("One.\nTwo.\n")
    with pytest.raises(TrainingDataError, match=r"Sentences to adapt to: 2; .* at least 32"):
        adapt(folder, tmp_path / "few.txt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"none\.txt"):
        read_examples(tmp_path / "none.txt")
    (tmp_path / "bad.jsonl").write_text('{"text": "A. B."}\n')
    with pytest.raises(TrainingDataError, match="line 1: `spans`"):
        read_examples(tmp_path / "bad.jsonl")
    (tmp_path / "good.txt").write_text("A b.\n" * 64)
    with pytest.raises(ModelFormatError, match="no segmenter"):
        adapt(tmp_path, tmp_path / "good.txt", tmp_path / "out")


def sample(scores: list[float], cells: list[int], labels: list[int]) -> Sample:
    x = np.zeros((len(scores), len(UNADAPTED.weights)))
    x[:, SENTENCE] = scores
    return Sample(x, np.array(cells), np.array(labels), sum(labels), 1.0)


def test_the_rules_are_not_overruled_for_a_gain_of_chance() -> None:
    found = sample([1, 2, 3, -1, -2, -3] * 20, [5, 5, 5, 4, 4, 4] * 20, [1, 1, 1, 0, 0, 0] * 20)
    found.labels[0], found.labels[5] = 0, 1
    assert fit_offsets([found], UNADAPTED).offsets[4:] == (-SURE, SURE)


def test_the_rules_are_overruled_where_they_are_often_wrong() -> None:
    found = sample([5, 2, 3, -1, -2, -3] * 20, [4, 5, 5, 4, 4, 4] * 20, [1, 1, 1, 0, 0, 0] * 20)
    offsets = fit_offsets([found], UNADAPTED).offsets
    assert -5 < offsets[4] < 1
    assert offsets[5] == SURE


def test_fitting_is_deterministic_and_drawn_to_its_start() -> None:
    chance = np.random.default_rng(0)
    labels = chance.random(400) < 0.2
    scores = (labels * 3 + chance.normal(0, 1, 400)).tolist()
    found = [sample(scores, [0] * 400, labels.astype(int).tolist())]
    assert fit_head(found, UNADAPTED) == fit_head(found, UNADAPTED)
    near = fit_head(found, UNADAPTED, pull=1e6).weights
    np.testing.assert_allclose(near, UNADAPTED.weights, atol=0.01)


def test_figures_stand_beside_those_of_the_rules() -> None:
    text = GoldText("It is. So it is.", (6, 16), "en")
    figures = compare([text], RuleSegmenter(), RuleSegmenter())
    assert figures["clean/en"] == figures["clean_rules/all"] == 1.0
    assert figures["stripped/en"] == 0.0
    assert shortfalls(figures, {"clean": 0.0, "stripped": 0.2}) == ["stripped/en", "stripped/all"]


def test_the_command_adapts_a_model_and_names_what_is_wrong(tmp_path: Path) -> None:
    folder = write_word_model(tmp_path / "model", {"over": PERIOD, "on": SENTENCE})
    examples = tmp_path / "examples.txt"
    examples.write_text("\n".join(lines(64)), encoding="utf-8")
    out = tmp_path / "out"
    asked = ("train", "segmenter", "--adapt", examples, "--out", out)
    said = run(*asked, "--model", folder, "--json")
    assert json.loads(said) == {"model": str(out), "sentences": 64, "language": "any"}
    card = json.loads((out / "card.json").read_text())
    assert card["files"] == checksums(out)
    assert LearnedSegmenter(str(out)).split("a is over b") == [(0, 9), (10, 11)]
    for arguments, message in (
        (("train", "reader", "--adapt", examples), "`segmenter` can"),
        ((*asked, "--model", tmp_path / "none"), "none"),
        (("train", "segmenter", "--model", folder), "`--model` is for `--adapt`"),
        ((*asked, "--resume", "--steps", "9"), "--resume, --steps are not for `--adapt`"),
    ):
        done = process(*arguments)
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
