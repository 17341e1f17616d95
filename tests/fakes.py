"""Small real implementations of the shared protocols, for tests: no mocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chunkwise.scores import Continuation, TokenLosses, TokenScores
from chunkwise.types import (
    BoundaryOdds,
    Chunk,
    Delta,
    Hit,
    Prompt,
    SamplingParams,
    Span,
    content_id,
)


@dataclass
class ScriptedModel:
    """A `LanguageModel` that says what it was told to, whatever it is asked.

    Attributes:
        pieces: Text of each `Delta`, in order.
        prompts: What it was asked, kept for the test.
        is_closed: Whether the last stream was closed before its end.
    """

    pieces: Sequence[str] = ()
    fingerprint: str = "scripted"
    prompts: list[Prompt] = field(default_factory=list)
    is_closed: bool = False

    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[Delta]:
        self.prompts.append(prompt)
        self.is_closed = True
        for piece in self.pieces:
            yield Delta(piece)
        usage = {"prompt_tokens": len(prompt.segments), "completion_tokens": len(self.pieces)}
        yield Delta("", usage)
        self.is_closed = False


@dataclass(frozen=True)
class SimpleSegmenter:
    """Sentences end at `.`, `!`, `?` and their wide forms before a blank, and at line ends."""

    fingerprint: str = "simple"

    def split(self, text: str, language: str | None = None) -> list[Span]:
        spans = []
        for match in re.finditer(r"[^\s](?:[^\n]*?)(?:[.!?](?=\s|$)|[。！？]|(?=\n)|$)", text):
            end = match.start() + len(match.group().rstrip())
            if end > match.start():
                spans.append(Span(match.start(), end))
        return spans


@dataclass
class ManualClock:
    """A clock in seconds that moves only when told; `sleep` moves it and keeps the record."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def make_hit(
    text: str,
    *,
    document: str = "doc.txt",
    start: int = 0,
    score: float = 1.0,
    headings: tuple[str, ...] = (),
    header: str = "",
    pages: tuple[int, int] | None = None,
) -> Hit:
    """A hit whose chunk stands at `start` of its document and counts its words as tokens."""
    span = Span(start, start + len(text))
    chunk = Chunk(content_id(text), text, span, len(text.split()), headings, header, pages)
    return Hit(chunk, score, document)


@dataclass(frozen=True)
class HashingEmbedder:
    """Unit vectors from hashed words: texts that share words are near each other."""

    fingerprint: str = "hashing"
    dim: int = 32
    max_tokens: int = 512
    is_weak: bool = True

    def embed(
        self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
    ) -> NDArray[np.float32]:
        vectors = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, int(content_id(word), 16) % self.dim] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass
class UndecidedModel(ScriptedModel):
    """A `ScoringModel` for which a text's likelihood hangs on prompt and text alone."""

    def nll(self, prefix: str | Prompt, text: str) -> NDArray[np.float32]:
        before = prefix if isinstance(prefix, str) else "".join(s.text for s in prefix.segments)
        return np.array([int(content_id(before + text), 16) % 7], np.float32)

    def next_logits(self, prompt: str | Prompt) -> NDArray[np.float32]:
        return np.zeros(2, np.float32)


@dataclass(frozen=True)
class WordScorer:
    """A `TextScorer` whose tokens are words: one that came before costs a tenth."""

    fingerprint: str = "fake-words"

    def token_losses(self, text: str) -> TokenLosses:
        found = list(re.finditer(r"\S+", text))
        seen: set[str] = set()
        nats = []
        for match in found:
            loss = 1 + int(content_id(match[0]), 16) % 7
            nats.append(loss / 10 if match[0] in seen else loss)
            seen.add(match[0])
        starts = np.array([match.start() for match in found], np.int64)
        return TokenLosses(starts, np.array(nats, np.float32))


