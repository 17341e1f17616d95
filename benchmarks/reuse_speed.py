"""How much sooner does a retrieval prompt answer when its chunks were read before?

    python benchmarks/reuse_speed.py [--shape qwen2.5-0.5b] [--chunks 160] [--queries 40]
        [--folder CHECKPOINT --peers openvino,vllm --peer-python openvino=PATH,vllm=PATH]

Question. Prompts of 8 chunks of 256 tokens, drawn evenly and in random order, a label before each,
and a question of 64 tokens, with random weights in a real shape. Time to the first token cold (no
chunk was ever read) and warm, and requests a second of 8 at a time with 16 new tokens each, warm.

The store is smaller than the chunks' KV: memory for the share `--memory`, disk for `--disk`
(several may be given, each an engine; 1.1 holds all). What has left it is computed anew and
counted: `found` says where chunks were, `by_computed` the median by how many of the 8 had to be
computed. `--disk-dtypes` says what is kept on disk: the engine's numbers, of which some chunks have
no room, or whole numbers of half the bytes, so that all have. The chunks that fit are computed
once, in a folder of their own (`--keep FOLDER` leaves them for the next run); each engine begins
with hard links to these files and no memory, and from then on has its own.

Baselines in the same run, query by query in turn with ours: the same engine without reuse, with its
prefix cache and with prompts of which no prefix is cached; `transformers`; and with `--peers` other
engines with their prefix caches on, each a process of its own (`peers.md`). Those that read nothing
again answer a few of the queries. `--every N` gives all without a store every N-th only: over many
chunks it is rare that a prompt begins with a chunk that an earlier one began with.

Ceiling: `at_best`, the tokens of a prompt over those of them that are computed: more times as fast
than that is not to be had (the question's first pass is not in it).

Also: time to the first token over the first and the last quarter of the queries, and what a prompt
without chunks pays for reuse being on.

What it does not tell. Quality: weights are random (`reuse_quality.py`). A cold disk: files that
were just written are in the page cache, one copy for all engines.
Checked before anything is timed: with everything computed afresh, logits are those of full prefill;
and where a checkpoint is given, half of the first tokens of all others at least are full prefill's
(bfloat16 has near ties; the random checkpoint has names for few of its tokens, and only we sample
no others).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from _corpus import CHUNK, PER_PROMPT, PROMPT, Corpus, Pieces, tokens
from _machine import machine
from _peers.engines import start
from _peers.worker import Worker
from _stores import warmed
from chunkwise.llm.kv.disk import file_name
from chunkwise.llm.kv.memory import Segment, TokenIds
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.models.fake import write_fake
from chunkwise.llm.sequence import TokenSegment
from chunkwise.types import SamplingParams
from engine import names, pairs

KV_MB = 512  # of each engine of ours, beside its store
NEW, TOGETHER, ROUNDS = 16, 8, 2
WARM_UP, COLD, FEW = 2, 3, 4
FULL, CACHED, THEIRS = "full prefill", "prefix cache", "transformers"
INT8_FIT = 1.85  # chunks for one, in whole numbers with their scales
GOAL, GOAL_RATE, GOAL_OVERHEAD = 4.0, 3.0, 0.03


@dataclass
class Engine:
    """What answers prompts, and how long it took.

    Attributes:
        name: In the report.
        answer: Answers with one token; it, and seconds.
        rate: Requests a second of several prompts at once, if it can tell.
        is_stateless: Nothing of a query helps the next: a few are enough.
        times: Seconds to the first token, of each query.
        cold: The same of prompts over chunks that are new.
        firsts: First tokens of these.
    """

    name: str
    answer: Callable[[Pieces], tuple[int, float]]
    rate: Callable[[list[Pieces]], float] | None = None
    is_stateless: bool = False
    times: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)


class Reusing(Engine):
    """An engine with a store, and where it found the chunks of its prompts.

    Attributes:
        computed: Chunks of each query that were in no store.
        loaded: Those that came from disk.
        reused: Tokens that were not computed.
        linked: Chunks on disk at the start.
    """

    def __init__(self, name: str, llm: LLM) -> None:
        super().__init__(name, self._answer, lambda asked: rate(llm, asked))
        self.llm = llm
        self.computed: list[int] = []
        self.loaded: list[int] = []
        self.reused: list[int] = []
        assert llm.engine.reuse is not None
        self.store = llm.engine.reuse.store
        self._loads = self.linked = 0
        disk = self.store.disk
        assert disk is not None
        load = disk.load

        def counted(content_id: str, token_ids: TokenIds) -> Segment | None:
            segment = load(content_id, token_ids)
            self._loads += segment is not None
            return segment

        disk.load = counted  # type: ignore[method-assign]

    def _answer(self, pieces: Pieces) -> tuple[int, float]:
        """As `generate` does: compute chunks that are not stored, then answer."""
        before = self._loads
        began = time.perf_counter()
        request = self.llm.request(pieces, sampling(1))
        computed = self.llm.keep([request])
        output = self.llm._run_one(request)
        took = time.perf_counter() - began
        self.computed.append(computed)
        self.loaded.append(self._loads - before)
        self.reused.append(output.usage.get("reused_tokens", 0))
        return output.completions[0].token_ids[0], took

    def forget(self, chunks: Sequence[TokenSegment]) -> None:
        """Drop chunks that only the cold queries had."""
        for chunk in chunks:
            assert chunk.content_id is not None
            self.store.drop(chunk.content_id)

    def begin(self, files: Path, chunks: list[TokenSegment]) -> None:
        """Link the files of the last chunks that fit the disk.

        A file's time of last use is common to all engines; they have the same queries.
        """
        disk = self.store.disk
        assert disk is not None
        room = disk.free_bytes()
        for chunk in reversed(chunks):
            name = file_name(str(chunk.content_id))
            source = files / disk.folder.name / name
            if not source.exists() or source.stat().st_size > room:
                break
            os.link(source, disk.folder / name)
            room -= source.stat().st_size
            self.linked += 1
        disk.free_bytes()  # counts anew
        self.computed, self.loaded, self.reused = [], [], []

    def found(self) -> dict[str, object]:
        """Where the chunks of the queries were, and the median time by how many were nowhere."""
        total = PER_PROMPT * len(self.times)
        shares = {"disk": sum(self.loaded) / total, "computed": sum(self.computed) / total}
        reused = statistics.median(self.reused)
        by: dict[int, list[float]] = {}
        for count, took in zip(self.computed, self.times, strict=True):
            by.setdefault(count, []).append(took)
        return {
            "chunks_at_start": self.linked,
            "found": {"memory": round(1 - sum(shares.values()), 3)}
            | {name: round(share, 3) for name, share in shares.items()},
            "chunks_computed": sum(self.computed),
            "reused_tokens": round(reused),
            "at_best": round(PROMPT / (PROMPT - reused), 2),
            "by_computed": {
                str(count): {"n": len(some), "first_token_ms": ms(some)}
                for count, some in sorted(by.items())
            },
        }


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.keep) as folder:
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
    parser.add_argument("--ratios", type=float, nargs="*", default=[0.05, 0.15])
    parser.add_argument("--memory", type=float, default=0.25, help="of the chunks' KV")
    parser.add_argument("--disk", type=float, nargs="*", default=[0.75], help="of the chunks' KV")
    parser.add_argument("--disk-dtypes", nargs="*", default=["same", "int8"])
    parser.add_argument("--keep", type=Path, help="where computed chunks stay for the next run")
    parser.add_argument("--every", type=int, default=1, help="queries of engines without a store")
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--peers", type=names, default=[])
    parser.add_argument("--peer-python", type=pairs, default={})
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    if given.peers and not given.folder:
        parser.error("Peers need `--folder`: a checkpoint of `_peers/fake.py`, see `peers.md`.")
    return given


def run(given: argparse.Namespace, model: Path, work: Path) -> dict[str, object]:
    """All measurements."""
    corpus = Corpus(given.chunks)
    full = LLM(model, dtype="bfloat16", kv_budget_mb=KV_MB)
    needed = given.chunks * CHUNK * full.engine.pool.shape.bytes_per_token / 2**20
    check(model, corpus, full)
    most = INT8_FIT if "int8" in given.disk_dtypes else 1
    stored = min(given.chunks, int(most * max(given.disk) * given.chunks))
    warm = (given.keep or work) / "chunks"
    warmed(model, corpus.anchor, corpus.chunks[-stored:], warm, given.disk_dtypes)
    ours = list(reusing(given, model, corpus, needed, work))
    with ExitStack() as stack:
        others = [cached(full), alone(full)]
        if not given.no_transformers:
            others.append(theirs(model))
        kv_mb = KV_MB + int(given.memory * needed)
        others += [stack.enter_context(peer(name, given, model, kv_mb)) for name in given.peers]
        engines = [*others, *ours]
        cold(engines, corpus)
        agreement = agreeing(others) if given.folder else {}
        for engine in ours:
            engine.begin(warm, corpus.chunks)
            print(f"{engine.name}: {engine.linked} of {given.chunks} chunks on disk", flush=True)
        interleaved(engines, corpus, given.queries, given.every)
        rates = rated(engines, corpus)
        cost = overhead(full, ours[0].llm, corpus) if ours else 0.0
    return told(given, needed, engines, rates) | {
        "equal_first_tokens": agreement,
        "overhead_without_chunks": round(cost, 4),
        "overhead_is_met": cost < GOAL_OVERHEAD,
    }


def reusing(
    given: argparse.Namespace, model: Path, corpus: Corpus, needed: float, work: Path
) -> Iterator[Reusing]:
    """Engines with a store for shares of the chunks' KV, `needed` MiB; each has its own folder.

    Memory holds the chunks of two prompts at least.
    """
    memory_mb = math.ceil(max(given.memory, 2 * PER_PROMPT / given.chunks) * needed)
    for share, disk_dtype, ratio in product(given.disk, given.disk_dtypes, given.ratios):
        settings = ReuseSettings(
            {"name": "combined", "ratio": ratio},
            corpus.anchor,
            memory_mb=memory_mb,
            folder=work / f"{ratio} {share} {disk_dtype}",
            disk_mb=math.ceil(share * needed),
            disk_dtype=disk_dtype,
        )
        llm = LLM(model, dtype="bfloat16", kv_budget_mb=KV_MB, reuse=settings)
        whole = " int8" if disk_dtype == "int8" else ""
        yield Reusing(f"combined {ratio}, disk {share}{whole}", llm)


def check(model: Path, corpus: Corpus, full: LLM) -> None:
    """Everything computed afresh gives the logits of full prefill."""
    every = LLM(model, dtype="bfloat16", kv_budget_mb=KV_MB, reuse=ReuseSettings("all"))
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


def sampling(new: int) -> SamplingParams:
    return SamplingParams(max_tokens=new, ignore_eos=True)


def cached(full: LLM) -> Engine:
    """Our engine without reuse."""

    def answer(pieces: Pieces) -> tuple[int, float]:
        began = time.perf_counter()
        output = full._run_one(full.request(pieces, sampling(1)))
        return output.completions[0].token_ids[0], time.perf_counter() - began

    return Engine(CACHED, answer, lambda asked: rate(full, asked))


def alone(full: LLM) -> Engine:
    """The same, where no prefix of a prompt is cached: another system prompt stands before it."""
    answer, others = cached(full).answer, Corpus(0, seed=1)
    return Engine(FULL, lambda pieces: answer(others.unlike(pieces)), is_stateless=True)


def theirs(folder: Path) -> Engine:
    """The first token by transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def answer(pieces: Pieces) -> tuple[int, float]:
        began = time.perf_counter()
        with torch.inference_mode():
            found = model(torch.tensor([tokens(pieces)]), logits_to_keep=1).logits
        return int(found[0, -1].argmax()), time.perf_counter() - began

    return Engine(THEIRS, answer, is_stateless=True)


