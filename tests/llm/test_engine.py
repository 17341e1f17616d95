"""The engine as a whole: whatever runs beside a request, its tokens are those it gets alone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from chunkwise.errors import (
    ConfigError,
    ModelFormatError,
    OutOfMemoryForKVError,
    PromptTooLongError,
    RequestError,
)
from chunkwise.llm.local import LLM
from chunkwise.llm.scheduling import StepBudget
from chunkwise.types import Prompt, SamplingParams, Segment
from tests.fakes import ManualClock
from tests.llm.engines import alone, engine, greedy, prompts


def test_greedy_tokens_are_those_of_transformers(tiny_llama: Path, oracle: LLM) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    beyond = list(range(oracle.tokenizer.vocab_size, oracle.config.vocab_size))
    for prompt in prompts(4):
        found = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            suppress_tokens=beyond,
        )
        assert oracle.generate([prompt], greedy())[0].token_ids == found[0, len(prompt) :].tolist()


@pytest.mark.parametrize("policy", ["stall_free", "prefill_first"])
@pytest.mark.parametrize("token_budget", [1, 7, 16, 64])
def test_many_together_are_as_one_at_a_time(
    tiny_llama: Path, oracle: LLM, policy: str, token_budget: int
) -> None:
    asked = prompts(7, seed=token_budget, longest=12 if token_budget < 7 else 60)
    llm = engine(tiny_llama, policy=policy, token_budget=token_budget, max_sequences=4)
    together = [output.token_ids for output in llm.generate(asked, greedy())]
    assert together == alone(oracle, asked, greedy())
    llm.engine.pool.check([])


@pytest.mark.parametrize("seed", range(3))
def test_preemption_changes_no_token(tiny_llama: Path, oracle: LLM, seed: int) -> None:
    asked = prompts(8, seed=seed, longest=50)
    llm = engine(tiny_llama, tokens=150, token_budget=32)
    outputs = llm.generate(asked, greedy(40))
    assert [o.token_ids for o in outputs] == alone(oracle, asked, greedy(40))
    assert llm.engine.queues.preemptions > 0
    llm.engine.pool.check([])


def test_a_repeated_prompt_is_not_computed_again(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    prompt = prompts(1, longest=1)[0] * 200
    first, before = llm.generate([prompt], greedy(4))[0], llm.engine.num_rows
    second = llm.generate([prompt], greedy(4))[0]
    assert second.token_ids == first.token_ids
    assert (first.usage["cached_tokens"], second.usage["cached_tokens"]) == (0, 199)
    assert llm.engine.num_rows - before == 4


def test_a_shared_prefix_in_flight_is_computed_once(tiny_llama: Path, oracle: LLM) -> None:
    prefix = [random.Random(3).randrange(256) for _ in range(300)]
    asked = [prefix + [i] * 5 for i in range(6)]
    llm = engine(tiny_llama, token_budget=64)
    outputs = llm.generate(asked, greedy(3))
    assert [o.token_ids for o in outputs] == alone(oracle, asked, greedy(3))
    assert llm.engine.num_rows < 300 + 6 * (5 + 3) + 16


def test_a_conversation_computes_only_what_is_new(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    first = prompts(1, longest=80)[0] * 4
    answer = llm.generate([first], greedy(20))[0].token_ids
    follow_up = [*first, *answer, 1, 2, 3]
    output = llm.generate([follow_up], greedy(2))[0]
    assert output.usage["cached_tokens"] >= len(first) + len(answer) - 2


def test_n_completions_share_the_prompt(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    prompt = prompts(1, seed=5)[0] * 3
    sampling = SamplingParams(max_tokens=6, n=3, temperature=1.0, seed=7, ignore_eos=True)
    output = llm.generate([prompt], sampling)[0]
    assert len({tuple(c.token_ids) for c in output.completions}) == 3
    assert llm.engine.num_rows == len(prompt) + 3 * 5
    assert output.usage["completion_tokens"] == 18
    again = llm.generate([prompt, prompt[::-1]], sampling)[0]
    assert [c.token_ids for c in again.completions] == [c.token_ids for c in output.completions]
    llm.engine.pool.check([])


def test_seeds_hold_whatever_runs_beside(tiny_llama: Path, oracle: LLM) -> None:
    asked = prompts(6, seed=11)
    sampling = SamplingParams(temperature=0.9, top_p=0.9, seed=3, max_tokens=10, ignore_eos=True)
    llm = engine(tiny_llama, tokens=120, token_budget=9)
    together = [o.token_ids for o in llm.generate(asked, sampling)]
    assert together == alone(oracle, asked, sampling)


def test_a_cancelled_request_ends_and_the_others_go_on(tiny_llama: Path, oracle: LLM) -> None:
    asked = prompts(3, seed=2)
    llm = engine(tiny_llama, token_budget=16)
    ids = [llm.add(p, greedy(20)) for p in asked]
    for _ in range(5):
        llm.step()
    cut = llm.close_request(ids[1])
    assert cut.finish_reason == "cancelled"
    rest = [llm._finished(i).token_ids for i in (ids[0], ids[2])]
    assert rest == alone(oracle, [asked[0], asked[2]], greedy(20))
    llm.engine.pool.check([])


def test_a_deadline_ends_a_request_with_what_it_has(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    clock = ManualClock()
    llm.engine.clock = clock
    request_id = llm.add([1, 2, 3], greedy(100), timeout_s=5.0)
    for _ in range(4):
        llm.step()
    clock.now += 6.0
    output = llm._finished(request_id)
    assert output.finish_reason == "deadline"
    assert len(output.token_ids) == 4


def test_the_more_urgent_goes_first(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, token_budget=8, max_sequences=1)
    late = llm.add(prompts(1)[0], greedy(3), priority=5)
    soon = llm.add(prompts(1, seed=1)[0], greedy(3), priority=0)
    while not llm.engine.is_finished(soon):
        llm.step()
    assert not llm.engine.is_finished(late)


def test_no_running_sequence_waits_for_a_prompt(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, token_budget=16)
    talking = llm.add([1, 2, 3], greedy(30))
    llm.step()
    llm.add([5] * 200, greedy(2))
    for expected in range(2, 12):
        before = llm.engine.num_rows
        llm.step()
        assert llm.engine.num_rows - before <= 16
        tracked = llm.engine._tracked[talking]
        assert len(tracked.completions[0].token_ids) == expected


def test_prompts_go_on_when_decodes_fill_the_budget(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, token_budget=2, max_sequences=8)
    for i in range(4):
        llm.add([i], greedy(60))
    llm.step()
    llm.step()
    late = llm.add([9] * 40, greedy(1))
    for _ in range(45):
        llm.step()
    assert llm.engine.is_finished(late)


def test_stop_texts_stop_tokens_and_length(oracle: LLM) -> None:
    prompt = prompts(1, seed=4)[0]
    plain = oracle.generate([prompt], greedy(20))[0]
    third = plain.token_ids[2]
    stopped = oracle.generate([prompt], greedy(20, stop_token_ids=(third,)))[0]
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == plain.token_ids[: plain.token_ids.index(third) + 1]
    assert plain.finish_reason == "length"
    at = len(plain.text) // 2
    word = plain.text[at : at + 2]
    cut = oracle.generate([prompt], greedy(20, stop=(word,)))[0]
    assert cut.text == plain.text[: plain.text.index(word)]
    assert cut.finish_reason == "stop"


def test_generation_ends_where_the_context_ends(tiny_llama: Path) -> None:
    llm = LLM(tiny_llama, dtype="float32", kernels="reference", kv_budget_mb=1, context=40)
    output = llm.generate([[1] * 30], greedy(100))[0]
    assert (output.finish_reason, len(output.token_ids)) == ("length", 10)
    with pytest.raises(PromptTooLongError, match=r"40 tokens.*context of 40"):
        llm.generate([[1] * 40], greedy())


def test_a_kv_budget_too_small_is_named(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, tokens=64)
    with pytest.raises(OutOfMemoryForKVError, match="KV budget holds 64"):
        llm.generate([[1] * 64], greedy())
    output = llm.generate([[1] * 50], greedy(100))[0]
    assert output.finish_reason == "length"
    assert len(output.token_ids) == 14


def test_a_bad_prompt_among_others_is_reported_and_the_rest_goes_on(oracle: LLM) -> None:
    good, bad = oracle.generate([[1, 2], [99999]], greedy(3))
    assert len(good.token_ids) == 3
    assert bad.finish_reason == "error"
    assert "99999" in bad.completions[0].error
    for wrong in ([], [[]]):
        with pytest.raises(RequestError, match="no tokens"):
            oracle.generate(wrong or [wrong], greedy())


def test_nan_ends_one_request_and_poisons_no_other(tiny_llama: Path) -> None:
    llm = engine(tiny_llama)
    llm.engine.runner.model.embedding.dense[77] = torch.nan
    shared = [5] * 40
    asked = [[*shared, 77, 1, 2], [*shared, 6], [*shared, 77, 1, 3], [7, 8]]
    outputs = llm.generate(asked, greedy(5))
    assert [o.finish_reason for o in outputs] == ["error", "length", "error", "length"]
    assert "NaN" in outputs[0].completions[0].error
    assert llm.generate([[*shared, 6]], greedy(5))[0].token_ids == outputs[1].token_ids
    llm.engine.pool.check([])


@pytest.mark.parametrize("kernels", ["reference", "cpu"])
def test_nan_in_a_prompt_does_not_reach_those_that_share_its_beginning(
    tiny_llama: Path, oracle: LLM, kernels: str
) -> None:
    device = "cpu" if kernels == "cpu" else "auto"
    more = {"device": device, "kernels": kernels, "token_budget": 60, "kv_budget_mb": 8}
    llm = LLM(tiny_llama, dtype="float32", **more)  # type: ignore[arg-type]
    llm.engine.runner.model.embedding.dense[77] = torch.nan
    shared = [5] * 60
    bad = llm.add([*shared, 8, 77, *range(100, 170)], greedy(5))
    llm.step()  # the shared beginning is there, the rest comes together with the second request
    llm.engine.queues.budget = StepBudget(512)
    good = llm.add([*shared, 6, 9], greedy(5))
    outputs = [llm._finished(request_id) for request_id in (bad, good)]
    assert [o.finish_reason for o in outputs] == ["error", "length"]
    assert outputs[1].usage["cached_tokens"] == 60
    assert outputs[1].token_ids == alone(oracle, [[*shared, 6, 9]], greedy(5))[0]


def test_a_failed_step_leaves_the_requests_as_they_were(
    tiny_llama: Path, oracle: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(tiny_llama, token_budget=8)
    prompt = prompts(1, seed=9)[0]
    request_id = llm.add(prompt, greedy(6))
    llm.step()
    run = llm.engine.runner.run
    monkeypatch.setattr(llm.engine.runner, "run", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        llm.step()
    monkeypatch.setattr(llm.engine.runner, "run", run)
    assert llm._finished(request_id).token_ids == alone(oracle, [prompt], greedy(6))[0]


def test_nll_and_next_logits_are_those_of_transformers(tiny_llama: Path, oracle: LLM) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    prefix, text = "The cat sat on", " the mat. " * 20
    before = oracle.tokenizer.encode(prefix, add_bos=True)
    scored = oracle.tokenizer.encode(text, continues=True)
    with torch.no_grad():
        logits = model(torch.tensor([before + scored])).logits[0].clone()
    logits[:, oracle.tokenizer.vocab_size :] = -torch.inf
    logprobs = logits.log_softmax(-1)[len(before) - 1 : -1]
    expected = -logprobs[torch.arange(len(scored)), torch.tensor(scored)]
    for _ in range(2):  # the second time with a cached prefix
        np.testing.assert_allclose(oracle.nll(prefix, text), expected.numpy(), atol=1e-4)
    ours = oracle.next_logits(prefix)[: oracle.tokenizer.vocab_size]
    with torch.inference_mode():
        theirs = model(torch.tensor([before])).logits[0, -1, : len(ours)]
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_logprobs_of_completion_and_prompt(oracle: LLM) -> None:
    prompt = prompts(1, seed=6)[0]
    sampling = greedy(5, logprobs=2, prompt_logprobs=1)
    output = oracle.generate([prompt], sampling)[0]
    assert len(output.completions[0].logprobs) == 5
    assert len(output.prompt_logprobs) == len(prompt) - 1
    for given, token in zip(output.completions[0].logprobs, output.token_ids, strict=True):
        assert given.token_id == token == given.top[0][0]
        assert len(given.top) == 2
        assert given.logprob == given.top[0][1] >= given.top[1][1]


def test_a_stream_gives_the_text_in_pieces_and_the_usage_last(oracle: LLM) -> None:
    prompt = Prompt((Segment("system", "Be brief."), Segment("user", "Who?", content_id="c")))
    deltas = list(oracle.stream(prompt, greedy(20)))
    assert "".join(d.text for d in deltas) == oracle.generate([prompt], greedy(20))[0].text
    assert deltas[-1].usage["completion_tokens"] == 20
    assert deltas[-1].usage["stopped_by_length"] == 1
    with pytest.raises(RequestError, match="n=2"):
        next(oracle.stream(prompt, greedy(n=2)))


def test_closing_a_stream_cancels_its_request(oracle: LLM) -> None:
    stream = oracle.stream([1, 2, 3], greedy(500))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not oracle.engine.has_work()
    oracle.engine.pool.check([])


def test_structured_output_ends_when_it_is_complete(oracle: LLM) -> None:
    schema = (
        '{"type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"], '
        '"additionalProperties": false}'
    )
    for more in ({}, {"temperature": 1.5, "seed": 4}):
        params = SamplingParams(max_tokens=80, json_schema=schema, ignore_eos=True, **more)  # type: ignore[arg-type]
        output = oracle.generate(["Give me a number:"], params)[0]
        assert json.loads(output.text)["n"] in (1, 22)
        assert output.finish_reason == "stop"
    with pytest.raises(RequestError, match=r"schema"):
        oracle.generate(["x"], SamplingParams(json_schema="{"))


def test_two_engines_know_nothing_of_each_other(tiny_llama: Path, oracle: LLM) -> None:
    one, other = engine(tiny_llama), engine(tiny_llama)
    asked = prompts(2, seed=8)
    ids = [llm.add(p, greedy()) for llm, p in zip((one, other), asked, strict=True)]
    while one.step() | other.step():
        pass
    found = [llm._finished(i).token_ids for llm, i in zip((one, other), ids, strict=True)]
    assert found == alone(oracle, asked, greedy())


def test_wrong_settings_are_named(tiny_llama: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"dtype": "float8"}, "float8"),
        ({"kernels": "fast"}, "fast"),
        ({"kernels": "cuda", "device": "cpu"}, "cuda"),
        ({"policy": "stallfree"}, "stall_free"),
        ({"token_budget": 0}, "token_budget"),
        ({"kv_budget_mb": -1}, "kv_budget_mb"),
        ({"device": "gpu7"}, "gpu7"),
        ({"quantize": "int3"}, "int3"),
    ):
        with pytest.raises(ConfigError, match=message):
            LLM(tiny_llama, **options)  # type: ignore[arg-type]
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        LLM(tmp_path)
    with pytest.raises(RequestError, match="top_p"):
        LLM(tiny_llama).generate(["x"], SamplingParams(top_p=1.5))
