"""The form in which text is indexed for word search.

The index splits text at everything that is no letter, digit or mark. That fails for scripts that
put no blanks between words, so their runs are written out as overlapping pieces: two characters
for Han, kana and Hangul, three for Thai, Lao, Khmer and Burmese. The last pieces of a run are
shorter, so that each character starts a piece and a question shorter than a piece can be looked
up as a beginning.

Postings are removed by giving the index the very form they were made from. So this form must
never change without a new `FORM`, at which the store builds the index again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from chunkwise.store.values import Term

FORM = f"1 unicode {unicodedata.unidata_version}"
"""Changes whenever the form of any text may change."""

TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"

_PAIRS = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_TRIPLES = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e80-\u0edf"
    "\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17e0-\u17e9"
)
_RUN = re.compile(f"[{_PAIRS}]+|[{_TRIPLES}]+")
# Invisible joiners, soft hyphens, and the vowel points of Hebrew and Arabic, which most text lacks.
_DROPPED = re.compile(
    "[\u00ad\u200c-\u200f\u2060\ufe00-\ufe0f\ufeff\u0591-\u05bd\u05bf\u05c1\u05c2\u0610-\u061a"
    "\u0640\u064b-\u065f\u0670]+"
)
_MARKS = "\u0300-\u036f\u0900-\u0963\u0966-\u0dff\u0f00-\u0f0a\u0f71-\u0fbc"
_WORD = re.compile(f"[{_PAIRS}]+|[{_TRIPLES}]+|(?:(?![{_PAIRS}{_TRIPLES}])[^\\W_]|[{_MARKS}])+")


def searchable(text: str) -> str:
    """The form of a text that is indexed."""
    if text.isascii():
        return text
    return _RUN.sub(_written_out, _normalised(text))


def terms(text: str) -> list[Term]:
    """What a question looks up in the index, each once, in its order."""
    found: dict[Term, None] = {}
    for match in _WORD.finditer(_normalised(text)):
        found.update(dict.fromkeys(_terms_of(match.group())))
    return list(found)


def _terms_of(word: str) -> Iterator[Term]:
    if _RUN.fullmatch(word) is None:
        yield Term(word.lower())
        return
    size = _piece_size(word)
    if len(word) < size:
        yield Term(word, is_prefix=True)
    for start in range(len(word) - size + 1):
        yield Term(word[start : start + size])


def _normalised(text: str) -> str:
    return _DROPPED.sub("", unicodedata.normalize("NFKC", text)).replace("ß", "ss")


def _written_out(match: re.Match[str]) -> str:
    run = match.group()
    size = _piece_size(run)
    return f" {' '.join(run[start : start + size] for start in range(len(run)))} "


def _piece_size(run: str) -> int:
    return 3 if "\u0e00" <= run[0] < "\u2000" else 2