@contextmanager
def peer(name: str, given: argparse.Namespace, model: Path, kv_mb: int) -> Iterator[Engine]:
    """Another engine with its prefix cache on, with as much memory for KV as ours."""
    settings = {
        "threads": given.threads,
        "quantize": "none",
        "context": PROMPT + NEW + 64,
        "kv_mb": kv_mb,
        "sequences": TOGETHER,
        "batched_tokens": 512,
        "prefix_caching": True,
    }
    (worker,) = start(name, model, given.peer_python, settings, one=True)
    try:
        print(worker.ready(), flush=True)
        yield Engine(worker.name, asked(worker), lambda some: their_rate(worker, some))
    finally:
        worker.quit()


def asked(worker: Worker) -> Callable[[Pieces], tuple[int, float]]:
    def answer(pieces: Pieces) -> tuple[int, float]:
        found = worker.run([tokens(pieces)], 1)
        return found["tokens"][0][0], found["times"][0][0]

    return answer


def cold(engines: list[Engine], corpus: Corpus) -> None:
    """Time prompts over chunks that nobody has read; the first ones warm the engines up."""
    for number in range(-WARM_UP, COLD):
        chunks = corpus.unseen(f"cold {number}")
        pieces = corpus.prompt(chunks)
        for engine in engines:
            first, took = engine.answer(pieces)
            engine.firsts.append(first)
            if number >= 0:
                engine.cold.append(took)
            if isinstance(engine, Reusing):
                engine.forget(chunks)


