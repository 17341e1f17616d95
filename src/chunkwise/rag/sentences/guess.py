"""Guess the language of a text from its script and its commonest words."""

from __future__ import annotations

import re

from chunkwise.rag.sentences.languages import LANGUAGES

_LETTERS = re.compile(r"[^\W\d_]+")
_SCRIPTS = (
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u3400-\u9fff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
)
_LATIN = re.compile(r"[A-Za-z]")


def _languages_of_words() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for code, language in LANGUAGES.items():
        for word in language.frequent:
            found.setdefault(word, []).append(code)
    return {word: tuple(codes) for word, codes in found.items()}


_OF_WORD = _languages_of_words()


def guess_language(sample: str, default: str = "") -> str:
    """ISO 639-1 code of the likeliest language.

    Args:
        sample: Some hundreds of characters are enough; all are read.
        default: What to return when neither script nor words tell: usually what the text
            before the sample was.

    Returns:
        A code of `LANGUAGES`, or `th`, `ja`, `ko`, `zh` by script; `en` for Latin script of
        unknown words; empty when there are no letters.
    """
    by_script = _by_script(sample)
    if by_script:
        return by_script
    words = _LETTERS.findall(sample.lower())
    votes: dict[str, float] = {}
    for word in words:
        codes = _OF_WORD.get(word, ())
        for code in codes:
            votes[code] = votes.get(code, 0.0) + 1 / len(codes)
    if votes and max(votes.values()) >= 1:
        return max(votes, key=votes.__getitem__)
    return default or ("en" if _LATIN.search(sample) else "")


def _by_script(sample: str) -> str:
    """Code of a script that one language (of ours) uses and that fills a third of the sample."""
    letters = len(_LATIN.findall(sample)) // 3  # an ideograph carries about three Latin letters
    for code, script in _SCRIPTS:
        if len(script.findall(sample)) > max(letters, len(sample) // 20):
            return code
    return ""
