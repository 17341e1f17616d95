"""Source code: the canonical text is the source itself; definitions are blocks."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import Block, Document

if TYPE_CHECKING:
    from tree_sitter import Node

__all__ = ["CodeParser"]


class _Grammar(NamedTuple):
    language: str
    module: str
    function: str = "language"


_JAVASCRIPT = _Grammar("javascript", "tree_sitter_javascript")
_CPP = _Grammar("cpp", "tree_sitter_cpp")
_PYTHON = _Grammar("python", "tree_sitter_python")
_GRAMMARS = {
    ".py": _PYTHON,
    ".pyi": _PYTHON,
    ".pyw": _PYTHON,
    ".js": _JAVASCRIPT,
    ".mjs": _JAVASCRIPT,
    ".cjs": _JAVASCRIPT,
    ".jsx": _JAVASCRIPT,
    ".ts": _Grammar("typescript", "tree_sitter_typescript", "language_typescript"),
    ".mts": _Grammar("typescript", "tree_sitter_typescript", "language_typescript"),
    ".tsx": _Grammar("tsx", "tree_sitter_typescript", "language_tsx"),
    ".go": _Grammar("go", "tree_sitter_go"),
    ".rs": _Grammar("rust", "tree_sitter_rust"),
    ".java": _Grammar("java", "tree_sitter_java"),
    ".c": _Grammar("c", "tree_sitter_c"),
    ".h": _CPP,  # C is nearly a part of it
    ".cc": _CPP,
    ".cpp": _CPP,
    ".cxx": _CPP,
    ".hh": _CPP,
    ".hpp": _CPP,
    ".hxx": _CPP,
}
_PLAIN: dict[str, str] = dict(
    re.findall(
        r"(\.\w+)=(\w+)",
        ".rb=ruby .php=php .cs=csharp .swift=swift .kt=kotlin .scala=scala .lua=lua .pl=perl .r=r "
        ".jl=julia .m=matlab .hs=haskell .ex=elixir .erl=erlang .clj=clojure .dart=dart .sh=shell "
        ".bash=shell .zsh=shell .ps1=powershell .bat=batch .css=css .scss=scss .less=less "
        ".vue=vue .svelte=svelte .proto=protobuf .graphql=graphql .tf=terraform .cu=cuda "
        ".f90=fortran .vb=basic .pas=pascal .asm=assembly .groovy=groovy ",
    )
)
_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        "function_definition function_declaration generator_function_declaration function_item "
        "function_signature_item method_definition method_declaration constructor_declaration "
        "compact_constructor_declaration method_elem macro_definition preproc_function_def "
        "abstract_method_signature method_signature annotation_type_element_declaration",
    )
)
_CLASSES = frozenset(
    re.findall(
        r"\w+",
        "class_definition class_declaration abstract_class_declaration interface_declaration "
        "enum_declaration record_declaration annotation_type_declaration class_specifier "
        "struct_specifier union_specifier enum_specifier struct_item enum_item union_item "
        "trait_item impl_item mod_item type_declaration type_alias_declaration type_item "
        "internal_module namespace_definition concept_definition",
    )
)
# What wraps a definition and belongs to it, like its decorators or `export`.
_WRAPPERS = frozenset(
    re.findall(
        r"\w+",
        "decorated_definition export_statement template_declaration ambient_declaration "
        "expression_statement declaration lexical_declaration variable_declaration "
        "linkage_specification type_definition",
    )
)
_FUNCTION_VALUES = frozenset(
    {"arrow_function", "function_expression", "generator_function", "class"}
)
_ATTACHED = frozenset({"comment", "line_comment", "block_comment", "attribute_item", "decorator"})
_BODIES = frozenset(
    re.findall(
        r"\w+",
        "block class_body interface_body enum_body declaration_list field_declaration_list "
        "annotation_type_body enum_body_declarations record_body statement_block",
    )
)
_MAX_NESTING = 8
_CLOSING = re.compile(r"\s*[})\];,][})\];,\s]*")
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


@dataclass(frozen=True)
class CodeParser:
    """Functions, methods and class headers by tree-sitter; other languages by blank lines."""

    suffixes: ClassVar[tuple[str, ...]] = (*_GRAMMARS, *_PLAIN)

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file. A syntax error is no failure.

        Raises:
            DocumentError: The bytes are no text.
        """
        text = decode(data, name=name, declared=_declared(data))
        suffix = "." + name.lower().rpartition(".")[2]
        grammar = _GRAMMARS.get(suffix)
        language = grammar.language if grammar else _PLAIN.get(suffix, "")
        blocks = (
            _parsed(text, grammar) if grammar else _by_blank_lines(text, 0, len(text), language)
        )
        return Document(
            name, text, tuple(blocks), metadata={"language": language} if language else {}
        )


class _Piece(NamedTuple):
    """A definition: bytes of the source, and how it is called. Not yet split from its members."""

    start: int
    end: int
    name: str
    level: int


def _declared(data: bytes) -> str | None:
    found = re.search(rb"coding[:=][ \t]*([-\w.]+)", b"\n".join(data[:400].split(b"\n")[:2]))
    return found[1].decode() if found else None


def _parsed(text: str, grammar: _Grammar) -> Iterator[Block]:
    from tree_sitter import Language, Parser

    pointer = getattr(importlib.import_module(grammar.module), grammar.function)()
    source = text.encode("utf-8")
    root = Parser(Language(pointer)).parse(source).root_node
    at_char = _to_chars(text)
    held: Block | None = None  # the last definition: closing brackets may follow it
    at = 0
    for piece in _definitions(root, "", 1):
        start, end = _lines(text, at_char(piece.start), at_char(piece.end))
        if start < at or end <= start:
            continue
        held, at = _closed(text, held, at, start)
        yield from filter(None, [held])
        yield from _by_blank_lines(text, at, start, grammar.language)
        held, at = Block("definition", start, end, piece.level, name=piece.name), end
    held, at = _closed(text, held, at, len(text))
    yield from filter(None, [held])
    yield from _by_blank_lines(text, at, len(text), grammar.language)


