"""Random operations on many sequences in a pool that is always too small, against the truth."""

import random
from collections import Counter

import pytest

from chunkwise.llm.kv.segments import OutOfKV
from tests.llm.kv.model import Client, longest, make_pool


class Driver:
    """Does one random thing at a time and checks everything after each."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.min_match = self.random.choice([1, 1, 2, 4])
        self.scale = self.random.choice([4, 15, 40])
        budget = self.scale * self.random.choice([2, 4, 8])
        self.pool = make_pool(budget, min_match=self.min_match)
        self.vocabulary = self.random.choice([1, 2, 3, 9])
        self.texts = [self._tokens(2 * self.scale) for _ in range(8)]
        self.live: list[Client] = []
        self.seen: Counter[str] = Counter()

    def step(self) -> None:
        actions = [self.start] * 4 + [self.grow] * 4 + [self.decode] * 3 + [self.release] * 3
        actions += [self.truncate, self.fork, self.join, self.preempt]
        action = self.random.choice(actions)
        action()
        self.seen[action.__name__] += 1
        self.seen["evicted"] = self.pool.num_evicted
        self.seen["twins"] += sum(len(node.twins) for node in self.pool.tree.walk())
        self.seen["deep"] += sum(node.position > node.offset for node in self.pool.tree.walk())
        self.pool.check([client.kv for client in self.live])
        for client in self.live:
            client.read()

    def start(self) -> None:
        if len(self.live) >= 6:
            return
        tokens = self._tokens(self.random.randint(1, self.scale))
        if self.random.random() < 0.8:  # a text known before, or in flight, and something new
            texts = self.texts + 2 * [client.tokens for client in self.live]
            text = self.random.choice(texts)
            tokens = text[: self.random.randint(0, len(text))] + tokens[: self.scale // 4 + 1]
        options = {"piece_tokens": self.random.choice([1, 2, 4, 7]), "join_pieces": 2}
        client = Client(self.pool, tokens, **options)
        self._match(client)
        self.live.append(client)
        self._grow(client, self.random.randint(0, 6), is_prompt=self.random.random() < 0.7)

    def grow(self) -> None:
        if client := self._any():
            n = self.random.randint(0, len(client.tokens))
            self._grow(client, n, is_prompt=self.random.random() < 0.5)

    def _grow(self, client: Client, n: int, *, is_prompt: bool = False) -> None:
        room = self.random.choice([0, 3]) if is_prompt else None
        before = [tuple(held) for held in client.kv.entries]
        try:
            end = client.reserve(n, room=room)
        except OutOfKV:
            self.seen["out"] += 1
            assert [tuple(held) for held in client.kv.entries] == before
            return
        if self.random.random() < 0.9:  # else the step fails
            client.write(end)

    def decode(self) -> None:
        client = self._any()
        if client is None or client.kv.num_tokens < len(client.tokens):
            return
        try:
            for _ in range(self.random.randint(1, 12)):
                client.tokens += self._tokens(1)
                client.compute()
                self.seen["joined"] += client.kv.join() > 0
        except OutOfKV:
            self.seen["out"] += 1

    def truncate(self) -> None:
        if client := self._any():
            length = self.random.randint(0, client.kv.num_tokens)
            if self.random.random() < 0.7:
                length = max(client.kv.num_tokens - 3, 0)
            had = client.kv.num_tokens
            client.truncate(length) if length < had else client.kv.truncate(length)
            client.tokens += self._tokens(1)
            assert client.kv.num_tokens == length

    def fork(self) -> None:
        if len(self.live) < 6 and (client := self._any()):
            self.live.append(client.fork())

    def join(self) -> None:
        if client := self._any():
            before = client.kv.num_tokens, len(client.kv.entries)
            copied = client.kv.join()
            assert client.kv.num_tokens == before[0]
            assert (len(client.kv.entries) < before[1]) == (copied > 0)
            self.seen["joined"] += copied > 0

    def release(self) -> None:
        if client := self._any():
            self.live.remove(client)
            client.kv.release(keep=self.random.random() < 0.8)
            assert not client.kv.entries

    def preempt(self) -> None:
        """Everything is given up and taken again."""
        if client := self._any():
            had = client.kv.num_tokens
            client.kv.release(keep=True)
            taken = self._match(client)
            if had < len(client.tokens):
                assert taken >= had - 2 * self.min_match, "what was kept is not found"

    def _match(self, client: Client) -> int:
        expected = longest(self.pool, client.tokens[:-1])
        promise = self.pool.tree.match(client.array[:-1])
        taken = client.match()
        assert promise.length == taken
        assert expected - 2 * (self.min_match - 1) <= taken <= expected
        assert taken + promise.promised < len(client.tokens)
        self.seen["matched"] += taken > 0
        self.seen["promised"] += promise.promised > 0
        return taken

    def _tokens(self, n: int) -> list[int]:
        return self.random.choices(range(self.vocabulary), k=n)

    def _any(self) -> Client | None:
        return self.random.choice(self.live) if self.live else None


@pytest.mark.parametrize("seed", range(40))
def test_every_sequence_sees_its_own_prefix_whatever_happens(seed: int) -> None:
    driver = Driver(seed)
    for _ in range(150):
        driver.step()
    for client in driver.live:
        client.kv.release(keep=True)
    driver.pool.check([])
    assert driver.pool.used_bytes == driver.pool.cached_bytes


def test_the_random_operations_reach_the_hard_cases() -> None:
    seen: Counter[str] = Counter()
    for seed in range(8):
        driver = Driver(seed)
        for _ in range(150):
            driver.step()
        seen += driver.seen
    for what in ("evicted", "out", "matched", "promised", "joined", "twins", "deep"):
        assert seen[what] > 5, (what, seen)
