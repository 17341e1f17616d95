"""How much sooner does a retrieval prompt answer when its chunks were read before?

    python benchmarks/reuse_speed.py [--shape qwen2.5-0.5b] [--chunks 160] [--queries 40]

Question. Prompts of 8 chunks of 256 tokens in random order, a label before each, and a question of
64 tokens, with random weights in a real shape. Time to the first token, and requests a second of
8 at a time with 16 new tokens each, once the store is warm. Its memory holds half of the chunks'
KV; its disk holds all of it, or the share `--disk`: then the rest is computed anew all the time.

Baselines in the same run, interleaved with ours query by query: the same engine without reuse (its
prefix cache is on, and finds what prompts begin with alike), and `transformers`. Also: time to the
first token over the first and the last quarter of the queries, and what a prompt without chunks
pays for reuse being on.

What it does not tell. Quality: weights are random (`reuse_quality.py`). Other servers: `peers.md`.
Checked before anything is timed: with everything computed afresh, logits are those of full prefill.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from _machine import machine
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.models.fake import write_fake
from chunkwise.llm.sequence import TokenSegment
from chunkwise.types import SamplingParams

SYSTEM, LABEL, CHUNK, QUESTION, PER_PROMPT = 32, 8, 256, 64, 8
NEW, TOGETHER = 16, 8
GOAL, GOAL_RATE, GOAL_OVERHEAD = 4.0, 3.0, 0.03

Pieces = tuple[TokenSegment, ...]


class Corpus:
    """Chunks of random tokens, and prompts over them."""

    def __init__(self, chunks: int, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.system, self.label = self._some(SYSTEM), self._some(LABEL)
        self.chunks = [TokenSegment(self._some(CHUNK), f"chunk {i}") for i in range(chunks)]

    @property
    def anchor(self) -> list[int]:
        """What chunks are computed behind."""
        return [*self.system, *self.label]

    def prompt(self, *, is_new: bool = False) -> Pieces:
        """A prompt over chunks of the corpus, or over new ones that are no chunks."""
        picked = self.rng.sample(self.chunks, PER_PROMPT)
        if is_new:
            picked = [TokenSegment(self._some(CHUNK)) for _ in picked]
        pieces = [TokenSegment(self.system)]
        for i, chunk in enumerate(picked):
            label = self.label if i == 0 else (*self.label[:-1], 5 + i)
            pieces += [TokenSegment(label), chunk]
        return (*pieces, TokenSegment(self._some(QUESTION)))

    def _some(self, count: int) -> tuple[int, ...]:
        return tuple(self.rng.randrange(5, 250) for _ in range(count))


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = given.folder or Path(folder) / "model"
        if not given.folder:
            write_fake(given.shape, model, dtype="bfloat16")
        report = run(given, model, Path(folder))
    print(json.dumps(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="qwen2.5-0.5b", help="see `models fake`")
    parser.add_argument("--folder", type=Path, help="a checkpoint instead of a random one")
    parser.add_argument("--chunks", type=int, default=160)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--ratios", type=float, nargs="*", default=[0.05, 0.1, 0.15])
    parser.add_argument("--disk", type=float, default=1.1, help="of the chunks' KV")
    parser.add_argument("--no-transformers", action="store_true")
    return parser.parse_args()


def run(given: argparse.Namespace, model: Path, work: Path) -> dict[str, object]:
    """All measurements."""
    corpus = Corpus(given.chunks)
    full = LLM(model, dtype="bfloat16", kv_budget_mb=512)
    needed = given.chunks * CHUNK * full.engine.pool.shape.bytes_per_token / 2**20
    engines = {
        f"combined {ratio}": reusing(
            model, corpus, (needed / 2, given.disk * needed), work / str(ratio), ratio
        )
        for ratio in given.ratios
    }
    check(model, corpus, full)
    for name, llm in engines.items():
        print(f"{name}: {warmed(llm, corpus):.1f} s for {given.chunks} chunks", flush=True)
    makers: dict[str, Callable[[Pieces], object]] = {
        "full": lambda pieces: first(full, pieces),
        **{name: lambda p, llm=llm: first(llm, p) for name, llm in engines.items()},
    }
    if not given.no_transformers:
        makers["transformers"] = theirs(model)
    times = interleaved(makers, corpus, given.queries)
    rates = {name: rate(llm, corpus) for name, llm in {"full": full, **engines}.items()}
    cost = overhead(full, next(iter(engines.values())), corpus)
    return told(given, needed, times, rates, cost)


def reusing(
    model: Path, corpus: Corpus, sizes: tuple[float, float], folder: Path, ratio: float
) -> LLM:
    """An engine with a store of so many MiB in memory and on disk."""
    settings = ReuseSettings(
        {"name": "combined", "ratio": ratio},
        corpus.anchor,
        memory_mb=int(sizes[0]),
        folder=folder,
        disk_mb=int(sizes[1]),
    )
    return LLM(model, dtype="bfloat16", kv_budget_mb=512, reuse=settings)


def check(model: Path, corpus: Corpus, full: LLM) -> None:
    """Everything computed afresh gives the logits of full prefill."""
    every = LLM(model, dtype="bfloat16", kv_budget_mb=512, reuse=ReuseSettings("all"))
    pieces = corpus.prompt()
    every.admit([piece for piece in pieces if piece.content_id])
    found, wanted = (logits(llm, pieces) for llm in (every, full))
    near = torch.cosine_similarity(found, wanted, dim=0)
    assert near > 0.999, f"logits differ from full prefill's: cosine {float(near):.5f}"


def logits(llm: LLM, pieces: Pieces) -> torch.Tensor:
    request = llm.request(pieces, SamplingParams(max_tokens=1))
    request.wants_logits = True
    llm._run_one(request)
    assert request.logits is not None
    return request.logits.float().cpu()


def warmed(llm: LLM, corpus: Corpus) -> float:
    """Seconds to read all chunks once."""
    began = time.perf_counter()
    for i in range(0, len(corpus.chunks), 16):
        llm.admit(corpus.chunks[i : i + 16])
    return time.perf_counter() - began


def first(llm: LLM, pieces: Pieces) -> object:
    """Answer with one token, as `generate` does."""
    llm._keep(pieces)
    return llm._run_one(llm.request(pieces, SamplingParams(max_tokens=1, ignore_eos=True)))


def theirs(folder: Path) -> Callable[[Pieces], object]:
    """The first token by transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def run(pieces: Pieces) -> object:
        ids = torch.tensor([[i for piece in pieces for i in piece.token_ids]])
        with torch.inference_mode():
            return model(ids, logits_to_keep=1).logits.argmax()

    return run


