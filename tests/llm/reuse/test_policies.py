"""Every policy against dense selective recompute, and exact at its exact setting."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.llm.kv.memory import Statistics
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.models.fake import write_fake
from chunkwise.llm.reuse import Passages, Run, policies
from chunkwise.llm.sequence import Request, TokenSegment
from chunkwise.types import SamplingParams
from tests.llm.engines import greedy
from tests.llm.reuse.dense import Dense, Prompt

ANCHOR = [1, 7, 9, 11]
SOME: list[Any] = [
    "none",
    {"name": "legolink", "tokens": 3},
    {"name": "question", "ratio": 0.3},
    {"name": "combined", "ratio": 0.3, "tokens": 1},
    {"name": "cacheblend", "ratio": 0.3},
    {"name": "cacheblend", "ratio": 0.3, "of": "keys"},
    {"name": "cache_craft", "alpha": 0.5, "gap": 0},
    {"name": "cache_craft", "alpha": 0.8, "gap": 1.01},
    {"name": "cache_craft", "alpha": 1.5, "gap": 0, "unseen": "share"},
    {"name": "cache_craft", "alpha": 0.5, "gap": 0, "by": "values"},
    {"name": "combined", "ratio": 0.3, "tokens": 1, "unseen": "share"},
]
GRADUAL: list[Any] = [
    {"name": "cacheblend", "ratios": [0.6, 0.4, 0.25]},
    {"name": "cacheblend", "ratios": [0.5, 0.2], "of": "keys", "check_layer": 2},
    {"name": "cacheblend", "ratios": [0.7, 0.5, 0.3], "check_layer": 2},
]
EXACT: list[Any] = [
    "all",
    {"name": "legolink", "tokens": 100},
    {"name": "question", "ratio": 1.0},
    {"name": "combined", "ratio": 1.0},
    {"name": "cacheblend", "ratio": 1.0},
    {"name": "cacheblend", "ratios": [1.0, 1.0, 1.0]},
    {"name": "cache_craft", "alpha": 4.0, "gap": 0},
    {"name": "cache_craft", "alpha": 4.0, "gap": 0, "unseen": "share"},
    {"name": "combined", "ratio": 1.0, "unseen": "all"},
]


def asked(
    seed: int,
    *,
    chunks: int = 3,
    question: tuple[int, int] = (3, 9),
    prefix: tuple[int, int] = (0, 4),
    anchor: list[int] = ANCHOR,
) -> tuple[Prompt, tuple[TokenSegment, ...]]:
    """A prompt with chunks between other tokens; the numbers of a content id are its tokens."""
    rng = random.Random(seed)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(256) for _ in range(rng.randint(low, high)))

    pieces = [TokenSegment((*anchor, *some(*prefix)))]
    for _ in range(chunks):
        ids = some(4, 20)
        pieces += [TokenSegment(ids, repr(ids)), TokenSegment(some(1, 3))]
    pieces.append(TokenSegment(some(*question)))
    places, at = [], 0
    for piece in pieces:
        if piece.content_id:
            places.append((at, at + len(piece.token_ids)))
        at += len(piece.token_ids)
    return Prompt([i for piece in pieces for i in piece.token_ids], places), tuple(pieces)


def engine(folder: Path, policy: Any, anchor: list[int] = ANCHOR, **options: Any) -> LLM:
    more = {"dtype": "float32", "kernels": "reference", "kv_budget_mb": 16, **options}
    return LLM(folder, reuse=ReuseSettings(policy, anchor), **more)


def answered(
    llm: LLM, pieces: tuple[TokenSegment, ...], sampling: SamplingParams | None = None
) -> tuple[torch.Tensor, list[int], Request]:
    """Logits behind the prompt and a greedy completion, with all chunks stored."""
    llm.admit([piece for piece in pieces if piece.content_id])
    request = llm.request(pieces, sampling or greedy(4))
    request.wants_logits = True
    output = llm._run_one(request)
    llm.engine.pool.check([])
    assert request.logits is not None
    return request.logits.cpu(), output.token_ids, request


@pytest.fixture(scope="module")
def dense(tiny_llama: Path) -> Dense:
    return Dense(tiny_llama)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep")
    return write_fake("tiny-llama", folder, seed=3, layers=4, dtype="float32")


@pytest.mark.parametrize("policy", SOME, ids=str)
@pytest.mark.parametrize("budget", [512, 5])
def test_logits_equal_dense_selective_recompute(
    policy: Any, budget: int, tiny_llama: Path, dense: Dense
) -> None:
    llm = engine(tiny_llama, policy, token_budget=budget)
    for seed in range(4):
        prompt, pieces = asked(seed)
        logits, _, _ = answered(llm, pieces)
        wanted = dense.answer(prompt, ANCHOR, picked_by(policy, prompt, dense))
        assert wanted.std() > 0.5, "a flat model proves nothing"
        assert (logits - wanted).abs().max() <= 1e-4 * wanted.abs().max()
        full = dense.answer(prompt, ANCHOR, set(range(len(prompt.ids))))
        assert (logits - full).abs().max() > 1e-3 * full.abs().max(), "nothing was reused"


@pytest.mark.parametrize("layers", [4, 6])
@pytest.mark.parametrize("label", [0, 5, 80])
def test_the_first_two_thirds_of_the_layers_are_asked(
    layers: int, label: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, anchor = {"name": "question", "ratio": 0.3}, list(range(3, 27))  # long enough to match
    folder = write_fake("tiny-llama", tmp_path, seed=layers, layers=layers, dtype="float32")
    llm, dense, depths = engine(folder, policy, anchor), Dense(folder), []
    real = llm.engine.runner.model.forward

    def watched(*arguments: Any, depth: int | None) -> torch.Tensor:
        depths.append(depth)
        return real(*arguments, depth=depth)

    monkeypatch.setattr(llm.engine.runner.model, "forward", watched)
    cached = 0 if label > 64 else len(anchor)  # then what is before chunks needs all layers
    for seed in range(3):
        prompt, pieces = asked(seed, chunks=5, prefix=(label, label), anchor=anchor)
        logits, _, _ = answered(llm, pieces)
        looked = dense.looks(prompt, anchor, cached)
        tokens = {i for first, end in prompt.chunks for i in range(first, end)}
        wanted = dense.answer(prompt, anchor, most(tokens, looked, round(0.3 * len(tokens))))
        assert (logits - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    assert set(depths) == ({None, -(-2 * layers // 3)} if cached else {None})


def test_a_long_question_is_read_whole_before_it_picks(tiny_llama: Path, dense: Dense) -> None:
    policy = {"name": "question", "ratio": 0.3}
    llm = engine(tiny_llama, policy)
    for seed in range(4):
        prompt, pieces = asked(seed, chunks=12, question=(70, 75))
        logits, _, _ = answered(llm, pieces)
        wanted = dense.answer(prompt, ANCHOR, picked_by(policy, prompt, dense))
        assert (logits - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("policy", [{"name": "combined", "ratio": 0.3}, "none"], ids=str)
def test_prompts_are_computed_in_full_where_two_passes_save_nothing(
    policy: Any, tiny_llama: Path, dense: Dense
) -> None:
    prompt, pieces = asked(1, question=(75, 90))
    llm = engine(tiny_llama, policy)
    logits, _, _ = answered(llm, pieces)
    full = dense.answer(prompt, ANCHOR, set(range(len(prompt.ids))))
    is_full = bool((logits - full).abs().max() <= 1e-4 * full.abs().max())
    assert is_full == (policy != "none"), "that has one pass"
    output = llm._run_one(llm.request(pieces, greedy(4)))
    assert ("reused_tokens" in output.usage) != is_full


def picked_by(policy: Any, prompt: Prompt, dense: Dense) -> set[int]:
    """What a policy must pick, from how much the dense question looks at each token."""
    tokens = [i for first, end in prompt.chunks for i in range(first, end)]
    if policy == "none":
        return set()
    links = {first + n for first, end in prompt.chunks for n in range(policy.get("tokens", 0))}
    if policy["name"] == "legolink":
        return links
    if policy["name"] == "cache_craft":
        return crafted(policy, prompt, dense)
    count = round(policy["ratio"] * len(tokens))
    if policy["name"] == "cacheblend":
        is_keys = policy.get("of") == "keys"
        looked = dense.deviates(prompt, ANCHOR, policy.get("check_layer", 1), of_keys=is_keys)
    else:
        looked = dense.looks(prompt, ANCHOR)
    scores = looked.clone()
    if "unseen" in policy:
        for (first, end), need in zip(prompt.chunks, needs(policy, prompt, dense), strict=True):
            scores[first:end] *= need

    first = most(links, looked, count // 8) if links else set()
    return first | most(set(tokens) - first, scores, count - len(first))


def most(some: set[int], score: torch.Tensor, count: int) -> set[int]:
    return set(sorted(some, key=lambda i: -float(score[i]))[:count])


def needs(policy: Any, prompt: Prompt, dense: Dense) -> list[float]:
    """What share of each chunk Cache-Craft has computed afresh at `alpha` 1: all chunks were
    computed behind the anchor alone, and a prompt begins with it and maybe some text."""
    found = []
    others = int(prompt.chunks[0][0] > len(ANCHOR))
    for number, (first, end) in enumerate(prompt.chunks):
        _, inter, intra = dense.alone(prompt.ids[first:end], ANCHOR)
        new = others + number
        seen = 1 / (1 + new) if policy.get("unseen") == "share" else float(not new)
        found.append((1 - seen) / (1 + math.exp(-inter / intra)))
    return found


def crafted(policy: Any, prompt: Prompt, dense: Dense) -> set[int]:
    """What Cache-Craft picks."""
    looked = dense.looks(prompt, ANCHOR)
    means = sorted((float(looked[first:end].mean()) for first, end in prompt.chunks), reverse=True)
    gaps = [a - b for a, b in itertools.pairwise(means)]
    last = gaps.index(max(gaps))
    is_clear = policy["gap"] and means[last] >= policy["gap"] * means[last + 1]
    picked: set[int] = set()
    for (first, end), need in zip(prompt.chunks, needs(policy, prompt, dense), strict=True):
        if is_clear and float(looked[first:end].mean()) < means[last]:
            continue
        score, _, _ = dense.alone(prompt.ids[first:end], ANCHOR)
        if by := policy.get("by"):
            score = dense.deviates(prompt, ANCHOR, 1, of_keys=by == "keys")[first:end]
        count = math.ceil(min(policy["alpha"] * need, 1) * (end - first))
        picked |= {first + i for i in most(set(range(end - first)), score, count)}
    return picked


@pytest.mark.parametrize("policy", [SOME[2], GRADUAL[0], SOME[6]], ids=str)
def test_the_kernels_of_this_processor_agree(policy: Any, deep: Path) -> None:
    for seed in range(3):
        _, pieces = asked(seed)
        wanted, _, _ = answered(engine(deep, policy, device="cpu"), pieces)
        found, _, _ = answered(engine(deep, policy, device="cpu", kernels="cpu"), pieces)
        assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("policy", GRADUAL, ids=str)
def test_gradual_filtering_equals_dense(policy: Any, deep: Path) -> None:
    llm, dense, differs = engine(deep, policy), Dense(deep), 0
    layer, shares = policy.get("check_layer", 1), policy["ratios"]
    for seed in range(4):
        prompt, pieces = asked(seed, prefix=(seed % 2, 4))
        logits, _, _ = answered(llm, pieces)
        is_keys = policy.get("of") == "keys"
        fits = [*shares[: dense.num_layers - layer - 1], shares[-1]]
        picked = dense.filtered(prompt, ANCHOR, layer, fits, of_keys=is_keys)
        wanted = dense.answer(prompt, ANCHOR, picked)
        assert (logits - wanted).abs().max() <= 1e-4 * wanted.abs().max()
        off = dense.deviates(prompt, ANCHOR, layer, of_keys=is_keys)
        tokens = {i for first, end in prompt.chunks for i in range(first, end)}
        differs += picked != most(tokens, off, len(picked))
    assert differs, "one layer would have picked the same"


@pytest.mark.parametrize("policy", [*SOME, *GRADUAL], ids=str)
def test_the_same_chunks_behind_the_same_prefix_are_exact(policy: Any, tiny_llama: Path) -> None:
    _, pieces = asked(3)

    def said(llm: LLM, last: tuple[int, ...], *, is_exact: bool) -> tuple[torch.Tensor, int]:
        request = llm.request((*pieces[:-1], TokenSegment(last)), greedy(1))
        request.is_exact, request.wants_logits = is_exact, True
        usage = llm._run_one(request).usage
        assert request.logits is not None
        return request.logits, usage.get("reused_tokens", 0)

    logits = []
    for is_exact in (False, True):
        llm = engine(tiny_llama, policy)
        llm.admit([piece for piece in pieces if piece.content_id])
        assert said(llm, (4, 5), is_exact=False)[1], "nothing was reused"
        said(llm, (9, 9), is_exact=True)  # a full prefill, whose prefix stays in the cache
        found, reused = said(llm, (4, 5, 6), is_exact=is_exact)
        assert not reused
        logits.append(found)
    assert torch.equal(*logits)


def test_gradual_filtering_that_drops_nothing_is_a_full_prefill(deep: Path) -> None:
    llm, dense = engine(deep, {"name": "cacheblend", "ratios": [1.0, 1.0, 1.0]}), Dense(deep)
    prompt, pieces = asked(2)
    wanted = dense.answer(prompt, ANCHOR, set(range(len(prompt.ids))))
    assert (answered(llm, pieces)[0] - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("policy", EXACT, ids=str)
def test_everything_computed_afresh_is_a_full_prefill(
    policy: Any, tiny_llama: Path, oracle: LLM
) -> None:
    llm = engine(tiny_llama, policy)
    for seed in range(3):
        prompt, pieces = asked(seed)
        logits, tokens, _ = answered(llm, pieces)
        full = oracle.generate([prompt.ids], greedy(4))[0]
        assert tokens == full.token_ids
        request = oracle.request((TokenSegment(tuple(prompt.ids)),), greedy(1))
        request.wants_logits = True
        oracle._run_one(request)
        assert request.logits is not None
        assert (logits - request.logits).abs().max() <= 1e-4 * request.logits.abs().max()


def test_the_first_chunk_behind_the_anchor_is_exact(tiny_llama: Path, oracle: LLM) -> None:
    ids = tuple(range(30, 60))
    pieces = (TokenSegment(tuple(ANCHOR)), TokenSegment(ids, "one"), TokenSegment((5, 6, 7)))
    _, tokens, _ = answered(engine(tiny_llama, "none"), pieces)
    full = oracle.generate([[*ANCHOR, *ids, 5, 6, 7]], greedy(4))[0]
    assert tokens == full.token_ids


def test_completions_go_on_over_reused_chunks(tiny_llama: Path, dense: Dense) -> None:
    """Tokens of the completion are as if their prompt had been all there was before."""
    llm = engine(tiny_llama, {"name": "question", "ratio": 0.3})
    prompt, pieces = asked(5)
    _, tokens, _ = answered(llm, pieces, greedy(100))
    picked = picked_by({"name": "question", "ratio": 0.3}, prompt, dense)
    cache = dense.stale(prompt, ANCHOR)
    reused = {i for first, end in prompt.chunks for i in range(first, end)} - picked
    ids = prompt.ids + tokens
    room = dense.empty(len(ids))
    for (k, v), (old_k, old_v) in zip(room, cache, strict=True):
        k[:, : len(prompt.ids)], v[:, : len(prompt.ids)] = old_k, old_v
    rows = [i for i in range(len(ids)) if i not in reused]
    logits, _ = dense.compute(ids, room, rows)
    said = logits[-len(tokens) - 1 : -1, : llm.tokenizer.vocab_size].argmax(-1).tolist()
    assert said == tokens


def test_several_prompts_share_chunks(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, {"name": "question", "ratio": 0.3})
    prompts = [asked(seed)[1] for seed in range(6)]
    shared = [piece for piece in prompts[0] if piece.content_id]
    mixed = [(*p[:1], *shared[::-1], *p[1:]) for p in prompts]
    alone = [answered(llm, pieces)[1] for pieces in mixed]
    requests = [llm.request(pieces, greedy(4)) for pieces in mixed]
    together = [output.token_ids for output in llm.run(list(requests))]
    assert together == alone
    llm.engine.pool.check([])


@given(
    name=st.sampled_from(sorted(policies.own)),
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_policies_pick_tokens_of_chunks_in_order(
    name: str, sizes: list[tuple[int, int]], seed: int
) -> None:
    at, chunks = 0, []
    for gap, size in sizes:
        chunks.append(Run(at + gap, at + gap + size))
        at = chunks[-1].end
    policy = policies.build(name)
    score = np.random.default_rng(seed).random(at + 3, dtype=np.float32)
    asked = policy.evidence
    noted = tuple(Statistics(score[slice(*chunk)], 0.2, 0.1) for chunk in chunks)
    passages = Passages(
        tuple(chunks),
        score if asked.attention else None,
        score if asked.deviation else None,
        noted if asked.statistics else None,
        4,
        seed % 5,
    )
    picked = policy.pick(passages)
    assert (np.diff(picked) > 0).all()
    assert set(picked.tolist()) <= set(passages.positions.tolist())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "question", "ratio": 1.5}, r"`ratio` must be in \[0, 1\], got 1.5"),
        ({"name": "combined", "tokens": -1}, "`tokens` must be at least 0, got -1"),
        ({"name": "legolink", "tokens": -1}, "`tokens` must be at least 0, got -1"),
        ({"name": "cacheblend", "ratio": -0.1}, r"`ratio` must be in \[0, 1\], got -0.1"),
        ({"name": "cacheblend", "of": "queries"}, "`of` must be values or keys, got 'queries'"),
        ({"name": "cacheblend", "check_layer": -1}, "`check_layer` must be at least 0"),
        (
            {"name": "cacheblend", "ratios": [0.2, 0.3]},
            r"`ratios` must be in \[0, 1\] and not rise",
        ),
        (
            {"name": "cacheblend", "ratios": [1.2, 0.3]},
            r"`ratios` must be in \[0, 1\] and not rise",
        ),
        ({"name": "cache_craft", "alpha": -1}, "`alpha` must be at least 0, got -1"),
        ({"name": "cache_craft", "gap": 0.5}, "`gap` must be 0 or at least 1, got 0.5"),
        ({"name": "cache_craft", "unseen": "none"}, "`unseen` must be all or share, got 'none'"),
        ({"name": "cache_craft", "by": "queries"}, "`by` must be outside, values or keys"),
        ({"name": "combined", "unseen": "none"}, "`unseen` must be empty, all or share"),
        ("questoin", "Did you mean 'question'"),
    ],
)
def test_wrong_options_are_named(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policies.build(spec)


def test_chunks_are_kept_with_a_policy_only(oracle: LLM) -> None:
    with pytest.raises(ConfigError, match="give `ReuseSettings`"):
        oracle.admit([TokenSegment((1, 2, 3), "one")])
