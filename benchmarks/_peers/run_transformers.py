"""transformers' `generate` as an engine for `worker.serve`.

It has no steps: a batch of prompts of one length is generated at once. Each run may say how:
`attention` (sdpa, eager) and `cache` (dynamic, static).

Settings: model (Hugging Face folder), threads.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers
from transformers.generation.streamers import BaseStreamer
from worker import serve


class Clock(BaseStreamer):
    """Times of tokens. The first thing that `generate` puts is the prompt."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.times: list[float] = []

    def put(self, value: object) -> None:
        self.times.append(time.perf_counter() - self.start)

    def end(self) -> None:
        pass


class Transformers:
    """A causal language model in bfloat16."""

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.set_num_threads(settings["threads"])
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            settings["model"], dtype=torch.bfloat16
        ).eval()
        self.about = {"transformers": transformers.__version__, **settings}

    @torch.inference_mode()
    def run(
        self,
        prompts: list[list[int]],
        new: list[int],
        attention: str = "sdpa",
        cache: str = "dynamic",
    ) -> dict[str, Any]:
        ids = torch.tensor(prompts)
        self._model.set_attn_implementation(attention)
        clock = Clock()
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=transformers.GenerationConfig(
                max_new_tokens=new[0],
                min_new_tokens=None,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                cache_implementation="static" if cache == "static" else None,
            ),
            streamer=clock,
        )
        tokens = output[:, ids.shape[1] :].tolist()
        return {"times": [clock.times[1:]] * len(prompts), "tokens": tokens, "steps": new[0]}

    @torch.inference_mode()
    def logits(self, prompt: list[int]) -> list[float]:
        logits: torch.Tensor = self._model(torch.tensor([prompt]), logits_to_keep=1).logits
        return logits[0, -1].float().tolist()


if __name__ == "__main__":
    serve(Transformers)