@dataclass(frozen=True)
class CharCounter:
    """A `TokenCounter` whose tokens are characters."""

    fingerprint: str = "fake-chars"
    is_additive: bool = True

    def starts(self, text: str) -> NDArray[np.int32]:
        return np.arange(len(text), dtype=np.int32)

    def count(self, text: str) -> int:
        return len(text)


@dataclass(frozen=True)
class WordBoundaries(SimpleSegmenter):
    """A `BoundaryScorer` whose tokens are words; how surely a sentence ends hangs on the word."""

    def log_odds(self, text: str, language: str | None = None) -> BoundaryOdds:
        found = list(re.finditer(r"\S+", text))
        starts, ends = (np.array([m.span()[k] for m in found], np.int64) for k in (0, 1))
        values = [int(content_id(m[0]), 16) % 9 - 6 + 6 * m[0].endswith(".") for m in found]
        return BoundaryOdds(starts, ends, np.array(values, np.float64))


@dataclass
class ReadingEmbedder:
    """An embedder whose tokens are words, and whose words see all words that are read with them.

    Attributes:
        max_tokens: Longest text in words.
        count: Texts and windows embedded so far.
    """

    max_tokens: int = 512
    dim: int = 32
    fingerprint: str = "reading"
    is_weak: bool = True
    count: int = 0

    def embed(
        self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
    ) -> NDArray[np.float32]:
        found = self.span_vectors(texts, [[Span(0, len(text))] for text in texts])
        return np.concatenate([np.zeros((0, self.dim), np.float32), *found])

    def token_spans(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        spans = [[match.span() for match in re.finditer(r"\S+", text)] for text in texts]
        return [np.array(some, np.int32).reshape(-1, 2) for some in spans]

    def span_vectors(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]]
    ) -> list[NDArray[np.float32]]:
        self.count += len(texts)
        return [
            np.stack([self._vector(text, span) for span in some])
            for text, some in zip(texts, spans, strict=True)
        ]

    def _vector(self, text: str, span: Span) -> NDArray[np.float32]:
        words = HashingEmbedder(dim=self.dim).embed([text[span.start : span.end], text])
        vector: NDArray[np.float32] = words[0] + words[1]
        return vector / np.linalg.norm(vector)


@dataclass
class HashedContinuations:
    """A `ContinuationModel` over bytes for which a token's likelihood hangs on all before it.

    Attributes:
        context: Most tokens of a prompt and what stands behind it.
        asked: How many continuations each call of `next_logprobs` had.
    """

    context: int = 1_000_000
    fingerprint: str = "hashed"
    asked: list[int] = field(default_factory=list)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode("utf-8", "surrogatepass"))

    def room(self, prompt: str | Prompt) -> int:
        return self.context - len(self.encode(prompt_text(prompt)))

    def next_logprobs(self, asked: Sequence[Continuation]) -> NDArray[np.float32]:
        self.asked.append(len(asked))
        return np.array([self.row(prompt, ids) for prompt, ids in asked], np.float32)

    def scores(self, asked: Sequence[Continuation]) -> list[TokenScores]:
        return [self._scores(prompt, ids) for prompt, ids in asked]

    def _scores(self, prompt: str | Prompt, ids: tuple[int, ...]) -> TokenScores:
        rows = [self.row(prompt, ids[:i]) for i in range(len(ids) + 1)]
        tokens = [row[token] for row, token in zip(rows, ids, strict=False)]
        return TokenScores(np.array(tokens, np.float32), np.array([row[256] for row in rows[1:]]))

    def row(self, prompt: str | Prompt, ids: tuple[int, ...]) -> NDArray[np.float32]:
        """Log-probabilities of the 256 bytes and of the end."""
        before = f"{prompt_text(prompt)}{ids}"
        seed = int(content_id(before), 16) % 2**32
        logits = np.random.RandomState(seed).standard_normal(257).astype(np.float32)
        return logits - np.float32(np.log(np.exp(logits).sum()))


def prompt_text(prompt: str | Prompt) -> str:
    return prompt if isinstance(prompt, str) else "".join(s.text for s in prompt.segments)
