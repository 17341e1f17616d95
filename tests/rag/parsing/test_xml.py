import pytest

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing import parse
from tests.rag.parsing.helpers import outline, read

JATS = """<?xml version="1.0"?><!DOCTYPE article SYSTEM "x.dtd"><article><front><article-meta>
<article-id pub-id-type="doi">10.1/x</article-id><title-group><article-title>On <i>mice</i>
</article-title></title-group><contrib-group><contrib contrib-type="author"><name><surname>Doe
</surname><given-names>Ann</given-names></name></contrib></contrib-group><abstract><p>Short.</p>
</abstract></article-meta></front><body><sec><title>Intro</title><p>Text 10<sup>6</sup>&nbsp;x.</p>
<sec><title>Sub</title><list><list-item><p>one</p></list-item></list></sec><table-wrap><label>T 1
</label><caption><p>Cap.</p></caption><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody>
<tr><td>1</td><td>2</td></tr></tbody></table></table-wrap></sec></body><back><ref-list><ref>
<element-citation><person-group><name><surname>Roe</surname><given-names>B</given-names></name>
</person-group><year>2001</year><article-title>Title</article-title><source>Journal</source>
</element-citation></ref></ref-list></back></article>"""


def test_journal_article():
    document = parse(JATS.encode(), name="a.nxml")
    assert outline(document) == [
        ("heading", 1, "On mice"),
        ("paragraph", 0, "Ann Doe"),
        ("heading", 2, "Abstract"),
        ("paragraph", 0, "Short."),
        ("heading", 2, "Intro"),
        ("paragraph", 0, "Text 10^6 x."),
        ("heading", 3, "Sub"),
        ("list_item", 1, "- one"),
        ("caption", 0, "T 1 Cap."),
        ("table", 0, "a | b\n1 | 2"),
        ("heading", 2, "References"),
        ("list_item", 1, "Roe B. Title. Journal (2001)"),
    ]
    assert document.title == "On mice"
    assert document.metadata == {"author": "Ann Doe", "doi": "10.1/x"}


def test_feeds():
    rss = (
        "<rss><channel><title>News</title><item><title>One</title><pubDate>today</pubDate>"
        "<description>&lt;p&gt;A &lt;b&gt;b&lt;/b&gt;&lt;/p&gt;</description></item></channel>"
        "</rss>"
    )
    atom = (
        "<feed xmlns='http://www.w3.org/2005/Atom'><title>News</title><entry><title>One</title>"
        "<updated>today</updated><content type='html'>&lt;p&gt;A b&lt;/p&gt;</content></entry>"
        "</feed>"
    )
    expected = [
        ("heading", 1, "News"),
        ("heading", 2, "One"),
        ("paragraph", 0, "today"),
        ("paragraph", 0, "A b"),
    ]
    assert read(rss, "a.xml") == expected
    assert read(atom, "a.rss") == expected


def test_any_other_xml():
    text = "<a><b id='1'><c>x</c><d>y</d></b><p>some <i>mixed</i> text</p><e k='v'/></a>"
    assert read(text, "a.xml") == [
        ("paragraph", 0, "id=1\nc: x\nd: y"),
        ("paragraph", 0, "some mixed text"),
        ("paragraph", 0, "e: k=v"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp932", "iso-8859-5"])
def test_declared_encoding(encoding):
    word = {"cp932": "日本", "iso-8859-5": "Привет"}.get(encoding, "é日")
    label = {"cp932": "Shift_JIS"}.get(encoding, encoding)
    data = f"<?xml version='1.0' encoding='{label}'?>\n<a>{word}</a>".encode(encoding)
    assert parse(data, name="a.xml").text == f"a: {word}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<a><b></a>", "not well-formed"),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "entities"),
        ("<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/hosts'>]><a>&x;</a>", "entities"),
        ("<a>" * 5000 + "</a>" * 5000, "nested"),
    ],
)
def test_bad_or_dangerous_xml_is_refused_in_words(text, says):
    with pytest.raises(DocumentError, match=says):
        parse(text.encode(), name="a.xml")
