"""How well questions are answered: greedy decoding, exact match, with passages seen or apart.

A greedy completion equals the right answer if and only if, with the right answer given, the
likeliest token at each place is the right one: so one forward pass measures all questions of many
contexts, and the figure is that of decoding token by token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from chunkwise.training.nano.network import Llama
from chunkwise.training.nano.prompts import Row
from chunkwise.training.nano.questions.base import UNANSWERABLE
from chunkwise.training.nano.sight import Table, sight


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a question was answered.

    Attributes:
        kind: Its kind.
        is_right: Whether the greedy completion is the answer, token by token.
        is_answerable: Whether it has an answer.
        is_far: Whether it needs something only through another passage.
    """

    kind: str
    is_right: bool
    is_answerable: bool
    is_far: bool


@torch.no_grad()
def judge(
    model: Llama,
    rows: Iterable[Row],
    *,
    dtype: torch.dtype,
    batch_tokens: int,
    is_separate: bool = False,
) -> list[Verdict]:
    """A verdict on each question of the rows.

    Args:
        model: The model.
        rows: Contexts with their questions.
        dtype: Of the products.
        batch_tokens: Most tokens computed at a time.
        is_separate: Passages are attended to separately; questions see all.
    """
    found: list[Verdict] = []
    for some in in_batches(rows, batch_tokens):
        table, logits = _logits(model, some, dtype, is_separate)
        found += _verdicts(some, table, logits)
    return found


@torch.no_grad()
def answer_loss(
    model: Llama,
    rows: Iterable[Row],
    *,
    dtype: torch.dtype,
    batch_tokens: int,
    is_separate: bool = False,
) -> float:
    """Mean loss in nats over all targets of the rows; arguments as of `judge`."""
    total, count = 0.0, 0
    for some in in_batches(rows, batch_tokens):
        table, logits = _logits(model, some, dtype, is_separate)
        targets = table.targets[table.targets >= 0]
        total += float(F.cross_entropy(logits, targets, reduction="sum"))
        count += len(targets)
    return total / max(count, 1)


def in_batches(rows: Iterable[Row], batch_tokens: int) -> Iterator[list[Row]]:
    """The rows, short ones first, so many at a time that they fit, padding counted."""
    some: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if some and (len(some) + 1) * len(row.ids) > batch_tokens:
            yield some
            some = []
        some.append(row)
    if some:
        yield some


def accuracy(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Share of right answers by kind, from 0 to 1."""
    by_kind: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_kind[verdict.kind].append(verdict)
    return {kind: share_right(each) for kind, each in sorted(by_kind.items())}


def share_right(verdicts: Sequence[Verdict]) -> float:
    """Share of right answers."""
    return round(sum(verdict.is_right for verdict in verdicts) / max(len(verdicts), 1), 4)


def two_passage(verdicts: Sequence[Verdict]) -> float:
    """Share of right answers to the questions that need an earlier passage to read a later one."""
    return share_right([verdict for verdict in verdicts if verdict.is_far])


@torch.no_grad()
def text_loss(model: Llama, pieces: Sequence[Sequence[int]], *, dtype: torch.dtype) -> float:
    """Mean loss in nats a token of pieces of plain text of one length."""
    device = model.words.weight.device
    losses = []
    for piece in pieces:
        ids = torch.tensor([list(piece)], device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype != torch.float32):
            losses.append(float(next_token_loss(model, ids)))
    return sum(losses) / max(len(losses), 1)


def next_token_loss(model: Llama, ids: Tensor) -> Tensor:
    """Mean loss of each token after the first, given those before it: `(rows, tokens)` ids."""
    positions = torch.arange(ids.shape[1] - 1, device=ids.device).expand(len(ids), -1)
    logits = model.logits(model(ids[:, :-1], positions, None)).float()
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _logits(
    model: Llama, rows: Sequence[Row], dtype: torch.dtype, is_separate: bool
) -> tuple[Table, Tensor]:
    """The rows as a table, and the logits where something is to be said: `(targets, words)`."""
    device = model.words.weight.device
    table = Table.of(rows, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype != torch.float32):
        hidden = model(table.ids, table.positions, sight(table, is_separate=is_separate))
        return table, model.logits(hidden[table.targets >= 0]).float()


def _verdicts(rows: Sequence[Row], table: Table, logits: Tensor) -> list[Verdict]:
    asked = table.targets >= 0
    wrong = torch.zeros_like(asked)
    wrong[asked] = logits.argmax(-1) != table.targets[asked]
    found = []
    for i, row in enumerate(rows):
        for branch, question in enumerate(row.questions, start=1):
            mine = (table.branch[i] == branch) & asked[i]
            found.append(
                Verdict(
                    question.kind,
                    not bool(wrong[i][mine].any()),
                    question.answer != UNANSWERABLE,
                    bool(question.indirect),
                )
            )
    return found
