"""Batches of questions as arrays, each a function of seed, step and stage: in any process."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.training.nano import measure, real, reused, stages, vocabulary
from chunkwise.training.nano.prompts import Prompts, Row, document_names
from chunkwise.training.nano.questions.names import Split
from chunkwise.training.nano.recipe import NanoRecipe
from chunkwise.training.nano.reused import Example, ReusedBatch
from chunkwise.training.nano.sight import flags, packed

_MAX_ROW_TOKENS = 1600
_ANCHORS, _PLAIN_ANCHOR = 0.7, "document.txt"
_ASKED, _ASKED_REAL = 4, 2  # questions that share one reading of reused chunks, at most


class QuestionBatch(NamedTuple):
    """Contexts with their questions in full attention.

    Attributes:
        table: See `sight.packed`.
        hidden: See `sight.flags`.
        tokens: Tokens computed, padding left out.
        size: Tokens of answers.
    """

    table: NDArray[np.int32]
    hidden: NDArray[np.bool_]
    tokens: int
    size: int


class Kind(NamedTuple):
    """What a step learns from, and the chance that all else of it is drawn with."""

    is_text: bool
    is_real: bool
    is_reused: bool
    chance: random.Random


class Drawing:
    """Draws the batches of steps.

    Args:
        recipe: The options.
        seed: Same seed, same batches.
        tokenizer: Content of tokenizer.json.
        cases: Questions that people wrote, to be trained on.
        curriculum: The stages.

    Attributes:
        parts: What makes another such one.
    """

    def __init__(
        self,
        recipe: NanoRecipe,
        seed: int,
        tokenizer: str,
        cases: Sequence[real.Case],
        curriculum: Sequence[stages.Stage],
    ) -> None:
        self.parts = recipe, seed, tokenizer, cases, curriculum
        self.recipe, self._seed, self._stages = recipe, seed, curriculum
        self.prompts = Prompts(vocabulary.wrapped(tokenizer))
        self._others = [case.passages[0] for case in cases]
        self._cases = [case for case in cases if _may(case)]

    def kind(self, step: int, stage: int) -> Kind:
        """What a step of a stage learns from."""
        chance, asked = self.chance("step", step), self._stages[stage]
        drawn = chance.random()
        if drawn < asked.text or asked.mix is None:
            return Kind(True, False, False, chance)
        is_real = drawn < asked.text + asked.real and bool(self._cases)
        return Kind(False, is_real, asked.reused > 0 and chance.random() < asked.reused, chance)

    def questions(self, step: int, stage: int) -> list[QuestionBatch | ReusedBatch]:
        """Batches of a step that does not learn from text."""
        _, is_real, is_reused, chance = self.kind(step, stage)
        mix = self._stages[stage].mix
        assert mix is not None, "it learns from text"
        micro = self.recipe.micro_tokens
        if is_reused:
            rows = self._real_rows(chance) if is_real else self._endless(mix, chance)
            drawn = list(self._examples(rows, chance, _ASKED_REAL if is_real else _ASKED))
            return [reused.pack(some) for some in reused.in_batches(drawn, micro)]
        whole = list(self._real_rows(chance) if is_real else self.rows(mix, chance, "train"))
        some = measure.in_batches(self._filling(whole), micro)
        return [self._batch(each, chance) for each in some]

    def rows(self, mix: stages.Mix, chance: random.Random, split: Split) -> Iterator[Row]:
        """Generated contexts, about as many tokens as a step has."""
        tokens = 0
        for row in self._endless(mix, chance, split):
            tokens += len(row.ids)
            yield row
            if tokens >= self.recipe.batch_tokens:
                return

    def chance(self, *key: object) -> random.Random:
        """Random numbers of their own for a key."""
        text = "/".join(map(str, (self._seed, *key)))
        return random.Random(hashlib.blake2b(text.encode(), digest_size=8).digest())

    def _endless(
        self, mix: stages.Mix, chance: random.Random, split: Split = "train"
    ) -> Iterator[Row]:
        while True:
            context = mix.draw(chance, split)
            yield self.prompts.row(context, document_names(chance, len(context.passages)))

    def _real_rows(self, chance: random.Random) -> Iterator[Row]:
        tokens = 0
        while tokens < self.recipe.batch_tokens:
            context = real.draw(self._cases, self._others, chance, most=2)
            row = self.prompts.row(context, document_names(chance, len(context.passages)))
            if len(row.ids) <= _MAX_ROW_TOKENS:
                tokens += len(row.ids)
                yield row

    def _examples(self, rows: Iterator[Row], chance: random.Random, most: int) -> Iterator[Example]:
        """Rows over reused chunks, with some of their questions, up to a step's tokens."""
        tokens, shares = 0, reused.draw_shares(chance)
        for row in rows:
            example = as_example(self.prompts, row, chance, most=most, shares=shares)
            if tokens and tokens + example.tokens > self.recipe.batch_tokens:
                return
            tokens += example.tokens
            yield example

    def _filling(self, rows: Sequence[Row]) -> list[Row]:
        """The rows without the last if it goes beyond a step's tokens, but one at least."""
        total = sum(len(row.ids) for row in rows)
        is_over = total > 1.2 * self.recipe.batch_tokens and len(rows) > 1
        return list(rows[:-1] if is_over else rows)

    def _batch(self, rows: Sequence[Row], chance: random.Random) -> QuestionBatch:
        nothing: frozenset[int] = frozenset()
        hidden = [
            [q.indirect if chance.random() < self.recipe.narrow else nothing for q in row.questions]
            for row in rows
        ]
        size = sum(target >= 0 for row in rows for target in row.targets)
        tokens = sum(len(row.ids) for row in rows)
        marked = flags(hidden, max(max(row.passage) for row in rows))
        return QuestionBatch(packed(rows), marked, tokens, size)


def as_example(
    prompts: Prompts,
    row: Row,
    chance: random.Random,
    *,
    most: int,
    shares: tuple[float, float],
) -> Example:
    """A row with up to `most` of its questions over reused chunks.

    Args:
        prompts: Writes the anchor, mostly with another document's name than the row's.
        row: The row.
        chance: What is drawn is drawn with it.
        most: Most questions.
        shares: Least and largest share of the chunks' tokens computed afresh.
    """
    count = len(row.questions)
    branches = sorted(chance.sample(range(1, count + 1), min(most, count)))
    name = document_names(chance, 1)[0] if chance.random() < _ANCHORS else _PLAIN_ANCHOR
    ratios = [chance.uniform(*shares) for _ in branches]
    return Example(row, prompts.anchor(name), branches, ratios)


def _may(case: real.Case) -> bool:
    """Whether a case fits in a row, roughly: four characters a token and more."""
    return sum(map(len, case.passages)) < 3 * _MAX_ROW_TOKENS
