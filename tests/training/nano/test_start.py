"""New weights: heads that look back and for equals make an untrained model lean to copying."""

from __future__ import annotations

import torch

from chunkwise.training.nano.network import Llama, Shape
from chunkwise.training.nano.start import start

SHAPE = Shape(256, 384, 3, 4, 2)
WIDE = Shape(384, 384, 4, 6, 2)


@torch.no_grad()
def rank_of_the_right_word(*, with_circuits: bool) -> float:
    """Mean share of the words that are likelier than the right one, in a list said again."""
    model = Llama(SHAPE, 600)
    start(model, 0, with_circuits=with_circuits)
    chance = torch.Generator().manual_seed(1)
    listed = torch.stack([torch.randperm(600, generator=chance)[:40] for _ in range(8)])
    ids = torch.cat([listed, listed], dim=1)
    logits = model.logits(model(ids, torch.arange(80).expand(8, -1), None))[:, 40:-1]
    right = logits.gather(2, ids[:, 41:].unsqueeze(2))
    return float((logits > right).float().mean())


def test_lists_are_nearly_recalled_before_any_training() -> None:
    assert rank_of_the_right_word(with_circuits=True) < 0.1
    assert 0.3 < rank_of_the_right_word(with_circuits=False) < 0.7


@torch.no_grad()
def preference_for_the_asked_place(*, with_circuits: bool) -> float:
    """How much likelier words of one block are than those of others, once it is asked for."""
    model = Llama(WIDE, 600)
    start(model, 0, with_circuits=with_circuits)
    chance = torch.Generator().manual_seed(1)
    gained = []
    for _ in range(40):
        blocks = torch.randperm(600, generator=chance)[:72].view(3, 24)
        place = int(torch.randint(3, (), generator=chance))
        asked = blocks[place, 4:12][torch.randperm(8, generator=chance)]
        ids = torch.cat([blocks.flatten(), asked]).unsqueeze(0)
        logits = model.logits(model(ids, torch.arange(80).unsqueeze(0), None))[0, -1]
        left = logits[blocks[:, 12:16]].mean(1)  # of the words behind those that are asked
        gained.append(float(left[place] - (left.sum() - left[place]) / 2))
    return sum(gained) / len(gained)


def test_the_place_that_has_the_asked_words_is_looked_at_before_any_training() -> None:
    assert preference_for_the_asked_place(with_circuits=True) > 0.15
    assert abs(preference_for_the_asked_place(with_circuits=False)) < 0.1


def test_a_seed_is_a_start() -> None:
    models = [Llama(SHAPE, 100) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        start(model, seed)
    first, same, other = (model.words.weight for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
