"""Containers that are bombs, locked, cut off or no containers at all."""

import contextlib
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing import parse
from chunkwise.rag.parsing.zips import MAX_ENTRIES, open_zip, read_entry
from tests.rag.parsing.office import docx, epub, odt, p, zipped


def refusal(data: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        open_zip(data, name="a.docx", kind="Word document")
    return caught.value.reason


def test_a_zip_bomb_is_refused_unopened() -> None:
    assert "zip bomb" in refusal(zipped({"word/document.xml": b" " * (20 * 2**20)}))


def test_a_container_that_unpacks_to_too_much_is_refused() -> None:
    data = bytearray(zipped({f"{i}": b"x" for i in range(60)}))
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:  # claim 9 MiB for each entry
        struct.pack_into("<I", data, at + 24, 9 * 2**20)
        at += 4
    assert "unpacks to" in refusal(bytes(data))


def test_an_entry_larger_than_it_claims_is_not_unpacked_further() -> None:
    data = bytearray(zipped({"a": b"x" * 10_000}))
    struct.pack_into("<I", data, data.find(b"PK\x01\x02") + 24, 10)
    archive = open_zip(bytes(data), name="a", kind="file")
    with contextlib.suppress(DocumentError):
        assert len(read_entry(archive, "a", name="a")) <= 10


def test_too_many_entries_are_refused() -> None:
    assert "entries" in refusal(zipped({f"{i}": b"" for i in range(MAX_ENTRIES + 1)}))


def test_passwords_are_named() -> None:
    data = bytearray(zipped({"a": b"text"}))
    data[data.find(b"PK\x01\x02") + 8] |= 1
    assert "password" in refusal(bytes(data))
    ole = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600
    assert "password" in refusal(ole + "EncryptedPackage".encode("utf-16-le"))
    assert "old Office format" in refusal(ole)


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 9])
def test_what_is_no_container_is_refused(data: bytes) -> None:
    assert refusal(data)


FILES = {
    "a.docx": docx(p("one") + p("two"), styles="", numbering=""),
    "a.odt": odt("<text:p>one</text:p>"),
    "a.epub": epub({"a.xhtml": "<p>one</p>"}),
}


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 2**32))
def test_damage_gives_a_document_or_a_clear_error(name: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(FILES[name])
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    with contextlib.suppress(DocumentError):
        assert parse(bytes(data), name=name).name == name