def agreeing(others: list[Engine]) -> dict[str, float]:
    """Share of first tokens that are those of our full prefill, of engines that compute all."""
    wanted, shares = others[0].firsts, {}
    for engine in others[1:]:
        if engine.name != FULL:  # it has other prompts
            same = [a == b for a, b in zip(wanted, engine.firsts, strict=True)]
            shares[engine.name] = sum(same) / len(same)
    assert all(share >= 0.5 for share in shares.values()), f"first tokens differ: {shares}"
    return shares


def interleaved(engines: list[Engine], corpus: Corpus, queries: int, every: int) -> None:
    """Time the first token, all engines on the same prompts and in turns."""
    few = max(queries // FEW, 1)
    for number in range(queries):
        pieces = corpus.prompt()
        turn = number % len(engines)
        for engine in engines[turn:] + engines[:turn]:
            skips = number % (few if engine.is_stateless else every)
            if skips and not isinstance(engine, Reusing):
                continue
            engine.times.append(engine.answer(pieces)[1])
        if (number + 1) % few == 0:
            print(f"{number + 1} queries", flush=True)


def rated(engines: list[Engine], corpus: Corpus) -> dict[str, float]:
    """Requests a second, several at a time, all engines on the same prompts."""
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        prompts = [corpus.prompt() for _ in range(TOGETHER)]
        for engine in engines:
            if engine.rate is not None:
                found.setdefault(engine.name, []).append(engine.rate(prompts))
    return {name: statistics.median(some) for name, some in found.items()}


def rate(llm: LLM, prompts: list[Pieces]) -> float:
    began = time.perf_counter()
    requests = [llm.request(pieces, sampling(NEW)) for pieces in prompts]
    llm.keep(requests)
    llm.run([*requests])
    return len(prompts) / (time.perf_counter() - began)


def their_rate(worker: Worker, prompts: list[Pieces]) -> float:
    found = worker.run([tokens(pieces) for pieces in prompts], NEW)
    assert [len(some) for some in found["tokens"]] == [NEW] * len(prompts)
    return len(prompts) / max(some[-1] for some in found["times"])


def overhead(full: LLM, reuse: LLM, corpus: Corpus, rounds: int = 5) -> float:
    """What prompts without chunks pay for reuse being on, as a share."""
    shares = []
    for _ in range(rounds):
        took = []
        for llm in (full, reuse):
            pieces = corpus.prompt(corpus.unseen())
            took.append(cached(llm).answer(pieces)[1])
        shares.append(took[1] / took[0] - 1)
    return statistics.median(shares)


def told(
    given: argparse.Namespace,
    needed: float,
    engines: list[Engine],
    rates: dict[str, float],
) -> dict[str, object]:
    """The report, printed as a table too."""
    medians = {engine.name: statistics.median(engine.times) for engine in engines}
    others = [engine for engine in engines if not isinstance(engine, Reusing)]
    base = min(medians[engine.name] for engine in others)
    best_rate = max(rates[engine.name] for engine in others if engine.name in rates)
    rows = []
    for engine in engines:
        some, name = engine.times, engine.name
        quarter = max(len(some) // 4, 1)
        row: dict[str, object] = {"name": name, "first_token_ms": ms(some), "n": len(some)}
        row |= {"p95_ms": round(1e3 * float(np.percentile(some, 95)), 1)}
        row |= {"times_as_fast": round(base / medians[name], 2), "cold_ms": ms(engine.cold)}
        row |= {"first_quarter_ms": ms(some[:quarter]), "last_quarter_ms": ms(some[-quarter:])}
        if name in rates:
            row |= {"requests_per_s": round(rates[name], 3)}
            row |= {"times_the_rate": round(rates[name] / best_rate, 2)}
        if isinstance(engine, Reusing):
            row |= engine.found()
        rows.append(row)
        print(row, flush=True)
    ours = [row for row in rows if str(row["name"]).startswith("combined")]
    return {
        "benchmark": "reuse_speed",
        "machine": machine(),
        "threads": given.threads,
        "load": os.getloadavg()[0],
        "shape": str(given.folder or given.shape),
        "chunks": given.chunks,
        "chunks_kv_mb": round(needed),
        "memory_share": given.memory,
        "disk_shares": given.disk,
        "disk_dtypes": given.disk_dtypes,
        "rows": rows,
        "is_met": {
            "first_token": {str(row["name"]): reaches(row, "times_as_fast", GOAL) for row in ours},
            "rate": {str(row["name"]): reaches(row, "times_the_rate", GOAL_RATE) for row in ours},
        },
    }


def reaches(row: dict[str, object], name: str, goal: float) -> bool:
    return float(str(row[name])) >= goal


def ms(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds), 1)


if __name__ == "__main__":
    main()
