"""The figures of a finished model, on names and documents that it was not trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch

from chunkwise.training.nano import measure, real, repair, stages
from chunkwise.training.nano.drawing import as_example
from chunkwise.training.nano.measure import Verdict, accuracy, answer_loss, judge, two_passage
from chunkwise.training.nano.network import Llama
from chunkwise.training.nano.prompts import NONE, Prompts, Row, document_names

_QUESTIONS = 3000
_LISTS = 60
_CASES = 150
RATIO = 0.15
"""Share of the chunks' tokens computed afresh where chunks are reused."""
_LEAST = 1e-6  # nats: nothing is divided by 0
TWO_PASSAGES = stages.Mix({"bridge": 3.0, "coreference": 2.0}, (3, 4))
"""Two passages that must be read together, among others of the same form."""


class Tools(NamedTuple):
    """What measuring takes."""

    model: Llama
    prompts: Prompts
    dtype: torch.dtype
    batch_tokens: int

    def judged(self, rows: Sequence[Row], *, is_separate: bool = False) -> list[Verdict]:
        """Verdicts on the questions of the rows."""
        return judge(
            self.model,
            rows,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            is_separate=is_separate,
        )

    def judged_reused(
        self, rows: Sequence[Row], chance: random.Random, *, ratio: float
    ) -> list[Verdict]:
        """Verdicts on all questions of the rows, their chunks computed alone behind an anchor.

        Args:
            rows: Contexts with their questions.
            chance: Draws the anchors.
            ratio: Share of the chunks' tokens computed afresh.
        """
        most = max(len(row.questions) for row in rows)
        examples = [
            as_example(self.prompts, r, chance, most=most, shares=(ratio, ratio)) for r in rows
        ]
        return repair.judge(self.model, examples, dtype=self.dtype, batch_tokens=self.batch_tokens)

    def loss(self, rows: Sequence[Row], *, is_separate: bool = False) -> float:
        """Mean loss over the targets of the rows."""
        return answer_loss(
            self.model,
            rows,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            is_separate=is_separate,
        )


def figures(
    tools: Tools, cases: Sequence[real.Case], pieces: Sequence[Sequence[int]], seed: int
) -> dict[str, float]:
    """All figures of the card.

    `test/KIND`: exact match by kind on generated contexts of all kinds. `two_passage` and
    `two_passage_separate`: on contexts of the kinds that must be read together, with full
    attention and with the passages attended to separately; `drop` is the difference in points.
    `reused`: the same over reused chunks, a share of `RATIO` of their tokens computed afresh.
    `verbatim`: surprisal of a list said again over that of the list when first read; `real/SET`:
    exact match on questions people wrote. `text_loss`: nats a token of held-out text.

    Args:
        tools: The model and how it is asked.
        cases: Questions people wrote; those of `test` are used.
        pieces: Held-out text.
        seed: Of what is drawn.
    """
    rows = fresh_rows(tools.prompts, stages.EVERYTHING, seed, _QUESTIONS)
    found = {f"test/{k}": v for k, v in accuracy(tools.judged(rows)).items()}
    found |= reuse_figures(tools, seed)
    found |= _verbatim(tools, seed)
    found |= real_figures(tools, cases, seed)
    if pieces:
        found["text_loss"] = round(measure.text_loss(tools.model, pieces, dtype=tools.dtype), 4)
    return found


def reuse_figures(tools: Tools, seed: int) -> dict[str, float]:
    """What is lost when passages do not see each other: the model as a test for reuse."""
    rows = fresh_rows(tools.prompts, TWO_PASSAGES, seed + 1, _QUESTIONS // 2)
    full, apart = tools.judged(rows), tools.judged(rows, is_separate=True)
    found = {f"separate/{k}": v for k, v in accuracy(apart).items()}
    found |= {f"full/{k}": v for k, v in accuracy(full).items()}
    found["two_passage"], found["two_passage_separate"] = two_passage(full), two_passage(apart)
    found["drop"] = round(100 * (two_passage(full) - two_passage(apart)), 1)
    over = tools.judged_reused(rows, random.Random(f"anchors/{seed}"), ratio=RATIO)
    found["reused"] = two_passage(over)
    return found


def fresh_rows(prompts: Prompts, mix: stages.Mix, seed: int, questions: int) -> list[Row]:
    """Contexts with names of the test split, with some `questions` questions in all."""
    chance = random.Random(f"test/{seed}")
    rows: list[Row] = []
    while sum(len(row.questions) for row in rows) < questions:
        context = mix.draw(chance, "test")
        rows.append(prompts.row(context, document_names(chance, len(context.passages))))
    return rows


def _verbatim(tools: Tools, seed: int) -> dict[str, float]:
    """Near 0 where lists are recalled word by word, 1 where nothing is."""
    mix = stages.Mix({"copy": 1.0}, (2, 3))
    rows = fresh_rows(tools.prompts, mix, seed + 2, _LISTS)
    first = tools.loss([_at_first(row) for row in rows])
    again, apart = tools.loss(rows), tools.loss(rows, is_separate=True)
    return {
        "verbatim": round(again / max(first, _LEAST), 4),
        "verbatim_separate": round(apart / max(first, _LEAST), 4),
    }


def _at_first(row: Row) -> Row:
    """The passages alone, with the lists in them as targets."""
    size = row.branch.index(1)
    kept = Row(row.ids[:size], row.positions[:size], [0] * size, row.passage[:size])
    kept.targets = [NONE] * size
    for branch in range(1, len(row.questions) + 1):
        answer = [
            target
            for target, b in zip(row.targets, row.branch, strict=True)
            if b == branch and target != NONE
        ]
        start = _find(kept.ids, answer[:-1])  # without the end
        kept.targets[start - 1 : start + len(answer) - 2] = answer[:-1]
    return kept


def _find(ids: Sequence[int], part: Sequence[int]) -> int:
    size = len(part)
    return next(i for i in range(1, len(ids)) if list(ids[i : i + size]) == list(part))


def real_figures(tools: Tools, cases: Sequence[real.Case], seed: int) -> dict[str, float]:
    """Exact match on questions that people wrote, by set, and how often what has no answer gets
    none."""
    chance = random.Random(f"real/{seed}")
    held = [case for case in cases if case.split == "test"]
    others = [case.passages[0] for case in held]
    chosen: list[real.Case] = []
    for name in sorted({case.name for case in held}):
        mine = [case for case in held if case.name == name]
        chosen += chance.sample(mine, min(_CASES, len(mine)))
    rows = []
    for case in chosen:
        context = real.as_context(case, others, chance, most=2)
        row = tools.prompts.row(context, document_names(chance, len(context.passages)))
        if len(row.ids) <= tools.model.shape.max_positions:
            rows.append(row)
    verdicts = tools.judged(rows)
    answerable = [verdict for verdict in verdicts if verdict.is_answerable]
    found = {f"real/{kind}": value for kind, value in accuracy(answerable).items()}
    none = [verdict for verdict in verdicts if not verdict.is_answerable]
    if none:
        found["real/abstains"] = round(sum(v.is_right for v in none) / len(none), 4)
    return found
