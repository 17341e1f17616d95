"""Questions that a chunk answers: those that stand in it, and those that rules or a model make.

A question is nearer to a question that is asked than the statement that answers it. Rules are for
English: what something is, when or by whom it was made, how many it has. In other languages only
questions of the chunk itself are found, unless a language model writes them.

Source: Nogueira and Lin, docTTTTTquery (2019), which appends generated questions to documents.
Differs: rules instead of a trained generator, or any language model asked in words.
Exact when: `max_tokens` is 0: texts are embedded alone.
Cost: sentences and a few expressions a chunk; with `write` a completion a chunk, again at each
    change of the document.
Helps or hurts: by rules, with all-MiniLM-L6-v2, recursive chunks, 231 questions on three corpora of
    Chroma's evaluation: recall of the best 5 +0.4 points [-1.2, +2.1] at 200 tokens and 0.0
    [-1.5, +1.7] at 100 against texts alone, recall at 400 tokens -2.2 [-4.6, -0.1] and +0.2 [-1.0,
    +1.5] (95 % paired bootstrap): no gain proven. Written by a model: not measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from chunkwise.errors import ConfigError
from chunkwise.rag.enrichment.base import check_least, fitted
from chunkwise.types import (
    Chunk,
    Document,
    LanguageModel,
    Prompt,
    SamplingParams,
    Segment,
    Segmenter,
    TokenCounter,
)

__all__ = ["QuestionsEnricher"]

_ASKED = re.compile(r"[?？]\s*[\"'”’»)\]]*\s*\Z")
_MARKS = re.compile(r"\A(?:[-*•>#\d.)(\s]+|q:\s*)+", re.IGNORECASE)
_SUBJECT = r"\A(?P<subject>[A-Z][^\s,;:.()]*(?: [^\s,;:.()]+){0,5}?)"
_REFERRING = re.compile(
    r"(?:all|as|at|both|each|every|for|he|her|here|his|i|if|in|it|its|many|most|my|on|one|our|she|"
    r"some|such|that|their|there|these|they|this|those|we|what|when|where|which|who|you|your)\b",
    re.IGNORECASE,
)
_WHEN = "When {be} {subject} {verb}?"
_RULES = tuple(
    (re.compile(rf"{_SUBJECT} {predicate}"), question)
    for predicate, question in (
        (r"(?P<be>is|are|was|were) (?:an?|the|one of) \w", "What {be} {subject}?"),
        (
            r"(?P<be>was|were) (?P<verb>\w+) (?:\w+ )*?(?:in|on|since) .*?\d{4}",
            "When {be} {subject} {verb}?",
        ),
        (r"(?P<be>is|are|was|were) (?P<verb>\w+) by \w", "Who {be} {subject} {verb} by?"),
        (r"costs? \W?\d", "How much does {subject} cost?"),
        (r"has (?:\w+ )?\d[\d.,]* (?P<what>[a-z]+)", "How many {what} does {subject} have?"),
        (r"have (?:\w+ )?\d[\d.,]* (?P<what>[a-z]+)", "How many {what} do {subject} have?"),
    )
)
_ARTICLE = re.compile(r"\A(?:The|An?)\b")
_MOST_CHARS = 2000  # of a sentence that rules look at


@dataclass(frozen=True, kw_only=True)
class QuestionsEnricher:
    """Questions that the chunk answers, as far as rules or a language model find them.

    Attributes:
        counter: Counts the tokens.
        segmenter: Finds the sentences.
        max_tokens: Most tokens of all questions together.
        most: Most questions of a chunk.
        write: Let the language model write them.
        model: The language model; needed with `write` only.
    """

    counter: TokenCounter
    segmenter: Segmenter
    max_tokens: int = 32
    most: int = 3
    write: bool = False
    model: LanguageModel | None = None
    separator: ClassVar[str] = " "

    def __post_init__(self) -> None:
        check_least("max_tokens", self.max_tokens, 0)
        check_least("most", self.most, 1)
        if self.write and self.model is None:
            raise ConfigError(
                "`write` of 'questions' needs a language model: set `model`, or leave `write` out "
                "for questions by rules."
            )

    def enrich(
        self, document: Document, chunks: Sequence[Chunk], rooms: Sequence[int]
    ) -> list[tuple[str, ...]]:
        """See `Enricher`.

        Raises:
            RequestError: A chunk is too long for the model.
        """
        ask = self._written if self.write else self._by_rules
        return [self._fitted(ask, chunk, room) for chunk, room in zip(chunks, rooms, strict=True)]

    def _fitted(
        self, ask: Callable[[str], Iterator[str]], chunk: Chunk, room: int
    ) -> tuple[str, ...]:
        if min(room, self.max_tokens) <= 0:
            return ()
        found = list(dict.fromkeys(ask(chunk.text)))
        return fitted(found, self, room)[: self.most]

    def _by_rules(self, text: str) -> Iterator[str]:
        sentences = [text[start:end] for start, end in self.segmenter.split(text)]
        plain = [" ".join(each.split()) for each in sentences if len(each) <= _MOST_CHARS]
        yield from (each for each in plain if _ASKED.search(each))
        for sentence in plain:
            if question := _about(sentence):
                yield question

    def _written(self, text: str) -> Iterator[str]:
        assert self.model is not None, "checked at construction"
        asked = (
            f"Write at most {self.most} short questions that this passage answers, one a line, and "
            f"nothing else.\n\n{text}"
        )
        sampling = SamplingParams(max_tokens=40 * self.most)
        deltas = self.model.stream(Prompt((Segment("user", asked),)), sampling)
        for line in "".join(delta.text for delta in deltas).splitlines():
            question = " ".join(_MARKS.sub("", line).split())
            if _ASKED.search(question):
                yield question


def _about(sentence: str) -> str:
    """The question that a sentence answers by the first rule that fits; empty: none does."""
    for pattern, question in _RULES:
        match = pattern.match(sentence)
        if match and not _REFERRING.match(match["subject"]):
            subject = _ARTICLE.sub(lambda article: article[0].lower(), match["subject"])
            return question.format(**{**match.groupdict(), "subject": subject})
    return ""
