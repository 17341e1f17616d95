"""Which policy a local model reuses chunks with: what it was asked for, if it passes its test."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from chunkwise.config import Settings
from chunkwise.errors import ConfigError
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.models.fake import write_fake
from chunkwise.packaged import packaged_folder
from chunkwise.pipeline import fidelity
from chunkwise.pipeline.fidelity import AUTO, Reusing, prompts


def made(folder: Path) -> LLM:
    return LLM(folder, dtype="float32", reuse=ReuseSettings(AUTO[0], prompts()[0]))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fake("tiny-llama", tmp_path_factory.mktemp("model"), dtype="float32")
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 2048
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def nano() -> LLM:
    folder = packaged_folder("nano")
    assert folder is not None
    return LLM(folder, reuse=ReuseSettings(AUTO[0], prompts()[0]))


def test_the_shipped_model_reuses_chunks_with_repair_and_not_without(tmp_path: Path) -> None:
    usual = Reusing(nano(), "auto", tmp_path, Settings().reuse_agreement)
    usual.settle()
    assert usual.policy in AUTO
    careless = Reusing(nano(), "none", tmp_path, Settings().reuse_agreement)
    careless.settle()
    assert careless.policy is None, "two facts told apart are not reused without loss"
    assert usual.found is not None
    assert careless.found is not None
    assert careless.found.answers < 0.95 < Settings().reuse_agreement <= usual.found.answers


def test_auto_takes_the_least_share_that_passes(tmp_path: Path) -> None:
    for answers in (0.92, 0.96):  # what was measured is not measured again
        Reusing(nano(), "auto", tmp_path, 0.97).settle()
        (new,) = (path for path in stored(tmp_path) if "was" not in stored(tmp_path)[path])
        kept = stored(tmp_path)[new]
        kept["was"], kept["found"]["answers"] = kept["found"]["answers"], answers
        new.write_text(json.dumps(kept))
    assert sorted(map(share_of, stored(tmp_path))) == [0.15, 0.3]
    for least, policy in ((0.9, AUTO[0]), (0.95, AUTO[1]), (0.97, None)):
        llm = nano()
        reusing = Reusing(llm, "auto", tmp_path, least)
        reusing.settle()
        assert reusing.policy == policy
        used = llm.engine.reuse and llm.engine.reuse.policy.ratio  # type: ignore[attr-defined]
        assert used == (policy and policy["ratio"])


def stored(folder: Path) -> dict[Path, Any]:
    """What was kept of the tests that were run."""
    return {path: json.loads(path.read_text()) for path in (folder / "fidelity").iterdir()}


def share_of(path: Path) -> float:
    """The share of the policy that a stored test is of."""
    key = json.loads(path.read_text())["key"]
    return float(json.loads(key[key.index("{") :])["ratio"])


def test_a_test_that_takes_long_is_left_for_another_time(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    llm = made(tiny)
    reusing = Reusing(llm, "auto", tmp_path, 0.01)
    with caplog.at_level(logging.WARNING):
        reusing.settle(patience_s=0.0)
    assert "chunkwise cache test" in caplog.text
    assert (reusing.policy, reusing.is_untested, llm.engine.reuse) == (None, True, None)
    reusing.settle()
    assert (reusing.policy, reusing.is_untested) == (AUTO[0], False)
    assert llm.engine.reuse is not None
    other = Reusing(made(tiny), "auto", tmp_path, 0.01)
    other.settle(patience_s=0.0)
    assert other.policy == AUTO[0], "it was kept"


def test_where_none_passes_prompts_are_computed_in_full(
    tiny: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = made(tiny)
    monkeypatch.setattr(fidelity, "AUTO", ("none",))
    reusing = Reusing(llm, "auto", tmp_path, 1.0)
    with caplog.at_level(logging.WARNING):
        reusing.settle()
    assert (reusing.policy, llm.engine.reuse) == (None, None)
    assert "Chunks are not reused" not in caplog.text, "nobody asked for it"
    assert reusing.test().answers < 1
    named = Reusing(made(tiny), "none", tmp_path, 1.0)
    with caplog.at_level(logging.WARNING):
        named.settle()
    assert "Chunks are not reused" in caplog.text


def test_untested_reuse_is_what_was_asked_for(tiny: Path) -> None:
    llm = made(tiny)
    reusing = Reusing(llm, "legolink", None, 0.0)
    reusing.settle()
    assert reusing.policy == "legolink"
    assert reusing.found is None
    assert 0 <= reusing.test().answers <= 1


def test_a_short_context_has_no_test(tmp_path: Path) -> None:
    folder = write_fake("tiny-llama", tmp_path / "model", dtype="float32")
    reusing = Reusing(made(folder), "auto", None, 0.9)
    reusing.settle()
    assert reusing.policy is None
    with pytest.raises(ConfigError, match="does not fit"):
        reusing.test()
