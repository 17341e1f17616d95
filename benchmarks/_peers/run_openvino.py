"""openvino.genai's continuous batching as an engine for `worker.serve`.

Settings: model (folder of the exported model), threads, kv_mb, batched_tokens, sequences,
prefix_caching, kv_precision ("u8" is OpenVINO's default on CPU, "bf16" the precision of the
others).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from worker import serve


class OpenVINO:
    """Steps of a `ContinuousBatchingPipeline`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_batched_tokens = settings["batched_tokens"]
        scheduler.max_num_seqs = settings["sequences"]
        scheduler.cache_size = max(1, -(-settings["kv_mb"] // 1024))  # GB, whole
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = settings["prefix_caching"]
        properties = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": settings["threads"],
            "KV_CACHE_PRECISION": settings["kv_precision"],
        }
        self._pipeline = genai.ContinuousBatchingPipeline(
            settings["model"], scheduler, "CPU", properties
        )
        self._handles: dict[int, Any] = {}
        self.about = {"openvino_genai": genai.__version__, **settings}

    def add(self, key: int, prompt: list[int], new: int) -> None:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = new, True, False
        tokens = ov.Tensor(np.array([prompt], dtype=np.int64))
        self._handles[key] = self._pipeline.add_request(key, tokens, config)

    def step(self) -> list[tuple[int, list[int]]]:
        self._pipeline.step()
        fresh = []
        for key, handle in list(self._handles.items()):
            if handle.can_read():
                (output,) = handle.read().values()
                fresh.append((key, list(output.generated_ids)))
                if output.finish_reason != genai.GenerationFinishReason.NONE:
                    del self._handles[key]
        return fresh

    def busy(self) -> bool:
        return self._pipeline.has_non_finished_requests()


if __name__ == "__main__":
    serve(OpenVINO)
