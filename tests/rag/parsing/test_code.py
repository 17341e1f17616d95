import pytest

from chunkwise.rag.parsing import parse

PYTHON = '''"""Módulo ñandú 日本."""
import os

# about A
@deco
class Ärger(Base):
    """Doc."""

    attr = "👩"

    def __init__(self):
        pass

    # about y
    @property
    def y(self):
        return 1

async def fn():
    def inner(): pass

if True:
    fn()
'''


def names(text: str, name: str) -> list[tuple[str, int]]:
    document = parse(text.encode(), name=name)
    assert document.text == text
    return [(b.name, b.level) for b in document.blocks if b.kind == "definition"]


def test_python_blocks_by_character_not_byte():
    document = parse(PYTHON.encode(), name="a.py")
    assert document.text == PYTHON
    assert [(b.kind, b.name, PYTHON[b.start : b.end]) for b in document.blocks] == [
        ("code", "python", '"""Módulo ñandú 日本."""\nimport os'),
        (
            "definition",
            "Ärger",
            '# about A\n@deco\nclass Ärger(Base):\n    """Doc."""\n\n    attr = "👩"',
        ),
        ("definition", "Ärger.__init__", "    def __init__(self):\n        pass"),
        (
            "definition",
            "Ärger.y",
            "    # about y\n    @property\n    def y(self):\n        return 1",
        ),
        ("definition", "fn", "async def fn():\n    def inner(): pass"),
        ("code", "python", "if True:\n    fn()"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.js",
            "/** d */\nexport class A {\n  f() { }\n}\nconst g = (x) => { }\nfunction* h() {}\n",
            ["A", "A.f", "g", "h"],
        ),
        (
            "a.ts",
            "interface I { a: string }\nexport abstract class A<T> { abstract f(): void }\n"
            "type U = string\nnamespace N { export function f() {} }\nenum E { A }\n",
            ["I", "A", "A.f", "U", "N", "N.f", "E"],
        ),
        ("a.tsx", "export function F() { return <b>x</b> }\n", ["F"]),
        (
            "a.go",
            "package m\n// P is\ntype P struct { X int }\nfunc (p *P) Add() {}\nfunc main() {}\n",
            ["P", "P.Add", "main"],
        ),
        (
            "a.rs",
            "/// D\n#[derive(Debug)]\npub struct P { x: i32 }\n"
            "impl P {\n  fn n() {}\n}\nmod t { fn u() {} }\n",
            ["P", "P", "P.n", "t", "t.u"],
        ),
        (
            "a.java",
            "/** d */\npublic class A {\n  int x;\n  A() {}\n"
            "  String s() { return null; }\n}\nrecord R() {}\n",
            ["A", "A.A", "A.s", "R"],
        ),
        (
            "a.c",
            "typedef struct { int x; } P;\nstruct Q { int y; };\n"
            "int *main(int a) { return 0; }\nint f(int);\n",
            ["P", "Q", "main"],
        ),
        (
            "a.cpp",
            "namespace n {\ntemplate <typename T> class A { int f() { return 1; } };\n}\n"
            "int n::A::g() { return 1; }\n",
            ["n", "n.A", "n.A.f", "n.A.g"],
        ),
    ],
)
def test_definitions_of_each_language(name, text, expected):
    assert [found for found, _ in names(text, name)] == expected


def test_levels_are_nesting_depths():
    assert names("class A:\n    class B:\n        def f(self): ...\n", "a.py") == [
        ("A", 1),
        ("A.B", 2),
        ("A.B.f", 3),
    ]


def test_closing_brackets_belong_to_the_last_member():
    text = "class A {\n  f() { }\n}\n\nlet x = 1\n"
    document = parse(text.encode(), name="a.js")
    assert [text[b.start : b.end] for b in document.blocks] == [
        "class A {",
        "  f() { }\n}",
        "let x = 1",
    ]


def test_syntax_error_is_no_failure():
    assert ("ok", 1) in names("def broken(:\n\n\ndef ok():\n    return 1\n", "a.py")


def test_language_without_grammar_is_parted_by_blank_lines():
    text = "def a\n  1\nend\n\n\ndef b\nend\n"
    document = parse(text.encode(), name="a.rb")
    assert [(b.kind, b.name, text[b.start : b.end]) for b in document.blocks] == [
        ("code", "ruby", "def a\n  1\nend"),
        ("code", "ruby", "def b\nend"),
    ]


def test_declared_encoding_of_python():
    data = "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1")
    assert "é" in parse(data, name="a.py").text
