import pytest

from chunkwise.rag.parsing import parse
from tests.rag.parsing.helpers import read


def table(html: str) -> tuple[list[str], int]:
    document = parse(f"<body>{html}".encode(), name="a.html")
    (block,) = [b for b in document.blocks if b.kind == "table"]
    return [document.text[a:b] for a, b in block.rows], block.header_rows


def test_every_kind_of_block():
    html = (
        "<html><head><title>T</title></head><body><h1>One <i>two</i></h1><p>Text\n  more<br>line"
        "&nbsp;&amp;</p><ul><li>a<ul><li>b</li></ul></li><li><p>c</p><p>d</p></li></ul><ol start=3>"
        "<li>e<li>f</ol><blockquote><p>q</p></blockquote><pre><code class='language-py'>x\n  y\n"
        "</code></pre><figure><figcaption>cap</figcaption></figure><dl><dt>t<dd>d</dl>loose"
    )
    assert read(html, "a.html") == [
        ("heading", 1, "One two"),
        ("paragraph", 0, "Text more\nline &"),
        ("list_item", 1, "- a"),
        ("list_item", 2, "- b"),
        ("list_item", 1, "- c"),
        ("paragraph", 0, "d"),
        ("list_item", 1, "3. e"),
        ("list_item", 1, "4. f"),
        ("quote", 0, "q"),
        ("code", 0, "x\n  y"),
        ("caption", 0, "cap"),
        ("list_item", 1, "t"),
        ("list_item", 2, "d"),
        ("paragraph", 0, "loose"),
    ]


def test_head_is_metadata():
    html = (
        "<html lang=de><head><title> A\n title </title><meta name=description content='About it'>"
        "<meta name=Author content=Ann><meta property='article:published_time' content=2024>"
        "<body><p>x"
    )
    document = parse(html.encode(), name="a.html")
    assert document.title == "A title"
    assert document.metadata == {
        "description": "About it",
        "author": "Ann",
        "date": "2024",
        "language": "de",
    }


def test_what_is_not_shown_is_left_out():
    html = (
        "<body><nav>menu</nav><script>s</script><style>t</style><template>u</template>"
        "<p hidden>v</p><p style='color:red; display: none'>w</p><p>seen</p><footer>f</footer>"
    )
    assert [t for _, _, t in read(html, "a.html")] == ["seen"]


def test_a_page_of_nothing_but_navigation_is_kept():
    assert [t for _, _, t in read("<nav><ol><li>One</ol></nav>", "a.html")] == ["1. One"]


def test_main_is_taken_only_when_little_else_is_said():
    main = "<main><p>" + "word " * 100 + "</p></main>"
    links = "<div>" + "<a href=x>link text</a> " * 50 + "</div>"
    assert "link" not in parse(f"{links}{main}".encode(), name="a.html").text
    prose = "<div>" + "other " * 90 + "</div>"
    assert "other" in parse(f"{prose}{main}".encode(), name="a.html").text


def test_spanning_cells_are_repeated():
    rows, header = table(
        "<table><thead><tr><th rowspan=2>A<th colspan=2>B</tr><tr><th>x<th>y</tr></thead>"
        "<tr><td rowspan=2>1<td>2<td>3</tr><tr><td>4<td>5</tr></table>"
    )
    assert rows == ["A | B | B", "A | x | y", "1 | 2 | 3", "1 | 4 | 5"]
    assert header == 2


def test_a_cell_over_the_whole_row_stands_once():
    rows, header = table("<table><tr><td colspan=3>All<tr><td>1<td>2<td>3</table>")
    assert (rows, header) == (["All", "1 | 2 | 3"], 0)


def test_nested_table_is_flattened_into_its_cell():
    inner = "<table><tr><td>a<td>b</table>"
    assert table(f"<table><tr><td>1<td>2<tr><td>{inner}<td>3</table>")[0] == ["1 | 2", "a b | 3"]


def test_layout_table_is_read_as_blocks():
    html = "<table><tr><td><h2>Head</h2><p>One<p>Two</td></tr></table>"
    assert [k for k, _, _ in read(html, "a.html")] == ["heading", "paragraph", "paragraph"]


def test_powers_stay_powers_and_footnotes_words():
    assert read("<p>10<sup>6</sup> H<sub>2</sub>O word<sup>1</sup>", "a.html")[0][2] == (
        "10^6 H2O word1"
    )


@pytest.mark.parametrize("encoding", ["cp932", "cp1252", "utf-8", "utf-16"])
def test_declared_encoding(encoding):
    word = "日本" if encoding != "cp1252" else "“Ü”"
    label = {"cp932": "Shift_JIS", "cp1252": "iso-8859-1"}.get(encoding, encoding)
    html = f"<html><head><meta charset='{label}'></head><body><p>{word}</p></body></html>"
    assert parse(html.encode(encoding), name="a.html").text == word


def test_self_closed_elements_of_xhtml():
    html = (
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title/></head>"
        "<body><p><a id='x'/>One</p><p>Two</p></body></html>"
    )
    assert [t for _, _, t in read(html, "a.xhtml")] == ["One", "Two"]


def test_deep_nesting_and_many_blocks():
    assert parse(b"<div>" * 3000 + b"deep", name="a.html").text == "deep"
    assert len(parse(b"<p>x</p>" * 20_000, name="a.html").blocks) == 20_000
