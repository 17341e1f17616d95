"""Terms, numbers and names of a text, for comparing a question or a statement with a source.

Language-light: words are case-folded, and common endings of European languages are cut; runs of
scripts without spaces become pairs of characters.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

_MARKS = r"\u0300-\u036f\u064b-\u065f\u0900-\u0dff"
_NO_SPACES = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_NUMBER = r"\d+(?:[.,]\d+)*"
_TOKEN = re.compile(rf"{_NUMBER}|(?:[^\W\d_]|[{_MARKS}])+(?:['’][^\W\d_]+)?")
_PAIRED = re.compile(rf"[{_NO_SPACES}]")
_THOUSANDS = re.compile(r"[.,](?=\d{3}(?:\D|$))")
_NAME = re.compile(r"(?<![\w'’])[A-ZÀ-ÖØ-ÞΑ-ΩА-Я][\w'’\-]*")
_MAX_CAPITALS = 0.25
_ENDING = re.compile(
    r"(?<=.{4})(?:ational|ingly|ation|ions|ness|ment|edly|ings|ies|ion|ers|est|es|er|ly|en|e)$"
    r"|(?<=.{3})(?:ing|ed|s)$"
)
_POSSESSIVE = re.compile(r"(?<=..)['’].*$")
_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_NUMBER_WORDS = {word: str(value) for value, word in enumerate(_COUNTING.split())}
_STOP_WORDS = (
    # English
    "a an the of in on at to for from by with as and or but if then than that this these those it "
    "its is are was were be been being am do does did done has have had having can could will "
    "would shall should may might must not no so such there here what which who whom whose when "
    "where why how much many i you he she we they me him her us them my your his our their about "
    "into over under any some all also more most other only per s t "
    # German, French, Spanish, Italian, Portuguese, Dutch: articles, prepositions, question words
    "der die das den dem des ein eine einer eines einem einen und oder von zu im am ist sind war "
    "waren wer was wann wo wie viele wird wurde hat haben nicht mit für auf aus bei nach welche "
    "welcher welches le la les un une des du de et ou à au aux en est sont était qui que quoi quel "
    "quelle quels quelles quand où comment combien pour par sur dans el los las una y del al es "
    "son fue quién qué cuál cuándo dónde cómo cuánto cuántos por para con il lo gli i di da e è "
    "sono era chi che quale quando dove come quanto quanti per o os as um uma do dos das no na é "
    "são foi quem qual onde quanto het een van te op is zijn wie wat waar hoe"
)


def terms(text: str) -> list[str]:
    """Comparable terms of a text in order: word stems, numbers, pairs of characters."""
    found: list[str] = []
    for token in _TOKEN.findall(unicodedata.normalize("NFKC", text)):
        if token[0].isdigit():
            found.append(normal_number(token))
        elif _PAIRED.search(token):
            found.extend(_pairs(token))
        else:
            found.append(_stem(token.casefold()))
    return found


def content_terms(text: str) -> list[str]:
    """`terms` without stop words; with them where nothing else is left."""
    kept = [term for term in terms(text) if term not in _STOP_STEMS]
    return kept or terms(text)


def numbers(text: str) -> set[str]:
    """Numbers of a text, written one way: `1,000` is `1000`, `12.50` is `12.5`."""
    plain = unicodedata.normalize("NFKC", text)
    return {normal_number(number) for number in re.findall(_NUMBER, plain)}


def number_words(text: str) -> set[str]:
    """Numbers that a text writes as English words up to twenty, as digits."""
    words = re.findall(r"[a-z]+", text.casefold())
    return {_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS}


def normal_number(number: str) -> str:
    """A number without thousands separators and trailing decimal zeros."""
    plain = _THOUSANDS.sub("", number).replace(",", ".")
    plain = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in plain)
    return plain.rstrip("0").rstrip(".") if plain.count(".") == 1 else plain


def names(text: str) -> set[str]:
    """Stems of words with a capital that do not open the text: names, in most languages."""
    plain = unicodedata.normalize("NFKC", text).strip()
    found = (match for match in _NAME.finditer(plain) if match.start() > 0)
    stems = {term for match in found for term in terms(match.group())}
    return stems - _STOP_STEMS


def capitals_mean_names(text: str) -> bool:
    """Whether few words of a text have a capital; not so in German, or in a line of titles."""
    words = re.findall(r"[^\W\d_]+", text)
    num_capitals = sum(1 for word in words if word[0].isupper())
    return num_capitals <= _MAX_CAPITALS * len(words)


def inverse_frequency(units: Iterable[Collection[str]]) -> Mapping[str, float]:
    """Weight of each term by how few of `units` hold it; ask `weight` for unseen ones."""
    sets = [set(unit) for unit in units]
    counts = Counter(term for unit in sets for term in unit)
    weights = {term: _weight(len(sets), count) for term, count in counts.items()}
    return _Weights(weights, _weight(len(sets), 0))


def coverage(wanted: Sequence[str], given: Collection[str], weights: Mapping[str, float]) -> float:
    """Share of the weight of `wanted` that `given` holds, in [0, 1]."""
    total = sum(weights[term] for term in wanted)
    return sum(weights[term] for term in wanted if term in given) / total if total else 0.0


class _Weights(dict[str, float]):
    """Weights with one value for all terms that no unit holds."""

    def __init__(self, weights: Mapping[str, float], unseen: float) -> None:
        super().__init__(weights)
        self._unseen = unseen

    def __missing__(self, term: str) -> float:
        return self._unseen


def _weight(total: int, count: int) -> float:
    return math.log1p((total - count + 0.5) / (count + 0.5))


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


@functools.lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    """A case-folded word without a common ending; at least three characters stay."""
    return _ENDING.sub("", _POSSESSIVE.sub("", word))


_STOP_STEMS = frozenset(_STOP_WORDS.split()) | {_stem(word) for word in _STOP_WORDS.split()}
