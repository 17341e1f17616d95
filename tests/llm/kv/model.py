"""A dictionary model of KV: rows that carry what they were computed behind."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import torch

from chunkwise.llm.kv.segments import KVShape, SegmentPool, SequenceKV

SHAPE = KVShape(2, 3, 4, torch.float64, torch.device("cpu"))
"""Rows are float64, so that each can hold a 50-bit number that names its prefix."""


def make_pool(tokens: int, *, min_match: int = 1) -> SegmentPool:
    return SegmentPool(SHAPE, tokens * SHAPE.bytes_per_token, min_match=min_match)


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)


def name_of(prefix: list[int]) -> float:
    """A number for a run of tokens from position 0 on: what attention would have made of it."""
    return float(hash(tuple(prefix)) % 2**50)


class Client:
    """A sequence as an engine treats it, with its tokens beside it as the truth."""

    def __init__(self, pool: SegmentPool, tokens: list[int], **options: int) -> None:
        self.pool, self.tokens = pool, list(tokens)
        self.kv = SequenceKV(pool, **options)

    @property
    def array(self) -> np.ndarray:
        return np.array(self.tokens, dtype=np.int32)

    def match(self) -> int:
        return self.kv.match(self.array[:-1])

    def reserve(self, n: int, *, room: int | None = None) -> int:
        """Room for up to `n` pending positions, as a prompt if `room` is given."""
        end = min(self.kv.num_tokens + n, len(self.tokens))
        self.kv.reserve(end, self.array, hint=0 if room is None else len(self.tokens) + room)
        return end

    def write(self, end: int) -> None:
        """The step: fill the rows of pending positions up to `end`, and say so."""
        first = at = self.kv.num_tokens
        for segment, offset, n, rel in self.kv.write_ranges(first, end):
            assert segment.start + offset == rel
            for i in range(n):
                number = name_of(self.tokens[: at + i + 1])
                segment.k[:, :, offset + i] = number
                segment.v[:, :, offset + i] = -number
            at += n
        assert at == end
        self.kv.mark_computed(end)

    def compute(self, n: int = 10**9, *, room: int | None = None) -> None:
        self.write(self.reserve(n, room=room))

    def fork(self) -> Client:
        other = Client(self.pool, self.tokens)
        other.kv = self.kv.fork()
        return other

    def truncate(self, length: int) -> None:
        self.kv.truncate(length)
        del self.tokens[length:]

    def read(self) -> None:
        """Every position must show the row of exactly this sequence's prefix."""
        seen = 0
        for segment, base, length, _ in self.kv.parts(self.kv.num_tokens):
            assert base + segment.start == seen
            own = self.tokens[seen : seen + length]
            assert segment.token_ids[:length].tolist() == own
            expected = [name_of(self.tokens[: seen + i + 1]) for i in range(length)]
            rows = torch.tensor(expected, dtype=torch.float64)[None, None, :, None]
            assert (segment.k[:, :, :length] == rows).all()
            assert (segment.v[:, :, :length] == -rows).all()
            seen += length
        assert seen == self.kv.num_tokens


def run(pool: SegmentPool, tokens: list[int], *, keep: bool = True, room: int = 0) -> int:
    """A whole request: match, compute, release. Returns how much was cached."""
    client = Client(pool, tokens)
    cached = client.match()
    client.compute(room=room)
    client.read()
    client.kv.release(keep=keep)
    pool.check([])
    return cached


def longest(pool: SegmentPool, tokens: list[int]) -> int:
    """The longest prefix that the tree holds filled, by trying all paths."""
    best = 0
    stack = [(child, 0) for child in pool.tree.root]
    while stack:
        node, start = stack.pop()
        rows = node.segment.token_ids[: min(node.known, node.segment.filled)].tolist()
        same = sum(itertools.takewhile(bool, map(operator.eq, rows, tokens[start:])))
        best = max(best, start + same)
        stack += [(child, start + child.offset) for child in node if child.offset <= same]
    return best
