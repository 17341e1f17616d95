"""The values everything hangs on, and the four protocols that rooms share.

A *document* is a parsed source with one canonical text; a *span* is a half-open range of
its characters; a *chunk* is a text unit with its span; a *hit* is a chunk with a score; a
*passage* is text that enters a prompt. See `docs/architecture.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BlockKind = Literal[
    "heading", "paragraph", "list_item", "table", "code", "definition", "quote", "caption", "note"
]


class Span(NamedTuple):
    """A half-open range of characters of one document's text."""

    start: int
    end: int


class Box(NamedTuple):
    """A rectangle on a page, in points from the page's top left corner; pages count from 1."""

    page: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a document's structure: kind, place, and what the kind needs.

    Blocks of a document are in text order and do not overlap.

    Attributes:
        kind: What it is. A `definition` is a function or class of source code.
        start: First character in the document's text.
        end: One past the last character.
        level: Depth of a heading or list item, from 1; 0 elsewhere.
        page: Page, slide or sheet, from 1; None where the format has none.
        boxes: Where it stands on its pages, if the format says.
        rows: Spans of a table's rows in the document's text, header rows included.
        header_rows: How many of `rows`, from the first, are header.
        name: Name of a definition, language of code, else empty.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    page: int | None = None
    boxes: tuple[Box, ...] = ()
    rows: tuple[Span, ...] = ()
    header_rows: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed source: one canonical text and its structure.

    Attributes:
        name: How the user knows it: a path, a file name, an address.
        text: The canonical text; every offset anywhere counts its characters (Python `str`).
        blocks: Structure, in text order, not overlapping.
        pages: Span of each page, slide or sheet; empty where the format has none.
        title: The document's own title, or empty.
        metadata: What the source says of itself (author, date, subject ...).
        warnings: What could not be read, in sentences for the user.
    """

    name: str
    text: str
    blocks: tuple[Block, ...] = ()
    pages: tuple[Span, ...] = ()
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def content_id(text: str) -> str:
    """The content id of a text: BLAKE2b-128 of its UTF-8 bytes, in 32 hex digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A text unit cut from a document: `document.text[span.start:span.end] == text`.

    Attributes:
        id: Content id of `text`; equal text has an equal id wherever it stands.
        text: The characters of the span, verbatim.
        span: Its place in the document.
        tokens: Length in tokens of the chunker's counter.
        headings: Headings in force where the chunk starts, outermost first; in source code also the
            lines that open the classes and functions around it.
        header: Header rows of the table that the chunk continues, verbatim; else empty.
        pages: First and last page it stands on, or None.
    """

    id: str
    text: str
    span: Span
    tokens: int
    headings: tuple[str, ...] = ()
    header: str = ""
    pages: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which documents may answer; applied before ranking.

    Attributes:
        paths: Glob patterns over document names; any may match. Empty: all.
        metadata: Pairs that the document's metadata must hold, all of them.
    """

    paths: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.paths or self.metadata)


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and which documents may answer it."""

    text: str
    filter: Filter = field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk with a score; higher is better. Scores compare within one result only.

    Attributes:
        chunk: The chunk at this occurrence.
        score: Relevance by whoever ranked last.
        document: Name of the document.
        version: Version of the document, from 1.
        scores: Scores of earlier stages by stage name (`bm25`, `dense`, `rrf` ...).
        copies: Other occurrences of the same or nearly the same text: (document, span).
        content: The store's key of the chunk's content: equal for equal text. -1: the store has no
            such content, for example only a longer one.
    """

    chunk: Chunk
    score: float
    document: str
    version: int = 1
    scores: Mapping[str, float] = field(default_factory=dict)
    copies: tuple[tuple[str, Span], ...] = ()
    content: int = -1


