"""Question: what do users wait for while requests of all lengths come and go?

Why: a long prompt computed whole stops everybody's text; a token budget per step bounds that, and
costs the prompt a little. Requests arrive as a Poisson process in real time; their lengths are
drawn from a trace, prompts times `--scale` up to `--cap-prompt`, completions times `--scale` up to
`--cap-new`, since the traces come from large machines. Rate: `--load` times the capacity, which
is measured first by sending the same requests all at once. Prompts are random tokens: nothing is
shared, nothing cached. All settings serve the same requests at the same moments.

Settings: our default policy (`stall_free`: decodes first, prompt slices in what is left) with
budgets of tokens per step; the same without a limit; and `prefill_first`, which computes whole
prompts alone. Peers (`--peers openvino,vllm`) at their defaults, see `peers.md`.

Correctness first: each request gets its tokens, and the share of tokens equal to the first
setting's is told (bfloat16 with other batches flips near ties).

It does not tell: behaviour over capacity, shared prefixes, priorities. With 100 requests the 99th
percentile of the time to first token is nearly the worst request; of the time between tokens it
rests on thousands of gaps. Gap: from one token of a request to its next; tokens given out by the
same step have one time.

    python benchmarks/mixed_load.py CHECKPOINT TRACE [--requests 100] [--load 0.7]

TRACE: CSV with ContextTokens,GeneratedTokens (Azure) or num_prefill_tokens,num_decode_tokens
(Vidur), or JSON lines with input_length,output_length (Mooncake); plain or gzipped.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _floor import Shape
from _machine import machine
from _peers.engines import start
from _peers.worker import Worker
from engine import equal_share, names, numbers, pairs

COLUMNS = (
    ("ContextTokens", "GeneratedTokens"),
    ("num_prefill_tokens", "num_decode_tokens"),
    ("input_length", "output_length"),
)
NO_LIMIT = 2**24


@dataclass(frozen=True)
class Load:
    """Requests and when they come, in seconds from the start."""

    prompts: list[list[int]]
    new: list[int]
    arrivals: list[float]


def main() -> None:
    args = _arguments()
    shape = Shape.of(args.checkpoint)
    rng = random.Random(args.seed)
    load = _requests(args, shape, rng)
    capacity = args.rate / args.load if args.rate else _capacity(args, load)
    rate = args.load * capacity
    moment = 0.0
    for _ in load.prompts:
        load.arrivals.append(moment)
        moment += rng.expovariate(rate)
    about = {
        "requests": len(load.prompts),
        "prompt_tokens": _spread([len(prompt) for prompt in load.prompts]),
        "new_tokens": _spread(load.new),
        "capacity_requests_s": round(capacity, 3),
        "rate_requests_s": round(rate, 3),
    }
    print(machine(), about, sep="\n")

    results: dict[str, dict[str, Any]] = {}
    first: list[list[int]] = []
    for setting in _settings(args):
        answer = _serve(args, setting, load)
        first = first or answer["tokens"]
        assert [len(tokens) for tokens in answer["tokens"]] == load.new, setting
        results[setting[0]] = {
            **_waits(load, answer["times"]),
            "equal_tokens": equal_share(first, answer["tokens"]),
        }
        print(f"{setting[0]:24} {results[setting[0]]}")
    report = {
        "benchmark": "mixed_load",
        **machine(),
        "load": os.getloadavg()[0],
        "checkpoint": args.checkpoint.name,
        "trace": args.trace.name,
        "threads": args.threads,
        **about,
        "settings": results,
    }
    print(json.dumps(report))


def _requests(args: argparse.Namespace, shape: Shape, rng: random.Random) -> Load:
    drawn = rng.sample(_lengths(args.trace), args.requests)
    prompts, new = [], []
    for read, written in drawn:
        length = _scaled(read, args.scale, args.cap_prompt)
        prompts.append([rng.randrange(3, shape.vocab) for _ in range(length)])
        new.append(_scaled(written, args.scale, args.cap_new))
    return Load(prompts, new, [])


def _lengths(trace: Path) -> list[tuple[int, int]]:
    opened = gzip.open if trace.suffix == ".gz" else open
    with opened(trace, "rt", encoding="utf-8") as lines:
        if ".jsonl" in trace.name:
            records = [json.loads(line) for line in lines]
        else:
            records = list(csv.DictReader(lines))
    for read, written in COLUMNS:
        if read in records[0]:
            return [(int(float(r[read])), int(float(r[written]))) for r in records]
    raise SystemExit(f"{trace} has none of the columns {COLUMNS}; it has {list(records[0])}.")


def _scaled(length: int, scale: float, cap: int) -> int:
    return max(1, min(round(length * scale), cap))


def _settings(args: argparse.Namespace) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, engine and settings of each run."""
    mine = [
        (f"stall_free {tokens}", "ours", {"policy": "stall_free", "batched_tokens": tokens})
        for tokens in args.budgets
    ]
    mine += [
        ("stall_free no limit", "ours", {"policy": "stall_free", "batched_tokens": NO_LIMIT}),
        ("prefill_first", "ours", {"policy": "prefill_first", "batched_tokens": NO_LIMIT}),
    ]
    return mine + [(peer, peer, {"batched_tokens": 512}) for peer in args.peers]


