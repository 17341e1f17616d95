"""Our engine with stored chunks, for `worker.serve`; a prompt is pieces `[token ids, content id]`.

Settings: model (Hugging Face folder), threads, kv_mb, anchor (tokens), policy (null: chunks are not
reused), memory_mb, folder, disk_mb.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from worker import serve

from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.sequence import TokenSegment
from chunkwise.types import SamplingParams

Pieces = list[tuple[list[int], str | None]]


class Reusing:
    """An `LLM` with a store of chunks."""

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.set_num_threads(settings["threads"])
        names = ("policy", "anchor", "memory_mb", "folder", "disk_mb")
        reuse = ReuseSettings(**{name: settings[name] for name in names if name in settings})
        self._llm = LLM(
            settings["model"],
            dtype="bfloat16",
            kv_budget_mb=settings["kv_mb"],
            reuse=reuse if settings["policy"] else None,
        )
        self._is_reusing = bool(settings["policy"])
        self.about = dict(settings)

    def run(self, prompts: list[Pieces], new: list[int], *, until: str = "done") -> dict[str, Any]:
        """Compute chunks that are not stored, then serve all prompts together.

        Args:
            prompts: Each in pieces.
            new: Tokens wanted of each.
            until: "stored": only store the chunks, one by one and each behind a cached anchor, so
                that their numbers do not depend on which others are there; "begun": stop when all
                have a token.

        Returns:
            `times` and `tokens` as ever; `computed` chunks; `usage` of each; and the most that was
            there after any step: `pool_bytes` held by sequences, `store_bytes`, `rss_mb`.
        """
        segments = [_segments(prompt) for prompt in prompts]
        chunks = [piece for pieces in segments for piece in pieces]
        if until == "stored":
            return {"computed": self._stored(chunks)}
        began = time.perf_counter()
        computed = self._llm.admit(chunks) if self._is_reusing else 0
        sampling = [SamplingParams(max_tokens=count, ignore_eos=True) for count in new]
        requests = map(self._llm.request, segments, sampling)
        return {"computed": computed, **self._served(list(requests), began, until)}

    def logits(self, prompt: Pieces) -> list[float]:
        segments = _segments(prompt)
        if self._is_reusing:
            self._llm.admit(segments)
        request = self._llm.request(segments, SamplingParams(max_tokens=1))
        request.wants_logits = True
        self._llm.run([request])
        assert request.logits is not None
        found: list[float] = request.logits.float().tolist()
        return found

    def _stored(self, chunks: list[TokenSegment]) -> int:
        if not self._is_reusing:
            return 0
        anchor = (TokenSegment(self._llm.engine.reuse.anchor),)
        self._llm.run([self._llm.request(anchor, SamplingParams(max_tokens=1))])
        return sum(self._llm.admit([chunk]) for chunk in chunks)

    def _served(self, requests: list[Any], began: float, until: str) -> dict[str, Any]:
        engine = self._llm.engine
        times: dict[str, list[float]] = {request.id: [] for request in requests}
        tokens: dict[str, list[int]] = {request.id: [] for request in requests}
        peaks = {"pool_bytes": 0, "store_bytes": 0, "rss_mb": 0.0}
        for request in requests:
            engine.add(request)
        while engine.has_work():
            for update in engine.step():
                if update.error:
                    raise RuntimeError(update.error)
                times[update.request_id] += [time.perf_counter() - began] * len(update.token_ids)
                tokens[update.request_id] += update.token_ids
            peaks = {name: max(peaks[name], now) for name, now in self._memory().items()}
            if until == "begun" and all(tokens.values()):
                break
        for request in requests:
            engine.cancel(request.id)
        usage = [dict(engine.output(request.id).usage) for request in requests]
        given = {"times": list(times.values()), "tokens": list(tokens.values()), "usage": usage}
        return given | peaks

    def _memory(self) -> dict[str, float]:
        """What sequences hold of the pool, all of the store, and resident memory."""
        pool, reuse = self._llm.engine.pool, self._llm.engine.reuse
        status = Path("/proc/self/status").read_text()
        (rss,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return {
            "pool_bytes": pool.used_bytes - pool.cached_bytes,
            "store_bytes": reuse.store.used_bytes if reuse else 0,
            "rss_mb": round(int(rss.split()[1]) / 1024, 1),
        }


def _segments(prompt: Pieces) -> tuple[TokenSegment, ...]:
    return tuple(TokenSegment(tuple(ids), content_id) for ids, content_id in prompt)


if __name__ == "__main__":
    serve(Reusing)
