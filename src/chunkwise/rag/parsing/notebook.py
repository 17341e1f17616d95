"""Jupyter notebooks: Markdown cells as structure, code cells as code, text outputs as notes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chunkwise.errors import ConfigError, DocumentError
from chunkwise.rag.parsing.base import DocumentBuilder, parsers
from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import Document

__all__ = ["NotebookParser"]

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_IMPOSSIBLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class NotebookParser:
    """Cells in order.

    Attributes:
        max_output_chars: Longest text kept of one output; a cut is named in a warning.
    """

    max_output_chars: int = 20_000
    suffixes: ClassVar[tuple[str, ...]] = (".ipynb",)

    def __post_init__(self) -> None:
        if self.max_output_chars < 0:
            raise ConfigError(
                f"`max_output_chars` must be at least 0, got {self.max_output_chars!r}."
            )

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: It is no notebook.
        """
        notebook = _load(data, name)
        builder = DocumentBuilder(name)
        language = _language(notebook)
        for number, cell in enumerate(_cells(notebook), 1):
            self._add_cell(builder, cell, language, number)
        builder.title = str(_mapping(notebook.get("metadata")).get("title", "")) or builder.title
        return builder.build()

    def _add_cell(
        self, builder: DocumentBuilder, cell: Mapping[str, Any], language: str, number: int
    ) -> None:
        source = _text(cell.get("source", cell.get("input", "")))
        kind = cell.get("cell_type")
        if kind in ("markdown", "heading"):
            marks = "#" * int(cell.get("level", 1)) + " " if kind == "heading" else ""
            self._add_markdown(builder, marks + source)
        else:
            is_code = kind == "code"
            builder.add(
                "code" if is_code else "paragraph", source, name=language if is_code else ""
            )
        for output in cell.get("outputs", ()):
            text = "".join(_output(_mapping(output)))
            if len(text) > self.max_output_chars:
                cut = len(text) - self.max_output_chars
                builder.warnings.append(f"Cell {number}: {cut} characters of output were left out.")
            builder.add("note", text[: self.max_output_chars])

    def _add_markdown(self, builder: DocumentBuilder, source: str) -> None:
        if source.strip():
            data = _IMPOSSIBLE.sub("\ufffd", source).encode()
            document = parsers.load("markdown")().parse(data, name=builder.name)
            builder.add_document(document)
            builder.title = builder.title or document.title


def _load(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        notebook = json.loads(decode(data, name=name))
    except json.JSONDecodeError as exc:
        raise DocumentError(name, f"is not a notebook, its JSON is damaged: {exc}.") from exc
    except RecursionError as exc:
        raise DocumentError(name, "is nested too deep to be a notebook.") from exc
    if not isinstance(notebook, dict) or not ({"cells", "worksheets"} & notebook.keys()):
        raise DocumentError(name, "is JSON, but not a notebook: it has no `cells`.")
    return notebook


def _cells(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    sheets = notebook.get("worksheets") or [notebook]  # before version 4, cells were in sheets
    for sheet in sheets:
        yield from map(_mapping, _mapping(sheet).get("cells", ()))


def _language(notebook: Mapping[str, Any]) -> str:
    metadata = _mapping(notebook.get("metadata"))
    info, kernel = _mapping(metadata.get("language_info")), _mapping(metadata.get("kernelspec"))
    return str(info.get("name") or kernel.get("language") or "python")


def _output(output: Mapping[str, Any]) -> Iterator[str]:
    """The text of one output; pictures and widgets have none."""
    data = _mapping(output.get("data"))
    if output.get("output_type") in ("error", "pyerr"):
        yield _ANSI.sub("", "\n".join(map(_text, output.get("traceback", ()))))
    elif data:
        best = next(
            (data[t] for t in ("text/markdown", "text/plain", "text/latex") if t in data), ""
        )
        yield _text(best)
    else:
        yield _ANSI.sub("", _text(output.get("text", "")))


def _text(source: Any) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