def _capacity(args: argparse.Namespace, load: Load) -> float:
    """Requests per second when all are there from the start, with the largest budget."""
    settings = {"policy": "stall_free", "batched_tokens": max(args.budgets)}
    everything = Load(load.prompts, load.new, [0.0] * len(load.prompts))
    times = _serve(args, ("capacity", "ours", settings), everything)["times"]
    return len(load.prompts) / float(max(each[-1] for each in times))


def _serve(
    args: argparse.Namespace, setting: tuple[str, str, dict[str, Any]], load: Load
) -> dict[str, Any]:
    """All requests through one engine in a fresh process, after a short warm-up."""
    name, engine, settings = setting
    longest = args.cap_prompt + args.cap_new + 64
    settings = {
        "threads": args.threads,
        "quantize": args.quantize,
        "context": longest,
        "kv_mb": args.kv_mb,
        "sequences": args.sequences,
        **settings,
    }
    worker: Worker = start(engine, args.checkpoint, args.peer_python, settings, one=True)[0]
    worker.name = name
    try:
        worker.ready()
        worker.run([load.prompts[0][:64], load.prompts[-1][:64]], 8)
        return worker.run(load.prompts, load.new, load.arrivals)
    finally:
        worker.quit()


def _waits(load: Load, times: list[list[float]]) -> dict[str, float]:
    first = [each[0] - come for each, come in zip(times, load.arrivals, strict=True)]
    gaps = [float(gap) for each in times for gap in np.diff(each)]
    took = max(each[-1] for each in times)
    return {
        "first_token_s": round(statistics.median(first), 3),
        "first_token_p99_s": round(float(np.percentile(first, 99)), 3),
        "gap_ms": round(1000 * statistics.median(gaps), 1),
        "gap_p99_ms": round(1000 * float(np.percentile(gaps, 99)), 1),
        "gap_max_ms": round(1000 * max(gaps), 1),
        "tokens_s": round(sum(load.new) / took, 1),
        "took_s": round(took, 1),
    }


def _spread(lengths: list[int]) -> dict[str, float]:
    return {
        "median": statistics.median(lengths),
        "p99": round(float(np.percentile(lengths, 99)), 1),
        "sum": sum(lengths),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--scale", type=float, default=1.0, help="of all lengths")
    parser.add_argument("--cap-prompt", type=int, default=2048)
    parser.add_argument("--cap-new", type=int, default=128)
    parser.add_argument("--load", type=float, default=0.7, help="share of the capacity")
    parser.add_argument("--rate", type=float, help="requests a second instead of `--load`")
    parser.add_argument("--budgets", type=numbers, default=[128, 256, 512])
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--kv-mb", type=int, default=2048)
    parser.add_argument("--quantize", default="none")
    parser.add_argument("--peers", type=names, default=[])
    parser.add_argument("--peer-python", type=pairs, default={})
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
