"""Books: chapters in the order of the spine, and clear words about locked ones."""

import pytest

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing import parse
from chunkwise.rag.parsing.epub import EpubParser
from tests.rag.parsing.office import epub


def test_chapters_follow_the_spine_as_pages() -> None:
    chapters = {"z.xhtml": "<h1>One</h1><p>First.</p>", "a.xhtml": "<h1>Two</h1><p>Second.</p>"}
    document = parse(epub(chapters), name="book.epub")
    assert document.text == "One\n\nFirst.\n\nTwo\n\nSecond."
    assert [(b.kind, b.page) for b in document.blocks] == [
        ("heading", 1),
        ("paragraph", 1),
        ("heading", 2),
        ("paragraph", 2),
    ]
    assert (document.title, document.metadata["author"]) == ("A Book", "A. Author")
    for block in document.blocks:
        start, end = document.pages[(block.page or 0) - 1]
        assert start <= block.start < block.end <= end


def test_a_locked_book_is_refused_but_disguised_fonts_are_not() -> None:
    lock = (
        '<encryption><EncryptedData><EncryptionMethod Algorithm="{}"/></EncryptedData></encryption>'
    )
    chapters = {"a.xhtml": "<p>Text.</p>"}
    locked = epub(chapters, **{"META-INF/encryption.xml": lock.format("http://x#aes128-cbc")})
    with pytest.raises(DocumentError, match="DRM"):
        EpubParser().parse(locked, name="book.epub")
    font = lock.format("http://www.idpf.org/2008/embedding")
    assert EpubParser().parse(epub(chapters, **{"META-INF/encryption.xml": font}), name="b").text


def test_a_missing_chapter_is_a_warning() -> None:
    import io
    import zipfile

    from tests.rag.parsing.office import zipped

    source = zipfile.ZipFile(io.BytesIO(epub({"a.xhtml": "<p>A</p>", "b.xhtml": "<p>B</p>"})))
    entries = {n: source.read(n) for n in source.namelist() if not n.endswith("a.xhtml")}
    document = EpubParser().parse(zipped(dict(entries)), name="book.epub")
    assert document.text == "B"
    assert "a.xhtml" in document.warnings[0]
