"""Texts, documents and token counters for the conformance of chunkers and counters."""

from __future__ import annotations

import functools
import itertools
import tempfile
from base64 import b64encode
from pathlib import Path

from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from chunkwise.rag.chunking import Chunker, chunkers
from chunkwise.rag.counting import counters
from chunkwise.types import Block, Document, Span, TokenCounter
from tests.fakes import HashingEmbedder, SimpleSegmenter, UndecidedModel, WordBoundaries, WordScorer
from tests.rag.chunking.sections import near_model

TEXTS = [
    "",
    " \n\t\r\n ",
    "a",
    "\u0301",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 " * 9,
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7" * 20,
    "e\u0301\u0327\u0330" * 60,
    "One line.\r\nAnother line.\r\n\r\nA paragraph, with a clause; and more.\r\n" * 8,
    "\u8fd9\u662f\u4e00\u4e2a\u53e5\u5b50\u3002\u53e6\u4e00\u4e2a\uff0c\u5f88\u957f\uff01" * 12,
    "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8\uc785\ub2c8\ub2e4. " * 12,
    "x" * 5000,
    "unbelievably-" * 200,
    "ab\x1ccd\x0b\x0cef\x85gh\u2028ij\u200bkl\ufffdmn\x00" * 20,
    "word " * 700,
    "\n\n\n".join("p" * n for n in range(1, 40)),
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22" * 60,
]

_SAMPLE = ["the cat sat on the mat and the bat ran", "un believe able words, and numbers 123"] * 20


@functools.cache
def counter_paths() -> dict[str, str]:
    """Small tokenizers of three kinds, trained here and kept on disk while the tests run."""
    folder = Path(tempfile.mkdtemp(prefix="chunkwise-"))
    paths = {}
    for name, tokenizer in {"bpe": _bpe(), "unigram": _unigram()}.items():
        (folder / name).mkdir()
        paths[name] = str(folder / name / "tokenizer.json")
        tokenizer.save(paths[name])
    ranks = [bytes([byte]) for byte in range(256)]
    ranks += [b"th", b"the", b" t", b" the", b"an", b"and", b" and", b"\xe4\xb8", b"xx", b"xxxx"]
    lines = (b64encode(token) + b" %d" % rank for rank, token in enumerate(ranks))
    (folder / "small.tiktoken").write_bytes(b"\n".join(lines))
    return {**paths, "tiktoken": str(folder / "small.tiktoken")}


@functools.cache
def counter(name: str) -> TokenCounter:
    """The counter of one of `COUNTERS`."""
    if name in ("bpe", "unigram"):
        return counters.build({"name": "huggingface", "path": counter_paths()[name]})
    if name == "tiktoken":
        return counters.build({"name": "tiktoken", "path": counter_paths()[name]})
    return counters.build(name)


COUNTERS = ["chars", "words", "minilm", "bpe", "unigram", "tiktoken"]

_PIECES = st.sampled_from(
    [
        *(
            "word",
            "Two words. ",
            ". ",
            "\n",
            "\n\n",
            "\r\n",
            " ",
            "\t",
            "- ",
            "# ",
            "3.5",
            "(",
            '"',
        ),
        *("| a | b |\n", "\u4e2d\u6587\u3002", "\u0301", "\u200d", "\U0001f600", "\U0001f3fd"),
        *("\x00", "\x1c", "\xa0", "\u201d", "!", "\u2028", "\ufb01", "antidisestablishment"),
        "x" * 130,
    ]
)
any_text = st.one_of(
    st.text(max_size=300),
    st.lists(_PIECES, max_size=60).map("".join),
    st.text(alphabet="ab \n.,", max_size=400),
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A document with random structure: blocks, tables with header rows, pages, gaps."""
    parts: list[str] = []
    blocks: list[Block] = []
    at = 0
    for _ in range(draw(st.integers(0, 8))):
        gap = draw(st.sampled_from(["", "\n", "\n\n", " stray text "]))
        kind = draw(st.sampled_from(["heading", "paragraph", "list_item", "table", "definition"]))
        body = draw(any_text) if kind != "table" else draw(_table())
        parts += [gap, body]
        start, at = at + len(gap), at + len(gap) + len(body)
        if not body:
            continue
        level = draw(st.integers(1, 3)) if kind == "heading" else 0
        rows = _rows(body, start) if kind == "table" else ()
        header_rows = draw(st.integers(0, min(2, len(rows)))) if rows else 0
        blocks.append(Block(kind, start, at, level, rows=rows, header_rows=header_rows))
    text = "".join(parts)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=3)) | {0, len(text)})
    pages = tuple(Span(a, b) for a, b in itertools.pairwise(cuts))
    return Document("drawn", text, tuple(blocks), pages)


@st.composite
def _table(draw: st.DrawFn) -> str:
    rows = draw(st.lists(st.sampled_from(["| a | b |", "| 1 | two words |", "| x |"]), min_size=1))
    return "\n".join(rows)


def _rows(body: str, start: int) -> tuple[Span, ...]:
    rows = []
    for line in body.split("\n"):
        rows.append(Span(start, start + len(line)))
        start += len(line) + 1
    return tuple(rows)


def _bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, show_progress=False, special_tokens=["<|end|>"]
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    return tokenizer


def build(name: str, *, size: int, overlap: int, counter: TokenCounter) -> Chunker:
    """A chunker with all that any of them may ask for."""
    return chunkers.build(
        name,
        size=size,
        overlap=overlap,
        counter=counter,
        segmenter=SimpleSegmenter(),
        embedder=HashingEmbedder(),
        scorer=WordScorer(),
        model=UndecidedModel(),
        boundaries=WordBoundaries(),
        model_folder=near_model(),
    )
