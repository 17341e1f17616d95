"""Every script can be searched, and postings come off as they went on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.retrieval.bm25 import BM25Retriever
from chunkwise.store.searchable import searchable, terms
from chunkwise.types import Query
from tests.store.corpora import create, prepared

TEXTS = {
    "zh": "全国美国文学研究会的年会在北京大学举办。",
    "ja": "東京スカイツリーの高さは634メートルです。",
    "ko": "대한민국의 수도는 서울특별시입니다.",
    "th": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "hi": "हिन्दी भारत की राजभाषा है",
    "ar": "اللُّغَةُ العَرَبِيَّةُ جَمِيلَة",
    "ru": "Столица России — Москва",
    "de": "Die Straßenbahn fährt über die Brücke",
    "en": "The ferry's co\u00adoperation agreement, no. 12-B (iPhone手机)",
}
QUESTIONS = [
    ("北京", "zh"),
    ("文学研究会的年会在哪里举办", "zh"),
    ("スカイツリーの高さ", "ja"),
    ("ｽｶｲﾂﾘｰ", "ja"),
    ("東", "ja"),
    ("서울은", "ko"),
    ("서울특별시", "ko"),
    ("เมืองหลวง", "th"),
    ("ไทย", "th"),
    ("ไท", "th"),
    ("राजभाषा", "hi"),
    ("العربية", "ar"),
    ("москва", "ru"),
    ("strassenbahn BRUCKE", "de"),
    ("BRÜCKE", "de"),
    ("strassenbahn", "de"),
    ("cooperation", "en"),
    ("agreements", "en"),
    ("手机", "en"),
    ("iphone", "en"),
]


@pytest.mark.parametrize(("question", "document"), QUESTIONS)
def test_a_question_in_any_script_finds_its_text(
    tmp_path: Path, question: str, document: str
) -> None:
    with create(tmp_path, *(prepared(name, [text]) for name, text in TEXTS.items())) as store:
        found = BM25Retriever(store).search(Query(question), 3)
        assert found, terms(question)
        assert found[0].document == document


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_terms_are_words_of_the_searchable_form(text: str) -> None:
    form = searchable(text).lower()
    assert all(
        term.text and term.text in form for term in terms(text.lower()) if term.text.isascii()
    )
    assert len(set(terms(text))) == len(terms(text))


def test_plain_text_is_indexed_as_it_is() -> None:
    assert searchable("plain text") == "plain text"
    assert searchable("水道水") == " 水道 道水 水 "
