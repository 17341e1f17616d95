"""What do answers lose when chunks' KV is reused, and how much does each policy win back?

    python benchmarks/reuse_quality.py [--model FOLDER] [--questions 300] [--ratios .05 .1 ...]

Question. Prompts of several passages, each passage a chunk that was computed alone behind one
anchor. Two tasks in which a passage can only be understood with an earlier one: `bridge` (an alias
or a relative) and `coreference` ("she", "the baker"), drawn afresh. For each policy and share of
tokens computed afresh: exact match, how often the answer is that of full prefill, and the
Kullback-Leibler divergence of the first token's distribution from that of full prefill.

Baseline in the same run: full prefill by the same engine, which is checked to be what `all` gives.
Differences of exact match to it carry a paired bootstrap interval over contexts.

What it does not tell. Sentences are simple, and chunks short (some nine tokens): a share of 15 % is
one or two tokens of each, and `cache_craft` at `alpha` .15, rounded up, two (`afresh` says how
many it was). With `--model` any checkpoint is asked the same.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from _machine import machine
from chunkwise.evaluation.bootstrap import Interval, bootstrap
from chunkwise.llm.fidelity import divergence
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.packaged import FOLDER
from chunkwise.prompting import answer_prompt, text_hit
from chunkwise.training.nano import final
from chunkwise.training.nano.prompts import document_names
from chunkwise.types import Prompt, SamplingParams

SEED = 20_261_128  # of fresh questions
GOAL_RATIO, GOAL_POINTS, LEAST_LOSS = 0.15, 1.0, 10.0


class Asked(NamedTuple):
    """A question with its prompt; `context` numbers what was drawn together."""

    task: str
    prompt: Prompt
    answer: str
    context: int


class Answered(NamedTuple):
    """What was said, the log-probabilities of the first token: `(vocab,)`, and the share of the
    chunks' tokens that was computed afresh."""

    texts: list[str]
    firsts: list[np.ndarray]
    afresh: float
    seconds: float


def draw(questions: int) -> list[Asked]:
    """Questions that need two passages, of both tasks."""
    chance, found, context = random.Random(SEED), [], 0
    while len(found) < questions:
        drawn = final.TWO_PASSAGES.draw(chance, "test")
        names = document_names(chance, len(drawn.passages))
        hits = list(map(text_hit, drawn.passages, names))
        found += [
            Asked(q.kind, answer_prompt(q.text, hits), q.answer, context)
            for q in drawn.questions
            if q.indirect
        ]
        context += 1
    return found


def ask(folder: Path, asked: Sequence[Asked], policy: Any, disk_dtype: str = "same") -> Answered:
    """Answers of one engine; empty `policy`: full prefill."""
    with tempfile.TemporaryDirectory() as kept:
        place = {} if disk_dtype == "same" else {"folder": kept, "disk_dtype": disk_dtype}
        reuse = ReuseSettings(policy, asked[0].prompt, **place) if policy else None
        return answers(LLM(folder, dtype="float32", kv_budget_mb=512, reuse=reuse), asked)


def answers(llm: LLM, asked: Sequence[Asked]) -> Answered:
    """What an engine says, once it has read all chunks where it reuses them."""
    if llm.engine.reuse is not None:
        llm.admit([s for one in asked for s in llm.segments(one.prompt) if s.content_id])
    greedy = SamplingParams(max_tokens=24, temperature=0.0)
    requests = [llm.request(llm.segments(one.prompt), greedy) for one in asked]
    for request in requests:
        request.wants_logits = True
    began = time.perf_counter()
    outputs = llm.run(list(requests))
    seconds = time.perf_counter() - began
    firsts = [request.logits.double().log_softmax(-1).numpy() for request in requests]
    chunks = sum(len(s.token_ids) for r in requests for s in r.segments if s.content_id)
    afresh = 1 - sum(output.usage.get("reused_tokens", 0) for output in outputs) / chunks
    return Answered([output.text.strip() for output in outputs], firsts, afresh, seconds)


INT8 = ", int8"  # chunks kept as whole numbers


