"""How fast are attention and whole models on a CUDA device, against torch and transformers?

Question: on one GPU, what share of the memory bandwidth does attention over KV segments reach when
decoding, what does it cost against torch's own attention over one contiguous run, and how many
tokens a second do whole models make against `transformers`?

Why: everything else is measured on CPUs; segments must not cost a GPU what they gain elsewhere.

What it does not tell: quality (weights are random), other engines for GPUs (vLLM, SGLang), several
GPUs, CUDA graphs (`transformers` has none here either), latency under load.

    python benchmarks/cuda_device.py [--model llama-3.2-1b] [--rounds 7]

Results are checked against plain torch before anything is timed. Attention is timed by CUDA
events, models by the clock with the device idle at both ends. Prompts are new in each round, so
that no prefix is found again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from _machine import checkpoint, machine
from chunkwise.llm.kernels.cuda import CudaKernels
from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable
from chunkwise.llm.kernels.reference import ReferenceKernels
from chunkwise.llm.local import LLM
from chunkwise.types import SamplingParams

HEADS, KV_HEADS, SIZE = 32, 8, 64  # Llama-3.2-1B
POSITIONS = 16_384
NEW = 64
DTYPE = torch.bfloat16


def main() -> None:
    args = _arguments()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/cuda_device.py needs a CUDA device, and torch finds none here.")
    device = torch.device("cuda")
    kernels = CudaKernels(DTYPE)
    print(torch.cuda.get_device_name(device), kernels.reasons())
    report = {
        "benchmark": "cuda",
        **machine(),
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "reasons": kernels.reasons(),
        "copy_gb_per_s": round(_copy_rate(device, args.rounds), 1),
        "attention": _attention(kernels, device, args.rounds),
        "model": _models(args.model, args.rounds),
    }
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="llama-3.2-1b", help="shape, see `models fake`")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def _attention(kernels: CudaKernels, device: torch.device, rounds: int) -> list[dict[str, object]]:
    """One layer: decode over own and shared segments, and prompts, each beside torch's SDPA."""
    rotary, cells = _rotary(device), []
    for batch, context, pieces, shared in (
        *((batch, 4096, 1, False) for batch in (1, 8, 32)),
        (1, 16_384, 1, False),
        (1, 4096, 8, False),
        (16, 4096, 8, True),
    ):
        plan = _decode_plan(batch, context, pieces, shared, device)
        q = torch.randn(batch, HEADS, SIZE, dtype=DTYPE, device=device)
        k, v = torch.randn(2, batch, KV_HEADS, context, SIZE, dtype=DTYPE, device=device)
        cell = _cell(
            kernels, plan, q, rotary, lambda q=q, k=k, v=v: _sdpa(q[:, :, None], k, v), rounds
        )
        held = context if shared else batch * context
        read = 2 * held * KV_HEADS * SIZE * DTYPE.itemsize
        cell |= {"kind": "decode", "batch": batch, "context": context, "segments": pieces}
        cell |= {"shared": shared, "gb_per_s": round(read / cell["ours_us"] / 1e3, 1)}
        cells.append(cell)
    for tokens in (512, 2048, 8192):
        plan = _prompt_plan(tokens, device)
        q = torch.randn(tokens, HEADS, SIZE, dtype=DTYPE, device=device)
        k, v = (part[1, None] for part in (plan.parts[0].k, plan.parts[0].v))
        run = lambda q=q, k=k, v=v: _sdpa(q.transpose(0, 1)[None], k, v, causal=True)  # noqa: E731
        cell = _cell(kernels, plan, q, rotary, run, rounds)
        flops = 2 * tokens * tokens * HEADS * SIZE  # two products, half of them masked
        cell |= {"kind": "prompt", "tokens": tokens}
        cell |= {"tflops": round(flops / cell["ours_us"] / 1e6, 1)}
        cells.append(cell)
    for cell in cells:
        print(cell)
    return cells


def _cell(
    kernels: CudaKernels,
    plan: AttentionPlan,
    q: Tensor,
    rotary: RotaryTable,
    baseline: Callable[[], object],
    rounds: int,
) -> dict[str, object]:
    def ours() -> Tensor:
        return kernels.attend(q, plan, 1, rotary, scale=SIZE**-0.5)

    prepare_us = 1e6 * statistics.median(_clocked(lambda: kernels.prepare(plan), rounds))
    if plan.num_rows <= 2048:  # the reference holds all scores at once
        wanted = ReferenceKernels().attend(q, plan, 1, rotary, scale=SIZE**-0.5)
        assert (ours() - wanted).abs().max() < 2e-2, "ours differs from the reference"
    mine, theirs = _device_us(ours, rounds), _device_us(baseline, rounds)
    return {
        "ours_us": round(mine, 1),
        "sdpa_us": round(theirs, 1),
        "times_as_fast": round(theirs / mine, 2),
        "prepare_us": round(prepare_us, 1),
    }


