"""PDF: text in reading order with headings, lists and tables, by pdfium and page geometry.

Reading order and columns are found in `layout`, running headers and footers in `furniture`,
tables in `grid`, paragraphs in `paragraphs`, headings in `outline`. No text is recognised in
pictures. Every word that the page's text layer holds is kept, in another order perhaps,
except running headers, running footers and page numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing import layout, outline, paragraphs
from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.rag.parsing.furniture import without_furniture
from chunkwise.rag.parsing.geometry import Frame, Line
from chunkwise.rag.parsing.paragraphs import Draft, Joiner, Pitch
from chunkwise.types import Box, Document

__all__ = ["PdfParser"]

_FIELDS = {
    "Author": "author",
    "Subject": "subject",
    "Keywords": "keywords",
    "CreationDate": "created",
    "ModDate": "modified",
}
_NO_TITLE = re.compile(
    r"untitled|\(?anonymous\)?|unknown|microsoft word\b.*|[\d_.-]*|.*\.\w{2,4}|(?=.*\d)\S+",
    re.IGNORECASE,
)
_NO_TITLES = ("contents", "table of contents", "abstract", "introduction", "summary")
_DATE = re.compile(r"D?:?(\d{4})(\d\d)?(\d\d)?")


@dataclass(frozen=True)
class PdfParser:
    """Parses PDF files.

    Attributes:
        password: Password of encrypted files; empty for none.
        keep_furniture: Keep running headers, running footers and page numbers.
    """

    password: str = ""
    keep_furniture: bool = False

    suffixes: ClassVar[tuple[str, ...]] = (".pdf",)

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: The file is damaged or encrypted, or no page has text.
        """
        pdf = _open(data, name, self.password)
        try:
            return self._parse(pdf, name)
        finally:
            pdf.close()

    def _parse(self, pdf: Any, name: str) -> Document:
        frames, pages = [], []
        for frame, lines in _read(pdf, name):
            frames.append(frame)
            pages.append(lines)
        empty = [i for i, lines in enumerate(pages, 1) if not lines]
        if len(empty) == len(pages):
            raise DocumentError(name, _no_text(empty))
        kept = pages if self.keep_furniture else without_furniture(pages, frames)
        builder = DocumentBuilder(name)
        builder.metadata = _metadata(pdf)
        if empty:
            builder.warnings.append(_no_text(empty))
        _build(builder, kept, frames, _bookmarks(pdf))
        builder.title = _title(pdf, builder.title)
        return builder.build()


def _open(data: bytes, name: str, password: str) -> Any:
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data, password=password or None)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            given = "the password given is wrong" if password else "it needs a password"
            remedy = "save it without encryption, or give the option `password` of the parser"
            raise DocumentError(name, f"encrypted: {given}; {remedy}.") from error
        reason = f"no PDF, or damaged or truncated ({error}); get the file again."
        raise DocumentError(name, reason) from error
    if len(pdf) == 0:
        pdf.close()
        raise DocumentError(name, "the PDF has no pages.")
    return pdf


