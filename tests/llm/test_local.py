"""`LLM` as people call it: wrong arguments, interrupts, threads that close, children."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chunkwise.errors import ChunkwiseError, ConfigError, ModelFormatError, RequestError
from chunkwise.llm.kernels.ops import choose, find_device
from chunkwise.llm.local import LLM
from chunkwise.types import Prompt, SamplingParams, Segment

SHORT = SamplingParams(max_tokens=4, ignore_eos=True)
LONG = SamplingParams(max_tokens=300, ignore_eos=True)


@pytest.fixture
def llm(tiny_llama: Path) -> Iterator[LLM]:
    """A model that must have nothing left in the end, and must still answer."""
    made = LLM(tiny_llama, dtype="float32", kernels="reference", kv_budget_mb=8)
    yield made
    assert not made._boxes
    assert not made._abandoned
    assert not made.engine.has_work()
    assert not made.engine._tracked
    assert len(made.generate("after", SHORT)[0].token_ids) == 4
    made.engine.pool.check([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_sequences": 0}, "`max_sequences` must be a whole number from 1, got 0"),
        ({"token_budget": None}, "`token_budget`.*None"),
        ({"kv_budget_mb": "64"}, "`kv_budget_mb`.*'64'"),
        ({"kv_budget_mb": True}, "`kv_budget_mb`.*True"),
        ({"context": 10**9}, "`context` may be at most 512"),
        ({"dtype": torch.float32}, r"`dtype` must be one of auto.*torch\.float32"),
        ({"dtype": ["float32"]}, "`dtype`"),
        ({"quantize": None}, "`quantize`.*None"),
        ({"policy": 5}, "`policy`.*5"),
        ({"device": "meta"}, "`device` must be auto, cpu, cuda or cuda:NUMBER, got 'meta'"),
        ({"device": 0}, "`device`.*0"),
        ({"device": "cuda:99"}, "`device` is 'cuda:99', and torch finds"),
    ],
)
def test_wrong_settings_are_named(tiny_llama: Path, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LLM(tiny_llama, **options)


@pytest.mark.parametrize("path", [None, 5, "", b"model"])
def test_a_path_that_is_none_is_named(path: Any) -> None:
    with pytest.raises(ConfigError, match="`path`"):
        LLM(path)


def test_cuda_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="`device` is 'cuda', and torch finds no CUDA"):
        find_device("cuda")


def test_the_variable_is_named_and_not_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for name in ("fast", "cuda"):
        monkeypatch.setenv("CHUNKWISE_KERNELS", name)
        with pytest.raises(ConfigError, match=r"^CHUNKWISE_KERNELS"):
            choose("auto", cpu, torch.float32)
        with pytest.raises(ConfigError, match=r"^`kernels`"):
            choose(name, cpu, torch.float32)
    monkeypatch.setenv("CHUNKWISE_KERNELS", "reference")
    assert choose("auto", cpu, torch.float32).name == "reference"


def test_other_formats_name_the_command(tmp_path: Path) -> None:
    file = tmp_path / "my model.gguf"
    file.write_bytes(b"GGUF")
    for path in (file, tmp_path):
        with pytest.raises(ModelFormatError, match=r"chunkwise models convert '.*/my model\.gguf'"):
            LLM(path)
    (tmp_path / "text").write_text("x")
    with pytest.raises(ModelFormatError, match="is a file, a model is a folder"):
        LLM(tmp_path / "text")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "got None"),
        (b"bytes", "got b'bytes'"),
        ([1.5, 2], "got 1.5"),
        ([2**40], "1099511627776; the model has 0 .. 319"),
        ([-1], "holds token -1"),
        ([True], "got True"),
        (Prompt("text"), "Prompt.segments"),  # type: ignore[arg-type]
        (Prompt((Segment("user", None),)), "text=None"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_prompt_is_refused(llm: LLM, prompt: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        llm.generate(prompt, SHORT)
    with pytest.raises(RequestError, match=message):
        list(llm.stream(prompt, SHORT))
    with pytest.raises(RequestError, match=message):
        llm.next_logits(prompt)


@pytest.mark.parametrize("ids", [np.array([1, 2]), torch.tensor([1, 2]), range(1, 3), (1, 2)])
def test_token_ids_may_stand_in_anything(llm: LLM, ids: Any) -> None:
    assert llm.generate(ids, SHORT)[0].token_ids == llm.generate([1, 2], SHORT)[0].token_ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": None}, "`stop`.*None"),
        ({"stop": "x"}, "`stop`.*'x'"),
        ({"logit_bias": None}, "`logit_bias`.*None"),
        ({"stop_token_ids": 5}, "`stop_token_ids`.*5"),
        ({"seed": "x"}, "`seed`.*'x'"),
    ],
)
def test_wrong_types_of_sampling_are_named(llm: LLM, options: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        llm.generate("x", SamplingParams(**options))


@pytest.mark.parametrize("sampling", [{"temperature": 1}, 5, "hot", [1], [SHORT, SHORT]])
def test_what_are_no_sampling_settings_is_refused(llm: LLM, sampling: Any) -> None:
    with pytest.raises(RequestError, match="sampling"):
        llm.generate("x", sampling)


def test_wrong_settings_of_a_request_leave_nothing_behind(llm: LLM) -> None:
    with pytest.raises(RequestError, match="`priority`"):
        llm.add("x", SHORT, priority="high")  # type: ignore[arg-type]
    for timeout in ("soon", float("nan"), -1):
        with pytest.raises(RequestError, match="`timeout_s`"):
            llm.add("x", SHORT, timeout_s=timeout)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="`text`"):
        llm.nll("x", None)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="`prefix`"):
        llm.nll([1], "x")  # type: ignore[arg-type]


def test_a_failure_while_adding_leaves_no_request(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = []

    def fails(sampling: SamplingParams) -> None:
        added.append(sampling)
        if len(added) == 2:
            raise MemoryError("no room")

    monkeypatch.setattr(llm.engine.sampler, "check", fails)
    with pytest.raises(MemoryError):
        llm.generate(["a", "b", "c"], SHORT)


def test_an_interrupt_leaves_no_request(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(llm.engine.runner, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            llm.generate(["a", "b"], SHORT)
        with pytest.raises(KeyboardInterrupt):
            list(llm.stream("a", SHORT))
        with pytest.raises(KeyboardInterrupt):
            llm.nll("a", "b")


def test_ids_that_are_not_there_are_named(llm: LLM) -> None:
    for use in (llm.close_request, llm.ready, lambda name: list(llm.updates(name))):
        with pytest.raises(RequestError, match="no request 'nope'"):
            use("nope")


def test_updates_end_when_another_thread_closes_the_request(llm: LLM) -> None:
    request_id = llm.add("x", LONG)
    updates = llm.updates(request_id)
    next(updates)
    closing = threading.Thread(target=llm.close_request, args=(request_id,))
    closing.start()
    closing.join()
    assert list(updates) == []


def test_a_stream_that_is_collected_in_the_middle_of_a_step_is_closed_by_the_next(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [llm.stream("abandoned", LONG)]
    next(streams[0])
    run = llm.engine.runner.run

    def collects(*arguments: Any) -> Any:
        streams.clear()
        gc.collect()
        return run(*arguments)

    done = threading.Event()

    def ask() -> None:
        llm.generate("x", SHORT)
        done.set()

    with monkeypatch.context() as patched:
        patched.setattr(llm.engine.runner, "run", collects)
        threading.Thread(target=ask, daemon=True).start()
        assert done.wait(10), "the step waits for itself"


def test_a_refused_prompt_has_a_usage(llm: LLM) -> None:
    refused, answered = llm.generate([[9999], [1]], SHORT)
    assert refused.finish_reason == "error"
    assert set(refused.usage) == set(answered.usage)
    assert not any(refused.usage.values())


def test_logits_are_those_of_tokens(llm: LLM) -> None:
    assert llm.config.vocab_size == 320
    assert llm.next_logits("x").shape == (llm.tokenizer.vocab_size,) == (262,)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_told_to_load_its_own(llm: LLM) -> None:
    child = os.fork()
    if not child:
        try:
            llm.generate("x", SHORT)
        except ChunkwiseError as exc:
            os._exit(0 if "spawn" in str(exc) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
