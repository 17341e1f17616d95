"""The global look over a batch job: in which order its prompts share most.

Source: BatchLLM (arXiv 2412.03594): prefixes found over all prompts, sharers together, those with
    long answers and short prompts first.
Differs: there, sharing is reduced to one level of groups for the sake of the kernel. Segments form
    a tree, so here it has as many levels as the prompts have, and no more rows are computed than
    by the best groups of one level. Prompts over reused chunks are grouped by these at any place.
Exact when: always; only the order of work changes.
Cost: sorting the prompts; by chunks, each group looks at all who hold one of its chunks.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from chunkwise.llm.kv.memory import TokenIds
from chunkwise.llm.kv.prefix import common_length


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One prompt of a batch.

    Attributes:
        prompt: Its tokens.
        new: Most tokens of all its completions together.
        chunks: Chunks that it may reuse, each with its tokens.
    """

    prompt: TokenIds
    new: int
    chunks: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of its prompt that no chunk gives; at least the last one."""
        return max(len(self.prompt) - sum(self.chunks.values()), 1)

    @property
    def reusable(self) -> TokenIds:
        """What of its prompt may be shared: the last row is computed for its logits."""
        return self.prompt[:-1]


def ordered(jobs: Iterable[Job]) -> list[Job]:
    """All jobs, sharers next to each other, decode-heavy ones first; jobs with chunks before those
    without."""
    jobs = list(jobs)
    return _by_chunks([j for j in jobs if j.chunks]) + _by_prefix([j for j in jobs if not j.chunks])


def shared_lengths(jobs: Items[Job]) -> list[int]:
    """How many tokens the prompt of each has in common with the one before it. In an order by
    prefixes, none of those before has more."""
    found = [common_length(a.reusable, b.reusable) for a, b in itertools.pairwise(jobs)]
    return [0, *found][: len(jobs)]


@dataclass(slots=True, eq=False)
class _Node:
    """A place in the tree of prompts.

    Attributes:
        depth: Tokens before it.
        job: Whose prompt ends here, in a leaf.
        new: Completion tokens of all below it.
        rows: Prompt rows to be computed below it, each shared one once.
        children: Sorted once all are there.
    """

    depth: int
    job: Job | None = None
    new: int = 0
    rows: int = 0
    children: list[_Node] = field(default_factory=list)

    def close(self) -> None:
        """No more children come: sum up, decode-heavy ones first."""
        self.new = sum(child.new for child in self.children)
        self.rows = sum(child.depth - self.depth + child.rows for child in self.children)
        self.children.sort(key=lambda c: -c.new / (c.depth - self.depth + c.rows))


def _by_prefix(jobs: list[Job]) -> list[Job]:
    """Leaf by leaf through the tree of the prompts."""
    found = []
    stack = [_tree(jobs)]
    while stack:
        node = stack.pop()
        found += [node.job] if node.job is not None else []
        stack += reversed(node.children)
    return found


def _tree(jobs: list[Job]) -> _Node:
    """The prompts as a tree whose inner nodes are where some part."""
    jobs = sorted(jobs, key=lambda job: job.reusable.tobytes())
    stack = [_Node(0)]  # from the root to the last leaf's parent
    for job, common in zip(jobs, shared_lengths(jobs), strict=True):
        while stack[-1].depth > common:
            stack.pop().close()
        if stack[-1].depth < common:
            middle = _Node(common, children=[stack[-1].children.pop()])
            stack[-1].children.append(middle)
            stack.append(middle)
        stack[-1].children.append(_Node(len(job.reusable), job, job.new, 1))
    while stack:
        (node := stack.pop()).close()
    return node


def _by_chunks(jobs: list[Job]) -> list[Job]:
    """Groups: the most decode-heavy job that is left, and all that hold at least half of its
    chunks, by tokens."""
    holders: dict[str, list[Job]] = defaultdict(list)
    left = dict.fromkeys(sorted(jobs, key=lambda job: -job.new / job.rows))
    for job in left:
        for name in job.chunks:
            holders[name].append(job)
    found: list[Job] = []
    while left:
        first = next(iter(left))
        shared: Counter[Job] = Counter()
        for name, tokens in first.chunks.items():
            holders[name] = [job for job in holders[name] if job in left]
            shared.update(dict.fromkeys(holders[name], tokens))
        group = [job for job, n in shared.most_common() if 2 * n >= sum(first.chunks.values())]
        for job in group:
            del left[job]
        found += group
    return found
