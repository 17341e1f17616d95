"""Sampling against slow oracles, hand numbers and statistics; seeds whatever the batch."""

import hashlib
import math
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import RequestError
from chunkwise.llm.sampling import NOT_FINITE, Sampled, Sampler, check_sampling
from chunkwise.llm.sequence import Request, Sequence, TokenSegment
from chunkwise.types import SamplingParams

VOCAB = 16


def sequence_of(
    prompt: tuple[int, ...] = (1, 2),
    *,
    index: int = 0,
    completion: tuple[int, ...] = (),
    **how: Any,
) -> Sequence:
    request = Request("r", (TokenSegment(prompt),), SamplingParams(**how))
    made = Sequence(request, index, request.prompt_ids, len(prompt), np.empty(0, np.int32), None)
    for token in completion:
        made.append(token)
    return made


def sample_one(logits: list[float] | torch.Tensor, sequence: Sequence) -> Sampled:
    row = torch.as_tensor(logits, dtype=torch.float32)[None]
    (sampled,) = Sampler(row.shape[1]).sample(row, [sequence])
    return sampled


def uniform(seed: int, index: int, position: int) -> float:
    """The number a token is drawn with, as documented; changing it changes every user's seeds."""
    key = struct.pack("<QQQ", seed % 2**64, index, position)
    digest = hashlib.blake2b(key, digest_size=8, person=b"chunkwise sample").digest()
    return (int.from_bytes(digest, "little") // 2**11) / 2**53


def slow_distribution(logits: list[float], how: SamplingParams) -> dict[int, float]:
    """Temperature, min-p, top-k and top-p by sorting everything, in plain Python."""
    order = sorted(range(len(logits)), key=lambda t: (-logits[t], t))
    heat = [math.exp((logits[t] - logits[order[0]]) / how.temperature) for t in order]
    kept = [(t, w) for t, w in zip(order, heat, strict=True) if w >= how.min_p * heat[0]]
    if how.top_k:
        kept = kept[: how.top_k]
    total, running, nucleus = sum(w for _, w in kept), 0.0, []
    for token, weight in kept:
        nucleus.append((token, weight))
        running += weight
        if how.top_p < 1 and running >= how.top_p * total:
            break
    total = sum(w for _, w in nucleus)
    return {token: weight / total for token, weight in sorted(nucleus)}


def slow_draw(distribution: dict[int, float], u: float) -> int:
    running = 0.0
    for token, probability in distribution.items():
        running += probability
        if running > u:
            return token
    return max(distribution)


# --- greedy ---


def test_greedy_takes_the_likeliest_and_the_lower_id_on_ties() -> None:
    logits = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    logits[3, [40, 70]] = 9.0
    sampled = Sampler(100).sample(logits, [sequence_of() for _ in range(8)])
    assert sampled == [Sampled(int(row.argmax())) for row in logits]
    assert sampled[3].token_id == 40


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 0.0},
        {"temperature": 1e-7},
        {"temperature": 1e-4},
        {"temperature": 2.0, "top_k": 1},
        {"temperature": 2.0, "min_p": 1.0},
        {"temperature": 2.0, "top_p": 1e-9},
    ],
)
def test_settings_at_their_edges_equal_greedy(how: dict[str, Any]) -> None:
    logits = torch.randn(20, 300, generator=torch.Generator().manual_seed(1))
    logits[0, [7, 90, 200]] = 11.0
    sequences = [sequence_of(seed=i, **how) for i in range(20)]
    if how == {"temperature": 1e-4}:  # still a draw among equals
        logits[0, [90, 200]] = 3.0
    sampled = Sampler(300).sample(logits, sequences)
    assert [s.token_id for s in sampled] == logits.argmax(-1).tolist()


def test_logits_that_pad_the_vocabulary_are_never_chosen() -> None:
    logits = torch.zeros(2, 20)
    logits[:, 16:] = 50.0
    logits[0, 3] = 1.0
    greedy, drawn = Sampler(16).sample(
        logits, [sequence_of(), sequence_of(temperature=1.0, seed=3, logprobs=0)]
    )
    assert greedy.token_id == 3
    assert drawn.token_id < 16
    assert drawn.logprob == pytest.approx(-math.log(16))


# --- draws ---

quarters = st.integers(-12, 12).map(lambda n: n / 4)


