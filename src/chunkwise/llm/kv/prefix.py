"""Exact prefix look-up over segments: a tree by tokens whose nodes are whole segments.

A node is one segment. A child attaches behind any row of its parent, so nodes are never split and
no key is ever copied: where two prompts part inside a segment, the second is a child at that
offset. Tokens are compared, always; keys of dictionaries only narrow the search.

A segment may be in the tree while its writer still fills it: its tokens are promised, its filled
rows can be taken already.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from chunkwise.llm.kv.memory import Held, Segment, TokenIds


class Match(NamedTuple):
    """The longest prefix that is there.

    Attributes:
        entries: What a sequence would hold of it; nothing is retained by matching.
        length: Tokens whose rows are filled.
        promised: Tokens beyond `length` that a running sequence is about to compute.
    """

    entries: list[Held]
    length: int
    promised: int


@dataclass(slots=True, eq=False)
class Node:
    """A segment's place in the tree.

    Attributes:
        segment: The segment; the root has an empty one.
        parent: The node it was computed behind; None at the root.
        offset: Rows of the parent that it stands behind.
        position: Tokens from the root to its key 0.
        known: Tokens of it that can be matched; beyond `segment.filled` they are promised.
        key: Its first tokens, as bytes: where its parent finds it, with `offset`. They are
            `min_match`, or fewer if fewer are known or a child stands behind fewer.
        children: By offset and key. Several have the same key if they were computed at once.
        twins: Children whose first token the node itself has behind their offset, because both
            were computed at once. Rare, but a longer match may be there.
        num_children: Of all keys.
        num_short: Children whose key is shorter than the tree's `min_match`.
    """

    segment: Segment
    parent: Node | None
    offset: int
    position: int
    known: int
    key: bytes
    children: dict[tuple[int, bytes], list[Node]] = field(default_factory=dict)
    twins: list[Node] = field(default_factory=list)
    num_children: int = 0
    num_short: int = 0

    def __iter__(self) -> Iterator[Node]:
        """The children, in no particular order."""
        return itertools.chain.from_iterable(self.children.values())


class Cursor(NamedTuple):
    """A place in the tree: behind `offset` rows of a node."""

    node: Node
    offset: int


class PrefixTree:
    """Segments by the tokens they hold and the tokens they were computed behind.

    The tree counts no references and no bytes: the pool does. It keeps unheld leaves in the order
    of their last use.

    Args:
        min_match: Fewest rows of a segment that are worth taking. Fewer cost more to attend to
            apart than to compute again, and would keep a long segment for a few rows (every
            prompt has the same first token).
    """

    def __init__(self, min_match: int = 16) -> None:
        self.min_match = min_match
        none = torch.empty(0)
        self.root = Node(Segment(none, none, np.empty(0, np.int32), 0, 0), None, 0, 0, 0, b"")
        self.num_nodes = 0
        self._leaves: list[tuple[int, int, Node]] = []  # heap; entries may be out of date
        self._serial = itertools.count()

    def match(self, token_ids: TokenIds) -> Match:
        """The longest prefix of `token_ids` whose rows are filled, and what is promised beyond.

        Up to `min_match - 1` tokens at its end may be missed, twice that where a match ends
        behind a very short segment; with `min_match` 1 none. Changes nothing.
        """
        begin = Cursor(self.root, 0)
        (node, length), total, reach = self._search(begin, token_ids, least=self.min_match)
        entries = []
        while node.parent is not None:
            entries.append(Held(node.segment, node.position - node.segment.start, length))
            node, length = node.parent, node.offset
        return Match(entries[::-1], total, reach - total)

    def follow(self, cursor: Cursor, token_ids: TokenIds) -> Cursor | None:
        """Where one comes from `cursor` by these tokens, or None unless all rows are filled."""
        end, total, _ = self._search(cursor, token_ids, least=1)
        return end if total == len(token_ids) else None

    def insert(self, cursor: Cursor, segment: Segment, known: int) -> Node:
        """Put a segment behind what it was computed behind.

        Args:
            cursor: At most as far as its node's tokens are known.
            segment: Not in the tree yet.
            known: How many of `segment.token_ids` can be matched, at least 1. Those rows are
                frozen from now on.
        """
        parent, offset = cursor
        assert segment.node is None, "in the tree already"
        assert 0 < known <= segment.capacity, f"{known} of {segment.capacity} tokens known"
        assert offset <= parent.known, f"offset {offset} beyond {parent.known} known tokens"
        node = Node(segment, parent, offset, parent.position + offset, known, b"")
        segment.node, segment.frozen = node, max(segment.frozen, known)
        self.num_nodes += 1
        self._attach(node)
        return node

    def extend(self, node: Node, known: int) -> None:
        """Make further tokens of a node known; fewer than now changes nothing."""
        if known <= node.known:
            return
        node.segment.frozen = max(node.segment.frozen, known)
        node.known = known
        node.twins = [child for child in node if _is_twin(child)]

    def withdraw(self, node: Node) -> None:
        """Take back what is promised and not filled: the writer has stopped.

        A node with too few rows to be taken, and no children, leaves the tree.
        """
        known = node.segment.filled
        if node.known <= known:
            return
        if known < self.min_match and not node.num_children:
            self.remove(node)
        else:
            self._shorten(node, known)

    def remove(self, node: Node) -> None:
        """Take a node without children out of the tree."""
        assert node.parent is not None, "the root stays"
        assert not node.num_children, "not a leaf"
        self._detach(node)
        node.segment.node = None
        self.num_nodes -= 1
        self.offer(node.parent)

    def prune(self, node: Node, offset: int) -> list[Segment]:
        """Remove all that stands behind more than `offset` rows of a node, and these rows' tokens.

        Returns:
            The segments that have left the tree.
        """
        below = [n for child in node if child.offset > offset for n in _subtree(child)]
        for one in reversed(below):
            self.remove(one)
        self._shorten(node, min(node.known, offset))
        return [one.segment for one in below]

    def offer(self, node: Node) -> None:
        """Note that a node may have become evictable."""
        if _is_evictable(node):
            heapq.heappush(self._leaves, (node.segment.last_used, next(self._serial), node))
            if len(self._leaves) > 2 * self.num_nodes + 64:
                self._leaves = [entry for entry in self._leaves if _is_current(entry)]
                heapq.heapify(self._leaves)

    def evict(self) -> Segment:
        """Remove the least recently used leaf that nobody holds; there must be one."""
        while not _is_current(entry := heapq.heappop(self._leaves)):
            pass
        self.remove(entry[2])
        return entry[2].segment

    def walk(self) -> Iterator[Node]:
        """All nodes but the root, parents first."""
        for child in self.root:
            yield from _subtree(child)

    def check(self) -> None:
        """Raise AssertionError unless links, offsets, keys and the evictable leaves are right."""
        nodes = list(self.walk())
        assert len(nodes) == self.num_nodes, f"{len(nodes)} nodes, {self.num_nodes} counted"
        current = {id(entry[2]) for entry in self._leaves if _is_current(entry)}
        for node in [self.root, *nodes]:
            assert node.num_children == sum(1 for _ in node), "children miscounted"
            short = sum(1 for child in node if len(child.key) < 4 * self.min_match)
            assert all(4 * child.offset >= len(node.key) for child in node), "key too long"
            assert node.num_short == short, "short children miscounted"
            twins = {id(child) for child in node if _is_twin(child)}
            assert twins <= {id(child) for child in node.twins}, "twins wrong"
        for node in nodes:
            self._check_node(node)
            assert (id(node) in current) == _is_evictable(node), "evictable leaves wrong"

    def _check_node(self, node: Node) -> None:
        segment, parent = node.segment, node.parent
        assert parent is not None, "no parent"
        assert segment.node is node, "not the segment's node"
        assert node in parent.children[node.offset, node.key], "not where the parent finds it"
        assert node.offset <= parent.segment.capacity, "offset beyond the parent"
        assert node.offset <= parent.known, "offset beyond what the parent knows"
        assert node.position == parent.position + node.offset, "position wrong"
        assert 0 < node.known <= segment.capacity, f"{node.known} of {segment.capacity} known"
        assert node.known <= segment.filled or segment.writer is not None, "nobody keeps a promise"
        assert segment.token_ids[: node.known].tobytes().startswith(node.key), "key wrong"
        assert parent is self.root or parent.segment.refs or not segment.refs, "parent not held"

    def _search(self, cursor: Cursor, ids: TokenIds, *, least: int) -> tuple[Cursor, int, int]:
        """Where the longest match from a cursor ends, its length, and how far a promise goes.

        A place is only better than another if it is at least `least` tokens further.
        """
        best, total, reach = cursor, 0, 0
        stack = [(*cursor, 0)]  # node, first row compared, tokens matched before it
        while stack:
            node, skip, used = stack.pop()
            same = common_length(node.segment.token_ids[skip : node.known], ids[used:])
            rows = min(same, node.segment.filled - skip)
            if used + rows >= total + least:
                best, total = Cursor(node, skip + rows), used + rows
            if rows < same:
                reach = max(reach, used + same)
            if rows == same and node.num_children:
                end = used + same
                stack += [(child, 0, end) for child in self._behind(node, skip + same, ids[end:])]
            stack += [
                (twin, 0, used + twin.offset - skip)
                for twin in node.twins
                if skip <= twin.offset < skip + same
            ]
        return best, total, max(reach, total)

    def _behind(self, node: Node, offset: int, ids: TokenIds) -> Iterator[Node]:
        """Children at an offset that may go on with these tokens."""
        full = [self.min_match] if len(ids) >= self.min_match else []
        short = range(1, min(self.min_match, len(ids) + 1)) if node.num_short else ()
        for length in (*full, *short):
            yield from node.children.get((offset, ids[:length].tobytes()), ())

    def _attach(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None, "the root is attached to nothing"
        length = min([self.min_match, node.known, *(child.offset for child in node)])
        node.key = node.segment.token_ids[:length].tobytes()
        parent.children.setdefault((node.offset, node.key), []).append(node)
        parent.num_children += 1
        parent.num_short += length < self.min_match
        if _is_twin(node):
            parent.twins.append(node)
        if 4 * node.offset < len(parent.key):  # who goes on to the child must find the parent
            self._detach(parent)
            self._attach(parent)

    def _shorten(self, node: Node, known: int) -> None:
        node.known = known
        if known < self.min_match:  # less than the key says
            self._detach(node)
            self._attach(node)

    def _detach(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None, "the root is attached to nothing"
        siblings = parent.children[node.offset, node.key]
        siblings.remove(node)
        if not siblings:
            del parent.children[node.offset, node.key]
        parent.num_children -= 1
        parent.num_short -= len(node.key) < 4 * self.min_match
        if node in parent.twins:
            parent.twins.remove(node)


def common_length(a: TokenIds, b: TokenIds) -> int:
    """How many tokens two runs begin with in common."""
    limit, start, size = min(len(a), len(b)), 0, 512
    while start < limit:
        end = min(start + size, limit)
        differ = a[start:end] != b[start:end]
        at = int(differ.argmax())
        if differ[at]:
            return start + at
        start, size = end, 8 * size
    return limit


def _is_twin(child: Node) -> bool:
    parent = child.parent
    assert parent is not None, "the root is no child"
    at = child.offset
    return at < parent.known and parent.segment.token_ids[at] == child.segment.token_ids[0]


def _is_evictable(node: Node) -> bool:
    return not node.segment.refs and not node.num_children and node.segment.node is node


def _is_current(entry: tuple[int, int, Node]) -> bool:
    return _is_evictable(entry[2]) and entry[0] == entry[2].segment.last_used


def _subtree(node: Node) -> Iterator[Node]:
    """The node and all below it, parents first."""
    stack = [node]
    while stack:
        yield (top := stack.pop())
        stack.extend(top)
