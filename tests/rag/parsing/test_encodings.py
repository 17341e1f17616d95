import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.encodings import decode

PLAIN = st.characters(codec="utf-8", exclude_categories=("Cc", "Cn"), exclude_characters="\ufeff")
SHORT = [
    ("cp932", "名前,年齢,住所\n佐藤太郎,30,東京\n"),
    ("cp932", "コード,商品名\n1,テスト"),
    ("euc_jp", "吾輩は猫である。名前はまだ無い。"),
    ("gb18030", "姓名,年龄\n张三,30\n李四,25\n"),
    ("gb18030", "北京市海淀区中关村大街"),
    ("big5", "我能吞下玻璃而不傷身體。今天天氣很好，我們去公園散步。"),
    ("cp949", "이름,나이\n김철수,30\n"),
    ("koi8-r", "Привет, мир! Как дела?"),
    ("koi8-r", "Иванов Иван Иванович"),
    ("cp1251", "Съешь же ещё этих мягких французских булок, да выпей чаю."),
    ("cp1251", "Иванов Иван Иванович"),
    ("cp866", "Съешь же ещё этих мягких французских булок, да выпей чаю."),
    ("cp1252", "Café crème, déjà vu"),
    ("cp1252", "naïve"),
    ("cp1252", "The price is £20 – “cheap”"),
    ("cp1252", "Größe: 5 µm, Straße"),
    ("cp1252", "author’s work"),
    ("cp1252", "El Niño; Ångström; São Paulo"),
    ("cp1250", "Zażółć gęślą jaźń"),
    ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy"),
    ("cp1253", "Καλημέρα κόσμε, τι κάνετε σήμερα;"),
    ("cp1254", "Şişli İstanbul'da güzel bir ilçedir, çoğu kişi burayı sever"),
    ("cp1255", "שלום עולם, מה שלומך היום"),
    ("cp1256", "مرحبا بالعالم كيف حالك اليوم"),
    ("cp874", "สวัสดีชาวโลก วันนี้อากาศดี"),
    ("utf-16-le", "hello world\n"),
    ("utf-16-be", "名前,年齢\n佐藤,30\n"),
    ("utf-16-le", "Привет, мир!\n"),
    ("utf-32-be", "hello"),
]


@pytest.mark.parametrize(("encoding", "text"), SHORT)
def test_short_text_is_told_without_a_hint(encoding, text):
    assert decode(text.encode(encoding), name="a") == text


@settings(deadline=None, max_examples=100)
@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cn"), exclude_characters="\ufeff")
    )
)
def test_utf8_is_kept_and_marks_are_dropped(text):
    assert decode(text.encode(), name="a") == text
    assert decode(codecs.BOM_UTF8 + text.encode(), name="a") == text
    assert decode(codecs.BOM_UTF16_LE + text.encode("utf-16-le"), name="a") == text
    assert decode(codecs.BOM_UTF32_BE + text.encode("utf-32-be"), name="a") == text


def test_declared_encoding_counts_unless_the_bytes_are_utf8():
    assert decode("été".encode("mac_roman"), name="a", declared="macintosh") == "été"
    assert decode("été".encode(), name="a", declared="iso-8859-1") == "été"
    assert decode(b"\x93x\x94", name="a", declared="iso-8859-1") == "“x”"


@pytest.mark.parametrize("label", ["nonsense", "hex", "utf-7", "", "unicode_escape", "\x00"])
def test_unknown_or_dangerous_label_is_no_failure(label):
    assert decode("Café au lait".encode("cp1252"), name="a", declared=label) == "Café au lait"


def test_line_ends_become_lf():
    assert decode(b"a\r\nb\rc\n\r\n", name="a") == "a\nb\nc\n\n"


def test_a_few_bad_bytes_do_not_spoil_utf8():
    data = "déjà vu, naïve, Ångström, 日本語, Größe. ".encode() * 5
    assert decode(data + b"\xff end", name="a").endswith("\ufffd end")
    assert decode("日本語".encode()[:-1], name="a") == "日本\ufffd"


@pytest.mark.parametrize("data", [bytes(range(256)), b"\0" * 50, b"ab\0cd", b"\x01\x02\x03" * 9])
def test_binary_is_refused(data):
    with pytest.raises(DocumentError, match="looks binary"):
        decode(data, name="a.txt")