def interleaved(
    makers: dict[str, Callable[[Pieces], object]], corpus: Corpus, queries: int
) -> dict[str, list[float]]:
    """Milliseconds to the first token, all makers on the same prompts."""
    times: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(queries + 2):
        pieces = corpus.prompt()
        for name, run in makers.items():
            if name == "transformers" and number > 5:
                continue  # nothing of it is kept, so a few are enough
            began = time.perf_counter()
            run(pieces)
            if number >= 2:  # the first ones warm up
                times[name].append(1e3 * (time.perf_counter() - began))
    return times


def rate(llm: LLM, corpus: Corpus, rounds: int = 2) -> float:
    """Requests a second, several at a time."""
    rates = []
    for _ in range(rounds):
        asked = [corpus.prompt() for _ in range(TOGETHER)]
        sampling = SamplingParams(max_tokens=NEW, ignore_eos=True)
        began = time.perf_counter()
        llm._keep(piece for pieces in asked for piece in pieces)
        llm.run([llm.request(pieces, sampling) for pieces in asked])
        rates.append(TOGETHER / (time.perf_counter() - began))
    return statistics.median(rates)


def overhead(full: LLM, reuse: LLM, corpus: Corpus, rounds: int = 5) -> float:
    """What prompts without chunks pay for reuse being on, as a share."""
    shares = []
    for _ in range(rounds):
        took = []
        for llm in (full, reuse):
            pieces = corpus.prompt(is_new=True)
            began = time.perf_counter()
            first(llm, pieces)
            took.append(time.perf_counter() - began)
        shares.append(took[1] / took[0] - 1)
    return statistics.median(shares)


def told(
    given: argparse.Namespace,
    needed: float,
    times: dict[str, list[float]],
    rates: dict[str, float],
    cost: float,
) -> dict[str, object]:
    """The report, printed as a table too."""
    medians = {name: statistics.median(some) for name, some in times.items()}
    base = min(value for name, value in medians.items() if not name.startswith("combined"))
    rows = []
    for name, some in times.items():
        quarter = max(len(some) // 4, 1)
        row = {"name": name, "first_token_ms": round(medians[name], 1), "n": len(some)}
        row |= {"p95_ms": round(float(np.percentile(some, 95)), 1)}
        row |= {"times_as_fast": round(base / medians[name], 2)}
        parts = (statistics.median(some[:quarter]), statistics.median(some[-quarter:]))
        row |= {"first_quarter_ms": round(parts[0], 1), "last_quarter_ms": round(parts[1], 1)}
        if name in rates:
            row |= {"requests_per_s": round(rates[name], 3)}
            row |= {"times_the_rate": round(rates[name] / rates["full"], 2)}
        rows.append(row)
        print(row, flush=True)
    ours = [row for row in rows if str(row["name"]).startswith("combined")]
    return {
        "benchmark": "reuse_speed",
        "machine": machine(),
        "shape": str(given.folder or given.shape),
        "chunks": given.chunks,
        "chunks_kv_mb": round(needed),
        "disk_share": given.disk,
        "rows": rows,
        "overhead_without_chunks": round(cost, 4),
        "is_met": {
            "first_token": all(float(str(row["times_as_fast"])) >= GOAL for row in ours),
            "rate": all(float(str(row["times_the_rate"])) >= GOAL_RATE for row in ours),
            "overhead": cost < GOAL_OVERHEAD,
        },
    }


if __name__ == "__main__":
    main()