def policies_of(ratios: Sequence[float], chunk_tokens: float) -> Iterator[tuple[str, float, Any]]:
    """Name, share of tokens and spec of all that is measured."""
    yield "none", 0.0, "none"
    for tokens in sorted({max(1, round(ratio * chunk_tokens)) for ratio in ratios}):
        yield "legolink", tokens / chunk_tokens, {"name": "legolink", "tokens": tokens}
    for name in ("cacheblend", "question", "combined"):
        for ratio in ratios:
            yield name, ratio, {"name": name, "ratio": ratio}
    for ratio in ratios:
        shares = [min(2 * ratio, 1.0), min(1.5 * ratio, 1.0), ratio]
        yield "cacheblend, gradual", ratio, {"name": "cacheblend", "ratios": shares}
        yield "combined, scaled", ratio, {"name": "combined", "ratio": ratio, "unseen": "share"}
        yield f"combined{INT8}", ratio, {"name": "combined", "ratio": ratio}
        yield "cache_craft", ratio, {"name": "cache_craft", "alpha": ratio, "gap": 0}
    yield "all", 1.0, "all"


def exact(asked: Sequence[Asked], found: Answered) -> np.ndarray:
    return np.array([text == one.answer for text, one in zip(found.texts, asked, strict=True)])


def loss(asked: Sequence[Asked], full: Answered, found: Answered) -> Interval:
    """Points of exact match that are lost against full prefill."""
    difference = 100.0 * (exact(asked, full).astype(float) - exact(asked, found))
    return bootstrap(
        lambda drawn: {"loss": drawn @ difference / drawn.sum(-1)},
        len(asked),
        clusters=[one.context for one in asked],
    )["loss"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=FOLDER / "nano")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--ratios", type=float, nargs="*", default=[0.05, 0.1, 0.15, 0.2])
    given = parser.parse_args()
    asked, model = draw(given.questions), given.model
    full, size = ask(model, asked, ""), chunk_tokens(model, asked)
    print(f"{len(asked)} questions, chunks of {size:.1f} tokens; full prefill:")
    print(by_task(asked, full), flush=True)
    rows = []
    for name, ratio, spec in policies_of(given.ratios, size):
        found = ask(model, asked, spec, "int8" if name.endswith(INT8) else "same")
        if name == "all":
            assert found.texts == full.texts, "everything computed afresh is not full prefill"
        rows.append({"policy": name, "ratio": round(ratio, 3), **measured(asked, full, found)})
        print(rows[-1], flush=True)
    none = rows[0]["loss"][0]
    within = [r for r in rows if r["policy"] == "combined" and r["ratio"] <= GOAL_RATIO]
    best = min((row["loss"][0] for row in within), default=float("inf"))
    report = {"benchmark": "reuse_quality", "machine": machine(), "model": model.name}
    report |= {"n": len(asked), "full": by_task(asked, full), "rows": rows}
    report |= {"none_loses": none, "combined_loses": best}
    print(json.dumps(report | {"is_met": none >= LEAST_LOSS and best <= GOAL_POINTS}))


def chunk_tokens(folder: Path, asked: Sequence[Asked]) -> float:
    """Mean length of the chunks."""
    llm = LLM(folder, dtype="float32", kv_budget_mb=64)
    segments = [segment for one in asked for segment in llm.segments(one.prompt)]
    return float(np.mean([len(s.token_ids) for s in segments if s.content_id]))


def by_task(asked: Sequence[Asked], found: Answered) -> dict[str, float]:
    """Exact match by task, and of all."""
    right, of_task = exact(asked, found), np.array([one.task for one in asked])
    figures = {str(task): right[of_task == task].mean() for task in np.unique(of_task)}
    return {name: round(float(x), 4) for name, x in {"exact": right.mean(), **figures}.items()}


def measured(asked: Sequence[Asked], full: Answered, found: Answered) -> dict[str, Any]:
    """All figures of one policy."""
    same = [a == b for a, b in zip(full.texts, found.texts, strict=True)]
    return {
        **by_task(asked, found),
        "loss": [round(x, 2) for x in loss(asked, full, found)],
        "agreement": round(float(np.mean(same)), 4),
        "afresh": round(found.afresh, 3),
        "kl": round(divergence(full.firsts, found.firsts), 4),
        "seconds": round(found.seconds, 2),
    }


if __name__ == "__main__":
    main()