def _sdpa(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


def _decode_plan(
    batch: int, context: int, pieces: int, shared: bool, device: torch.device
) -> AttentionPlan:
    """The last token of each sequence over `pieces` segments, its own or everybody's."""
    length, parts = context // pieces, []
    for piece in range(pieces):
        for rows in [torch.arange(batch)] if shared else torch.arange(batch)[:, None]:
            k, v = torch.randn(2, 2, KV_HEADS, length, SIZE, dtype=DTYPE, device=device)
            rel = torch.full_like(rows, context - 1 - piece * length)
            parts.append(Part(k, v, 0, rows, rel, torch.full_like(rows, length)))
    return AttentionPlan(batch, parts, [])


def _prompt_plan(tokens: int, device: torch.device) -> AttentionPlan:
    k, v = torch.randn(2, 2, KV_HEADS, tokens, SIZE, dtype=DTYPE, device=device)
    rows = torch.arange(tokens)
    return AttentionPlan(tokens, [Part(k, v, 0, rows, rows, rows + 1)], [])


def _rotary(device: torch.device) -> RotaryTable:
    frequencies = 1e4 ** (-torch.arange(0, SIZE, 2) / SIZE)
    angles = torch.outer(torch.arange(POSITIONS).float(), frequencies)
    return RotaryTable(angles.cos().to(device), angles.sin().to(device))


def _models(name: str, rounds: int) -> list[dict[str, object]]:
    """Prompt and decode rates of a random checkpoint, ours and transformers'."""
    with checkpoint(name) as folder:
        ours = LLM(folder, device="cuda", dtype="bfloat16", token_budget=8192)
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPE).cuda().eval()
        _check_logits(ours, theirs)
        makers = {
            "ours": lambda prompts, new: _our_run(ours, prompts, new),
            "transformers": lambda prompts, new: _their_run(theirs, prompts, new),
        }
        shapes = [(1, 512, 1), (1, 2048, 1), (1, 8192, 1), *((n, 128, NEW) for n in (1, 8, 32))]
        cells = [_model_cell(makers, *shape, rounds) for shape in shapes]
    for cell in cells:
        print(cell)
    return cells


def _model_cell(
    makers: dict[str, Callable[[list[list[int]], int], None]],
    batch: int,
    length: int,
    new: int,
    rounds: int,
) -> dict[str, object]:
    """Tokens a second: of the prompt where one token is made, else of decoding alone."""
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for round_ in range(rounds + 1):  # the first warms up
        for name, run in makers.items():
            first = _clocked_once(lambda: run(_prompts(batch, length), 1))  # noqa: B023
            took = first if new == 1 else 0.0
            if new > 1:
                took = _clocked_once(lambda: run(_prompts(batch, length), new)) - first  # noqa: B023
            tokens = batch * (length if new == 1 else new - 1)
            if round_:
                rates[name].append(tokens / took)
    found = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "kind": "prompt" if new == 1 else "decode",
        "batch": batch,
        "prompt_tokens": length,
        **{f"{name}_tokens_per_s": round(value, 1) for name, value in found.items()},
        "times_as_fast": round(found["ours"] / found["transformers"], 2),
    }


def _our_run(llm: LLM, prompts: list[list[int]], new: int) -> None:
    llm.generate(prompts, SamplingParams(max_tokens=new, ignore_eos=True))


def _their_run(model: PreTrainedModel, prompts: list[list[int]], new: int) -> None:
    ids = torch.tensor(prompts, device=model.device)
    with torch.inference_mode():
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )


def _check_logits(llm: LLM, model: PreTrainedModel) -> None:
    """Both in bfloat16, so near each other, not equal."""
    (prompt,) = _prompts(1, 300)
    with torch.inference_mode():
        wanted = model(torch.tensor([prompt], device=model.device)).logits[0, -1].float().cpu()
    found = torch.from_numpy(llm.next_logits(prompt))
    near = torch.cosine_similarity(found, wanted[: len(found)], dim=0)  # less the padding rows
    assert near > 0.99, f"logits differ from those of transformers: cosine {float(near):.4f}"


def _prompts(batch: int, length: int) -> list[list[int]]:
    return torch.randint(5, 250, (batch, length)).tolist()


def _copy_rate(device: torch.device, rounds: int) -> float:
    """GB/s of a copy in memory, reading and writing counted."""
    source = torch.empty(2**30, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * 2**30 / _device_us(lambda: target.copy_(source), rounds) / 1e3


def _device_us(run: Callable[[], object], rounds: int, inner: int = 20) -> float:
    """Median microseconds of one run, by events around `inner` runs."""
    for _ in range(3):
        run()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(inner):
            run()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * start.elapsed_time(end) / inner)
    return statistics.median(times)


def _clocked(run: Callable[[], object], rounds: int) -> list[float]:
    return [_clocked_once(run) for _ in range(rounds)]


def _clocked_once(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
