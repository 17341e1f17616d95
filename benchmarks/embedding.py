"""Question: how many chunks a second does our encoder embed, against sentence-transformers?

Why: embedding is most of the time of indexing a folder on two cores.
Both load the same weights (all-MiniLM-L6-v2) and use torch's threads. The peer runs at its default
batch size and at 64, its best counts; it sorts by length itself. Its default dtype is float32; its
bfloat16 is timed too, since ours chooses bfloat16 where the processor has it.
Chunks are runs of 20 to 240 tokens of the Markdown files of `--data`/chunking/chroma, or of a
generated text without `--data`. Rounds are interleaved, so that load from elsewhere hits all alike.
Ceiling: the model's matrix products for those tokens at the rate measured for its own shapes.
It does not tell: quality (vectors are equal, checked first), other models, or a GPU.

    python benchmarks/embedding.py --data DIR [--chunks 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer

from _machine import machine
from chunkwise.rag.embedding.encoder import EncoderEmbedder
from chunkwise.rag.embedding.folder import bundled

LAYERS, HIDDEN, INTERMEDIATE = 6, 384, 1536
PRODUCTS = [(HIDDEN, 3 * HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, INTERMEDIATE), (INTERMEDIATE, HIDDEN)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    args = _arguments()
    ours = {name: EncoderEmbedder(dtype=name) for name in DTYPES}  # type: ignore[arg-type]
    texts, tokens = _chunks(args.data, args.chunks, ours["float32"])
    peers = {name: _peer(dtype) for name, dtype in DTYPES.items()}
    print(f"{len(texts)} chunks, {tokens} tokens; {torch.get_num_threads()} threads")

    runs: dict[str, Callable[[], object]] = {}
    for name in DTYPES:
        runs[f"ours {name}"] = lambda name=name: ours[name].embed(texts)
        for size in (32, 64):
            runs[f"peer {name} batch {size}"] = lambda n=name, s=size: _encode(peers[n], texts, s)

    reference = _encode(peers["float32"], texts, 32)
    distance = {name: _distance(run(), reference) for name, run in runs.items()}  # warms up too
    assert distance["ours float32"] < 1e-5, distance
    assert distance["ours bfloat16"] < 1e-3, distance

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    tokenizing: list[float] = []
    for _ in range(args.rounds):
        for name, run in runs.items():
            seconds[name].append(_timed(run))
        tokenizing.append(_timed(lambda: ours["float32"]._windows(texts, "passage", 0)))

    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, took in medians.items():
        spread = f"{min(seconds[name]):.2f}-{max(seconds[name]):.2f} s"
        rate = len(texts) / took
        print(f"{name:24} {rate:7.1f} chunks/s  ({spread})  distance {distance[name]:.1e}")
    report = {
        "benchmark": "embedding",
        **machine(),
        "load": os.getloadavg()[0],
        "chunks": len(texts),
        "tokens": tokens,
        "chunks_per_s": {name: round(len(texts) / took, 1) for name, took in medians.items()},
        "max_cosine_distance": distance,
        "times_as_fast": _ratios(seconds),
        "tokenizing_share": {
            name: round(statistics.median(tokenizing) / medians[f"ours {name}"], 3)
            for name in DTYPES
        },
        "ceiling": {name: _ceiling(name, tokens, medians[f"ours {name}"]) for name in DTYPES},
    }
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("CHUNKWISE_DATA"))
    parser.add_argument("--chunks", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _chunks(data: Path | None, wanted: int, embedder: EncoderEmbedder) -> tuple[list[str], int]:
    """Runs of 20 to 240 tokens, shuffled, and their tokens with special tokens."""
    files = sorted(Path(data, "chunking", "chroma").glob("*.md")) if data else []
    sources = [file.read_text(encoding="utf-8") for file in files] or [_generated()]
    rng = random.Random(0)
    texts = []
    for text in sources:
        (spans,) = embedder.token_spans([text])
        at = 0
        while at < len(spans):
            end = min(at + rng.randint(20, 240), len(spans))
            texts.append(text[spans[at][0] : spans[end - 1][1]])
            at = end
    rng.shuffle(texts)
    texts = texts[:wanted]
    return texts, sum(len(window.ids) for window in embedder._windows(texts, "passage", 0))


def _generated() -> str:
    rng = random.Random(1)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(3000)]
    return " ".join(rng.choices(words, k=60_000))


def _peer(dtype: torch.dtype) -> SentenceTransformer:
    return SentenceTransformer(str(bundled()), device="cpu").to(dtype)


def _encode(peer: SentenceTransformer, texts: list[str], size: int) -> np.ndarray:
    return peer.encode(texts, batch_size=size, normalize_embeddings=True, show_progress_bar=False)


def _distance(vectors: object, reference: np.ndarray) -> float:
    return float((1 - (np.asarray(vectors, dtype=np.float64) * reference).sum(axis=1)).max())


def _ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median over rounds of: the peer's better time over ours, in the same round."""
    result = {}
    for mine, theirs in (("bfloat16", "float32"), ("bfloat16",) * 2, ("float32",) * 2):
        rounds = zip(
            seconds[f"peer {theirs} batch 32"],
            seconds[f"peer {theirs} batch 64"],
            seconds[f"ours {mine}"],
            strict=True,
        )
        ratios = [min(a, b) / c for a, b, c in rounds]
        result[f"ours {mine} / peer {theirs}"] = round(statistics.median(ratios), 2)
    return result


def _ceiling(name: str, tokens: int, took: float) -> dict[str, float]:
    """Rate of the model's products on this machine, and the share of our time they explain."""
    rows, rates, floor = 4096, [], 0.0
    for inner, out in PRODUCTS:
        x = torch.randn(rows, inner, dtype=DTYPES[name])
        weight, bias = torch.randn(out, inner).to(DTYPES[name]), torch.randn(out).to(DTYPES[name])
        with torch.inference_mode():
            best = min(_timed(lambda: F.linear(x, weight, bias)) for _ in range(20))  # noqa: B023
        rates.append(2e-9 * rows * inner * out / best)
        floor += best * LAYERS * tokens / rows
    return {
        "gflops": round(statistics.mean(rates), 1),
        "floor_s": round(floor, 3),
        "share_reached": round(floor / took, 3),
    }


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