@given(
    logits=st.lists(quarters, min_size=VOCAB, max_size=VOCAB),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.9]),
    top_k=st.sampled_from([0, 2, 3, 7, VOCAB, 1000]),
    top_p=st.sampled_from([0.05, 0.33, 0.61, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.013, 0.21, 0.9]),
    seed=st.integers(0, 10**9),
)
@settings(deadline=None, max_examples=300, derandomize=True)
def test_a_draw_is_that_of_the_slow_oracle(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    sequence = sequence_of(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed, index=2
    )
    sequence.append(5)
    expected = slow_draw(slow_distribution(logits, sequence.request.sampling), uniform(seed, 2, 1))
    assert sample_one(logits, sequence).token_id == expected


@pytest.mark.parametrize("how", [{}, {"top_p": 0.9}, {"top_k": 300}, {"min_p": 0.01}])
def test_draws_from_a_large_vocabulary_equal_the_slow_oracle(how: dict[str, Any]) -> None:
    logits = torch.randn(40, 3001, generator=torch.Generator().manual_seed(2)) * 2
    sequences = [sequence_of(temperature=0.9, seed=seed, **how) for seed in range(40)]
    sampled = Sampler(3001).sample(logits, sequences)
    for seed, row in enumerate(logits.tolist()):
        expected = slow_distribution(row, sequences[seed].request.sampling)
        assert sampled[seed].token_id == slow_draw(expected, uniform(seed, 0, 0))


@pytest.mark.parametrize("by", ["seed", "index", "position"])
def test_frequencies_are_the_softmax(by: str) -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5, 1.5, -30.0, 0.0])
    draws, sampler = 4000, Sampler(8)
    if by == "position":
        sequence, counts = sequence_of(temperature=1.3, seed=11), np.zeros(8)
        for _ in range(draws):
            (sampled,) = sampler.sample(logits[None], [sequence])
            sequence.append(sampled.token_id)
        counts = np.bincount(sequence.completion, minlength=8)
    else:
        key = (lambda i: {"seed": i}) if by == "seed" else (lambda i: {"seed": 4, "index": i})
        sequences = [sequence_of(temperature=1.3, **key(i)) for i in range(draws)]
        sampled = sampler.sample(logits.expand(draws, 8), sequences)
        counts = np.bincount([s.token_id for s in sampled], minlength=8)
    expected = (logits / 1.3).softmax(-1).numpy() * draws
    assert counts[6] == 0
    likely = expected > 1
    chi_square = (((counts - expected) ** 2) / expected)[likely].sum()
    assert chi_square < 22.5  # 6 degrees of freedom: passed by chance once in a thousand


def test_a_seed_gives_the_same_tokens_in_any_batch_and_order() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(12, 400, generator=generator)

    def fresh() -> list[Sequence]:
        return [
            sequence_of(
                temperature=0.5 * (i % 3), seed=i, top_p=0.9 if i % 2 else 1.0, logprobs=i % 4
            )
            for i in range(12)
        ]

    together = Sampler(400).sample(logits, fresh())
    order = torch.randperm(12, generator=generator).tolist()
    moved = fresh()
    shuffled = Sampler(400).sample(logits[order], [moved[i] for i in order])
    assert [shuffled[order.index(i)] for i in range(12)] == together
    alone = [Sampler(400).sample(logits[i : i + 1], [s])[0] for i, s in enumerate(fresh())]
    assert alone == together


def test_seeds_indices_and_positions_draw_differently_and_none_is_fresh() -> None:
    def path(**how: Any) -> tuple[int, ...]:
        sequence = sequence_of(temperature=1.0, **how)
        for _ in range(20):
            sequence.append(sample_one(torch.zeros(1000), sequence).token_id)
        return tuple(sequence.completion.tolist())

    assert path(seed=1) == path(seed=1)
    assert path(seed=-1) == path(seed=2**64 - 1)
    others = {path(seed=1), path(seed=2), path(seed=1, index=1), path(), path()}
    assert len(others) == 5
    assert len(set(path(seed=1))) > 15


def test_an_unseeded_sequence_keeps_its_entropy() -> None:
    sequence, logits = sequence_of(temperature=1.0), torch.zeros(10_000)
    assert sample_one(logits, sequence) == sample_one(logits, sequence)


# --- penalties and bias ---


def greedy_logits(logits: list[float], **how: Any) -> list[int]:
    """The order in which greedy takes tokens when the winner is forbidden each time."""
    order, bias = [], dict(how.pop("logit_bias", {}))
    for _ in logits:
        sequence = sequence_of(**how, logit_bias=bias)
        order.append(sample_one(logits, sequence).token_id)
        bias[order[-1]] = -100.0
    return order


