"""Questions that an English sentence answers, made by rules: definitions, dates, amounts, names.

A sentence that leans on the one before it ("It was built ...") gives none: its question could be
about anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from chunkwise.evaluation._clauses import Clause, clause_of

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
)
_YEAR = r"(?:1\d|20)\d\d(?![\d%]|[.,]\d)"
_DATE = (
    rf"(?:(?:the )?(?:early |late |mid-)?{_YEAR}s?|{_MONTH}(?: \d{{1,2}})?(?:,? {_YEAR})?"
    rf"|\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}(?:,? {_YEAR})?|\d{{1,2}}:\d\d|noon|midnight)"
)
_WHEN = re.compile(rf"(?:^| )(?:in|on|since|by|until|at|during) ({_DATE})(?!\w| and\b| or\b)")
_OPENING = re.compile(rf"(?:In|On|Since|By|During) ({_DATE}), (\w.*)")
_DIGITS = r"\d+(?:[.,]\d+)*(?: (?:hundred|thousand|million|billion|trillion))?"
_WORDS = (
    r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty"
    r"|fifty|sixty|a hundred|a thousand)"
)
_ABOUT = (
    r"(?:(?:at least|at most|up to|about|around|nearly|almost|more than|less than|fewer than|over"
    r"|under|only|approximately|roughly) )?"
)
_ALONE = (  # no word of the phrase follows, nor another of its kind
    r"(?=\s*(?:[,;:.()]|\Z)| (?:in|on|at|by|for|from|with|to|of|as|per|each|a|an|the|during|after"
    r"|before|since|until|under|over|through|against|between|among)\b)"
)
_MONEY = re.compile(
    rf"{_ABOUT}((?:US)?[$€£¥] ?{_DIGITS}|(?:EUR|USD|GBP|SEK|CHF) {_DIGITS}"
    rf"|{_DIGITS} (?:euros?|dollars?|pounds|kronor|francs|cents|yen)){_ALONE}"
)
_PERCENT = re.compile(rf"{_ABOUT}({_DIGITS} ?(?:%|percent|per cent)){_ALONE}")
_COUNT = re.compile(
    rf"{_ABOUT}((?:{_DIGITS}|{_WORDS}) ((?:[a-z]+ ){{0,1}}(?:[a-z]{{2,}}[^s\W\d_]s|people|children"
    r"|men|women|km|kg|m|feet)))(?!\w)"
)
_NAME = r"[A-ZÀ-ÖØ-Þ][\w.'’-]*"
_NAMES = rf"{_NAME}(?: (?:(?:of|the|and|van|von|de) )?{_NAME}){{0,4}}"
_BY = re.compile(rf" by ((?:the )?{_NAMES}){_ALONE}")
_NO_PLACE = rf"(?!{_MONTH}|Figure|Fig|Table|Section)"
_WHERE = re.compile(rf"(?:^| )(?:in|at|near|on) ((?:the )?{_NO_PLACE}{_NAMES}){_ALONE}")
_SUBJECT_NAME = re.compile(rf"{_NAME}(?: {_NAME}){{1,3}}\Z")
_WHY = re.compile(r",? (because .{8,160}?)(?:[;.]|\Z)")
_MEANS = re.compile(r"(means|refers to|stands for|consists of|denotes) (.{8,})", re.DOTALL)
_ARTICLE = re.compile(r"(?:a|an|the|any|one of) ", re.IGNORECASE)
_MARKUP = re.compile(r"[*_`#>]+|!?\[|\]\([^)\s]*\)|\]")
_UNFIT = re.compile(r"[|?\t]|\.\.\.|…|https?://")
_SPOKEN = re.compile(r"\b(?:I|we|you|my|our|he|she|it|this|these)\b|^(?:And|But|So)\b|Fig", re.I)
_MOST_CLOZE_WORDS = 30
_WORD_COUNTS = range(5, 61)
_GAP = "____"


class RuleQuestion(NamedTuple):
    """A question, the part of the sentence that answers it, and the rule that made it."""

    text: str
    answer: str
    kind: str


def rule_questions(sentence: str) -> list[RuleQuestion]:
    """Questions that an English sentence answers; none where no rule fits.

    Args:
        sentence: As it stands in a text; markup and line breaks do not get into the questions.
            Answers are verbatim parts of it.
    """
    plain = " ".join(_MARKUP.sub("", sentence).split())
    if len(plain.split()) not in _WORD_COUNTS or _UNFIT.search(plain) or not plain[:1].isupper():
        return []
    found = list(_questions(plain)) or list(_cloze(plain))
    kept = []
    for one in found:
        answer = _verbatim(one.answer, sentence)
        if answer and len(one.text.split()) >= 3:
            kept.append(one._replace(answer=answer))
    return list({one.text: one for one in kept}.values())


def _questions(plain: str) -> Iterator[RuleQuestion]:
    if opening := _OPENING.match(plain):
        clause = clause_of(opening[2][0].upper() + opening[2][1:])
        if clause is not None:
            rest = _WHEN.sub("", clause.rest)
            yield RuleQuestion(clause.asked("When", rest), opening[1], "date")
        plain = opening[2][0].upper() + opening[2][1:]
    clause = clause_of(plain)
    if clause is None:
        return
    yield from _definitions(clause)
    yield from _phrases(clause)
    if (why := _WHY.search(plain)) and not plain[: why.start()].count(","):
        yield RuleQuestion(clause.asked("Why", clause.rest), why[1], "reason")


def _definitions(clause: Clause) -> Iterator[RuleQuestion]:
    is_name = bool(_SUBJECT_NAME.match(clause.subject))
    if clause.is_copula and _ARTICLE.match(clause.rest):
        word = "Who or what" if is_name else "What"
        yield RuleQuestion(f"{word} {clause.verb} {clause.subject}?", clause.rest, "definition")
    whole = f"{clause.verb} {clause.rest}"
    if (means := _MEANS.match(whole)) and clause.helper == "does":
        after = means[1].partition(" ")[2]
        yield RuleQuestion(clause.asked("What", after), means[2], "definition")
    elif is_name and clause.helper == "did":
        yield RuleQuestion(f"Who or what {whole}?", clause.subject, "name")


def _phrases(clause: Clause) -> Iterator[RuleQuestion]:
    """Questions for one phrase behind the verb, which is taken out."""
    rest = clause.rest
    if when := _WHEN.search(rest):
        yield RuleQuestion(clause.asked("When", _without(rest, when)), when[1], "date")
    if money := _MONEY.search(rest):
        yield RuleQuestion(clause.asked("How much", _without(rest, money)), money[1], "amount")
    elif percent := _PERCENT.search(rest):
        text = clause.asked("What percentage", _without(rest, percent))
        yield RuleQuestion(text, percent[1], "amount")
    elif (count := _COUNT.search(rest)) and not re.match(_YEAR, count[1]):
        text = clause.asked(f"How many {count[2]}", _without(rest, count))
        yield RuleQuestion(text, count[1], "amount")
    if clause.is_copula and (by := _BY.search(f" {rest}")):
        text = clause.asked("By whom or what", _without(f" {rest}", by))
        yield RuleQuestion(text, by[1], "name")
    if where := _WHERE.search(rest):
        yield RuleQuestion(clause.asked("Where", _without(rest, where)), where[1], "place")


def _without(rest: str, phrase: re.Match[str]) -> str:
    return f"{rest[: phrase.start()]} {rest[phrase.end() :]}"


def _cloze(plain: str) -> Iterator[RuleQuestion]:
    """The sentence with a gap for its last name or number, where another one stays in it."""
    found = [*re.finditer(rf"(?<=\s)(?:{_DATE}|{_DIGITS}|{_NAMES})(?!\w)", plain)]
    is_apart = not _SPOKEN.search(plain) and len(plain.split()) <= _MOST_CLOZE_WORDS
    if len(found) > 1 and plain.endswith(".") and is_apart:
        answer = found[-1][0].rstrip(".")
        start, end = found[-1].start(), found[-1].start() + len(answer)
        text = f'What fills the gap in "{plain[:start]}{_GAP}{plain[end:]}"?'
        yield RuleQuestion(text, answer, "cloze")


def _verbatim(answer: str, sentence: str) -> str:
    """The answer as it stands in the sentence, line breaks included; empty: it does not."""
    words = answer.strip(" ,.;:").split()
    pattern = r"[\s*_`>]+".join(map(re.escape, words))
    found = re.search(pattern, sentence) if words else None
    return found[0] if found else ""
