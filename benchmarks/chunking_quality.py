"""Which chunker lets a search bring back the characters that answer, and little else?

Question: recall, precision, IoU and precision-omega of the best 5 chunks on Chroma's chunking
    evaluation (exact character spans), for our chunkers and for two that people use now, with the
    same embedder (all-MiniLM-L6-v2) and the same token counter; and recall at 400 tokens, because
    at a fixed number of chunks larger chunks have more recall and smaller ones more precision.
Why: the default chunker and its size are chosen by this table.
What it does not tell: whether answers get better. The references were chosen by a language model
    that saw the text, so that question and passage share words more than real ones do. Three of
    the five published corpora are here, all three English and two of them without headings.
How: documents go into a corpus by `chunkwise add`, questions through `Corpus.search`; on a sample
    of them `chunkwise search --json` must give the same hits. `--through direct` leaves the store
    out: chunker, embedder and an exact search in numpy, as the reference rows always have it.
Usage: python benchmarks/chunking_quality.py DATA_DIR   (NAME.md, NAME.questions.jsonl)
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _machine import machine
from chunkwise.evaluation.base import Report, compare
from chunkwise.evaluation.spans import Place, Retrieved, SpanCase, evaluate_spans
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.counting import named_counter
from chunkwise.rag.embedding import embedders
from chunkwise.rag.parsing.base import parse
from chunkwise.rag.sentences import segmenters
from chunkwise.types import Document, Span

CHUNKERS = ("fixed", "recursive", "sentence", "structural", "semantic", "cluster")
BASELINE = "semchunk 200"
COLUMNS = {
    "recall": "recall",
    "precision": "prec",
    "precision_omega": "omega",
    "iou": "IoU",
    "best_iou": "IoU*",
    "lost_by_retrieval": "lost ret",
    "recall_at_400": "R@400t",
    "chroma_recall": "c.recall",
    "chroma_precision": "c.prec",
    "chroma_precision_omega": "c.omega",
    "chroma_iou": "c.IoU",
}
Search = Callable[[str, int], list[Retrieved]]


def read_cases(data: Path, names: Sequence[str]) -> list[SpanCase]:
    cases = []
    for name in names:
        text = (data / name).read_bytes().decode("utf-8")
        lines = (data / name).with_suffix(".questions.jsonl").read_text("utf-8").splitlines()
        for line in filter(str.strip, lines):
            record = json.loads(line)
            references = []
            for reference in record["references"]:
                span = Span(reference["start_index"], reference["end_index"])
                assert text[span.start : span.end] == reference["content"], record["question"]
                references.append(Place(name, span))
            cases.append(SpanCase(record["question"], tuple(references)))
    return cases


class Direct:
    """Chunks in memory, one embedder, exact search."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = documents
        self.counter = named_counter("minilm")
        self.embedder = embedders.build("encoder")
        self.segmenter = segmenters.build("rules")
        self._questions: dict[str, Any] = {}

    def ours(self, chunker: str, size: int, overlap: int) -> list[Place]:
        built = chunkers.build(
            chunker,
            size=size,
            overlap=overlap,
            counter=self.counter,
            segmenter=self.segmenter,
            embedder=self.embedder,
        )
        return [Place(each.name, span) for each in self.documents for span in built.split(each)]

    def semchunk(self, size: int) -> list[Place]:
        import semchunk

        chunk = semchunk.chunkerify(self.counter.count, chunk_size=size)
        found = []
        for document in self.documents:
            pieces, spans = chunk(document.text, offsets=True)
            for piece, (start, end) in zip(pieces, spans, strict=True):
                assert document.text[start:end] == piece
                found.append(Place(document.name, Span(start, end)))
        return found

    def langchain(self, size: int) -> list[Place]:
        from langchain_text_splitters import RecursiveCharacterTextSplitter

        splitter = RecursiveCharacterTextSplitter(
            chunk_size=size,
            chunk_overlap=0,
            length_function=self.counter.count,
            add_start_index=True,
        )
        found = []
        for document in self.documents:
            for piece in splitter.create_documents([document.text]):
                start = piece.metadata["start_index"]
                span = Span(start, start + len(piece.page_content))
                assert document.text[span.start : span.end] == piece.page_content
                found.append(Place(document.name, span))
        return found

    def tokens(self, places: Sequence[Place]) -> list[int]:
        texts = {document.name: document.text for document in self.documents}
        return [self.counter.count(texts[name][start:end]) for name, (start, end) in places]

    def search(self, places: Sequence[Place]) -> Search:
        texts = {document.name: document.text for document in self.documents}
        vectors = self.embedder.embed([texts[name][start:end] for name, (start, end) in places])
        tokens = self.tokens(places)

        def search(question: str, k: int) -> list[Retrieved]:
            if question not in self._questions:
                self._questions[question] = self.embedder.embed([question], kind="query")[0]
            scores = vectors @ self._questions[question]
            best = np.argsort(-scores, kind="stable")[:k]
            return [Retrieved(places[at], tokens[at]) for at in best]

        return search


@contextlib.contextmanager
def corpus_of(
    paths: Sequence[Path], options: Sequence[str]
) -> Iterator[tuple[Path, Callable[[str], Any]]]:
    """A corpus made by the command, and how to open it with a retriever."""
    import chunkwise

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "corpus"
        command(["add", "--corpus", str(directory), *options, *map(str, paths)])
        yield directory, lambda retriever: chunkwise.open(directory, retriever=retriever)


