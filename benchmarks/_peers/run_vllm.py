"""vLLM's CPU backend as an engine for `worker.serve`.

Settings: model (Hugging Face folder), threads, kv_mb, batched_tokens, sequences, context,
prefix_caching.
"""

from __future__ import annotations

import os
from typing import Any

from worker import serve


class VLLM:
    """Steps of vLLM's engine, run in this process so that an idle worker sleeps."""

    def __init__(self, settings: dict[str, Any]) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, -(-settings["kv_mb"] // 1024)))  # GiB
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{settings['threads'] - 1}"
        os.environ["VLLM_LOGGING_LEVEL"] = "WARNING"
        import vllm

        self._vllm = vllm
        self._engine = vllm.LLM(
            settings["model"],
            dtype="bfloat16",
            max_model_len=settings["context"],
            max_num_batched_tokens=settings["batched_tokens"],
            max_num_seqs=settings["sequences"],
            enable_prefix_caching=settings["prefix_caching"],
            seed=0,
        ).llm_engine
        self._given: dict[str, int] = {}
        self.about = {"vllm": vllm.__version__, **settings}

    def add(self, key: int, prompt: list[int], new: int) -> None:
        params = self._vllm.SamplingParams(
            max_tokens=new, temperature=0.0, ignore_eos=True, detokenize=False
        )
        self._given[str(key)] = 0
        self._engine.add_request(str(key), {"prompt_token_ids": prompt}, params)

    def step(self) -> list[tuple[int, list[int]]]:
        fresh = []
        for output in self._engine.step():
            tokens = output.outputs[0].token_ids
            fresh.append((int(output.request_id), list(tokens[self._given[output.request_id] :])))
            self._given[output.request_id] = len(tokens)
        return fresh

    def busy(self) -> bool:
        return bool(self._engine.has_unfinished_requests())


if __name__ == "__main__":
    serve(VLLM)
