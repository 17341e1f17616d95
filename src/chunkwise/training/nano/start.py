"""Weights to start from: some heads already look one or two tokens back, and some look for what
stood behind the same token before.

Source: in the spirit of Mimetic Initialization of Self-Attention Layers (arXiv 2305.09828); the
    heads are those of In-context Learning and Induction Heads (Olsson et al. 2022).
Differs: the paper copies the statistics of trained weights, this writes the two circuits of an
    induction head down. Training can change them like all other weights.
Exact when: never; `with_circuits=False` gives plain random weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from chunkwise.training.nano.network import THETA

if TYPE_CHECKING:
    from chunkwise.training.nano.network import Llama

_STD = 0.02
_CONSTANT = 0.25  # share of an embedding's square that is in its first channel, alike for all
_SHARPNESS = 6.0  # logit by which a head prefers its distance to the next one
_MATCH = 100.0  # logit of an equal token
_QUICK = 0.25  # share of the channel pairs, of high frequency, that tell near places apart
_SLOW = 0.45  # pairs from here on turn so slowly that far places look alike
_LOUDNESS = 3.0  # of the residual stream: surer guesses, and steps that are small beside it
_WRITERS = ("words.weight", "out.weight", "down.weight")
_COPIED = 0.4  # how much of the found token is written down
_LATE = 3
_QUIET = 0.1  # of what the other heads and the MLPs write at first
_NEAR = (3, 9)  # channel pairs that tell tokens within a dozen or two from farther ones
_NEARNESS = 4.0  # logit by which the gathering head prefers its own place to far ones
_GATHERED = 10.0  # how loud the gathered words are beside a token
_RETRIEVED = _STD  # how loud the words gathered at a found place are
_ALIKE = 5.0  # logit of places that have gathered the same
_FARNESS = 12.0  # logit by which the comparing heads prefer far places to their own


@torch.no_grad()
def start(model: Llama, seed: int, *, with_circuits: bool = True) -> None:
    """New random weights; those that write to the residual stream are smaller.

    Args:
        model: Whose weights are replaced.
        seed: Same seed, same weights.
        with_circuits: Whether heads of the first two layers start as an induction circuit.
    """
    chance = torch.Generator().manual_seed(seed)
    small = _STD / (2 * model.shape.num_layers) ** 0.5
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            weight.fill_(1.0)
            continue
        std = small * _QUIET if name.endswith(("out.weight", "down.weight")) else _STD
        weight.copy_(torch.randn(weight.shape, generator=chance) * std)
    if with_circuits:
        _write_circuits(model, chance)
    for name, weight in model.named_parameters():
        if name.endswith(_WRITERS):
            weight.mul_(_LOUDNESS)


def _write_circuits(model: Llama, chance: torch.Generator) -> None:
    hidden, head = model.shape.hidden_size, model.shape.head_dim
    constant = _STD * math.sqrt(_CONSTANT * (hidden - 1) / (1 - _CONSTANT))
    model.words.weight[:, 0] = constant
    basis = torch.zeros(hidden - 1, hidden)  # directions that do not disturb each other
    basis[:, 1:] = torch.linalg.qr(torch.randn(hidden - 1, hidden - 1, generator=chance)).Q
    code, *places = torch.split(basis, head)
    group = model.shape.num_heads // model.shape.num_kv_heads
    whole = [place for place in places if len(place) == head][:group]
    _look_back(model, code, whole)
    if whole:
        _look_for_equals(model, 1, code, whole[0])
    free = [place for place in places if len(place) == head][group:]
    if free and model.shape.num_kv_heads > 1 and model.shape.num_layers > _LATE:
        bag = free[0]
        _gather(model, code, bag)
        _compare(model, 1, bag, bag, _RETRIEVED * bag)
        _compare(model, _LATE, bag, code, _COPIED * code)


def _look_back(model: Llama, code: Tensor, places: Sequence[Tensor]) -> None:
    """Heads of the first group look 1, 2, ... tokens back and write down what stands there.

    Args:
        model: Whose first layer is changed.
        code: Directions that a token is told by, `(head_dim, hidden_size)`.
        places: For each head, the directions that it writes to, same shape.
    """
    head, out = model.shape.head_dim, _linear(model, 0, "out")
    q, k, v = _parts(model, 0)
    quick = torch.arange(max(1, round(_QUICK * head / 2)))
    turns = THETA ** (-2.0 * quick / head)
    contrast = float((1 - turns.cos()).sum())
    constant = math.sqrt(_CONSTANT * model.shape.hidden_size)  # after the norm
    gain = math.sqrt(_SHARPNESS * math.sqrt(head) / contrast) / constant
    k[:head], v[:head] = 0.0, code
    k[quick, 0] = gain
    for number, place in enumerate(places):
        mine = q[number * head : (number + 1) * head]
        mine.zero_()
        mine[quick, 0] = gain * torch.cos((number + 1) * turns)
        mine[quick + head // 2, 0] = -gain * torch.sin((number + 1) * turns)
        out.weight[:, number * head : (number + 1) * head] = _STD * place.T


def _look_for_equals(model: Llama, layer: int, code: Tensor, place: Tensor) -> None:
    """A head looks for the token behind one equal to its own, and copies it."""
    head, out = model.shape.head_dim, _linear(model, layer, "out")
    q, k, v = _parts(model, layer)
    pairs = torch.arange(round(_SLOW * head / 2), head // 2)
    slow = torch.cat([pairs, pairs + head // 2])
    gain = math.sqrt(_MATCH * math.sqrt(head) / len(slow))
    q[:head], k[:head], v[:head] = 0.0, 0.0, code
    q[slow] = gain * code[: len(slow)]
    k[slow] = gain * place[: len(slow)]
    out.weight[:, :head] = _COPIED * code.T


def _bump(head: int) -> tuple[Tensor, float]:
    """Channels of a logit that falls with the distance, and how far it falls per unit of gain."""
    near = torch.arange(*_NEAR)
    return near, float(len(near))


def _gather(model: Llama, code: Tensor, bag: Tensor) -> None:
    """A head of the first layer's last group writes down what the last dozen tokens were."""
    head, out = model.shape.head_dim, _linear(model, 0, "out")
    q, k, v = _parts(model, 0)
    number = model.shape.num_heads - model.shape.num_heads // model.shape.num_kv_heads
    group = model.shape.num_kv_heads - 1
    near, fall = _bump(head)
    constant = math.sqrt(_CONSTANT * model.shape.hidden_size)
    gain = math.sqrt(_NEARNESS * math.sqrt(head) / fall) / constant
    mine, keys = q[number * head : (number + 1) * head], k[group * head :]
    mine.zero_()
    keys.zero_()
    mine[near, 0] = keys[near, 0] = gain
    v[group * head :] = code
    out.weight[:, number * head : (number + 1) * head] = _GATHERED * _STD * bag.T


