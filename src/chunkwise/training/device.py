"""Where a model is trained and in what numbers: CUDA if there is a device, else the processor."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F

from chunkwise.errors import ConfigError

Dtype = Literal["auto", "float32", "bfloat16"]
_MIN_GAIN = 1.3  # a near tie goes to float32


def choose_device() -> torch.device:
    """CUDA's current device where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of products: as asked, or for `auto` bfloat16 where a timed one is faster.

    Raises:
        ConfigError: No such name.
    """
    if name == "auto":
        is_faster = device.type == "cuda" or _bfloat16_gain() > _MIN_GAIN
        return torch.bfloat16 if is_faster else torch.float32
    if name not in ("float32", "bfloat16"):
        raise ConfigError(f"`dtype` must be one of auto, float32, bfloat16, got {name!r}.")
    return torch.float32 if name == "float32" else torch.bfloat16


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """The same numbers in every run on this machine; as many threads as this process may use.

    On CUDA sums may come in another order: a run that is resumed there equals an unbroken one
    within rounding only.
    """
    threads, was_set = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    deterministic: Any = torch.utils.deterministic
    state, fills = torch.get_rng_state(), deterministic.fill_uninitialized_memory
    try:
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.use_deterministic_algorithms(device.type == "cpu")
        deterministic.fill_uninitialized_memory = False  # a third of the time, for debugging
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(was_set)
        deterministic.fill_uninitialized_memory = fills
        torch.set_rng_state(state)


def _bfloat16_gain() -> float:
    """How many times as fast a product in bfloat16 is here; some 50 ms."""
    seconds = {dtype: _seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return seconds[torch.float32] / seconds[torch.bfloat16]


@torch.inference_mode()
def _seconds(dtype: torch.dtype) -> float:
    x, weight = torch.ones(512, 384, dtype=dtype), torch.ones(1536, 384, dtype=dtype)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        F.linear(x, weight)
        times.append(time.perf_counter() - started)
    return min(times)
