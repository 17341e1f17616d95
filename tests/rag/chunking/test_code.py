"""`code`: definitions are whole where they fit, cut at inner ones where not; what is around."""

from __future__ import annotations

import time

import pytest

from chunkwise.rag.chunking import chunkers, cut
from chunkwise.rag.chunking.source import line_places
from chunkwise.rag.counting import named_counter
from chunkwise.rag.parsing import parse
from chunkwise.types import Chunk
from tests.fakes import CharCounter

WORDS = named_counter("words")
NESTED = '''\
"""A module."""

import os


# How shapes are drawn.
@registered
class Shape:
    """A shape."""

    sides = 4

    class Corner:
        """Where two sides meet."""

        def __init__(self, x, y):
            self.x = x
            self.y = y

        @property
        def norm(self):
            return abs(self.x) + abs(self.y)

    def area(self):
        def half(value):
            return value / 2

        total = 0
        for side in range(self.sides):
            total += half(side)

        return total


def main():
    print(Shape().area())
'''


def chunks(text: str, name: str, size: int, overlap: int = 0) -> list[Chunk]:
    document = parse(text.encode(), name=name)
    chunker = chunkers.build("code", size=size, overlap=overlap, counter=WORDS)
    return cut(document, chunker.split(document), WORDS, size=size)


def starts(found: list[Chunk]) -> list[str]:
    return [chunk.text.splitlines()[0] for chunk in found]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_definitions_that_fit_are_whole_and_know_their_classes(ends: str) -> None:
    found = chunks(NESTED.replace("\n", ends), "shapes.py", size=20)
    assert starts(found) == [
        '"""A module."""',
        "# How shapes are drawn.",
        "def __init__(self, x, y):",
        "def area(self):",
        "def main():",
    ]
    assert all("\r" not in line for chunk in found for line in chunk.headings)


def test_small_neighbours_share_a_chunk_that_begins_at_an_outer_definition() -> None:
    found = chunks(NESTED, "shapes.py", size=60)
    assert starts(found)[0] == '"""A module."""'
    assert starts(chunks(NESTED, "shapes.py", size=500)) == ['"""A module."""']


def test_what_is_around_a_chunk_is_in_its_headings() -> None:
    found = {c.text.splitlines()[0]: c.headings for c in chunks(NESTED, "shapes.py", size=12)}
    assert found["def __init__(self, x, y):"] == ("class Shape:", "class Corner:")
    assert found["@property"] == ("class Shape:", "class Corner:")
    assert found["def area(self):"] == ("class Shape:",)
    assert found["total = 0"] == ("class Shape:", "def area(self):")
    assert found["def main():"] == ()


def test_comments_and_decorators_stay_with_what_they_are_about() -> None:
    for size in (9, 12, 20, 35):
        for chunk in chunks(NESTED, "shapes.py", size=size):
            assert not chunk.text.endswith(("@registered", "@property", "drawn."))


def test_a_long_definition_is_cut_at_inner_ones_then_behind_blank_lines() -> None:
    body = "\n".join(f"        x{i} = {i}" for i in range(9))
    text = f"def outer():\n    def first():\n{body}\n\n    # Then.\n    def second():\n{body}\n"
    found = chunks(text, "a.py", size=40)
    assert starts(found) == ["def outer():", "# Then."]
    assert found[1].headings == ("def outer():",)
    flat = "def f():\n" + "\n\n".join("    a = 1\n    b = 2\n    c = 3" for _ in range(4))
    assert [c.text.count("a = 1") for c in chunks(flat, "a.py", size=20)] == [2, 2]


@pytest.mark.parametrize(
    ("name", "text", "around"),
    [
        (
            "a.js",
            "class A {\n  // says\n  go(x) {\n    one(1);\n    two(2);\n  }\n}\n",
            "class A {",
        ),
        (
            "a.rs",
            "impl Ball {\n  fn go(&self) {\n    one(1);\n    two(2);\n  }\n}\n",
            "impl Ball {",
        ),
        (
            "a.java",
            "class A {\n  public void go(int x) {\n    one(1);\n    two(2);\n  }\n}\n",
            "class A {",
        ),
    ],
)
def test_braces_are_as_good_as_indentation(name: str, text: str, around: str) -> None:
    found = chunks(text, name, size=4)
    inner = next(c for c in found if c.text.startswith("two(2)"))
    assert inner.headings[0] == around
    assert "go(" in inner.headings[1]


def test_code_in_markdown_stays_with_its_section_and_is_cut_by_its_lines() -> None:
    code = "\n\n".join(f"def f{i}(x):\n    return x + {i}" for i in range(6))
    text = f"# Guide\n\nDo this:\n\n```python\n{code}\n```\n\n# Next\n\nDone.\n"
    assert starts(chunks(text, "a.md", size=100)) == ["# Guide", "# Next"]
    found = chunks(text, "a.md", size=20)
    assert all(first.startswith(("#", "```", "def f")) for first in starts(found))
    assert found[1].headings[0] == "Guide"


def test_text_without_code_is_cut_as_structural_cuts_it() -> None:
    text = "# One\n\nSome words stand here. And more.\n\n- a\n- b\n\n# Two\n\n" + "word " * 90
    document = parse(text.encode(), name="a.md")
    code, other = (
        chunkers.build(name, size=20, overlap=4, counter=WORDS) for name in ("code", "structural")
    )
    assert code.split(document) == other.split(document)


def test_ten_megabytes_in_one_line_of_code_take_linear_time() -> None:
    text = "def f():\n    return [" + "1, " * 3_300_000 + "]\n"
    document = parse(text.encode(), name="a.rb")
    began = time.perf_counter()
    chunker = chunkers.build("code", size=2000, counter=CharCounter())
    spans = chunker.split(document)
    found = cut(document, spans, CharCounter(), size=2000)
    assert time.perf_counter() - began < 10
    assert max(c.tokens for c in found) <= 2000
    assert found[-1].headings == ("def f():",)


def test_time_grows_with_the_number_of_headings_only() -> None:
    text = "# A heading\n\nSome words of it.\n\n" * 10_000 + "```\ncode\n```\n"
    document = parse(text.encode(), name="a.md")
    chunker = chunkers.build("code", size=20, counter=WORDS)
    start = time.process_time()
    assert len(chunker.split(document)) == 10_000
    assert time.process_time() - start < 4


def test_chinese_identifiers_and_comments_keep_exact_spans() -> None:
    text = "# 计算面积的函数\ndef 面积(宽, 高):\n    return 宽 * 高\n\n\n"
    text += "class 形状:\n    def 名(self):\n        return '形'\n"
    document = parse(text.encode(), name="a.py")
    chunker = chunkers.build("code", size=30, counter=CharCounter())
    found = cut(document, chunker.split(document), CharCounter(), size=30)
    assert all(text[c.span.start : c.span.end] == c.text for c in found)
    assert found[-1].headings == ("class 形状:", "def 名(self):")


def test_closing_lines_are_the_last_choice() -> None:
    text = "a(\n  1,\n)\nb()\n"
    assert [(p.rank, text[p.at]) for p in line_places(text, 0, len(text))] == [
        (1, "1"),
        (0, ")"),
        (1, "b"),
    ]
