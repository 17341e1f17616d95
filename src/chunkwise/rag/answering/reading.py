"""A trained reader from its folder: question and passages in, likely spans with confidence out.

The folder holds `model.safetensors`, `config.json` (BERT's shape, and what the reader needs under
`reader`), `tokenizer.json` and `card.json`. `chunkwise train reader` makes one.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chunkwise.errors import MissingDependencyError, ModelFormatError
from chunkwise.rag.answering.spans import (
    Calibration,
    Window,
    WindowScores,
    best_spans,
    char_span,
    cut_windows,
)

try:
    import tokenizers
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from chunkwise.rag.answering.network import (
        NetworkShape,
        ReaderNetwork,
        pack,
        restored_tensors,
    )
except ImportError as exc:
    raise MissingDependencyError(
        'The reader needs torch, tokenizers and safetensors: `pip install "chunkwise[llm]"`.'
    ) from exc

_SURROGATES = re.compile("[\ud800-\udfff]")
_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How texts are put before the network, and how its scores are read.

    Attributes:
        question_tokens: Most tokens of a question; the rest is cut off.
        window_tokens: Most tokens of a passage in a window.
        stride_tokens: Most tokens between the starts of two windows of a passage.
        answer_tokens: Longest answer.
        calibration: Makes confidence from scores.
    """

    question_tokens: int = 64
    window_tokens: int = 320
    stride_tokens: int = 192
    answer_tokens: int = 48
    calibration: Calibration = field(default_factory=Calibration)


class Encoded(NamedTuple):
    """A text in tokens.

    Attributes:
        ids: Token ids.
        offsets: Characters `[start, end)` of each token in the text.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


class FoundSpan(NamedTuple):
    """Characters of a passage that may be the answer.

    Attributes:
        passage: Index of the passage.
        start: First character.
        end: One past the last.
        confidence: Probability that it is right, in [0, 1].
    """

    passage: int
    start: int
    end: int
    confidence: float


class WordPieces:
    """BERT's tokenizer with offsets. Control tokens in a text are plain text.

    Args:
        path: Its `tokenizer.json`.

    Raises:
        ModelFormatError: It is missing, damaged or has no `[CLS]` and `[SEP]`.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._inner = tokenizers.Tokenizer.from_file(str(path))
        except Exception as exc:  # the tokenizers package raises bare Exception
            raise ModelFormatError(f"{path} cannot be read: {exc}.") from exc
        self._inner.no_truncation()
        self._inner.no_padding()
        self._inner.encode_special_tokens = True
        first, between = map(self._inner.token_to_id, ("[CLS]", "[SEP]"))
        if first is None or between is None:
            raise ModelFormatError(f"{path} has no [CLS] or no [SEP]: no tokenizer of BERT's.")
        self.edges: tuple[int, int] = (first, between)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokens of each text; lone surrogates count as unknown characters."""
        plain = [_SURROGATES.sub("\ufffd", text) for text in texts]
        encoded = self._inner.encode_batch(plain, add_special_tokens=False)
        return [Encoded(e.ids, e.offsets) for e in encoded]


class SpanReader:
    """Reads passages for the answer to a question. Immutable, so threads may share it.

    Args:
        folder: The model.
        dtype: Of weights and activations: `torch.float32` or `torch.bfloat16`.

    Raises:
        ModelFormatError: The folder lacks a file or a tensor, or is of another kind.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        shape, self.options = read_config(folder)
        self.pieces = WordPieces(folder / "tokenizer.json")
        self._network = load_network(folder, shape).to(dtype).eval()

    @property
    def threshold(self) -> float:
        """Confidence below which "not found" is the better answer."""
        return self.options.calibration.threshold

    def read(self, question: str, passages: Sequence[str], *, most: int = 8) -> list[FoundSpan]:
        """At most `most` likely answers from all passages, best first; none if all are empty."""
        asked, *texts = self.pieces.encode([question, *passages])
        windows = windows_of(asked.ids, [t.ids for t in texts], self.pieces.edges, self.options)
        if not windows:
            return []
        options = self.options
        candidates = best_spans(
            windows, self.score(windows), max_tokens=options.answer_tokens, most=most
        )
        found = []
        for candidate in candidates:
            offsets = texts[candidate.passage].offsets
            text = passages[candidate.passage]
            span = char_span(text, offsets, candidate.start, candidate.end)
            confidence = options.calibration.confidence(candidate)
            found.append(FoundSpan(candidate.passage, span.start, span.end, confidence))
        return found

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        """Scores of each window, in order; they do not depend on what else is asked."""
        return score_windows(self._network, windows)


