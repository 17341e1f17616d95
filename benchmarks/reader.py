"""How good and how fast is the trained reader on a set that it has not seen?

    python benchmarks/reader.py MODEL_DIR DATA_DIR [--set amazon] [--questions 1500]

Question. Token F1 on answerable questions given their own paragraph; F1, and the area under the
curve of abstention, with as many unanswerable ones mixed in; the same over eight passages; and
milliseconds for eight passages of 256 tokens. Baseline in the same run: `extractive` (sentences).

Why. The reader answers by default where no language model is set.

What it does not tell. Questions of SQuADShifts were written with the passage in view. Unanswerable
are questions with one of the twelve passages nearest in words that does not hold the answer:
harder than a random passage, easier than questions written to have no answer. Sentences of
`extractive` are longer than answers, so that its F1 says little; its confidence can be compared.

Intervals: 95 %, by drawing documents. No ceiling is known; people reach an F1 of some 92.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from _machine import machine
from chunkwise.evaluation.answers import ScoredAnswer, scored, summarise
from chunkwise.evaluation.questions import Question
from chunkwise.rag.answering.extractive import ExtractiveAnswerer
from chunkwise.rag.answering.reader import ReaderAnswerer
from chunkwise.rag.answering.reading import SpanReader, score_windows, windows_of
from chunkwise.rag.embedding import embedders
from chunkwise.rag.embedding.bert import fastest_dtype
from chunkwise.rag.embedding.folder import read_config
from chunkwise.rag.sentences import segmenters
from chunkwise.training.spans.data import read_set
from chunkwise.training.spans.examples import ExampleSet
from chunkwise.training.spans.scores import Case, make_cases
from chunkwise.types import Answer, Chunk, Hit, Query, Span, content_id

PASSAGES, TOKENS = 8, 256
KINDS = {"given": ("given",), "mixed": ("given", "paired"), "mixed_of_8": ("many", "many_paired")}


def hits(case: Case) -> list[Hit]:
    passages = case.examples.asked.passages
    found = []
    for rank, place in enumerate(case.group.passages):
        text = passages[place].text
        chunk = Chunk(content_id(text), text, Span(0, len(text)), len(text.split()))
        found.append(Hit(chunk, 1 / (1 + rank), passages[place].document))
    return found


def question(number: int, case: Case) -> Question:
    whole, group = case.examples.asked, case.group
    asked = whole.questions[group.question]
    passage = whole.passages[asked.passage]
    answers = () if group.answer is None else tuple(passage.text[a:b] for a, b in asked.answers)
    return Question(str(number), asked.text, answers, document=passage.document)


def ask(answerer, cases: Sequence[Case]) -> list[ScoredAnswer]:
    rows = []
    for number, case in enumerate(cases):
        asked = question(number, case)
        *_, answer = answerer.stream(Query(asked.text), hits(case))
        assert isinstance(answer, Answer)
        for cited in answer.citations:
            assert any(h.chunk.text[cited.start : cited.end] == cited.text for h in hits(case))
        rows.append(scored(asked, answer.text if answer.found else "", answer.confidence))
    return rows


def quality(reader: SpanReader, cases: Sequence[Case]) -> dict[str, object]:
    segmenter, embedder = segmenters.build("rules"), embedders.build("encoder")
    found: dict[str, object] = {}
    for name, kinds in KINDS.items():
        some = [case for case in cases if case.kind in kinds]
        threshold = 0.0 if name == "given" else None
        systems = {"reader": ReaderAnswerer(reader, threshold)}
        if name != "given":
            systems["extractive"] = ExtractiveAnswerer(segmenter, embedder)
        for system, answerer in systems.items():
            summary = summarise(ask(answerer, some), resamples=1000)
            row = {key: shown(value) for key, value in summary.measures.items()}
            found[f"{system}.{name}"] = {"n": summary.num_questions, **row}
            print(f"{system:12s}{name:12s}{json.dumps(found[f'{system}.{name}'])}", flush=True)
    return found


def shown(values: Sequence[float]) -> list[float | None]:
    """Numbers that JSON has; None where a measure is not defined."""
    return [None if math.isnan(value) else round(float(value), 4) for value in values]


def speed(reader: SpanReader, texts: Sequence[str]) -> dict[str, float]:
    """Eight passages of 256 tokens each: from texts to spans."""
    rng = random.Random(0)
    times, tokens = [], 0
    for turn in range(25):
        passages = [exact(reader, " ".join(rng.sample(list(texts), 6))) for _ in range(PASSAGES)]
        started = time.perf_counter()
        reader.read("What is said about the price of the battery?", passages)
        if turn >= 5:
            times.append((time.perf_counter() - started) * 1000)
        encoded = [e.ids for e in reader.pieces.encode(passages)]
        windows = windows_of([0] * 10, encoded, reader.pieces.edges, reader.options)
        tokens = sum(len(w.ids) for w in windows)
    p50, p95 = (round(float(value), 1) for value in np.percentile(times, [50, 95]))
    return {"p50_ms": p50, "p95_ms": p95, "tokens": tokens, "n": len(times)}


def exact(reader: SpanReader, text: str) -> str:
    """The text's first 256 tokens."""
    (encoded,) = reader.pieces.encode([text])
    assert len(encoded.ids) >= TOKENS
    return text[: encoded.offsets[TOKENS - 1][1]]


def packed_equals_single(reader: SpanReader, text: str) -> float:
    """Largest difference of a start's score, packed and alone; before anything is timed."""
    ids = [e.ids for e in reader.pieces.encode([text, text[:300], text[:100]])]
    windows = windows_of([2000, 2003], ids, reader.pieces.edges, reader.options)
    together = score_windows(reader._network, windows)
    alone = [score_windows(reader._network, [window])[0] for window in windows]
    pairs = zip(together, alone, strict=True)
    return max(float(np.abs(a.starts - b.starts).max()) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", default="amazon")
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--many", type=int, default=300)
    options = parser.parse_args()
    dtype, why = fastest_dtype(read_config(options.model))
    reader = SpanReader(options.model, dtype)
    asked, _ = read_set(options.data, options.set)
    texts = [passage.text for passage in asked.passages]
    largest = packed_equals_single(reader, texts[0])
    assert largest < (1e-4 if dtype == torch.float32 else 0.25), largest
    report: dict[str, object] = {"benchmark": "reader", "machine": machine(), "dtype": str(dtype)}
    report |= {"dtype_reason": why, "threads": torch.get_num_threads(), "set": options.set}
    report["speed"] = speed(reader, texts)
    print("speed", report["speed"], flush=True)
    examples = ExampleSet(asked, reader.pieces, reader.options, None)
    cases = make_cases(examples, most=options.questions, most_many=options.many, seed="benchmark")
    report["quality"] = quality(reader, cases)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
