"""Branches and passages see what they should: the same numbers as prompts computed alone."""

from __future__ import annotations

import random

import pytest
import torch

from chunkwise.training.nano.network import Llama
from chunkwise.training.nano.prompts import Prompts, Row, document_names
from chunkwise.training.nano.questions import Context, Names, compose, kinds
from chunkwise.training.nano.sight import Table, flags, sight
from chunkwise.training.nano.start import start
from chunkwise.training.nano.task import SHAPES


@pytest.fixture(scope="module")
def model(prompts: Prompts) -> Llama:
    made = Llama(SHAPES["tiny"], prompts.tokenizer.vocab_size)
    start(made, 3)
    return made


@pytest.fixture(scope="module")
def rows(prompts: Prompts) -> list[Row]:
    found = []
    for seed in range(3):
        chance = random.Random(seed)
        draft = kinds.build("bridge").draw(chance, Names(chance), 2 + seed % 2)
        context = compose([draft], chance)
        found.append(prompts.row(context, document_names(chance, len(context.passages))))
    return found


@torch.no_grad()
def test_a_branch_in_a_padded_batch_equals_its_prompt_alone(model: Llama, rows: list[Row]) -> None:
    table = Table.of(rows)
    hidden = model(table.ids, table.positions, sight(table))
    for i, row in enumerate(rows):
        for branch in range(1, len(row.questions) + 1):
            places = [p for p, b in enumerate(row.branch) if b in (0, branch)]
            ids = torch.tensor([[row.ids[p] for p in places]])
            alone = model(ids, torch.arange(len(places)).unsqueeze(0), None)[0]
            assert (hidden[i, places] - alone).abs().max() < 1e-4


@torch.no_grad()
def test_separate_passages_do_not_feel_each_other(
    model: Llama, prompts: Prompts, rows: list[Row]
) -> None:
    row = rows[0]
    others = Context(("Nothing is said here of anybody at all.",), ())
    foreign = prompts.row(others, ["other.md"]).ids
    first = [p for p, passage in enumerate(row.passage) if passage == 1]
    second = [p for p, passage in enumerate(row.passage) if passage == 2]
    changed = Row(list(row.ids), row.positions, row.branch, row.passage, row.targets, row.questions)
    for place, other in zip(first, foreign, strict=False):
        changed.ids[place] = other
    table = Table.of([row, changed])
    for is_separate in (False, True):
        hidden = model(table.ids, table.positions, sight(table, is_separate=is_separate))
        difference = (hidden[0, second] - hidden[1, second]).abs().max()
        assert (difference == 0) == is_separate
        asked = [p for p, branch in enumerate(row.branch) if branch == 1]
        assert (hidden[0, asked] - hidden[1, asked]).abs().max() > 0, "questions see all"


def test_hidden_passages_are_hidden_from_their_branch_only(rows: list[Row]) -> None:
    row = rows[0]
    table = Table.of([row])
    hidden = [[frozenset({0}), *[frozenset()] * (len(row.questions) - 1)]]
    seen, full = sight(table, hidden=flags(hidden, max(row.passage)))[0, 0], sight(table)[0, 0]
    mine = torch.tensor([branch == 1 for branch in row.branch])
    first = torch.tensor([passage == 1 for passage in row.passage])
    assert not seen[mine][:, first].any()
    assert torch.equal(seen[~mine], full[~mine])
    assert torch.equal(seen[mine][:, ~first], full[mine][:, ~first])