def _lines(text: str, start: int, end: int) -> tuple[int, int]:
    """The range with the indentation before it, and without blanks at its end."""
    line = text.rfind("\n", 0, start) + 1
    start = line if text[line:start].isspace() else start
    return start, start + len(text[start:end].rstrip())


def _closed(text: str, block: Block | None, at: int, stop: int) -> tuple[Block | None, int]:
    """The block, longer by the closing brackets that follow it before `stop`."""
    brackets = _CLOSING.match(text, at, stop)
    if block is None or brackets is None:
        return block, at
    end = at + len(brackets[0].rstrip())
    return dataclasses.replace(block, end=end), end


def _to_chars(text: str) -> Callable[[int], int]:
    """Turns byte offsets, asked in any order, into character offsets."""
    if text.isascii():
        return lambda offset: offset
    import numpy as np

    code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    widths = 1 + (code_points >= 0x80) + (code_points >= 0x800) + (code_points >= 0x10000)
    ends = np.concatenate([[0], np.cumsum(widths)])
    return lambda offset: int(np.searchsorted(ends, offset))


def _definitions(parent: Node, scope: str, level: int) -> Iterator[_Piece]:
    """Definitions under a node in source order; a class gives its header, then its members."""
    attached: Node | None = None  # first of the comments directly above
    last_row = -2
    for node in parent.named_children:
        is_near = node.start_point.row <= last_row + 1
        if node.type in _ATTACHED:
            starts_line = node.start_point.row > last_row
            if not (attached is not None and is_near) and starts_line:
                attached = node
        else:
            first = attached if attached is not None and is_near else node
            yield from _definition(node, first.start_byte, scope, level)
            attached = None
        last_row = node.end_point.row - (node.end_point.column == 0)


def _definition(node: Node, start: int, scope: str, level: int) -> Iterator[_Piece]:
    inner = _unwrapped(node)
    if inner is None:
        if node.type in ("preproc_ifdef", "preproc_if", "linkage_specification", "ERROR"):
            yield from _definitions(node.child_by_field_name("body") or node, scope, level)
        return
    name = _name(inner) or (_source(_named(node)) if inner is not node else "")
    full = f"{scope}.{name}" if scope and name else name or scope
    body = inner.child_by_field_name("body") if inner.type in _CLASSES else None
    members: list[_Piece] = []
    if body is not None and level < _MAX_NESTING:
        members = list(_definitions(body, full, level + 1))
    if not members:
        yield _Piece(start, node.end_byte, full, level)
        return
    # The header runs up to the first member; what stands between members stays plain code.
    yield _Piece(start, members[0].start, full, level)
    yield from members


def _unwrapped(node: Node) -> Node | None:
    """The definition that a node is or wraps, or None."""
    for _ in range(4):
        if node.type in _FUNCTIONS or (node.type in _CLASSES and _has_body(node)):
            return node
        if node.type == "variable_declarator":
            value = node.child_by_field_name("value")
            return node if value is not None and value.type in _FUNCTION_VALUES else None
        if node.type not in _WRAPPERS:
            return None
        inside = [c for c in node.named_children if c.type not in _ATTACHED]
        known = [c for c in inside if _is_definition_or_wrapper(c)]
        if not known:
            return None
        node = known[0]
    return None


def _is_definition_or_wrapper(node: Node) -> bool:
    kinds = (_FUNCTIONS, _CLASSES, _WRAPPERS)
    return node.type == "variable_declarator" or any(node.type in kind for kind in kinds)


def _has_body(node: Node) -> bool:
    """False for a mere mention, as in `struct point p;`."""
    is_mention = node.type.endswith("_specifier") and node.child_by_field_name("body") is None
    return not is_mention


def _name(node: Node) -> str:
    """The name of a definition, with the receiver's type in Go and the class in C++."""
    if node.type == "impl_item":
        return _source(node.child_by_field_name("type"))
    if node.type == "type_declaration":
        node = next((c for c in node.named_children if c.child_by_field_name("name")), node)
    name = _source(_named(node))
    receiver = node.child_by_field_name("receiver")
    if receiver is not None:
        found = re.search(r"(\w+)(?:\[[^\]]*\])?\s*\)$", _source(receiver))
        name = f"{found[1]}.{name}" if found else name
    return name.replace("::", ".")


def _named(node: Node) -> Node | None:
    name = node.child_by_field_name("name")
    while name is None:
        declarator = node.child_by_field_name("declarator")
        if declarator is None:
            return node if node.type.endswith("identifier") else None
        node = declarator
        if node.type in (
            "identifier",
            "field_identifier",
            "qualified_identifier",
            "destructor_name",
        ):
            return node
        if node.type in ("operator_name", "reference_declarator"):
            return node.named_children[-1] if node.named_children else node
    return name


def _source(node: Node | None) -> str:
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""


def _by_blank_lines(text: str, start: int, end: int, language: str) -> Iterator[Block]:
    """Blocks of code parted by blank lines; small ones are joined with what follows."""
    at = start
    for gap in [*_BLANK_LINES.finditer(text, start, end), None]:
        stop = gap.start() if gap else end
        piece = text[at:stop]
        if piece.strip():
            first = at + len(piece) - len(piece.lstrip())
            first = max(at, text.rfind("\n", at, first) + 1)
            yield Block("code", first, at + len(piece.rstrip()), name=language)
        if gap:
            at = gap.end()
