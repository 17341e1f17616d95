"""Our own engine for `worker.serve`: the engine of an `LLM`, step by step.

Settings: model (Hugging Face folder), threads, quantize, kv_mb, batched_tokens, sequences,
context, policy.
"""

from __future__ import annotations

from typing import Any

import torch
from worker import serve

from chunkwise.llm.local import LLM
from chunkwise.llm.sequence import Request
from chunkwise.types import SamplingParams


class Chunkwise:
    """Steps of `LLM`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.set_num_threads(settings["threads"])
        self._llm = LLM(
            settings["model"],
            dtype="bfloat16",
            quantize=settings["quantize"],
            kv_budget_mb=settings["kv_mb"],
            token_budget=settings["batched_tokens"],
            max_sequences=settings["sequences"],
            policy=settings["policy"],
            context=settings["context"],
        )
        self._engine = self._llm.engine
        self.about = dict(settings)

    def add(self, key: int, prompt: list[int], new: int) -> None:
        sampling = SamplingParams(max_tokens=new, ignore_eos=True)
        self._engine.add(Request(str(key), self._llm.segments(prompt), sampling))

    def step(self) -> list[tuple[int, list[int]]]:
        fresh = []
        for update in self._engine.step():
            if update.error:
                raise RuntimeError(update.error)
            fresh.append((int(update.request_id), list(update.token_ids)))
            if update.finish_reason:
                self._engine.output(update.request_id)  # forgets it
        return fresh

    def busy(self) -> bool:
        return self._engine.has_work()

    def logits(self, prompt: list[int]) -> list[float]:
        logits: list[float] = self._llm.next_logits(prompt).tolist()  # type: ignore[arg-type]
        return logits


if __name__ == "__main__":
    serve(Chunkwise)
