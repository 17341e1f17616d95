"""Question: how much memory does the engine take, and how long until its first token?

Why: on a small machine a model either fits or it does not, and a command line starts often.
Memory: peak resident memory of a fresh process (VmHWM) after serving sequences that fill the KV
budget, against weights (as quantised, scales not counted) + KV budget; mapped files count as far
as they are resident. The imports' own share is measured beside it. Start: seconds from the start
of the process to the first token of a 16-token prompt: imports, loading from a warm page cache,
one step. Fresh process each round, engines in turn.

Baseline in the same run: transformers in its own process with the same sequences as one batch.
Peers with `--peers`, see `peers.md`; openvino.genai reserves whole gigabytes of KV.

It does not tell: memory of the KV store on disk, or start from a cold disk.

    python benchmarks/memory.py CHECKPOINT [--kv-mb 256] [--peers transformers,openvino,vllm]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _floor import BYTES, Shape
from _machine import machine
from _peers.engines import start
from engine import names, pairs

PROMPT, NEW = 512, 16
IMPORTS = {"ours": "chunkwise.llm.local", "transformers": "torch, transformers.models.llama"}
PEAK = "import re; print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1))"


def main() -> None:
    args = _arguments()
    shape = Shape.of(args.checkpoint)
    weights = _warm(args.checkpoint) / 2**20 * BYTES[args.quantize] / BYTES["none"]
    sequences = int(args.kv_mb * 2**20 / shape.kv_bytes(PROMPT + NEW))
    about = {
        "weights_mb": round(weights, 1),
        "kv_budget_mb": args.kv_mb,
        "weights_and_kv_mb": round(weights + args.kv_mb, 1),
        "sequences": sequences,
        "tokens_each": PROMPT + NEW,
    }
    print(machine(), about, sep="\n")

    engines = ["ours", *args.peers]
    rounds: dict[str, list[dict[str, float]]] = {}
    for index in range(args.rounds):
        for engine in engines:
            serves = index == 0  # memory does not vary; starts do
            for name, found in _measure(args, shape, engine, sequences if serves else 0).items():
                rounds.setdefault(name, []).append(found)
    results = {name: _summary(found, about) for name, found in rounds.items()}
    for name in IMPORTS.keys() & results.keys():
        results[name] |= _imports(name)
    for name, result in results.items():
        print(f"{name:18} {result}")
    report = {
        "benchmark": "memory",
        **machine(),
        "load": os.getloadavg()[0],
        "checkpoint": args.checkpoint.name,
        "quantize": args.quantize,
        "threads": args.threads,
        **about,
        "engines": results,
    }
    print(json.dumps(report))


def _measure(
    args: argparse.Namespace, shape: Shape, engine: str, sequences: int
) -> dict[str, dict[str, float]]:
    """Start each process of an engine once; with `sequences` it serves them before the end."""
    settings = {
        "threads": args.threads,
        "quantize": args.quantize,
        "context": 2 * (PROMPT + NEW),
        "kv_mb": args.kv_mb,
        "sequences": 64,
        "batched_tokens": 512,
    }
    rng = random.Random(0)
    found = {}
    for worker in start(engine, args.checkpoint, args.peer_python, settings, one=True):
        try:
            ready = worker.ready()["load_s"]
            worker.run([_prompt(rng, 16, shape)], 1)
            first = time.perf_counter() - worker.started
            memory = {f"start_{name}_mb": size for name, size in worker.memory().items()}
            if sequences:
                prompts = [_prompt(rng, PROMPT, shape) for _ in range(sequences)]
                tokens = worker.run(prompts, NEW)["tokens"]
                assert [len(each) for each in tokens] == [NEW] * sequences
                memory |= {f"{name}_mb": size for name, size in worker.memory().items()}
            found[worker.name] = {"ready_s": ready, "first_token_s": first, **memory}
        finally:
            worker.quit()
    return found


def _summary(rounds: list[dict[str, float]], about: dict[str, Any]) -> dict[str, Any]:
    starts = [found["first_token_s"] for found in rounds]
    served = rounds[0]
    return {
        "peak_mb": served["VmHWM_mb"],
        "peak_over_weights_and_kv": round(served["VmHWM_mb"] / about["weights_and_kv_mb"], 3),
        "peak_of_start_mb": served["start_VmHWM_mb"],
        "after_start_mb": served["start_VmRSS_mb"],
        "anonymous_mb": served["RssAnon_mb"],
        "mapped_files_mb": served["RssFile_mb"],
        "ready_s": round(statistics.median(found["ready_s"] for found in rounds), 2),
        "first_token_s": round(statistics.median(starts), 2),
        "first_token_range_s": [round(min(starts), 2), round(max(starts), 2)],
    }


def _imports(name: str) -> dict[str, float]:
    """What the imports alone take, in a process of their own."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", f"import {IMPORTS[name]}; {PEAK}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = time.perf_counter() - begin
    return {"imports_mb": round(int(done.stdout) / 1024, 1), "imports_s": round(took, 2)}


def _warm(checkpoint: Path) -> int:
    """Read the weights once, so that all start from the page cache; their bytes."""
    return sum(len(file.read_bytes()) for file in checkpoint.glob("*.safetensors"))


def _prompt(rng: random.Random, length: int, shape: Shape) -> list[int]:
    return [rng.randrange(3, shape.vocab) for _ in range(length)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--kv-mb", type=int, default=256)
    parser.add_argument("--quantize", default="none")
    parser.add_argument("--peers", type=names, default=["transformers"])
    parser.add_argument("--peer-python", type=pairs, default={})
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