def _compare(model: Llama, layer: int, bag: Tensor, read: Tensor, written: Tensor) -> None:
    """A head looks at far places that have gathered the same words, and copies from there."""
    head, out = model.shape.head_dim, _linear(model, layer, "out")
    q, k, v = _parts(model, layer)
    number = model.shape.num_heads - model.shape.num_heads // model.shape.num_kv_heads
    group = model.shape.num_kv_heads - 1
    near, fall = _bump(head)
    constant = math.sqrt(_CONSTANT * model.shape.hidden_size)
    gain = math.sqrt(_FARNESS * math.sqrt(head) / fall) / constant
    pairs = torch.arange(round(_SLOW * head / 2), head // 2)
    slow = torch.cat([pairs, pairs + head // 2])
    alike = math.sqrt(_ALIKE * math.sqrt(head) / len(slow))
    mine, keys = q[number * head : (number + 1) * head], k[group * head :]
    mine.zero_()
    keys.zero_()
    mine[near, 0], keys[near, 0] = gain, -gain
    mine[slow] = keys[slow] = alike * bag[: len(slow)]
    v[group * head :] = read
    out.weight[:, number * head : (number + 1) * head] = written.T


def _parts(model: Llama, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of a layer's q, k and v."""
    shape = model.shape
    kv = shape.num_kv_heads * shape.head_dim
    sizes = [shape.num_heads * shape.head_dim, kv, kv]
    q, k, v = torch.split(_linear(model, number, "qkv").weight, sizes)
    return q, k, v


def _linear(model: Llama, number: int, name: str) -> nn.Linear:
    found = getattr(model.layers[number], name)
    assert isinstance(found, nn.Linear)
    return found
