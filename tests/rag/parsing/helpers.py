"""Shared by the tests of the parsers."""

from chunkwise.rag.parsing import parse
from chunkwise.types import Document


def outline(document: Document) -> list[tuple[str, int, str]]:
    """Kind, level and text of each block."""
    return [(b.kind, b.level, document.text[b.start : b.end]) for b in document.blocks]


def read(text: str, name: str) -> list[tuple[str, int, str]]:
    """The outline of a text parsed under a name."""
    return outline(parse(text.encode(), name=name))