def command(arguments: Sequence[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "chunkwise", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"chunkwise {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def through_command(
    paths: Sequence[Path],
    documents: Sequence[Document],
    cases: Sequence[SpanCase],
    options: Sequence[str],
    arguments: argparse.Namespace,
) -> Iterator[tuple[str, Report, list[int]]]:
    """One corpus, made by the command; a report for each retriever."""
    texts = {document.name: document.text for document in documents}
    with corpus_of(paths, options) as (directory, opened):
        for retriever in arguments.retrievers:
            with opened(retriever) as corpus:

                def search(question: str, k: int, corpus: Any = corpus) -> list[Retrieved]:
                    return [
                        Retrieved(Place(Path(hit.document).name, hit.chunk.span), hit.chunk.tokens)
                        for hit in corpus.search(question, k)
                    ]

                places, tokens = [], []
                for info in corpus.documents():
                    document = corpus.document(info.name)
                    name = Path(info.name).name
                    assert document.text == texts[name], f"{name} was changed by its parser"
                    for chunk in corpus.store.chunks(info.name):
                        places.append(Place(name, chunk.span))
                        tokens.append(chunk.tokens)
                known = set(places)
                for case in cases[:: max(1, len(cases) // arguments.sample)][: arguments.sample]:
                    check_command(directory, retriever, case.question, search)
                    assert {hit.place for hit in search(case.question, 5)} <= known
                report = evaluate_spans(retriever, cases, search, places, k=arguments.k)
            yield retriever, report, tokens


def check_command(directory: Path, retriever: str, question: str, search: Search) -> None:
    """Assert that the command gives what the API gives."""
    flags = ["--corpus", str(directory), "--retriever", retriever, "-k", "5", "--json"]
    shown = json.loads(command(["search", question, *flags]))
    spans = [(Path(hit["document"]).name, hit["start"], hit["end"]) for hit in shown["hits"]]
    assert spans == [(name, *span) for (name, span), _ in search(question, 5)], question


def report_row(
    name: str, report: Report, tokens: Sequence[int], baseline: Report
) -> dict[str, Any]:
    means = report.means()
    return {
        "name": name,
        "chunks": len(tokens),
        "mean_tokens": round(float(np.mean(tokens)), 1),
        "max_tokens": int(max(tokens)),
        **{metric: round(means[metric], 4) for metric in means},
        "against_baseline": {
            metric: [round(value, 4) for value in interval]
            for metric, interval in compare(report, baseline).items()
            if metric in ("recall", "precision", "iou", "precision_omega", "recall_at_400")
        },
    }


def shown(row: dict[str, Any]) -> str:
    cells = " ".join(f"{100 * row[metric]:8.1f}" for metric in COLUMNS)
    differences = "  ".join(
        f"{100 * mean:+5.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        for mean, low, high in (
            row["against_baseline"][metric] for metric in ("recall", "iou", "recall_at_400")
        )
    )
    return f"{row['name']:26} {row['chunks']:6} {row['mean_tokens']:7.1f} {cells}  {differences}"


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with NAME.md and NAME.questions.jsonl")
    parser.add_argument("--through", choices=("command", "direct"), default="command")
    parser.add_argument("--chunkers", nargs="*", default=list(CHUNKERS))
    parser.add_argument("--sizes", nargs="*", type=int, default=[200])
    parser.add_argument("--overlap", type=int, default=0)
    parser.add_argument("--retrievers", nargs="*", default=["dense", "hybrid"])
    parser.add_argument("--set", nargs="*", default=[], help="options for `add`: NAME=VALUE")
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--sample", type=int, default=5, help="questions put to the command too")
    return parser.parse_args()


def main() -> None:
    arguments = parsed_arguments()
    paths = sorted(
        path
        for path in arguments.data.glob("*.md")
        if path.with_suffix(".questions.jsonl").exists()
    )
    cases = read_cases(arguments.data, [path.name for path in paths])
    documents = [parse(path.read_bytes(), name=path.name) for path in paths]
    for path, document in zip(paths, documents, strict=True):
        assert document.text == path.read_bytes().decode("utf-8"), path
    direct, result = Direct(documents), {"machine": machine(), "questions": len(cases), "rows": []}
    print(result["machine"], f"{len(cases)} questions, k={arguments.k}, through", arguments.through)
    heads = " ".join(f"{head:>8}" for head in COLUMNS.values())
    print(
        f"{'(percent)':26} {'chunks':>6} {'tokens':>7} {heads}  "
        f"recall, IoU, R@400t less those of {BASELINE} [95 %]"
    )

    def run(name: str, places: list[Place], baseline: Report | None = None) -> Report:
        report = evaluate_spans(name, cases, direct.search(places), places, k=arguments.k)
        add(name, report, direct.tokens(places), baseline or report)
        return report

    def add(name: str, report: Report, tokens: Sequence[int], baseline: Report) -> None:
        row = report_row(name, report, tokens, baseline)
        result["rows"].append(row)
        print(shown(row), flush=True)

    baseline = run(BASELINE, direct.semchunk(200))
    run("langchain recursive 200", direct.langchain(200), baseline)
    for chunker, size in itertools.product(arguments.chunkers, arguments.sizes):
        began = time.perf_counter()
        if arguments.through == "direct":
            run(f"{chunker} {size} direct", direct.ours(chunker, size, arguments.overlap), baseline)
        else:
            options = [f"--chunker={chunker}", f"--size={size}", f"--overlap={arguments.overlap}"]
            options += [f"--set={each}" for each in arguments.set]
            for retriever, report, tokens in through_command(
                paths, documents, cases, options, arguments
            ):
                add(f"{chunker} {size} {retriever}", report, tokens, baseline)
        print(f"    {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