@dataclass(frozen=True, slots=True)
class Budget:
    """What a selection may spend.

    Attributes:
        tokens: Most tokens of all passages together, as they are sent (context included).
        passages: Most passages.
    """

    tokens: int = 1600
    passages: int = 12


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a part of an answer stands: characters of one version of one document."""

    document: str
    start: int
    end: int
    text: str
    page: int | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its sources.

    Attributes:
        text: What to show. Says so in words when nothing was found.
        citations: Sources, in the order in which the answer uses them.
        found: Whether the documents answer the question.
        confidence: In [0, 1]; comparable within one answerer only. None: unknown.
        usage: Counts: `passages`, `prompt_tokens`, `completion_tokens`, `dropped_citations` ...
        fidelity: How the answer was made: `{"kind": "verbatim" | "generated", ...}`; with
            `"prompt": "approximate"` where passages were read earlier, each alone.
        timings_ms: Milliseconds per stage.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    found: bool = True
    confidence: float | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt. `content_id` names the chunk it is, or None for anything else."""

    role: Literal["system", "user", "assistant"]
    text: str
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that remembers its chunk boundaries: segments in order."""

    segments: tuple[Segment, ...]

    def messages(self) -> list[dict[str, str]]:
        """The prompt as chat messages; neighbours of one role are joined."""
        merged: list[dict[str, str]] = []
        for segment in self.segments:
            if merged and merged[-1]["role"] == segment.role:
                merged[-1]["content"] += segment.text
            else:
                merged.append({"role": segment.role, "content": segment.text})
        return merged


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample: greedy by default. Names and meanings as in OpenAI's API and vLLM.

    Attributes:
        temperature: 0 takes the likeliest token; otherwise logits are divided by it.
        top_p: Only the likeliest tokens that together have this probability; 1: all.
        max_tokens: Most tokens of a completion.
        stop: The completion ends before the first of these texts.
        seed: Same seed, same tokens, whatever else runs; None: another draw each time.
        top_k: Only the `top_k` likeliest tokens; 0: all.
        min_p: Only tokens at least this share as likely as the likeliest; 0: all.
        repetition_penalty: Above 1 makes tokens of the prompt and the completion less likely.
        presence_penalty: Taken from the logit of every token that the completion holds.
        frequency_penalty: Taken once for each time that the completion holds the token.
        logit_bias: Added to the logits of these token ids.
        stop_token_ids: The completion ends with the first of these tokens, which is not shown.
        ignore_eos: Go on after the model's end token, for measurements.
        logprobs: Log-probabilities of the chosen token and this many of the likeliest, for each
            token of the completion; None: none.
        prompt_logprobs: The same for each token of the prompt but the first.
        n: Completions of one prompt.
        json_schema: The completion is JSON that fits this schema, given as JSON text.
        regex: The completion matches this regular expression.
        grammar: The completion follows this grammar, in Lark's notation as llguidance reads it.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    n: int = 1
    json_schema: str = ""
    regex: str = ""
    grammar: str = ""


class TokenCounter(Protocol):
    """Counts tokens of one tokenizer. Special tokens are not counted.

    Attributes:
        fingerprint: Changes when counts may change.
        is_additive: True when `count(text[a:b])` is the number of `starts(text)` in `[a, b)` for
            all places `a` and `b` that are an edge of the text or beside a space, tab, line
            feed or carriage return. Then the text is counted once; elsewhere pieces are counted.
    """

    fingerprint: str
    is_additive: bool

    def starts(self, text: str) -> NDArray[np.int32]:
        """Character offset at which each token of `text` starts, never falling: `(num_tokens,)`."""
        ...

    def count(self, text: str) -> int:
        """Number of tokens of `text`."""
        ...


class Segmenter(Protocol):
    """Finds sentences."""

    fingerprint: str

    def split(self, text: str, language: str | None = None) -> list[Span]:
        """Sentence spans in order, blank edges trimmed, covering all that is not blank.

        Args:
            text: Any text, of any length.
            language: ISO 639-1 code; None: guessed from the script and the words.
        """
        ...


class BoundaryOdds(NamedTuple):
    """How surely sentences end behind the tokens of a text.

    Attributes:
        starts: First character of each token, rising: `(n,)`.
        ends: One past its last character.
        values: Log-odds that a sentence ends behind it, minus those of the threshold, so that
            above 0 it does; `-inf` inside of a word.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    values: NDArray[np.float64]


@runtime_checkable
class BoundaryScorer(Segmenter, Protocol):
    """A segmenter that also says how sure it is."""

    def log_odds(self, text: str, language: str | None = None) -> BoundaryOdds:
        """Log-odds of an end behind each token; tokens cover all that is not blank.

        Args:
            text: Any text, of any length.
            language: As in `split`.
        """
        ...


class Embedder(Protocol):
    """Turns texts into unit vectors.

    Attributes:
        fingerprint: Changes when vectors may change: model, pooling, prefixes, dimension.
        dim: Length of a vector.
        max_tokens: Longest text in the model's own tokens, special tokens not counted.
        is_weak: True when it is no trained model; said wherever results are shown.
    """

    fingerprint: str
    dim: int
    max_tokens: int
    is_weak: bool

    def embed(
        self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
    ) -> NDArray[np.float32]:
        """Unit vectors `(len(texts), dim)`, float32, in the order of `texts`."""
        ...


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a completion; the last one of a stream carries `usage`, if it is known."""

    text: str
    usage: Mapping[str, int] = field(default_factory=dict)


class LanguageModel(Protocol):
    """Generates text."""

    fingerprint: str

    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[Delta]:
        """Pieces of the completion as they come. Closing the iterator cancels the request.

        Raises:
            RequestError: The prompt cannot be answered as asked.
            RemoteError: The server failed.
        """
        ...