def _read(pdf: Any, name: str) -> Iterator[tuple[Frame, list[Line]]]:
    """Frame and lines of each page; one page is open at a time."""
    import pypdfium2

    from chunkwise.rag.parsing import glyphs

    if pdf.get_formtype():
        pdf.init_forms()
    for i in range(len(pdf)):
        try:
            page = pdf[i]
        except pypdfium2.PdfiumError as error:
            raise DocumentError(name, f"page {i + 1} is damaged ({error}).") from error
        textpage = page.get_textpage()
        left, bottom, right, top = page.get_bbox()
        frame = Frame(i + 1, left, bottom, right, top, page.get_rotation() // 90)
        words = glyphs.words(textpage)
        words += glyphs.form_words(page, len(words))
        textpage.close()
        page.close()
        yield frame, layout.lines(words, i + 1)


def _no_text(pages: Sequence[int]) -> str:
    """A sentence on pages without text; neighbours become ranges."""
    ranges: list[list[int]] = []
    for page in pages:
        if ranges and ranges[-1][1] == page - 1:
            ranges[-1][1] = page
        else:
            ranges.append([page, page])
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
    noun, verb = ("page", "has") if len(pages) == 1 else ("pages", "have")
    return f"{noun} {shown} {verb} no text layer; no OCR is done. Run OCR first to read pictures."


def _build(
    builder: DocumentBuilder,
    pages: Sequence[list[Line]],
    frames: Sequence[Frame],
    bookmarks: Sequence[outline.Bookmark],
) -> None:
    pitch = Pitch(pages)
    drafts = [paragraphs.drafts(lines, pitch) for lines in pages]
    outline.set_headings([draft for page in drafts for draft in page], bookmarks)
    joiner = Joiner(line for lines in pages for line in lines)
    _mend_cut_words(drafts, joiner)
    builder.title = _heading_title(drafts, joiner)
    for frame, page in zip(frames, drafts, strict=True):
        builder.new_page()
        last = ""
        for draft in page:
            _emit(builder, draft, frame, joiner, draft.kind == last == "list_item")
            last = draft.kind


def _mend_cut_words(pages: Sequence[Sequence[Draft]], joiner: Joiner) -> None:
    """A word that a page break cuts goes to the first of the two pages, in place."""
    for page, after in pairwise(pages):
        kinds = ("paragraph", "list_item")
        last = next((d.lines[-1] for d in reversed(page) if d.kind in kinds), None)
        first = next((d.lines[0] for d in after if d.kind in kinds), None)
        if last is None or first is None or not last.hyphenated or " " not in first.text:
            continue
        end, rest = first.text.split(" ", 1)
        if end[0].islower() and first.size == last.size:
            last.text = joiner.join([last, replace(first, text=end)])
            first.text = rest


def _emit(
    builder: DocumentBuilder, draft: Draft, frame: Frame, joiner: Joiner, tight: bool
) -> None:
    boxes = _boxes(draft.lines, frame)
    if draft.grid is not None:
        grid = draft.grid
        builder.add_table(grid.rows, header_rows=grid.header_rows, page=frame.page, boxes=boxes)
        return
    text = paragraphs.code(draft.lines) if draft.kind == "code" else joiner.join(draft.lines)
    level = draft.level
    builder.add(draft.kind, text, level=level, page=frame.page, boxes=boxes, tight=tight)


def _boxes(lines: Sequence[Line], frame: Frame) -> list[Box]:
    """One box for each column that the lines stand in."""
    groups: dict[tuple[int, int], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.region, line.turn), []).append(line)
    return [
        frame.box(
            turn,
            min(line.x0 for line in group),
            min(line.top for line in group),
            max(line.x1 for line in group),
            max(line.bottom for line in group),
        )
        for (_, turn), group in groups.items()
    ]


def _bookmarks(pdf: Any) -> list[outline.Bookmark]:
    found = []
    for mark in pdf.get_toc(max_depth=8):
        target = mark.get_dest()
        index = target.get_index() if target is not None else None
        page = index + 1 if index is not None else None
        found.append(outline.Bookmark(mark.get_title(), mark.level + 1, page))
    return found


def _metadata(pdf: Any) -> dict[str, str]:
    found = {}
    for key, name in _FIELDS.items():
        value = pdf.get_metadata_value(key).strip()
        if name in ("created", "modified"):
            match = _DATE.match(value)
            value = "-".join(part for part in match.groups() if part) if match else ""
        if value:
            found[name] = value
    return found


def _title(pdf: Any, heading: str) -> str:
    """The title that the file states, unless it is a file name or a placeholder."""
    stated = " ".join(pdf.get_metadata_value("Title").split())
    return heading if _NO_TITLE.fullmatch(stated) else stated


def _heading_title(pages: Sequence[Sequence[Draft]], joiner: Joiner) -> str:
    """The largest heading of the first page with text, or the first one if several are."""
    first = next((page for page in pages if page), [])
    headings = [draft for draft in first if draft.kind == "heading"]
    titles = [(joiner.join(draft.lines), draft.lines[0].size) for draft in headings]
    titles = [(text, size) for text, size in titles if text.casefold() not in _NO_TITLES]
    largest = [text for text, size in titles if size == max(size for _, size in titles)]
    return largest[0] if len(largest) == 1 else titles[0][0] if titles else ""
