"""Which legacy encoding bytes are in, told by how much each reading looks like writing.

Statistical detectors need some hundred letters; file names, short tables and notes have ten.
So each encoding in use is tried, and its reading is scored by the characters it gives: common
ones of the languages it serves, rare ones, and ones that stand where they cannot.
charset-normalizer is asked when no reading is convincing.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

_SAMPLE_BYTES = 1 << 15
_MIN_SCORE = 0.3
_WIDE = re.compile(r"[^\x00-\x7f]")

_FULL_WIDTH = "　、。「」『』（）【】《》〈〉・：；，？！“”‘’…—～〜％＋－／０１２３４５６７８９"
_KANA = "".join(map(chr, range(0x3041, 0x3094))) + "".join(map(chr, range(0x30A1, 0x30FD)))
_CHINESE = (
    "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事"
    "其里所去行过家十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见"
    "只主没公从姓名龄男女京市区县省路号电话性别编地址价格数量日期时间产品张王李刘陈杨赵黄周吴今气很"
)
_TRADITIONAL = (
    "的一是不了人我在有他這為之大來以個中上們到說國和地也子時道出而要於就下得可你年生自會那後能對著事"
    "其裡所去行過家十用發天如然作方成者多日都三小軍二無同麼經法當起與好看學進種將還分此心前面又定見"
    "只主沒公從姓名齡男女市區縣省路號電話性別編址價格數量期間產品張王李劉陳楊趙黃周吳今氣很"
)
_KOREAN = (
    "이다는의가을에고하지로사을한은를도기스어나아리시자그서대해인정수일전부과관만보장제원와위여구성주경"
    "동중상조세계국들으있라것안신비연등습니합요게면적화생오공름김박최강윤임번호소내무할되물없울령"
)
_JAPANESE = (
    "日本人年大出会中月東京都府県市町村区名前氏齢住所電話番号男女性別佐藤鈴木高橋田山小川行見国一二三四五"
    "六七八九十上下分生学時間事者方先手目自今何私来食入店円金水火土曜品商価格数量合計文書表部員社長新"
)
# Alphabets: the most frequent letters first.
_RUSSIAN = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэПСВНКМИТДОАРБГЛЕЗУЧЯЭФШХЖЮЦЙ«»–—№фъёіїєґў“”"
_WESTERN = "éäöüñóáíàèçïãßøåêâôõîúë–’“”—…æÉÄÖÜùìûòœÁÍÓÚÑÇØÅ°€£§®©«»¿¡„‘ÀÈÊÎÔ·•²³½™ºª¼µ×±Ãðþ\xa0"
_CENTRAL = "áíéęąóěłčšřžýśćżůúńťďüöőűźňäôľĺŕţăâîşŁŚŻČŠŘŽÁÉÍÓÚŹĆŃĄĘĎŤÝÄÖÜŐŰĽß–—„”“’…§\xa0"
_TURKISH = "ışüöğçİŞÖÜÇĞâîû–—’“”…\xa0"
_GREEK = "αοιετσνηυρπκμλςγωδίάόέήύώχθφβξζψΑΟΙΕΤΣΝΗΥΡΠΚΜΛΓΩΔΧΘΦΒΈΆΌΉΞΖΨ«»–—’“”…\xa0"
_HEBREW = "יוהלאתרמשבנםדקכעחפגסצטזןךףץ–—’“”…\xa0"
_ARABIC = "اليمنوترةبعدفسهكقحجأشصىطخضغذثزءإآئظؤ،؛؟ـ–—\xa0"
_THAI = "านรกอเงมยลวดทสตะปบคหแจพชขใไโผำซถศณธภฟญึษฐ่้ีัิืุู็์"


class _Reading(NamedTuple):
    encoding: str
    kind: str  # a key of `_ODD`
    common: str
    first: int  # range of the lead bytes whose characters are in daily use
    last: int


# Order decides between readings of equal score.
_READINGS = (
    _Reading("cp1252", "latin", _WESTERN, 0xC0, 0xFF),
    _Reading("cp932", "wide", _JAPANESE + _KANA + _FULL_WIDTH, 0x88, 0x97),
    _Reading("gb18030", "wide", _CHINESE + _FULL_WIDTH, 0xB0, 0xD7),
    _Reading("cp949", "wide", _KOREAN + _FULL_WIDTH, 0xB0, 0xC8),
    _Reading("big5", "wide", _TRADITIONAL + _FULL_WIDTH, 0xA4, 0xC6),
    _Reading("euc_jp", "wide", _JAPANESE + _KANA + _FULL_WIDTH, 0xB0, 0xCF),
    _Reading("cp1251", "other", _RUSSIAN, 0xC0, 0xFF),
    _Reading("koi8-r", "other", _RUSSIAN, 0xC0, 0xFF),
    _Reading("cp866", "other", _RUSSIAN, 0x80, 0xAF),
    _Reading("cp1250", "latin", _CENTRAL, 0xC0, 0xFF),
    _Reading("cp1254", "latin", _TURKISH, 0xC0, 0xFF),
    _Reading("cp1253", "other", _GREEK, 0xC0, 0xFE),
    _Reading("cp1255", "other", _HEBREW, 0xE0, 0xFA),
    _Reading("cp1256", "other", _ARABIC, 0xC0, 0xED),
    _Reading("cp874", "other", _THAI, 0xA1, 0xFB),
)
_LETTER = r"[^\W\d_]"
_WIDE_LETTER = r"[^\W\d_\x00-\x7f]"
_SIGN_IN_WORD = rf"{_LETTER}[^\w\s\x00-\x7f’\-–—·…](?={_LETTER})"
_LETTERS = 33
_FALL = {"latin": 0.4, "other": 0.7, "wide": 0.0}
# What cannot be: a symbol inside a word, a run of accented letters, letters of two scripts
# beside each other, an ideograph inside a Latin word.
_ODD = {
    "latin": re.compile(rf"{_SIGN_IN_WORD}|{_WIDE_LETTER}{{3}}"),
    "other": re.compile(rf"{_SIGN_IN_WORD}|[A-Za-z]{_WIDE_LETTER}|{_WIDE_LETTER}[A-Za-z]"),
    "wide": re.compile(r"[A-Za-z][\u1100-\uffee](?=[a-z\s,.])|[\uff61-\uff9f]"),
}


def likely_encodings(data: bytes) -> Iterator[str]:
    """Encodings to try in turn, the most likely first; the last one decodes anything.

    Args:
        data: Text that is not UTF-8.
    """
    first = next((m.start() for m in re.finditer(rb"[\x80-\xff]", data)), 0)
    sample = data[max(0, first - 1) : first + _SAMPLE_BYTES]
    scored = [(_score(sample, reading) - 0.002 * i, -i) for i, reading in enumerate(_READINGS)]
    for score, minus_i in sorted(scored, reverse=True):
        if score >= _MIN_SCORE:
            yield _READINGS[-minus_i].encoding
    yield from _by_charset_normalizer(sample)
    yield "cp1252"
    yield "latin-1"


def _by_charset_normalizer(sample: bytes) -> Iterator[str]:
    import charset_normalizer

    best = charset_normalizer.from_bytes(sample).best()
    if best is not None:
        yield best.encoding


def _score(sample: bytes, reading: _Reading) -> float:
    """Mean weight of the non-ASCII characters, less what cannot be; at most 1."""
    try:
        text = codecs.getincrementaldecoder(reading.encoding)().decode(sample)
    except UnicodeError:
        return -1.0
    wide = _WIDE.findall(text)
    weights = _weights(reading)
    total = sum(weights.get(c, -1.0) for c in wide) - 1.5 * len(_ODD[reading.kind].findall(text))
    if reading.kind != "wide":  # a capital does not follow a small letter
        pairs = itertools.pairwise(text)
        total -= sum(a.islower() and b.isupper() and (a > "\x7f" or b > "\x7f") for a, b in pairs)
    return total / max(1, len(wide))


@functools.cache
def _weights(reading: _Reading) -> dict[str, float]:
    """Score of each character: 0.5 if in use, 1 if common, alphabets falling by rank."""
    leads = range(reading.first, reading.last + 1)
    trails = range(0x40, 0xFF) if reading.kind == "wide" else [None]
    pairs = (bytes([a] if b is None else [a, b]) for a in leads for b in trails)
    in_use = "".join(pair.decode(reading.encoding, "ignore") for pair in pairs)
    weights = dict.fromkeys(_WIDE.findall(in_use), 0.5)
    fall = _FALL[reading.kind] / _LETTERS
    weights.update((c, 1.0 - fall * min(rank, _LETTERS)) for rank, c in enumerate(reading.common))
    return weights
