"""Streamed text equals decoding at once, for byte-level and SentencePiece-like tokenizers."""

import functools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from chunkwise.llm.detokenizer import Detokenizer
from tests.llm import small_tokenizers

BAD = "\ufffd"


class Decoder:
    """A `TokenDecoder` over the real library, which counts the tokens that it decoded."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.decoded, self.longest = tokenizer, 0, 0

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        self.decoded += len(ids)
        self.longest = max(self.longest, len(ids))
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special))

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @property
    def size(self) -> int:
        return int(self.tokenizer.get_vocab_size())


@functools.cache
def byte_level() -> Decoder:
    return Decoder(small_tokenizers.byte_level())


@functools.cache
def sentence_piece() -> Decoder:
    return Decoder(small_tokenizers.sentence_piece())


both = pytest.mark.parametrize("make", [byte_level, sentence_piece])
# No written U+FFFD: in bytes it cannot be told from a broken character (see the module).
texts = st.text(st.sampled_from("fox STOP.\n tqué東😀👍🏽\u200d👨é\u0301"), max_size=40)


def split(ids: Sequence[int], seed: int) -> list[list[int]]:
    """Any pieces, empty ones too."""
    rng, pieces, at = random.Random(seed), [], 0
    while at < len(ids):
        size = rng.choice([0, 1, 1, 1, 2, 3, 30])
        pieces.append(list(ids[at : at + size]))
        at += size
    return pieces


def stream(detokenizer: Detokenizer, pieces: list[list[int]]) -> tuple[list[str], str]:
    shown = [detokenizer.push(piece) for piece in pieces]
    return shown, "".join(shown) + detokenizer.finish()


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Character by character: the text before the first stop string to be complete."""
    for end in range(1, len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@both
@given(text=texts, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=80)
def test_pieces_together_are_the_whole_text(make: object, text: str, seed: int) -> None:
    decoder = make()  # type: ignore[operator]
    ids = decoder.encode(text)
    whole = decoder.decode(ids)
    shown, together = stream(Detokenizer(decoder), split(ids, seed))
    assert together == whole
    assert whole.startswith("".join(shown))


@given(ids=st.lists(st.integers(0, 329), max_size=60), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=120)
def test_any_byte_level_tokens_give_the_whole_text(ids: list[int], seed: int) -> None:
    decoder = byte_level()
    ids = [i % decoder.size for i in ids]
    shown, together = stream(Detokenizer(decoder), split(ids, seed))
    assert together == decoder.decode(ids)
    assert together.startswith("".join(shown))


@given(data=st.lists(st.sampled_from([*b"\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xa9a"]), max_size=80))
@settings(deadline=None, max_examples=120)
def test_broken_utf8_of_single_bytes_gives_the_whole_text(data: list[int]) -> None:
    decoder = byte_level()
    ids = [decoder.tokenizer.token_to_id(small_tokenizers.byte_letter(b)) for b in data]
    _, together = stream(Detokenizer(decoder), [[i] for i in ids])
    assert together == decoder.decode(ids) == bytes(data).decode("utf-8", "replace")


@both
@given(
    text=texts,
    stop=st.lists(
        st.sampled_from(["STOP", "TOP", "x S", "\n", "fox fox", "😀", "éq", " ", "OO", "P.P."]),
        min_size=1,
        max_size=3,
    ),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_text_ends_before_the_stop_string_completed_first(
    make: object, text: str, stop: list[str], seed: int
) -> None:
    decoder = make()  # type: ignore[operator]
    ids = decoder.encode(text)
    expected, stops = cut(decoder.decode(ids), stop)
    detokenizer = Detokenizer(decoder, stop)
    shown, together = stream(detokenizer, split(ids, seed))
    assert (together, detokenizer.stopped) == (expected, stops)
    assert expected.startswith("".join(shown))
    if stops:
        assert detokenizer.push(decoder.encode("more")) + detokenizer.finish() == ""


def test_a_stop_string_is_found_as_soon_as_it_is_there() -> None:
    decoder = byte_level()
    detokenizer = Detokenizer(decoder, ("STOP", "ab"))
    ids = [decoder.encode(c)[0] for c in "xSTaySTOPb"]
    shown = [detokenizer.push([i]) for i in ids]
    assert shown == ["x", "", "", "ST", "ay", "", "", "", "", ""]
    assert detokenizer.stopped


@both
def test_held_text_is_given_out_at_the_end(make: object) -> None:
    decoder = make()  # type: ignore[operator]
    detokenizer = Detokenizer(decoder, ("STOP",))
    ids = decoder.encode("fox STO") + decoder.encode("😀")[-4:-1]
    shown, together = stream(detokenizer, [[i] for i in ids])
    assert "".join(shown) == "fox "
    assert together == decoder.decode(ids)
    assert BAD in together
    assert not detokenizer.stopped


def test_whole_characters_are_shown_at_once_and_no_others() -> None:
    for decoder in (byte_level(), sentence_piece()):
        detokenizer = Detokenizer(decoder)
        ids = decoder.encode("é€😀f")
        shown = [detokenizer.push([i]) for i in ids]
        assert BAD not in "".join(shown)
        assert [piece for piece in shown if piece] == ["é", "€", "😀", "f"]


def test_spaces_between_words_survive_the_decoder_that_drops_the_first() -> None:
    decoder = sentence_piece()
    ids = decoder.encode("fox fox  fox")
    detokenizer = Detokenizer(decoder)
    assert [detokenizer.push([i]) for i in ids][:2] == ["fox", " fox"]
    specials = [1, *ids[:1], 2, 2, *ids[1:], 1]
    _, together = stream(Detokenizer(decoder), [[i] for i in specials])
    assert together == "fox fox  fox"
    _, together = stream(Detokenizer(decoder, before=ids), [[i] for i in ids])
    assert together == " fox fox  fox"


def test_a_character_shown_stays_when_bytes_after_it_are_broken() -> None:
    decoder = sentence_piece()
    ids = [*decoder.encode("f😀")[-4:], 3 + 0xFF, *decoder.encode("fox")[-1:]]
    detokenizer = Detokenizer(decoder)
    shown = [detokenizer.push([i]) for i in ids]
    assert shown[:5] == ["", "", "", "😀", ""]
    assert "".join(shown).startswith("😀" + BAD)
    assert "".join(shown).endswith(decoder.decode(ids[-1:]).strip())


@pytest.mark.parametrize("make", [byte_level, sentence_piece])
@pytest.mark.parametrize("kind", ["text", "special", "broken"])
def test_a_token_costs_the_same_however_long_the_text(make: object, kind: str) -> None:
    decoder = Decoder(make().tokenizer)  # type: ignore[operator]
    byte = decoder.tokenizer.token_to_id("<0xFF>" if make is sentence_piece else "ÿ")
    ids = {
        "text": decoder.encode("fox é 😀 ") * 200,
        "special": [1] * 2000,
        "broken": [byte] * 2000,
    }
    detokenizer = Detokenizer(decoder, ("STOP",))
    for i in ids[kind]:
        detokenizer.push([i])
    assert decoder.longest <= 64
    assert decoder.decoded / len(ids[kind]) < 200