def test_penalties_by_hand() -> None:
    # Prompt 0, 1; completion 1, 2, 2. Repetition 2 halves positive logits and doubles negative
    # ones of 0, 1, 2; frequency 0.5 takes 0.5 of 1 and 1.0 of 2; presence 0.25 of both.
    how = {"prompt": (0, 1), "completion": (1, 2, 2)}
    logits = [4.0, 4.2, 5.0, 1.9, -0.1]
    assert greedy_logits(logits, **how) == [2, 1, 0, 3, 4]
    # 0: 2.0, 1: 2.1, 2: 2.5, 3: 1.9, 4: -0.1
    assert greedy_logits(logits, repetition_penalty=2.0, **how) == [2, 1, 0, 3, 4]
    # 0: 4.0, 1: 3.7, 2: 4.0 (the lower id first)
    assert greedy_logits(logits, frequency_penalty=0.5, **how) == [0, 2, 1, 3, 4]
    # 1: 3.95, 2: 4.75
    assert greedy_logits(logits, presence_penalty=0.25, **how) == [2, 0, 1, 3, 4]
    # 0: 2.0, 1: 2.1 - 0.5 - 0.25 = 1.35, 2: 2.5 - 1.0 - 0.25 = 1.25
    every = {"repetition_penalty": 2.0, "frequency_penalty": 0.5, "presence_penalty": 0.25}
    assert greedy_logits(logits, **every, **how) == [0, 3, 1, 2, 4]
    # -0.1 doubled is -0.2, below -0.15
    assert greedy_logits([-0.1, -0.15], prompt=(0,), repetition_penalty=2.0) == [1, 0]
    assert greedy_logits([0.0, 0.1], logit_bias={0: 0.2}) == [0, 1]


@given(tokens=st.lists(st.integers(0, 199), max_size=150), stops=st.sets(st.integers(0, 149)))
@settings(deadline=None, max_examples=40)
def test_counts_kept_step_by_step_equal_counting_again(tokens: list[int], stops: set[int]) -> None:
    how = {"repetition_penalty": 1.3, "frequency_penalty": 0.11, "presence_penalty": 0.4}
    logits = torch.randn(200, generator=torch.Generator().manual_seed(len(tokens)))
    kept = sequence_of((3, 4, 199), **how)
    for i, token in enumerate(tokens):
        if i in stops:
            sample_one(logits, kept)
        kept.append(token)
    again = sequence_of((3, 4, 199), completion=tuple(tokens), **how)
    assert sample_one(logits, kept) == sample_one(logits, again)
    counts = torch.bincount(torch.tensor(tokens, dtype=torch.int64), minlength=200)
    seen = counts > 0
    seen[[3, 4, 199]] = True
    slow = torch.where(seen, torch.where(logits > 0, logits / 1.3, logits * 1.3), logits)
    slow = slow - 0.11 * counts - 0.4 * (counts > 0)
    assert sample_one(logits, kept).token_id == int(slow.argmax())


# --- log-probabilities ---


def test_logprobs_are_those_of_the_model_alone() -> None:
    logits = torch.randn(500, generator=torch.Generator().manual_seed(7)) * 4
    logits[[10, 20]] = 15.0
    plain = logits.log_softmax(-1)
    sequence = sequence_of(
        temperature=0.2, seed=1, logprobs=5, logit_bias={3: 90.0}, presence_penalty=2.0, top_k=1
    )
    sampled = sample_one(logits, sequence)
    assert sampled.token_id == 3
    assert sampled.logprob == pytest.approx(float(plain[3]), abs=1e-5)
    assert [token for token, _ in sampled.top[:2]] == [10, 20]
    assert [value for _, value in sampled.top] == pytest.approx(
        plain.topk(5).values.tolist(), abs=1e-5
    )
    assert sample_one(logits, sequence_of(logprobs=0)).top == ()
    assert sample_one(logits, sequence_of()).logprob is None
    assert len(sample_one([1.0, 2.0], sequence_of(logprobs=20)).top) == 2


def test_score_gives_the_logprobs_of_given_tokens() -> None:
    logits = torch.randn(150, 70, generator=torch.Generator().manual_seed(8))
    logits[4, 2] = math.nan
    targets = [i % 64 for i in range(150)]
    scored = Sampler(64).score(logits, targets, top=3)
    plain = logits[:, :64].log_softmax(-1)
    assert len(scored) == 150
    for i, one in enumerate(scored):
        if i == 4:
            assert one.error == NOT_FINITE
            continue
        assert one.token_id == targets[i]
        assert one.logprob == pytest.approx(float(plain[i, targets[i]]), abs=1e-5)
        assert [t for t, _ in one.top] == plain[i].topk(3).indices.tolist()
    assert Sampler(64).score(logits[:0], []) == []


