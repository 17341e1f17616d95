"""Which runner, environment and settings each engine has, and the ways to run it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _peers.worker import Worker

RUNNERS = {
    "ours": "run_chunkwise.py",
    "reuse": "run_reuse.py",
    "transformers": "run_transformers.py",
    "openvino": "run_openvino.py",
    "vllm": "run_vllm.py",
}
TRANSFORMERS_WAYS = (
    {"attention": "sdpa", "cache": "dynamic"},
    {"attention": "eager", "cache": "dynamic"},
    {"attention": "sdpa", "cache": "static"},
)
DEFAULTS = {
    "policy": "stall_free",  # ours
    "prefix_caching": False,  # peers': where prompts are new it could only cost
}
EAGER_TOKENS = 2048  # its attention matrix does not fit memory for much longer prompts
EXPORTS = {"none": ".ov", "int8": ".ov-int8", "int4": ".ov-int4"}
KV_PRECISIONS = ("u8", "bf16")  # OpenVINO's default, and that of the others
OPENVINO_TOKENS = 256  # of a step: its default; see peers.md
VLLM_TOKENS = 4096  # of a step: its default on CPU


@dataclass(frozen=True, eq=False)
class Way:
    """One way to run a worker. Ways of one engine compete, the best counts."""

    worker: Worker
    engine: str
    name: str
    options: tuple[tuple[str, str], ...] = ()

    def run(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        """See `Worker.run`."""
        return self.worker.run(prompts, new, None, **dict(self.options))

    def steps_to_read(self, prompts: list[list[int]]) -> int:
        """Steps in which a first sequence may write while others still read their prompts."""
        budget = self.worker.settings.get("batched_tokens", math.inf)
        return math.ceil(1.2 * sum(map(len, prompts)) / budget) if len(prompts) > 1 else 0


def ways_of(worker: Worker, longest: int) -> list[Way]:
    """The ways to run this worker with prompts of up to `longest` tokens."""
    if worker.name != "transformers":
        return [Way(worker, worker.name, "default")]
    return [
        Way(worker, worker.name, " ".join(way.values()), tuple(way.items()))
        for way in TRANSFORMERS_WAYS
        if way["attention"] != "eager" or longest <= EAGER_TOKENS
    ]


def start(
    name: str,
    checkpoint: Path,
    pythons: dict[str, str],
    settings: dict[str, Any],
    *,
    one: bool = False,
) -> list[Worker]:
    """Processes of an engine, not yet ready; none where it has no such weights.

    Args:
        name: A key of `RUNNERS`.
        checkpoint: Hugging Face folder; OpenVINO's exports stand beside it.
        pythons: Interpreters of the peers' environments by engine.
        settings: threads, quantize, context, kv_mb, sequences, batched_tokens (of ours); may
            name those in `DEFAULTS` too.
        one: At most one process: of OpenVINO the one with its default precision of KV.
    """
    if name not in RUNNERS:
        raise SystemExit(f"Unknown engine {name!r}; known: {', '.join(RUNNERS)}.")
    if name in ("openvino", "vllm") and name not in pythons:
        raise SystemExit(f"{name} needs --peer-python {name}=PATH (see benchmarks/peers.md).")
    python, runner = pythons.get(name, sys.executable), RUNNERS[name]
    settings = {**DEFAULTS, **settings, "model": str(checkpoint)}
    if name == "openvino":
        return _start_openvino(python, checkpoint, settings, KV_PRECISIONS[: 1 if one else 2])
    if name in ("transformers", "vllm") and settings["quantize"] != "none":
        return []
    if name == "transformers":
        del settings["batched_tokens"]
    if name == "vllm":
        settings["batched_tokens"] = max(VLLM_TOKENS, settings["context"])
    return [Worker(name, python, runner, settings)]


def _start_openvino(
    python: str, checkpoint: Path, settings: dict[str, Any], precisions: tuple[str, ...]
) -> list[Worker]:
    model = checkpoint.with_name(checkpoint.name + EXPORTS[settings["quantize"]])
    if not model.exists():
        raise SystemExit(f"OpenVINO's export {model} is missing (see benchmarks/peers.md).")
    settings = {**settings, "model": str(model), "batched_tokens": OPENVINO_TOKENS}
    return [
        Worker(f"openvino kv {kv}", python, RUNNERS["openvino"], {**settings, "kv_precision": kv})
        for kv in precisions
    ]
