"""Tokenizers against transformers, and the wall between text and control tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Library
from transformers import PreTrainedTokenizerFast

from chunkwise.errors import ModelFormatError
from chunkwise.llm.models.base import ModelConfig
from chunkwise.llm.models.fake import FAKES, SPECIAL_TOKENS, byte_tokenizer
from chunkwise.llm.models.tokenizer import Tokenizer

CONTROL = ["<s>", "</s>", "<|im_end|>"]
LOOKALIKES = ["<think>", "</think>"]
TEXTS = st.text(max_size=40) | st.lists(
    st.sampled_from([*CONTROL, *LOOKALIKES, "   ", " ", "\n", "the ", "né", "🙂", "<", "|>"])
).map("".join)


def word_tokenizer() -> Library:
    """Byte-level BPE with some merges, control tokens, lookalikes, and a run of spaces."""
    made = Library(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    from tokenizers.trainers import BpeTrainer

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["the cat and the hat <|im_end|> <think> then </s>"] * 9, trainer)
    made.add_special_tokens(CONTROL)
    made.add_tokens([*LOOKALIKES, AddedToken("   ", normalized=False)])
    return made


def llama2_tokenizer() -> Library:
    """SentencePiece as in Llama 2: a space before every text, bytes for what is unknown."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    vocabulary = {word: i for i, word in enumerate(words)}
    model = models.BPE(
        vocab=vocabulary, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True, fuse_unk=True
    )
    made = Library(model)
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return made


LIBRARY = {"bytes": byte_tokenizer(), "words": word_tokenizer(), "llama2": llama2_tokenizer()}
OURS = {name: Tokenizer(made.to_str(), {}) for name, made in LIBRARY.items()}
THEIRS = {n: PreTrainedTokenizerFast(tokenizer_object=made) for n, made in LIBRARY.items()}


@pytest.mark.parametrize("name", LIBRARY)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_special_texts_encode_as_in_transformers(name: str, text: str) -> None:
    wanted = THEIRS[name].encode(text, add_special_tokens=False)
    assert OURS[name].encode(text, special=True) == wanted
    with_bos = OURS[name].encode(text, special=True, add_bos=True)
    assert with_bos == THEIRS[name].encode(text, add_special_tokens=True)


@pytest.mark.parametrize("name", LIBRARY)
@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_documents_cannot_forge_control_tokens(name: str, text: str) -> None:
    ours, theirs = OURS[name], THEIRS[name]
    ids = ours.encode(text)
    unknown = {ours.token_id("<unk>")}
    assert not (ours.control_ids - unknown) & set(ids)
    assert ours.decode(ids) == text
    if not any(word in text for word in [*CONTROL, *LOOKALIKES, *SPECIAL_TOKENS, "<unk>"]):
        assert ids == theirs.encode(text, add_special_tokens=False)  # all else as it was


@pytest.mark.parametrize("name", LIBRARY)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_bytes_of_tokens_make_the_text(name: str, text: str) -> None:
    ours = OURS[name]
    made = b"".join(ours.token_bytes(i) for i in ours.encode(text))
    assert made.removeprefix(b" " if name == "llama2" else b"") == text.encode()


def test_lookalikes_count_as_control_tokens_and_spaces_do_not() -> None:
    ours = OURS["words"]
    named = {ours.decode([i], skip_special=False) for i in ours.control_ids}
    assert named == {*CONTROL, *LOOKALIKES}
    assert ours.token_id("   ") in ours.encode("a   b")


def test_continued_texts_get_no_space() -> None:
    ours = OURS["llama2"]
    assert ours.encode("a") == [ours.token_id("▁a")]
    assert ours.encode("a", continues=True) == [ours.token_id("a")]
    assert ours.encode("", continues=True) == []
    assert OURS["words"].encode(" the", continues=True) == OURS["words"].encode(" the")


def test_lone_surrogates_are_replaced() -> None:
    assert OURS["bytes"].encode("a\ud800b") == list(b"a?b")


@pytest.mark.parametrize(
    ("said", "prefix"), [({}, [1]), ({"add_bos_token": False}, []), ({"add_bos_token": True}, [2])]
)
def test_the_settings_decide_about_the_first_token(said: dict[str, Any], prefix: list[int]) -> None:
    settings = {"bos_token": {"content": "</s>"}, "eos_token": "</s>", **said}
    tokenizer = Tokenizer(LIBRARY["llama2"].to_str(), settings)
    assert tokenizer.prefix_ids == prefix
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (2, 2)


def test_unknown_ids_are_nothing() -> None:
    ours = OURS["bytes"]
    assert ours.vocab_size == 256 + len(SPECIAL_TOKENS)
    assert ours.decode([72, 105, 9999, 257]) == "Hi"
    assert ours.decode([72, 257], skip_special=False) == "H<|end|>"
    assert ours.token_bytes(9999) == b""
    assert ours.token_bytes(257) == b"<|end|>"


def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    raw = dict(FAKES["tiny-llama"])
    Tokenizer.from_folder(tmp_path, ModelConfig.from_dict(raw, generation={}))
    small = ModelConfig.from_dict({**raw, "vocab_size": 261}, generation={})
    with pytest.raises(ModelFormatError, match=r"up to 261, .* has 261 rows"):
        Tokenizer.from_folder(tmp_path, small)
    wrong = ModelConfig.from_dict(raw, generation={"eos_token_id": 320})
    with pytest.raises(ModelFormatError, match="must be below 320"):
        Tokenizer.from_folder(tmp_path, wrong)


def test_folders_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"has no tokenizer\.json: copy it from [a-z ]*\.$"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(ModelFormatError, match="AutoTokenizer"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(ModelFormatError, match="cannot be read as a tokenizer"):
        Tokenizer.from_folder(tmp_path)


def test_a_tokenizer_without_a_wall_is_refused() -> None:
    """A vocabulary of words in which a control token is a word: text would give it."""
    made = Library(models.WordLevel({"[MASK]": 0, "a": 1}, unk_token="a"))
    made.add_special_tokens(["[MASK]"])
    with pytest.raises(ModelFormatError, match="documents could forge it"):
        Tokenizer(made.to_str())


def test_gaps_in_the_ids_of_added_tokens_change_nothing() -> None:
    raw = json.loads(LIBRARY["words"].to_str())
    for token in raw["added_tokens"]:
        token["id"] += 10 * (token["content"] in LOOKALIKES)
    text = json.dumps(raw)
    ours = Tokenizer(text)
    library = Library.from_str(text)
    said = "the <think>   hat"
    assert ours.encode(said, special=True) == library.encode(said).ids
    assert not set(ours.encode(said)) & ours.control_ids
    assert ours.token_id("   ") in ours.encode(said)