# --- what goes wrong ---


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0, "seed": 1}, {"logprobs": 2}])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_without_numbers_is_an_error_of_its_own(how: dict[str, Any], bad: float) -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(9))
    expected = Sampler(50).sample(logits, [sequence_of(**how) for _ in range(3)])
    if bad == -math.inf:
        logits[1] = bad
    else:
        logits[1, 30] = bad
    got = Sampler(50).sample(logits, [sequence_of(**how) for _ in range(3)])
    assert [got[0], got[2]] == [expected[0], expected[2]]
    assert got[1].token_id == -1
    assert got[1].error == NOT_FINITE


@pytest.mark.parametrize("seed", [np.int64(5), np.uint64(2**64 - 1), np.int64(-1), -(2**63)])
def test_a_seed_may_be_any_kind_of_whole_number(seed: Any) -> None:
    drawn = [
        sample_one(torch.zeros(50), sequence_of(temperature=1.0, seed=one))
        for one in (seed, int(seed))
    ]
    assert drawn[0] == drawn[1]


def test_some_logits_of_minus_infinity_are_fine() -> None:
    logits = torch.full((50,), -math.inf)
    logits[[5, 6]] = torch.tensor([3e38, -3e38])
    for how in (
        {},
        {"temperature": 5.0, "seed": 1},
        {"temperature": 1.0, "top_p": 0.5, "top_k": 9},
    ):
        sampled = sample_one(logits, sequence_of(**how, logprobs=1, repetition_penalty=1.5))
        assert (sampled.token_id, sampled.error) == (5, "")


def test_the_input_is_not_changed() -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(3))
    before = logits.clone()
    how = {"temperature": 1.0, "logit_bias": {4: 5.0}, "logprobs": 2, "presence_penalty": 1.0}
    Sampler(50).sample(logits, [sequence_of(**how, completion=(3,)) for _ in range(2)])
    Sampler(50).score(logits, [1, 2], 3)
    assert torch.equal(logits, before)


GOOD: list[dict[str, Any]] = [
    {},
    {"temperature": 0, "n": 4},
    {"temperature": np.float64(0.5), "top_k": np.int64(5), "seed": None},
    {"top_p": 1, "min_p": 1, "repetition_penalty": 1.1, "presence_penalty": -2},
    {"logprobs": 0, "prompt_logprobs": 20, "seed": -5, "logit_bias": {0: -100, 15: 3.5}},
    {"stop": ("a", "\n\n"), "stop_token_ids": (0, 15), "json_schema": "{}"},
]


@pytest.mark.parametrize("how", GOOD)
def test_sound_settings_pass(how: dict[str, Any]) -> None:
    check_sampling(SamplingParams(**how), VOCAB)


BAD: list[tuple[str, Any]] = [
    ("temperature", -0.1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("temperature", "0.5"),
    ("temperature", None),
    ("temperature", True),
    ("top_p", 0),
    ("top_p", 1.1),
    ("min_p", -0.1),
    ("min_p", 1.5),
    ("top_k", -1),
    ("top_k", 1.5),
    ("max_tokens", 0),
    ("seed", 2**64),
    ("seed", 0.5),
    ("repetition_penalty", 0),
    ("presence_penalty", 2.1),
    ("frequency_penalty", -2.1),
    ("logit_bias", {16: 1.0}),
    ("logit_bias", {-1: 1.0}),
    ("logit_bias", {1: math.nan}),
    ("logit_bias", {1: 101}),
    ("stop", ("",)),
    ("stop", "END"),
    ("stop", (3,)),
    ("stop_token_ids", (16,)),
    ("stop_token_ids", ("a",)),
    ("logprobs", 21),
    ("logprobs", -1),
    ("prompt_logprobs", 21),
    ("n", 0),
    ("n", 129),
    ("regex", 5),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_senseless_settings_are_refused_by_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"`{name}`") as refused:
        check_sampling(SamplingParams(**{name: value}), VOCAB)
    shown = value if not isinstance(value, dict | tuple) else next(iter(value))
    assert repr(shown) in str(refused.value) or isinstance(value, dict)


def test_two_kinds_of_structure_are_refused() -> None:
    with pytest.raises(RequestError, match="At most one of json_schema, regex, grammar"):
        check_sampling(SamplingParams(regex="a", grammar="start: /a/"), VOCAB)
