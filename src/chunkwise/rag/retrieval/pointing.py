"""A language model points at sentences of a text that it has read, and says where they end.

A sentence is its tokens. Sentences with equal tokens are one, and the first of them is found.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.scores import Continuation, ContinuationModel
from chunkwise.types import Prompt

Tokens = tuple[int, ...]


class Pointed(NamedTuple):
    """A sentence by its number, and the mean log-probability that it was found by."""

    sentence: int
    score: float


@dataclass(frozen=True, slots=True)
class Passage:
    """What a model is shown, and the sentences that it may point at.

    Attributes:
        prompt: The passage, the question behind it, and nothing of the answer.
        plain: The same without the question, or nothing.
        sentences: Tokens of each, in text order.
    """

    prompt: Prompt
    plain: str | Prompt
    sentences: tuple[Tokens, ...]


@dataclass(frozen=True, slots=True)
class _Prefix:
    """Some first tokens, the sum of their log-probabilities, and the sentences that begin so."""

    tokens: Tokens
    total: float
    sentences: tuple[int, ...]

    def rank(self) -> tuple[float, int]:
        """Sorts prefixes, likeliest first whatever their length; equals by position."""
        return -self.total / len(self.tokens), self.sentences[0]

    def grown(self, sentences: Sequence[Tokens], logprobs: NDArray[np.float32]) -> list[_Prefix]:
        """The prefixes that are one token longer: the children of this node of the trie."""
        size, children = len(self.tokens), dict[int, list[int]]()
        for i in self.sentences:
            if len(sentences[i]) > size:
                children.setdefault(sentences[i][size], []).append(i)
        return [
            _Prefix((*self.tokens, token), self.total + float(logprobs[token]), tuple(members))
            for token, members in children.items()
        ]


def beam_search(
    model: ContinuationModel, passages: Sequence[Passage], width: int
) -> list[list[Pointed]]:
    """Sentences of each passage by the mean log-probability of their first tokens, as many as
    tell them from all others; best first, equals by position.

    After every token only the `width` likeliest prefixes of a passage go on, so that there are all
    sentences where there are no more than `width`.
    """
    live = [[_Prefix((), 0.0, tuple(range(len(p.sentences))))] for p in passages]
    found: list[list[Pointed]] = [[] for _ in passages]
    while any(live):
        asked = [
            Continuation(p.prompt, prefix.tokens)
            for p, prefixes in zip(passages, live, strict=True)
            for prefix in prefixes
        ]
        rows = iter(model.next_logprobs(asked))
        for i, passage in enumerate(passages):
            grown = [
                longer
                for prefix in live[i]
                for longer in prefix.grown(passage.sentences, next(rows))
            ]
            kept = sorted(grown, key=_Prefix.rank)[:width]
            live[i] = [prefix for prefix in kept if not _settle(prefix, passage, found[i])]
    return [sorted(each, key=lambda p: (-p.score, p.sentence)) for each in found]


def _settle(prefix: _Prefix, passage: Passage, found: list[Pointed]) -> bool:
    """Note the sentence that a prefix names: that which it is wholly, or the only one that begins
    so. Whether there is no other."""
    members = prefix.sentences
    texts = {passage.sentences[i] for i in members}
    whole = [i for i in members if passage.sentences[i] == prefix.tokens]
    named = members if len(texts) == 1 else whole
    if named:
        found.append(Pointed(named[0], prefix.total / len(prefix.tokens)))
    return len(texts) == 1 or len(whole) == len(members)


def compare_prompts(
    model: ContinuationModel, passages: Sequence[Passage], num_tokens: int
) -> list[list[Pointed]]:
    """Sentences of each passage by how much likelier the question makes their first tokens, in the
    mean: `num_tokens`, or as many more as tell them from all others; best first, equals by
    position."""
    heads = [_heads(p.sentences, num_tokens) for p in passages]
    asked = [
        Continuation(prompt, head)
        for passage, each in zip(passages, heads, strict=True)
        for head in each
        for prompt in (passage.prompt, passage.plain)
    ]
    means = [float(scores.tokens.mean()) for scores in model.scores(asked)]
    gains = iter(np.subtract(means[::2], means[1::2]).tolist())
    found = [[Pointed(i, next(gains)) for i in each.values()] for each in heads]
    return [sorted(each, key=lambda p: (-p.score, p.sentence)) for each in found]


def _heads(sentences: Sequence[Tokens], num_tokens: int) -> dict[Tokens, int]:
    """First tokens of the distinct sentences, at least so many, by which none is like another, with
    the first one that begins so."""
    shared = dict.fromkeys(sentences, 0)
    for one, other in itertools.pairwise(sorted(shared)):
        same = _num_equal(one, other)
        shared[one], shared[other] = max(shared[one], same), same
    heads: dict[Tokens, int] = {}
    for i, sentence in enumerate(sentences):
        heads.setdefault(sentence[: max(num_tokens, shared[sentence] + 1)], i)
    return heads


def _num_equal(one: Tokens, other: Tokens) -> int:
    """How many first tokens are equal."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
