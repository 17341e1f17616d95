"""Rich Text Format: the words, paragraphs and table rows; pictures and styles are left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.types import Document

__all__ = ["RtfParser"]

_TOKEN = re.compile(
    rb"\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,10})? ?|\\'(?P<hex>[0-9a-fA-F]{2})"
    rb"|\\(?P<symbol>[^a-zA-Z])|(?P<brace>[{}])|[\r\n]+|(?P<text>[^\\{}\r\n]+)",
    re.S,
)
# Groups that hold no running text.
_SKIPPED = frozenset(
    re.findall(
        r"\w+",
        "fonttbl colortbl stylesheet info pict object header headerl headerr headerf footer "
        "footerl footerr footerf fldinst listtable listoverridetable rsidtbl generator xmlnstbl "
        "themedata colorschememapping latentstyles datastore datafield bkmkstart bkmkend filetbl "
        "revtbl "
        "ftnsep ftnsepc aftnsep aftnsepc pntext pntxta pntxtb nonshppict listtext",
    )
)
_SIGNS = {
    "tab": "\t",
    "line": "\n",
    "emdash": "—",
    "endash": "–",
    "bullet": "•",
    "emspace": " ",
    "lquote": "‘",
    "rquote": "’",
    "ldblquote": "“",
    "rdblquote": "”",
    "enspace": " ",
}
_SYMBOLS = {b"~": " ", b"_": "-", b"\\": "\\", b"{": "{", b"}": "}", b"\n": "\n", b"\r": "\n"}
_CHARSETS = {0: "cp1252", 128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5", 161: "cp1253"}
_CHARSETS |= {162: "cp1254", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251"}
_CHARSETS |= {222: "cp874", 238: "cp1250"}


@dataclass(frozen=True)
class RtfParser:
    """Paragraphs, headings by outline level, rows of tables."""

    suffixes: ClassVar[tuple[str, ...]] = (".rtf",)

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: It is no RTF, or has no text.
        """
        if not data.lstrip().startswith(b"{\\rtf"):
            raise DocumentError(name, "is not an RTF file: it does not start with `{\\rtf`.")
        builder = DocumentBuilder(name)
        _Reader(builder).read(data)
        return builder.build()


@dataclass(frozen=True)
class _State:
    """What a group inherits and may change for itself."""

    is_skipped: bool = False
    codec: str = ""  # of the current font; empty: of the document
    skip: int = 1  # bytes after a \\u character that older readers show instead


class _Reader:
    def __init__(self, builder: DocumentBuilder) -> None:
        self.builder = builder
        self.codec = "cp1252"
        self.fonts: dict[int, str] = {}
        self.state, self.stack = _State(), list[_State]()
        self.parts: list[str] = []
        self.bytes = bytearray()  # of the document's code page, not decoded yet
        self.cells: list[str] = []
        self.rows: list[list[str]] = []
        self.level = self.font = self.pending_skip = 0
        self.is_in_table = self.is_font_table = self.is_optional = False

    def read(self, data: bytes) -> None:
        """Write the whole file to the builder."""
        for token in _TOKEN.finditer(data):
            kind = token.lastgroup
            if kind == "brace":
                self._brace(token[0])
            elif kind in ("word", "number"):
                self._word(token["word"].decode(), token["number"])
            elif kind == "symbol":
                self._symbol(token["symbol"])
            elif kind == "hex":
                self._bytes(bytes((int(token["hex"], 16),)))
            elif kind == "text":
                self._bytes(token["text"])
        self._paragraph()
        self._table()

    def _brace(self, brace: bytes) -> None:
        self._decode()
        self.pending_skip = 0
        if brace == b"{":
            self.stack.append(self.state)
        elif self.stack:
            self.state = self.stack.pop()
            self.is_font_table = self.is_font_table and self.state.is_skipped

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self.is_optional = True
        elif symbol in (b"\r", b"\n"):
            self._word("par", None)
        else:
            self._text(_SYMBOLS.get(symbol, ""))

    def _word(self, word: str, argument: bytes | None) -> None:
        number = int(argument) if argument else 0
        is_optional, self.is_optional = self.is_optional, False
        if word == "fonttbl":
            self.is_font_table = True
        if word in _SKIPPED or (is_optional and word not in ("shppict", "shptxt")):
            self.state = replace(self.state, is_skipped=True)
        elif word in _SIGNS:
            self._text(_SIGNS[word])
        elif word == "u":
            self._text(chr(number % 0x10000))
            self.pending_skip = self.state.skip
        elif word == "bin":
            self.state = replace(self.state, is_skipped=True)
        else:
            self._control(word, number)

    def _control(self, word: str, number: int) -> None:
        if word == "uc":
            self.state = replace(self.state, skip=number)
        elif word == "ansicpg":
            self.codec = f"cp{number}"
        elif word == "f":
            self._decode()
            self.font = number
            self.state = replace(self.state, codec=self.fonts.get(number, ""))
        elif word == "fcharset" and self.is_font_table:
            self.fonts[self.font] = _CHARSETS.get(number, "") if number else ""
        elif word == "pard":
            self.level, self.is_in_table = 0, False
        elif word == "intbl":
            self.is_in_table = True
        elif word == "outlinelevel":
            self.level = number + 1 if 0 <= number < 9 else 0
        elif word in ("par", "sect", "page"):
            self._paragraph()
        elif word in ("cell", "nestcell"):
            self._decode()
            self.cells.append("".join(self.parts))
            self.parts.clear()
        elif word in ("row", "nestrow"):
            self.rows.append(self.cells)
            self.cells = []

    def _bytes(self, data: bytes) -> None:
        """Bytes of text; those that repeat a Unicode character are dropped."""
        dropped = min(self.pending_skip, len(data))
        self.pending_skip -= dropped
        if not self.state.is_skipped:
            self.bytes += data[dropped:]

    def _text(self, text: str) -> None:
        self._decode()
        if not self.state.is_skipped:
            self.parts.append(text)

    def _decode(self) -> None:
        if self.bytes:
            codec = self.state.codec or self.codec
            try:
                text = self.bytes.decode(codec, "replace")
            except LookupError:
                text = self.bytes.decode("cp1252", "replace")
            self.parts.append(text)
            self.bytes.clear()

    def _paragraph(self) -> None:
        self._decode()
        if self.is_in_table:
            self.parts.append("\n")  # a paragraph inside a cell
            return
        self._table()
        text = _joined("".join(self.parts)).strip()
        self.parts.clear()
        if text.startswith(("•", "·")):
            self.builder.add("list_item", text, level=1, tight=True)
        else:
            self.builder.add("heading" if self.level else "paragraph", text, level=self.level)

    def _table(self) -> None:
        self.builder.add_table([[_joined(cell) for cell in row] for row in self.rows])
        self.rows.clear()


def _joined(text: str) -> str:
    """The text with pairs of surrogates, as `\\u` writes them, made one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
