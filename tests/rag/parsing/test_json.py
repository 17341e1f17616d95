import json

import pytest

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing import parse
from tests.rag.parsing.helpers import outline, read


def test_objects_are_lines_with_paths():
    value = {"name": "x", "size": {"w": 1.50, "tags": ["a", "b"]}, "ok": True, "no": None, "e": []}
    assert read(json.dumps(value), "a.json") == [
        ("paragraph", 0, "name: x"),
        ("paragraph", 0, "size.w: 1.5\nsize.tags: a, b\nok: true\nno: null\ne:"),
    ]


def test_numbers_stay_as_written():
    assert "1.50e3" in parse(b'{"a": 1.50e3}', name="a.json").text
    digits = "9" * 6000
    assert digits in parse(b'{"a": %s}' % digits.encode(), name="a.json").text


def test_like_objects_are_a_table():
    document = parse(b'{"people": [{"n": "Ann", "a": 1}, {"a": 2, "n": "Bob"}]}', name="a.json")
    assert outline(document) == [
        ("caption", 0, "people"),
        ("table", 0, "n | a\nAnn | 1\nBob | 2"),
    ]
    assert document.blocks[1].header_rows == 1


def test_unlike_objects_are_paragraphs():
    assert [t for _, _, t in read('[{"a": 1}, {"b": {"c": 2}}]', "a.json")] == ["a: 1", "b.c: 2"]


def test_lines_are_one_paragraph_each_and_broken_ones_are_named():
    text = '{"a": 1, "b": {"c": [1, 2]}}\n\n{broken\n{"a": 2}\n'
    document = parse(text.encode(), name="a.jsonl")
    assert [t for _, _, t in outline(document)] == ["a: 1\nb.c: 1, 2", "a: 2"]
    assert document.warnings[0].startswith("Line 3 is not valid JSON")


def test_lines_under_the_name_json():
    assert parse(b'{"a": 1}\n{"a": 2}\n', name="a.json").text == "a: 1\n\na: 2"


@pytest.mark.parametrize("text", ["{", "[1,", "{'a': 1}", "nonsense"])
def test_broken_json_says_where(text):
    with pytest.raises(DocumentError, match=r"not valid JSON.*line 1"):
        parse(text.encode(), name="a.json")


@pytest.mark.parametrize("depth", [900, 3000, 200_000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_read_or_refused_in_words(depth, pair):
    text = pair[0] * depth + "1" + pair[1] * depth
    try:
        document = parse(text.encode(), name="a.json")
    except DocumentError as error:
        if "nested too deep" not in error.reason:
            raise
    else:
        assert "1" in document.text
