import json

import pytest

from chunkwise.errors import ConfigError, DocumentError
from chunkwise.rag.parsing import parse
from chunkwise.rag.parsing.notebook import NotebookParser
from tests.rag.parsing.helpers import outline


def notebook(*cells: dict, **rest) -> bytes:
    return json.dumps({"cells": list(cells), "nbformat": 4, "metadata": {}, **rest}).encode()


def code(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def test_cells_in_order():
    data = notebook(
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "- a\n- b"]},
        code("x = 1\n", {"output_type": "stream", "text": ["\x1b[31m1\x1b[0m\n", "2"]}),
        {"cell_type": "raw", "source": "raw"},
        code("y", {"data": {"text/html": "<b>3</b>", "text/plain": ["3"], "image/png": "AAAA"}}),
        code("z", {"output_type": "error", "traceback": ["Trace", "Error: x"]}),
        metadata={"kernelspec": {"language": "julia"}},
    )
    document = parse(data, name="a.ipynb")
    assert document.title == "Title"
    assert outline(document) == [
        ("heading", 1, "# Title"),
        ("list_item", 1, "- a"),
        ("list_item", 1, "- b"),
        ("code", 0, "x = 1"),
        ("note", 0, "1\n2"),
        ("paragraph", 0, "raw"),
        ("code", 0, "y"),
        ("note", 0, "3"),
        ("code", 0, "z"),
        ("note", 0, "Trace\nError: x"),
    ]
    assert [b.name for b in document.blocks if b.kind == "code"] == ["julia"] * 3


def test_long_output_is_cut_and_said():
    data = notebook(code("x", {"output_type": "stream", "text": "a" * 50}))
    document = NotebookParser(max_output_chars=20).parse(data, name="a")
    assert document.text == "x\n\n" + "a" * 20
    assert document.warnings == ("Cell 1: 30 characters of output were left out.",)


def test_version_3():
    cells = [{"cell_type": "heading", "level": 2, "source": "Head"}]
    cells.append({"cell_type": "code", "input": "x", "outputs": []})
    data = json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}).encode()
    assert parse(data, name="a.ipynb").text == "## Head\n\nx"


@pytest.mark.parametrize("data", [b"{}", b"[1]", b"{", b'{"cells": 3', b"[" * 100_000])
def test_what_is_no_notebook_is_refused(data):
    with pytest.raises(DocumentError, match="notebook"):
        parse(data, name="a.ipynb")


def test_negative_limit_is_refused():
    with pytest.raises(ConfigError, match="max_output_chars"):
        NotebookParser(max_output_chars=-1)
