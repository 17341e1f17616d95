"""Answering over reused chunks: a first pass picks what is computed afresh, a second one answers.

The forward of the engine's reuse with the policy `combined`, over padded batches and with
gradients: chunks are computed alone behind the anchor, their keys turned to their places in the
prompt; the question's attention over them, summed over heads and the first layers, picks tokens;
these and everything between and behind the chunks are computed afresh, and see what precedes them.

Source: Block-Attention (arXiv 2409.15355), TurboRAG (arXiv 2410.07590) and KVLink (arXiv
    2502.16002) train with the masks of reuse.
Differs: a share of the chunks' tokens is computed afresh, picked by the model that is trained, so
    that what it learns is what reuse with repair asks for; chunks stand behind an anchor.
Exact when: never; with all tokens picked it is full attention, as training with masks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chunkwise.llm.probing import asked_layers
from chunkwise.llm.reuse.combined import LINK_SHARE, Combined
from chunkwise.training.nano.measure import Verdict
from chunkwise.training.nano.network import Heads, Llama, Past, rotate
from chunkwise.training.nano.questions.base import UNANSWERABLE
from chunkwise.training.nano.reused import (
    COUNTED,
    UNSEEN,
    Example,
    ReusedBatch,
    in_batches,
    pack,
)


class Reading(NamedTuple):
    """Chunks of contexts, for each question: `(questions, tokens)` each.

    Attributes:
        ids: Token ids.
        chunk: 0 in the anchor, -1 where padded.
        placed: Place in the prompt.
        is_link: Whether it is one of the first tokens of a chunk.
    """

    ids: Tensor
    chunk: Tensor
    placed: Tensor
    is_link: Tensor


class Fresh(NamedTuple):
    """What is computed for each question over its chunks: `(questions, tokens)` each.

    Attributes:
        ids: Token ids.
        positions: -1 where padded.
    """

    ids: Tensor
    positions: Tensor


class Answering(NamedTuple):
    """Hidden states of the prompts' own tokens, `(questions, tokens, hidden_size)`, with what is
    to be learnt of each: targets of answers and next tokens of questions."""

    hidden: Tensor
    targets: Tensor
    following: Tensor


def answering(model: Llama, batch: ReusedBatch) -> Answering:
    """The second pass over a batch, after the first has picked."""
    device = model.words.weight.device
    ids, positions, targets, following, role = _tensors(batch.fresh, device)
    context, counts, anchor = _tensors(batch.asked, device)
    stale = _tensors(batch.stale, device)
    past = [Past(*(t[context] for t in each)) for each in _read(model, stale)]
    chunk = stale[1][context]
    is_link = (chunk > 0) & (stale[3][context] < anchor.unsqueeze(1) + Combined.tokens)
    reading = Reading(stale[0][context], chunk, stale[2][context], is_link)
    picked = pick(_attention(model, reading, past, Fresh(ids, positions), role), reading, counts)
    size = min(-(-int(batch.asked[1].max()) // 8) * 8, picked.shape[1])
    again = _again(reading, picked, size)
    whole = Fresh(*(torch.cat(pair, 1) for pair in zip(Fresh(ids, positions), again, strict=True)))
    mask = _sight(reading, whole, (reading.chunk > 0) & ~picked)
    hidden = model(whole.ids, whole.positions.clamp(min=0), mask, past=past)
    return Answering(hidden[:, : ids.shape[1]], targets, following)


@torch.no_grad()
def judge(
    model: Llama, examples: Sequence[Example], *, dtype: torch.dtype, batch_tokens: int
) -> list[Verdict]:
    """A verdict on each question of the examples.

    Args:
        model: The model.
        examples: Contexts with their questions.
        dtype: Of the products.
        batch_tokens: Most tokens computed at a time, about.
    """
    found: list[Verdict] = []
    for some in in_batches(examples, batch_tokens):
        with torch.autocast(_device_type(model), torch.bfloat16, enabled=dtype != torch.float32):
            hidden, targets, _ = answering(model, pack(some))
            asked = targets >= 0
            wrong = torch.zeros_like(asked)
            wrong[asked] = model.logits(hidden[asked]).argmax(-1) != targets[asked]
        found += _verdicts(some, wrong.any(1).tolist())
    return found


def pick(attention: Tensor, reading: Reading, counts: Tensor) -> Tensor:
    """Tokens that are computed afresh, as `combined` picks them: `(questions, tokens)` bool.

    Args:
        attention: What the question looks at, same shape.
        reading: The chunks.
        counts: How many, of each question.
    """
    counts = counts.unsqueeze(1)
    first = reading.is_link & (_rank(attention, reading.is_link) < counts // LINK_SHARE)
    others = (reading.chunk > 0) & ~first
    left = counts - first.sum(1, keepdim=True)
    return first | (others & (_rank(attention, others) < left))


def _rank(scores: Tensor, among: Tensor) -> Tensor:
    """How many of its row come before each: higher ones, of equals those before it."""
    order = scores.masked_fill(~among, -torch.inf).argsort(stable=True, dim=1, descending=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def _read(model: Llama, stale: Sequence[Tensor]) -> list[Past]:
    """The chunks computed alone; keys of each layer are turned to where the chunks stand."""
    ids, chunk, placed, at = stale
    found: list[Past] = []
    cos, sin = model.rotation(placed, model.words.weight)

    def keep(heads: Heads) -> None:
        found.append(Past(rotate(heads.raw, cos, sin), heads.v))

    row, key = chunk.unsqueeze(2), chunk.unsqueeze(1)
    seen = ((row == key) | ((key == 0) & (row > 0))).tril()
    model(ids, at, seen.unsqueeze(1), tap=keep)
    return found


@torch.no_grad()
def _attention(
    model: Llama, reading: Reading, past: Sequence[Past], prompt: Fresh, role: Tensor
) -> Tensor:
    """The first pass: how much the question looks at each token of the chunks as they are."""
    fresh = Fresh(prompt.ids, prompt.positions.masked_fill(role == UNSEEN, -1))
    mask = _sight(reading, fresh, reading.chunk > 0)
    counted, size = (role == COUNTED)[:, None, :, None], reading.ids.shape[1]
    total = torch.zeros(reading.ids.shape, device=reading.ids.device)

    def look(heads: Heads) -> None:
        rows, groups, dim = len(heads.k), heads.k.shape[1], heads.k.shape[3]
        q = heads.q.reshape(rows, groups, -1, dim)  # heads that share a key head, one after another
        scores = (q @ heads.k.transpose(-1, -2)).float() * dim**-0.5
        scores = scores.view(*heads.q.shape[:3], -1).masked_fill(~mask, -torch.inf)
        weights = scores.softmax(-1)[..., :size]
        total.add_(weights.masked_fill(~counted, 0.0).sum((1, 2)))

    asked = past[: asked_layers(len(past))]
    detached = [Past(each.k.detach(), each.v.detach()) for each in asked]
    model(fresh.ids, fresh.positions.clamp(min=0), mask, past=detached, tap=look)
    return total


def _again(reading: Reading, picked: Tensor, size: int) -> Fresh:
    """The picked tokens at their places, `size` of each question, padding counted."""
    order = picked.int().argsort(stable=True, dim=1, descending=True)[:, :size]
    positions = reading.placed.masked_fill(~picked, -1).gather(1, order)
    return Fresh(reading.ids.gather(1, order), positions)


def _sight(reading: Reading, fresh: Fresh, shown: Tensor) -> Tensor:
    """What fresh rows see: `(questions, 1, rows, chunk tokens + rows)`; padding sees padding."""
    row, key = fresh.positions.unsqueeze(2), fresh.positions.unsqueeze(1)
    chunks = shown.unsqueeze(1) & (reading.placed.unsqueeze(1) < row)
    own = (key <= row) & ((key >= 0) | (row < 0))
    return torch.cat([chunks, own], 2).unsqueeze(1)


def _tensors(arrays: NDArray[np.int32], device: torch.device) -> Sequence[Tensor]:
    return torch.from_numpy(arrays).to(device).long().unbind()


def _verdicts(examples: Sequence[Example], wrong: Sequence[bool]) -> list[Verdict]:
    asked = [e.row.questions[branch - 1] for e in examples for branch in e.branches]
    return [
        Verdict(q.kind, not is_wrong, q.answer != UNANSWERABLE, bool(q.indirect))
        for q, is_wrong in zip(asked, wrong, strict=True)
    ]


def _device_type(model: Llama) -> str:
    return model.words.weight.device.type
