"""Do we get the published figures of Chroma's chunking evaluation, counting as it counts?

Question: recall, precision, precision-omega and IoU of recursive and token chunking, MiniLM,
    five retrieved chunks, sizes in tokens of cl100k_base, by the published arithmetic.
Why: the measures that everything else here rests on should give the known figures first.
What it does not tell: the published rows are means over five corpora and 472 questions; three of
    them, with 231 questions, are here. The noise that is shown is one standard error of our mean.
How: langchain's splitter with the separators of the report, and windows of tokens; spans by search
    from where the last one began; plain text is embedded, and all vectors are searched.
Usage: python benchmarks/chroma_rows.py DATA_DIR CL100K.tiktoken   (gzipped or not)
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from _machine import machine
from chunking_quality import Direct, read_cases
from chunkwise.evaluation.spans import Place, evaluate_spans
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.counting import named_counter
from chunkwise.rag.parsing.base import parse
from chunkwise.types import Document, Span, TokenCounter

SEPARATORS = ["\n\n", "\n", ".", "?", "!", " ", ""]
MEASURES = ("recall", "precision", "precision_omega", "iou")


class Published(NamedTuple):
    """A row of the report: how, and recall, precision, precision-omega and IoU in percent."""

    way: str
    size: int
    overlap: int
    figures: tuple[float, float, float, float]


ROWS = (
    Published("recursive", 250, 125, (78.7, 4.9, 21.9, 4.9)),
    Published("tokens", 250, 125, (82.4, 3.6, 11.4, 3.5)),
    Published("recursive", 250, 0, (78.5, 5.4, 26.7, 5.4)),
    Published("tokens", 250, 0, (77.1, 3.3, 16.4, 3.3)),
    Published("recursive", 200, 0, (75.7, 6.5, 31.2, 6.5)),
    Published("tokens", 200, 0, (76.6, 4.1, 19.1, 4.1)),
    Published("cluster", 200, 0, (75.2, 7.2, 33.6, 7.2)),
)


def recursive(document: Document, row: Published, counter: TokenCounter) -> Iterator[Span]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=SEPARATORS,
        chunk_size=row.size,
        chunk_overlap=row.overlap,
        length_function=counter.count,
    )
    at = 0
    for piece in splitter.split_text(document.text):
        at = document.text.index(piece, at)
        yield Span(at, at + len(piece))
        at += 1


def tokens(document: Document, row: Published, counter: TokenCounter) -> Iterator[Span]:
    starts = [*counter.starts(document.text).tolist(), len(document.text)]
    for first in range(0, len(starts) - 1, row.size - row.overlap):
        last = min(first + row.size, len(starts) - 1)
        if starts[last] > starts[first]:
            yield Span(starts[first], starts[last])
        if last == len(starts) - 1:
            return


def cluster(
    direct: Direct, document: Document, row: Published, counter: TokenCounter
) -> list[Span]:
    chunker = chunkers.build(
        "cluster",
        size=row.size,
        overlap=row.overlap,
        counter=counter,
        segmenter=direct.segmenter,
        embedder=direct.embedder,
    )
    return chunker.split(document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path, help="folder with NAME.md and NAME.questions.jsonl")
    parser.add_argument("cl100k", type=Path, help="cl100k_base.tiktoken")
    arguments = parser.parse_args()
    data = arguments.cl100k.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cl100k_base.tiktoken"
        file.write_bytes(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
        counter = named_counter(str(file))
    paths = sorted(
        p for p in arguments.data.glob("*.md") if p.with_suffix(".questions.jsonl").exists()
    )
    direct = Direct([parse(path.read_bytes(), name=path.name) for path in paths])
    cases = read_cases(arguments.data, [path.name for path in paths])
    rows = []
    print(
        machine(), f"{len(cases)} questions; ours, +- its standard error, and (published), percent"
    )
    for row in ROWS:
        places = []
        for document in direct.documents:
            if row.way == "cluster":
                spans = cluster(direct, document, row, counter)
            else:
                spans = list(
                    {"recursive": recursive, "tokens": tokens}[row.way](document, row, counter)
                )
            places += [Place(document.name, span) for span in spans]
        report = evaluate_spans(row.way, cases, direct.search(places), places, k=5, budgets=())
        columns = [np.array([r[f"chroma_{m}"] for r in report.rows]) * 100 for m in MEASURES]
        found = [
            {"ours": round(float(c.mean()), 1), "error": round(float(c.std() / len(c) ** 0.5), 1)}
            for c in columns
        ]
        rows.append({**row._asdict(), "found": dict(zip(MEASURES, found, strict=True))})
        cells = "  ".join(
            f"{f['ours']:5.1f} +-{f['error']:3.1f} ({p:4.1f})"
            for f, p in zip(found, row.figures, strict=True)
        )
        print(
            f"{row.way:10} {row.size}/{row.overlap:<4} {len(places):5} chunks  {cells}", flush=True
        )
    print(json.dumps({"benchmark": "chroma_rows", "machine": machine(), "rows": rows}))


if __name__ == "__main__":
    main()
