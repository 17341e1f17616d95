"""Words of a PDF page with place, size and style, read from pdfium with few calls per word.

A call into pdfium costs about as much as handling a word in Python, so the text of a page
is fetched in one call and only the first and the last character of a word are measured. A
word drawn in several pieces is walked character by character.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pypdfium2.raw as pdfium

from chunkwise.rag.parsing.geometry import Style, Word, turned

_HYPHEN = "\ufffe"
_WORD = re.compile(rf"[^\s{_HYPHEN}\x00-\x1f]+{_HYPHEN}?|{_HYPHEN}")
_CLEAN = str.maketrans(
    {
        _HYPHEN: "-",
        "\ufb00": "ff",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\ufb03": "ffi",
        "\ufb04": "ffl",
        "\ufb05": "st",
        "\ufb06": "st",
        "\uf0b7": "\u2022",
        "\uf0a7": "\u2022",
        "\ufeff": None,
    }
)
_BOLD = re.compile(r"bold|black|heavy|demi|-medi(?!um)|cmbx|cmb\d|sfbx|-bd|cmssbx", re.IGNORECASE)
_ITALIC = re.compile(
    r"italic|oblique|-it\b|slanted|cmti|cmsl|sfti|regu?ital|mediital", re.IGNORECASE
)
_MONO = re.compile(r"mono|courier|consol|typewriter|cmtt|sftt|menlo|code|fixed", re.IGNORECASE)
_FIXED_PITCH, _SLANTED, _FORCE_BOLD = 1, 1 << 6, 1 << 18
_STROKED = 2
_LONGEST_WHOLE = 40
_SURROGATE = re.compile("[\ud800-\udfff]")


def words(textpage: Any) -> list[Word]:
    """The words of a page in the order in which the page draws them."""
    reader = _Reader(textpage.raw)
    text = reader.text()
    found: list[Word] = []
    previous_end = 0
    for match in _WORD.finditer(text):
        start, end = match.span()
        spaced = start > previous_end
        for first, last, x0, x1, base, face in reader.pieces(start, end):
            piece = text[first : last + 1].translate(_CLEAN)
            if piece:
                place = (x0, x1, base, face.size, face.style, face.turn)
                found.append(Word(piece, *place, len(found), spaced))
            spaced = False
        previous_end = end
    return found


def form_words(page: Any, order: int) -> list[Word]:
    """What is filled into the fields of a form, as upright words.

    Args:
        page: The page, of a document whose forms have been initialised.
        order: Drawing order of the first of them.
    """
    if page.formenv is None:
        return []
    found: list[Word] = []
    for i in range(pdfium.FPDFPage_GetAnnotCount(page.raw)):
        annotation = pdfium.FPDFPage_GetAnnot(page.raw, i)
        rect = pdfium.FS_RECTF()
        pdfium.FPDFAnnot_GetRect(annotation, rect)
        value = _field_value(page.formenv.raw, annotation)
        pdfium.FPDFPage_CloseAnnot(annotation)
        size = min(max(abs(rect.top - rect.bottom) * 0.6, 4.0), 12.0)
        left, low = min(rect.left, rect.right), -min(rect.top, rect.bottom)
        for text in value.split():
            right = left + 0.5 * size * len(text)
            place = (left, right, low - 0.3 * size, size)
            found.append(Word(text, *place, Style(), 0, order + len(found), True))
            left = right + 0.25 * size
    return found


def _field_value(form: Any, annotation: Any) -> str:
    """The value of a text, choice or list field; empty for anything else."""
    kinds = (
        pdfium.FPDF_FORMFIELD_TEXTFIELD,
        pdfium.FPDF_FORMFIELD_COMBOBOX,
        pdfium.FPDF_FORMFIELD_LISTBOX,
    )
    if pdfium.FPDFAnnot_GetFormFieldType(form, annotation) not in kinds:
        return ""
    size = pdfium.FPDFAnnot_GetFormFieldValue(form, annotation, None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    pdfium.FPDFAnnot_GetFormFieldValue(form, annotation, buffer, size)
    return bytes(buffer)[: max(size - 2, 0)].decode("utf-16-le", "replace")


class _Face(NamedTuple):
    """What all characters of one text object share."""

    size: float
    turn: int
    style: Style


class _Piece(NamedTuple):
    """Characters that stand together: first and last index, edges, baseline, face."""

    first: int
    last: int
    x0: float
    x1: float
    base: float
    face: _Face


class _Reader:
    """Measures characters of one page; what a text object or a font says is asked once."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._faces: dict[int, _Face] = {}
        self._styles: dict[int, Style] = {}
        self._rect, self._matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()
        self._x, self._y = ctypes.c_double(), ctypes.c_double()

    def text(self) -> str:
        """The page's text, one character for each character index of pdfium."""
        n = pdfium.FPDFText_CountChars(self._raw)
        if n <= 0:
            return ""
        buffer = (ctypes.c_ushort * (n + 1))()
        units = pdfium.FPDFText_GetText(self._raw, 0, n, buffer) - 1
        text = bytes(buffer)[: 2 * units].decode("utf-16-le", "surrogatepass")
        if len(text) != n or _SURROGATE.search(text):
            values = [pdfium.FPDFText_GetUnicode(self._raw, i) for i in range(n)]
            text = "".join(map(_character, values))
        return text

    def pieces(self, start: int, end: int) -> Iterator[_Piece]:
        """The parts of a run of characters that stand apart on the page, measured."""
        face, last = self._face(start), end - 1
        x0, x1 = self._edges(start, face.turn)
        base = self._base(start, face.turn)
        if self._object(start) == self._object(last) and end - start < _LONGEST_WHOLE:
            a, b = self._edges(last, face.turn)
            yield _Piece(start, last, min(x0, a), max(x1, b), base, face)
            return
        first, before = start, (x0, x1)
        for i in range(start + 1, end):
            a, b = self._edges(i, face.turn)
            gap = max(a - before[1], before[0] - b)
            low = self._base(i, face.turn)
            if gap > 0.9 * face.size or abs(low - base) > 0.7 * face.size:
                yield _Piece(first, i - 1, x0, x1, base, face)
                first, face = i, self._face(i)
                x0, x1 = self._edges(i, face.turn)
                base = self._base(i, face.turn)
            before = (a, b)
            x0, x1 = min(x0, a), max(x1, b)
        yield _Piece(first, last, x0, x1, base, face)

    def _edges(self, index: int, turn: int) -> tuple[float, float]:
        """Left and right edge of a character."""
        box = self._rect
        pdfium.FPDFText_GetLooseCharBox(self._raw, index, box)
        if turn == 0:
            return box.left, box.right
        a, b = turned(turn, box.left, box.bottom)[0], turned(turn, box.right, box.top)[0]
        return min(a, b), max(a, b)

    def _base(self, index: int, turn: int) -> float:
        """Baseline of a character."""
        pdfium.FPDFText_GetCharOrigin(self._raw, index, self._x, self._y)
        return turned(turn, self._x.value, self._y.value)[1]

    def _object(self, index: int) -> int:
        pointer = pdfium.FPDFText_GetTextObject(self._raw, index)
        return ctypes.addressof(pointer.contents) if pointer else 0

    def _face(self, index: int) -> _Face:
        pointer = pdfium.FPDFText_GetTextObject(self._raw, index)
        key = ctypes.addressof(pointer.contents) if pointer else 0
        if key not in self._faces:
            self._faces[key] = self._read_face(index, pointer)
        return self._faces[key]

    def _read_face(self, index: int, pointer: Any) -> _Face:
        matrix = self._matrix
        pdfium.FPDFText_GetMatrix(self._raw, index, matrix)
        size = pdfium.FPDFText_GetFontSize(self._raw, index) * math.hypot(matrix.c, matrix.d)
        if not 2 <= size <= 300:
            pdfium.FPDFText_GetLooseCharBox(self._raw, index, self._rect)
            size = min(max(abs(self._rect.top - self._rect.bottom), 2.0), 300.0)
        turn = round(math.atan2(matrix.b, matrix.a) / (math.pi / 2)) % 4
        return _Face(size, turn, self._style(pointer) if pointer else Style())

    def _style(self, pointer: Any) -> Style:
        font = pdfium.FPDFTextObj_GetFont(pointer)
        if not font:
            return Style()
        key = ctypes.addressof(font.contents)
        if key not in self._styles:
            self._styles[key] = _font_style(font)
        style = self._styles[key]
        stroked = pdfium.FPDFTextObj_GetTextRenderMode(pointer) == _STROKED
        return style._replace(bold=True) if stroked else style


def _font_style(font: Any) -> Style:
    buffer = ctypes.create_string_buffer(256)
    pdfium.FPDFFont_GetBaseFontName(font, buffer, 256)
    name = buffer.value.decode("utf-8", "replace").split("+")[-1]
    flags = max(pdfium.FPDFFont_GetFlags(font), 0)
    bold = bool(_BOLD.search(name) or flags & _FORCE_BOLD)
    italic = bool(_ITALIC.search(name) or flags & _SLANTED)
    return Style(bold, italic, bool(_MONO.search(name) or flags & _FIXED_PITCH))


def _character(value: int) -> str:
    """A character; what is no Unicode scalar value becomes the replacement character."""
    if 0xD800 <= value < 0xE000 or value > 0x10FFFF:
        return "\ufffd"
    return chr(value)
