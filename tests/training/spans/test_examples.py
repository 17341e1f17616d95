"""Examples: targets are the answer's tokens, draws are repeatable, distractors do not answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from chunkwise.rag.answering.reading import WordPieces
from chunkwise.training.spans.data import Asked, Passage, Questions, read_set
from chunkwise.training.spans.distractors import distractors
from chunkwise.training.spans.examples import Drawing, ExampleSet, Group, seeded, spread
from chunkwise.types import Span
from tests.rag.answering.readers import OPTIONS, write_tokenizer
from tests.training.toys import write_span_data


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> WordPieces:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return WordPieces(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def examples(pieces: WordPieces, tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    data = write_span_data(tmp_path_factory.mktemp("data"))
    return ExampleSet(read_set(data, "squad2")[0], pieces, OPTIONS, None)


def test_targets_are_the_tokens_of_the_answer(examples: ExampleSet) -> None:
    chance = seeded("targets")
    for number, asked in enumerate(examples.asked.questions):
        group = examples.draw(number, Drawing(unanswerable=0.3), chance)
        example = examples.example(group)
        tokens = [
            (group.passages[w.passage], w.first + i) for w in example.windows for i in range(w.own)
        ]
        assert any(example.answers) == bool(example.starts) == (group.answer is not None)
        for start, end in zip(example.starts, example.ends, strict=True):
            assert tokens[start][0] == tokens[end][0] == asked.passage
            offsets = examples.offsets(asked.passage)
            text = examples.asked.passages[asked.passage].text
            said = text[offsets[tokens[start][1]][0] : offsets[tokens[end][1]][1]]
            assert group.answer is not None
            assert said == text[group.answer.start : group.answer.end]


def test_an_answer_in_two_windows_is_allowed_in_both(pieces: WordPieces) -> None:
    text = "x " * 24 + "blue " + "x " * 24
    asked = Questions("one", [Passage("d", text)], [Asked("what", 0, (Span(48, 52),))])
    examples = ExampleSet(asked, pieces, OPTIONS, None)
    example = examples.example(Group(0, (0,), Span(48, 52)))
    assert len(example.windows) == 2
    assert example.answers == [True, True]
    assert len(example.starts) == 2
    loose = Questions("one", asked.passages, [Asked("what", 0, (Span(46, 54),), is_loose=True)])
    allowed = ExampleSet(loose, pieces, OPTIONS, None).example(Group(0, (0,), Span(46, 54)))
    assert len(allowed.starts) == len(allowed.ends) == 6  # three tokens, in two windows


def test_predicted_lengths_are_those_of_the_windows(examples: ExampleSet) -> None:
    for number in range(len(examples)):
        group = examples.draw(number, Drawing(), seeded(number))
        lengths = [len(window.ids) for window in examples.example(group).windows]
        assert examples.tokens(group) == (max(lengths), sum(lengths))


def test_draws_depend_on_their_seed_alone(examples: ExampleSet) -> None:
    def drawn(seed: int) -> list[Group]:
        return [examples.draw(i, Drawing(), seeded(seed, i)) for i in range(len(examples))]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_shares_are_those_of_the_drawing(examples: ExampleSet) -> None:
    drawing = Drawing(unanswerable=0.4, extra=(0.5, 0.5))
    answerable = [i for i, q in enumerate(examples.asked.questions) if q.answers]
    groups = [examples.draw(i, drawing, seeded(k, i)) for k in range(30) for i in answerable]
    refused = sum(group.answer is None for group in groups) / len(groups)
    assert refused == pytest.approx(0.4, abs=0.03)
    sizes = Counter(len(g.passages) for g in groups if g.answer is not None)
    assert sizes[1] / (sizes[1] + sizes[2]) == pytest.approx(0.5, abs=0.04)


def test_distractors_share_words_and_do_not_hold_the_answer(
    examples: ExampleSet, tmp_path: Path
) -> None:
    asked = examples.asked
    found = distractors(asked, tmp_path)
    for question, row in zip(asked.questions, found, strict=True):
        own = asked.passages[question.passage].text
        places = [int(p) for p in row if p >= 0]
        assert len(set(places)) == len(places)
        assert question.passage not in places
        for place in places:
            text = asked.passages[place].text.casefold()
            assert not any(own[a:b].casefold() in text for a, b in question.answers)
    np.testing.assert_array_equal(found, distractors(asked, tmp_path))
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:50])  # cut off by a kill
    np.testing.assert_array_equal(found, distractors(asked, tmp_path))


def test_nearest_comes_first(pieces: WordPieces) -> None:
    texts = ["ada pays rent", "the green mill of bob", "the green mill", "a mill"]
    asked = Questions("m", [Passage(t, t) for t in texts], [Asked("green mill of bob", 0, ())])
    assert ExampleSet(asked, pieces, OPTIONS, None).near(0, 2) == [1, 2]


def test_a_spread_keeps_order_and_size() -> None:
    assert spread([1, 2, 3], 5, "s") == [1, 2, 3]
    some = spread(range(100), 7, "s")
    assert some == sorted(some)
    assert len(set(some)) == 7
    assert some == spread(range(100), 7, "s") != spread(range(100), 7, "t")
