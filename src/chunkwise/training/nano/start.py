"""Weights to start from: some heads already look back, for equals, and for places with like words.

Four circuits are written down, all soft, all changed by training like other weights. In the first
layer heads look one, two, three tokens back, and one gathers the words of the last dozen tokens.
In the second a head looks for the token behind one equal to its own and copies it (an induction
head), and one looks for far places that gathered like words and adds what they gathered to its
own: so a passage on "Z7" gets to know whose alias "Z7" is. In a later layer a head looks for far
places like its own again, and copies the token there: from a question to the sentence it asks for.

Source: in the spirit of Mimetic Initialization of Self-Attention Layers (arXiv 2305.09828); the
    induction head is that of In-context Learning and Induction Heads (Olsson et al. 2022).
Differs: the paper copies the statistics of trained weights; the gathering and comparing heads are
    our own. What all other heads and the MLPs write starts a tenth as loud: at full strength their
    noise drowns the circuits (a list said again, before training: 36 % of its words right, then
    90 %).
Exact when: never; `with_circuits=False` gives random weights alone.
Measured: docs/log.md, 2026-11-27; without the last two circuits two facts of one kind were not
    told apart in 700 steps, with them in 300.
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
_NEAR = (0.09, 0.28)  # these tell the last dozen or two of tokens from farther ones
_SLOW = 0.45  # pairs from here on turn so slowly that far places look alike
_LOUDNESS = 3.0  # of the residual stream: surer guesses, and steps that are small beside it
_QUIET = 0.1  # of what heads and MLPs that nobody wrote down say at first
_WRITERS = ("words.weight", "out.weight", "down.weight")
_COPIED = 0.4  # how much of a found token is written down
_NEARNESS = 4.0  # logit by which the gathering head prefers its own place to far ones
_GATHERED = 10.0  # how loud the gathered words are beside a token
_RETRIEVED = _STD  # how loud the gathered words of a found place are
_ALIKE = 5.0  # logit of places that gathered the same words
_FARNESS = 12.0  # logit by which a comparing head prefers far places to its own
_SECOND, _LATE = 1, 3  # layers of the circuits after the first


@torch.no_grad()
def start(model: Llama, seed: int, *, with_circuits: bool = True) -> None:
    """New random weights; those that write to the residual stream are smaller.

    Args:
        model: Whose weights are replaced.
        seed: Same seed, same weights.
        with_circuits: Whether some heads start with something to do. The comparing ones need four
            layers, two key heads, and a width of five heads.
    """
    chance = torch.Generator().manual_seed(seed)
    small = _QUIET * _STD / (2 * model.shape.num_layers) ** 0.5
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            weight.fill_(1.0)
            continue
        std = small if name.endswith(("out.weight", "down.weight")) else _STD
        weight.copy_(torch.randn(weight.shape, generator=chance) * std)
    if with_circuits:
        _write_circuits(model, chance)
    for name, weight in model.named_parameters():
        if name.endswith(_WRITERS):
            weight.mul_(_LOUDNESS)


def _write_circuits(model: Llama, chance: torch.Generator) -> None:
    shape = model.shape
    hidden, head = shape.hidden_size, shape.head_dim
    model.words.weight[:, 0] = _STD * math.sqrt(_CONSTANT * (hidden - 1) / (1 - _CONSTANT))
    basis = torch.zeros(hidden - 1, hidden)  # directions that do not disturb each other
    basis[:, 1:] = torch.linalg.qr(torch.randn(hidden - 1, hidden - 1, generator=chance)).Q
    code, *places = (part for part in torch.split(basis, head) if len(part) == head)
    group = shape.num_heads // shape.num_kv_heads
    _look_back(model, code, places[:group])
    if places:
        _look_for_equals(model, code, places[0])
    if shape.num_kv_heads > 1 and len(places) > group and shape.num_layers > _LATE:
        words = places[group]
        _gather(model, code, words)
        _compare(model, _SECOND, words, words, _RETRIEVED)
        _compare(model, _LATE, words, code, _COPIED)


def _look_back(model: Llama, code: Tensor, places: Sequence[Tensor]) -> None:
    """Heads of the first group look 1, 2, ... tokens back and write down what stands there.

    Args:
        model: Whose first layer is changed.
        code: Directions that a token is told by, `(head_dim, hidden_size)`.
        places: For each head, the directions that it writes to, same shape.
    """
    head = model.shape.head_dim
    quick = torch.arange(max(1, round(_QUICK * head / 2)))
    turns = THETA ** (-2.0 * quick / head)
    gain = _gain(_SHARPNESS, head, float((1 - turns.cos()).sum())) / _constant(model)
    _, k, v, _ = _head(model, 0, 0)  # the whole group's
    k.zero_()
    k[quick, 0] = gain
    v[:] = code
    for number, place in enumerate(places):
        q, _, _, out = _head(model, 0, number)
        q.zero_()
        q[quick, 0] = gain * torch.cos((number + 1) * turns)
        q[quick + head // 2, 0] = -gain * torch.sin((number + 1) * turns)
        out[:] = _STD * place.T


def _look_for_equals(model: Llama, code: Tensor, place: Tensor) -> None:
    """A head looks for the token behind one equal to its own, and copies it."""
    q, k, v, out = _head(model, _SECOND, 0)
    slow = _slow(len(q))
    gain = _gain(_MATCH, len(q), len(slow))
    q.zero_()
    k.zero_()
    q[slow] = gain * code[: len(slow)]
    k[slow] = gain * place[: len(slow)]
    v[:] = code
    out[:] = _COPIED * code.T


def _gather(model: Llama, code: Tensor, words: Tensor) -> None:
    """A head of the first layer writes down what the last dozen tokens were, as `words`."""
    q, k, v, out = _head(model, 0, _last_group(model))
    near, gain = _near(model, _NEARNESS)
    q.zero_()
    k.zero_()
    q[near, 0] = k[near, 0] = gain
    v[:] = code
    out[:] = _GATHERED * _STD * words.T


def _compare(model: Llama, layer: int, words: Tensor, copied: Tensor, loudness: float) -> None:
    """A head looks at far places that gathered like words, and writes down what they have.

    Args:
        model: Whose layer is changed.
        layer: Which.
        words: Directions of the gathered words.
        copied: Directions that are read there and written here.
        loudness: How loud.
    """
    q, k, v, out = _head(model, layer, _last_group(model))
    (near, farness), slow = _near(model, _FARNESS), _slow(len(q))
    q.zero_()
    k.zero_()
    q[near, 0], k[near, 0] = farness, -farness
    q[slow] = k[slow] = _gain(_ALIKE, len(q), len(slow)) * words[: len(slow)]
    v[:] = copied
    out[:] = loudness * copied.T


def _slow(head: int) -> Tensor:
    """Channels of a head that tell tokens by what they are, hardly by their distance."""
    pairs = torch.arange(round(_SLOW * head / 2), head // 2)
    return torch.cat([pairs, pairs + head // 2])


def _near(model: Llama, logit: float) -> tuple[Tensor, float]:
    """Channels that are alike for near tokens, and their gain for so much logit at distance 0."""
    head = model.shape.head_dim
    first, last = (round(share * head / 2) for share in _NEAR)
    return torch.arange(first, last), _gain(logit, head, last - first) / _constant(model)


def _gain(logit: float, head: int, size: float) -> float:
    """What q and k are multiplied with, so that products that sum up to `size` give a logit."""
    return math.sqrt(logit * math.sqrt(head) / size)


def _constant(model: Llama) -> float:
    """The first channel of every token, after the norm."""
    return math.sqrt(_CONSTANT * model.shape.hidden_size)


def _last_group(model: Llama) -> int:
    """The first query head of the last key head."""
    return model.shape.num_heads - model.shape.num_heads // model.shape.num_kv_heads


def _head(model: Llama, layer: int, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of a query head's q and output, and of k and v of its key head."""
    shape = model.shape
    head, group = shape.head_dim, shape.num_heads // shape.num_kv_heads
    kv = shape.num_kv_heads * head
    sizes = [shape.num_heads * head, kv, kv]
    q, k, v = torch.split(_linear(model, layer, "qkv").weight, sizes)
    mine, shared = (slice(i * head, (i + 1) * head) for i in (number, number // group))
    return q[mine], k[shared], v[shared], _linear(model, layer, "out").weight[:, mine]


def _linear(model: Llama, number: int, name: str) -> nn.Linear:
    found = getattr(model.layers[number], name)
    assert isinstance(found, nn.Linear)
    return found
