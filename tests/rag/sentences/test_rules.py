"""The rules: what they promise, case by case and for any text."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.rag.sentences.guess import guess_language
from chunkwise.rag.sentences.rules import RuleSegmenter

SEGMENTER = RuleSegmenter()

MIXED = (
    "Dr. Smith paid $3.50 to J. R. Jones, Inc. in the U.S. on Jan. 5. He left! Why? See p. 3 "
    '(cf. Fig. 2). "Stop." She went on... and on.\n\n1. First item\n2. Second item; it is long\n\n'
    "Die Sitzung am 3. Oktober war kurz. Danach z. B. ging man heim.\nこれは文です。次の文です。"
    "「はい。」と言った。\nВ 1999 г. А. С. Пушкин, т. е. поэт. Новое предложение.\r\n\r\nThe end"
)


def sentences(text: str, language: str | None = None) -> list[str]:
    return [text[start:end] for start, end in SEGMENTER.split(text, language)]


# `|` marks the boundaries that must be found.
CASES = {
    "en": [
        "Mr. Smith met Dr. Jones at 5 p.m. on Monday.| He was late.",
        "It cost 3.5 million in the U.S. alone.| He lives in the U.S.| The weather is fine.",
        "J. R. R. Tolkien wrote it.| It sold well.",
        "See Fig. 3 and pp. 12-14, e.g. the table, i.e. the last one.| Then stop.",
        "Acme Inc. sued Beta Corp. yesterday.| It lost.",
        'He said "No." Then he left.'.replace(" Then", "| Then"),
        '"What?" he asked.| "Nothing," she said.',
        "(He left.)| She stayed.",
        "Visit https://example.com/a.b?c=D.html or write to a.b@c.org.| Open report.v2.pdf now.",
        "Wait... what?| Yes!| Really?!| Sure.",
        "This was shown before.[1][2]| Others disagree.",
        "Version 2.0.1 is out.| Upgrade to 3.11 now.",
        "1. The first item of a list.| 2. The second item of a list.",
        "I saw him and I. Then".replace("I. Then", "I.| Then"),
        "No. 5 is alive.| Is it? No.| The answer is no.| John agrees.".replace("it? No", "it?| No"),
        "The meeting is at 10 a.m. Monday.| Bring Ph.D. students.",
        "She asked him to come. he did not answer.".replace("come. ", "come.| "),
        "The list [...] goes on.| It ends.",
        "Table 1. Results of the study.| Figure 2.3. More of them.| They sat at table 3.| Good.",
    ],
    "de": [
        "Am 3. Oktober 1990 kam Dr. Kohl, d. h. der Kanzler.| Er sprach z. B. über Geld.",
        "Er wurde 3. Sieger.| Das war gut.".replace("3. Sieger", "3. im Rennen"),
        "Es geschah im Jahr 1990.| Danach war Ruhe.",
        "„Komm her.“| Er kam nicht.| Das kostet ca. 5 Mio. Euro usw. im Jahr.",
    ],
    "fr": [
        "M. Dupont est venu.| Il a dit : « Bonjour. »| Puis il est parti.",
        "Voir l'art. 3 du code, p. 12.| Fin.",
    ],
    "es": ["El Sr. López llegó.| ¿Qué hora es?| ¡Vamos!| Vive en EE.UU. desde 1990.| Fin."],
    "it": ["Il sig. Rossi è qui.| L'art. 5 della legge n. 3 vale.| Ecco."],
    "pt": ["O Sr. Silva chegou.| A Dra. Ana, pág. 3, disse não.| Fim."],
    "nl": ["Dhr. Jansen kwam o.a. om 5 uur.| Daarna ging hij, d.w.z. niet alleen.| Klaar."],
    "ru": ["А. С. Пушкин родился в 1799 г. в Москве, т. е. в России.| Он писал стихи.| Да!"],
    "tr": ["Dr. Yılmaz 3. katta oturuyor.| Bugün 5. Mayıs günü geldi.| Evet."],
    "fi": ["Se oli 3. lokakuuta esim. Oulussa.| Hän tuli klo. 5 jne.| Niin."],
    "pl": ["Prof. Nowak mieszka przy ul. Długiej, np. nr 5.| To jest np. dom.| Tak."],
    "ar": ["ذهب الولد إلى البيت.| هل عاد؟| نعم! قال د. أحمد ذلك.".replace("نعم! ", "نعم!| ")],
    "he": ["הוא הלך הביתה.| האם חזר?| כן."],
    "hi": ["वह घर गया।| क्या वह लौटा?| डॉ. शर्मा आए।| हाँ।"],
    "zh": ["他走了。|你好吗？|“很好！”|她说完了。".replace("”|她", "”|她"), "圆周率是3.14。|对。"],
    "ja": ["私は行く。|「はい。」と言った。|本当？|はい！"],
    "ko": ["나는 간다.| 3.5점을 받았다.| 왜?| 몰라!"],
    "th": ["เขาไปตลาดเพื่อซื้อของหลายอย่างให้แม่แล้วกลับบ้าน| แต่ฝนตกหนักมาก"],
    "my": ["သူသွားသည်။| ပြန်လာသည်။"],
    "ur": ["وہ گیا۔| کیا وہ آیا؟| ہاں۔"],
}


@pytest.mark.parametrize(
    ("language", "marked"), [(code, case) for code, cases in CASES.items() for case in cases]
)
def test_ends_sentences_where_a_reader_would(language: str, marked: str) -> None:
    expected = [part.strip() for part in marked.split("|")]
    assert sentences(marked.replace("|", ""), language) == expected


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "it", "pt", "nl", "ru", "fi", "th"])
def test_guesses_the_language(language: str) -> None:
    text = " ".join(CASES[language]).replace("|", "") * 3
    assert guess_language(text) == language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A heading\n\nA sentence. Another.", ["A heading", "A sentence.", "Another."]),
        ("Buy:\n- milk\n- bread\n* eggs", ["Buy:", "- milk", "- bread", "* eggs"]),
        ("1. One\n2. Two\n(a) Three", ["1. One", "2. Two", "(a) Three"]),
        ("# Title\nText here.", ["# Title", "Text here."]),
        (
            "This is a line that was wrapped by an editor at some seventy\n"
            "characters a line, Mr.\nSmith said.\nNext one.",
            [
                "This is a line that was wrapped by an editor at some seventy\n"
                "characters a line, Mr.\nSmith said.",
                "Next one.",
            ],
        ),
        (
            "The Federal Deposit Insurance Corporation and the Board of the\r\n"
            "Reserve met.\r\n\r\nThen they\r\nleft.",
            [
                "The Federal Deposit Insurance Corporation and the Board of the\r\nReserve met.",
                "Then they\r\nleft.",
            ],
        ),
        ("Introduction\nChapter One\nThe text.", ["Introduction", "Chapter One", "The text."]),
        ("| a | b |\n| c | d |", ["| a | b |", "| c | d |"]),
        ("Introduction .......... 12\nSummary .............. 30", None),
    ],
)
def test_line_breaks(text: str, expected: list[str] | None) -> None:
    assert sentences(text, "en") == (expected or text.split("\n"))


def check_lossless(text: str) -> None:
    spans = SEGMENTER.split(text)
    covered = "".join(text[start:end] for start, end in spans)
    assert "".join(covered.split()) == "".join(text.split())
    previous = 0
    for start, end in spans:
        assert previous <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        previous = end


TEXTS = st.text(
    st.sampled_from("aB1 .!?…。」”\"'()[]\n\r\t-•।กข ,:A\u00a0\u200b\U0001f600e\u0301"), max_size=80
)


@settings(deadline=None, max_examples=300)
@given(TEXTS | st.text(max_size=60))
def test_loses_nothing(text: str) -> None:
    check_lossless(text)


def streamed(text: str, segmenter: RuleSegmenter, sizes: random.Random) -> list[str]:
    pieces, at = [], 0
    while at < len(text):
        size = sizes.choice((1, 7, 900, 40_000, 100_000))
        pieces.append(text[at : at + size])
        at += size
    found = list(segmenter.stream(pieces))
    assert [span for span, _ in found] == segmenter.split(text)
    return [piece for _, piece in found]


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_gives_the_sentences_of_the_whole(seed: int) -> None:
    chance = random.Random(seed)
    words = [
        *MIXED.split(" "),
        "\n",
        "....",
        "\n\n",
        " " * 300,
        "สวัสดีครับ วันนี้",
        "Ende. Nun",
        "!" * 70,
    ]
    text = " ".join(chance.choice(words) for _ in range(60_000))
    found = streamed(text, SEGMENTER, chance)
    assert found == sentences(text)


def test_a_long_run_is_cut_alike_in_a_stream_and_in_the_whole() -> None:
    segmenter = RuleSegmenter(max_chars=300)
    text = "word " * 50_000 + "x" * 200_000 + ". End" + "no. 5 Mr. " * 20_000 + "ครับ " * 20_000
    found = streamed(text, segmenter, random.Random(0))
    assert max(map(len, found)) <= 300
    assert "".join(found).replace(" ", "") == text.replace(" ", "")


def test_the_language_is_guessed_anew_as_the_text_goes_on() -> None:
    german = "Die Sitzung ist am 3. Oktober und nicht am 4. Mai in der Stadt. "
    english = "The meeting was held in the hall, and all of them were there. "
    text = english * 1200 + german * 1200
    assert sentences(text)[-1] == german.strip()


def test_time_is_linear_in_one_long_line() -> None:
    def seconds(text: str) -> float:
        began = time.perf_counter()
        SEGMENTER.split(text)
        return time.perf_counter() - began

    for unit in ("a", "e.g. ", '?"', ".", "word ", "ก ", "Mr. X "):
        small, large = unit * (50_000 // len(unit)), unit * (400_000 // len(unit))
        seconds(small)
        assert seconds(large) < 60 * max(seconds(small), 0.002), unit


def test_rejects_a_bound_that_is_too_small() -> None:
    with pytest.raises(ConfigError, match="256"):
        RuleSegmenter(max_chars=10)