def windows_of(
    question: Sequence[int],
    passages: Sequence[Sequence[int]],
    edges: tuple[int, int],
    options: ReadingOptions,
) -> list[Window]:
    """The windows that a question and its passages are read in."""
    return cut_windows(
        question[: options.question_tokens],
        passages,
        edges=edges,
        size=options.window_tokens,
        stride=options.stride_tokens,
    )


@torch.inference_mode()
def score_windows(network: ReaderNetwork, windows: Sequence[Window]) -> list[WindowScores]:
    """Scores of each window, in order, by a network in evaluation mode."""
    device = next(network.parameters()).device
    found: dict[int, WindowScores] = {}
    for batch in _batches(windows):
        packed = pack([windows[i].ids for i in batch], [windows[i].head for i in batch], device)
        places = iter(packed.order)
        for spans, answers in network(packed):
            for logits, answer in zip(spans.cpu().numpy(), answers.tolist(), strict=True):
                place = batch[next(places)]
                own = logits[windows[place].head :][: windows[place].own].astype(np.float32)
                found[place] = WindowScores(own[:, 0], own[:, 1], answer)
    return [found[i] for i in range(len(windows))]


def read_config(folder: Path) -> tuple[NetworkShape, ReadingOptions]:
    """Shape and options from `config.json`.

    Raises:
        ModelFormatError: It is missing, or not a reader's.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        own = dict(raw["reader"])
        calibration = Calibration(**own.pop("calibration"))
        return shape_of(raw), ReadingOptions(**own, calibration=calibration)
    except OSError as exc:
        raise ModelFormatError(f"{folder} is no reader: no config.json ({exc.strerror}).") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelFormatError(
            f"{path} is not a reader's: {exc!r}. `chunkwise train reader` makes one."
        ) from exc


def shape_of(raw: Mapping[str, Any]) -> NetworkShape:
    """The encoder's shape from BERT's `config.json`; raises `KeyError` for what is missing."""
    names = [field.name for field in dataclasses.fields(NetworkShape)]
    optional = ("type_vocab_size", "layer_norm_eps")
    return NetworkShape(**{n: raw[n] for n in names if n in raw or n not in optional})


def load_network(folder: Path, shape: NetworkShape, dropout: float = 0.0) -> ReaderNetwork:
    """The network with the folder's weights, in float32.

    Raises:
        ModelFormatError: A tensor is missing or has another shape.
    """
    path = folder / "model.safetensors"
    with torch.device("meta"):
        network = ReaderNetwork(shape, dropout)
    try:
        network.load_state_dict(restored_tensors(load_file(str(path))), assign=True)
    except (OSError, SafetensorError) as exc:
        raise ModelFormatError(f"{path} cannot be read: {exc}.") from exc
    except RuntimeError as exc:
        reason = str(exc).replace("\n\t", " ")
        raise ModelFormatError(f"{path} does not fit config.json: {reason}") from exc
    return network


def _batches(windows: Sequence[Window]) -> Iterator[list[int]]:
    """Indices of windows of at most `_BATCH_TOKENS` together, at least one each, by length."""
    batch: list[int] = []
    tokens = 0
    for i in sorted(range(len(windows)), key=lambda i: len(windows[i].ids)):
        if batch and tokens + len(windows[i].ids) > _BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(i)
        tokens += len(windows[i].ids)
    if batch:
        yield batch
