"""Does a small language model find the sentences that answer inside the chunks that a search found?

Question: recall, precision and IoU of the evidence against gold spans, for the hits of a search as
    they are (`hybrid`), for `span_grounding` over them, and for a cheap picker: sentences of the
    same hits by the cosine of an embedder (`cosine`) or by shared words (`words`), until there are
    as many tokens as `span_grounding` has given for the question.
Why: evidence that is shorter than a chunk costs less of a prompt, if it is the right one.
What it does not tell: whether answers get better; what a model that was trained to point does. The
    references of Chroma's questions were chosen by a language model that saw the text.
Usage: python benchmarks/grounding.py DATA_DIR [--first N] [--questions N] [-s NAME=VALUE ...]
    (NAME.md, NAME.questions.jsonl)
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import chunkwise
from _machine import machine
from chunking_quality import read_cases
from chunkwise.evaluation.bootstrap import paired_bootstrap
from chunkwise.evaluation.spans import Chunking, Place, SpanCase, score_spans
from chunkwise.rag.retrieval.narrowing import merged, narrowed
from chunkwise.types import Hit, Query, Span

MEASURES = ("recall", "precision", "iou")
WAYS = ("hybrid", "hybrid cut", "span_grounding", "cosine", "words")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("-s", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--corpus", type=Path, help="make the corpus here, or take it from here")
    parser.add_argument("--seconds", type=float, default=90, help="begin no question after these")
    parser.add_argument("--rows", type=Path, help="append the scores of each question here")
    arguments = parser.parse_args()
    given = {name: json.loads(value) for name, _, value in (s.partition("=") for s in arguments.s)}
    names = sorted(path.name for path in arguments.data.glob("*.md"))
    cases = read_cases(arguments.data, names)
    np.random.default_rng(0).shuffle(cases)  # type: ignore[arg-type]
    cases = cases[arguments.first : arguments.first + arguments.questions]
    with tempfile.TemporaryDirectory() as folder:
        kept = arguments.corpus or Path(folder) / "corpus"
        options = {"retriever": {"name": "span_grounding", **given}}
        with chunkwise.open(kept, **options) as corpus:
            corpus.add(*(arguments.data / name for name in names))
            measure(corpus, cases[0])  # loads the models
            end = time.monotonic() + arguments.seconds
            begun = itertools.takewhile(lambda _: time.monotonic() < end, cases)
            rows = [{"options": given, **measure(corpus, case)} for case in begun]
    if arguments.rows:
        with arguments.rows.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    report(rows, given)


def measure(corpus: chunkwise.Corpus, case: SpanCase) -> dict[str, Any]:
    """Scores of one question by every way, with tokens and milliseconds."""
    ground: Any = corpus._ask.retriever
    query = Query(case.question)
    wall, cpu = time.perf_counter(), time.process_time()
    spans = ground.search(query, 100)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    hits = ground.base.search(query, ground.hits)
    tokens = sum(hit.chunk.tokens for hit in spans)
    found = {"hybrid": hits, "hybrid cut": fitting(hits, tokens), "span_grounding": spans}
    sentences = [part for hit in hits for part in sentences_of(ground, hit)]
    for name, score in (("cosine", cosines(corpus)), ("words", shared_words)):
        order = np.argsort(-score(case.question, sentences), kind="stable")
        chosen = fitting([sentences[i] for i in order], tokens)
        found[name] = merged(chosen, ground.counter)
    row: dict[str, Any] = {"question": case.question, "ms": wall * 1000, "cpu_ms": cpu * 1000}
    for name, passages in found.items():
        places = [Place(Path(hit.document).name, hit.chunk.span) for hit in passages]
        scores = score_spans(case.references, places, Chunking(places))
        row[name] = {m: getattr(scores, m) for m in MEASURES}
        row[name]["tokens"] = sum(hit.chunk.tokens for hit in passages)
    return row


def sentences_of(ground: Any, hit: Hit) -> list[Hit]:
    first = hit.chunk.span.start
    spans = ground.segmenter.split(hit.chunk.text)
    return [narrowed(hit, Span(first + a, first + b), ground.counter) for a, b in spans]


def fitting(hits: Sequence[Hit], tokens: int) -> list[Hit]:
    """The first hits that have no more tokens together, and at least one."""
    sizes = np.cumsum([hit.chunk.tokens for hit in hits])
    return list(hits[: max(int(np.searchsorted(sizes, tokens, side="right")), 1)])


def cosines(corpus: chunkwise.Corpus) -> Callable[[str, Sequence[Hit]], Any]:
    embedder = corpus.parts.embedder
    return lambda question, hits: (
        embedder.embed([hit.chunk.text for hit in hits])
        @ embedder.embed([question], kind="query")[0]
    )


def shared_words(question: str, hits: Sequence[Hit]) -> Any:
    """Share of the question's words that a sentence has, rare ones among the sentences more."""
    words = [set(re.findall(r"\w+", hit.chunk.text.casefold())) for hit in hits]
    asked = set(re.findall(r"\w+", question.casefold()))
    weight = {w: np.log(1 + len(hits) / (1 + sum(w in each for each in words))) for w in asked}
    return np.array([sum(weight[w] for w in asked & each) for each in words])


def report(rows: Sequence[dict[str, Any]], given: dict[str, Any]) -> None:
    print(machine())
    print(f"{len(rows)} questions, {given or 'defaults'}")
    ways = [way for way in WAYS if way in rows[0]]
    summary: dict[str, Any] = {}
    for way in ways:
        mean = {m: float(np.mean([row[way][m] for row in rows])) for m in (*MEASURES, "tokens")}
        summary[way] = mean
        print(f"{way:15}", "  ".join(f"{m} {v:.3f}" for m, v in mean.items()))
    for way in ways:
        if way == "span_grounding":
            continue
        for m in MEASURES:
            differences = np.array([row["span_grounding"][m] - row[way][m] for row in rows])
            value, low, high = paired_bootstrap(differences)
            print(f"span_grounding - {way:12} {m:10} {value:+.3f} [{low:+.3f}, {high:+.3f}]")
    for name in ("ms", "cpu_ms"):
        summary[name] = float(np.median([row[name] for row in rows]))
        print(f"{name}: median {summary[name]:.0f}")
    print(json.dumps({"options": given, "questions": len(rows), **summary}))


if __name__ == "__main__":
    main()
