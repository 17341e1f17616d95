"""The self-test of reuse: what is exact is found so, what is not is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chunkwise.errors import ConfigError
from chunkwise.llm.fidelity import self_test
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.types import Prompt, Segment


def prompts(count: int = 3) -> list[Prompt]:
    rng = random.Random(0)
    found = []
    for number in range(count):
        texts = ["".join(rng.choices("abcdef ", k=20)) for _ in range(3)]
        segments = [Segment("user", "Read this.")]
        segments += [Segment("user", text, f"{number} {text}") for text in texts]
        found.append(Prompt((*segments, Segment("user", "What is said?"))))
    return found


def engine(folder: Path, policy: object) -> LLM:
    reuse = ReuseSettings(policy, prompts()[0])  # type: ignore[arg-type]
    more = {"dtype": "float32", "kernels": "reference", "kv_budget_mb": 16}
    return LLM(folder, reuse=reuse, **more)  # type: ignore[arg-type]


def test_what_is_exact_is_found_so(tiny_llama: Path) -> None:
    found = self_test(engine(tiny_llama, "all"), prompts())
    assert found.prompts == 3
    assert found.answers == found.agreement == found.floor_answers == found.floor_agreement == 1
    assert found.kl < 1e-9
    assert found.floor_kl < 1e-9
    assert found.reused == 0


def test_what_is_not_is_measured_and_leaves_nothing_behind(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, "none")
    found = self_test(llm, prompts())
    assert self_test(llm, prompts()) == found, "cached prefixes hide what is tested"
    assert found.kl > 1e-4 > found.floor_kl
    assert found.agreement <= found.floor_agreement == 1
    assert 0.1 < found.reused < 1
    assert llm.engine.reuse is not None
    assert len(llm.engine.reuse.store) == 0
    llm.engine.pool.check([])


def test_memory_for_one_prompt_is_enough_and_less_is_said(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, "none")
    wanted = self_test(llm, prompts())
    assert llm.engine.reuse is not None
    store = llm.engine.reuse.store
    asked = [[len(s.token_ids) for s in llm.segments(p) if s.content_id] for p in prompts()]
    store.budget_bytes = max(map(sum, asked)) * llm.engine.pool.shape.bytes_per_token
    assert self_test(llm, prompts()) == wanted
    store.budget_bytes -= 1
    with pytest.raises(ConfigError, match="Memory does not hold"):
        self_test(llm, prompts())
    assert len(store) == 0
    assert not store._expected


def test_a_model_without_reuse_is_refused(tiny_llama: Path) -> None:
    llm = LLM(tiny_llama, dtype="float32", kernels="reference", kv_budget_mb=16)
    with pytest.raises(ConfigError, match="with `reuse` only"):
        self_test(llm, prompts())
