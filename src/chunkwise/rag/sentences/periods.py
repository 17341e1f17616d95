"""Does a terminator end a sentence? The rules, for one language."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from chunkwise.rag.sentences.languages import LANGUAGES, UNKNOWN, WORDS_TOO, Language
from chunkwise.rag.sentences.marks import MARKER, OPENERS, QUOTES, ROMAN

Kind = Literal["upper", "lower", "digit", "other", "mark"]

_LOOK_BACK: Final = 48  # longest word that is looked at, in characters


class Following(NamedTuple):
    """What stands after a terminator and the space behind it.

    Attributes:
        kind: Sort of the first character that does not open anything.
        word: The first word, empty if there is none.
        opens: Whether a quotation mark, bracket or dash stands before it.
    """

    kind: Kind
    word: str
    opens: bool


@dataclass(frozen=True)
class TerminatorRules:
    """The rules with the word lists of one language; build one per language and keep it.

    Args:
        code: ISO 639-1 code; an unknown one has no word lists.
    """

    code: str
    language: Language = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "language", LANGUAGES.get(self.code, UNKNOWN))

    def ends(self, text: str, sentence: int, at: int, mark: str, after: Following) -> bool:
        """True when the terminator `mark` at `at` ends the sentence that began at `sentence`.

        Args:
            text: Reads at most 48 characters before `at`.
            sentence: Where the sentence began.
            at: First character of the terminator.
            mark: The terminators and what closes after them.
            after: What stands behind.
        """
        if after.kind == "mark" or (at > sentence and mark[0] in ".…" and text[at - 1] in "(["):
            return False
        if mark[0] == "…" or mark.startswith(".."):
            return self._ellipsis_ends(mark, after)
        if mark[0] != ".":
            return self._question_ends(mark, after)
        return self._period_ends(text, sentence, at, mark, after)

    def _ellipsis_ends(self, mark: str, after: Following) -> bool:
        if after.kind == "digit":
            return mark.count(".") < 4  # else the leader of a table of contents
        return after.kind != "lower"

    def _question_ends(self, mark: str, after: Following) -> bool:
        if after.kind != "lower":
            return True
        return not after.opens and mark[-1] not in QUOTES and mark[-1] not in ")]"

    def _period_ends(self, text: str, sentence: int, at: int, mark: str, after: Following) -> bool:
        head = text[max(sentence, at - _LOOK_BACK) : at]
        if at - sentence < 12 and MARKER.match(head):
            return False
        word = head.rsplit(None, 1)[-1].lstrip(OPENERS) if head and not head[-1].isspace() else ""
        if not word:
            return after.kind != "lower"
        if len(mark) > 1 and after.kind != "lower" and (mark[-1] in QUOTES or mark[-1] in ".!?…"):
            return True
        if word[-1].isdigit():
            return self._number_ends(word, after)
        if len(word) == 1 and word.isalpha():
            return self._letter_ends(word, after)
        return self._word_ends(word, after)

    def _number_ends(self, word: str, after: Following) -> bool:
        if after.kind == "lower":
            return False
        if not self.language.has_ordinal_period or not word.isdigit() or len(word) > 3:
            return True
        if after.kind == "digit" or after.word.lower() in self.language.months:
            return False
        return self.code != "de" or len(word) > 2 or after.opens or self._begins(after)

    def _letter_ends(self, word: str, after: Following) -> bool:
        if after.kind == "upper":
            is_word = word in "IÀAÉYOÓ" and self.code in ("en", "") and word == "I"
            return is_word or (self._begins(after) and len(after.word) > 1)
        is_number = word.lower() in self.language.numbered
        return after.kind == "digit" and word.isupper() and not is_number

    def _word_ends(self, word: str, after: Following) -> bool:
        lower = word.lower()
        name = lower if self._is_listed(lower) else lower.replace("’", "'").rsplit("'", 1)[-1]
        if name in self.language.titles:
            return name in WORDS_TOO and word.islower() and after.kind == "upper"
        if name in self.language.numbered and self._is_number(after):
            return False
        if self._is_listed(name) or _is_acronym(name):
            return self._abbreviation_ends(name, word, after)
        if after.kind == "lower":
            return self._is_plain(word) and not after.opens
        return True

    def _abbreviation_ends(self, name: str, word: str, after: Following) -> bool:
        if after.kind != "upper":
            return False
        if name in WORDS_TOO and word.islower():
            return True
        return self._begins(after)

    def _is_listed(self, name: str) -> bool:
        language = self.language
        return name in language.titles or name in language.numbered or name in language.general

    def _is_plain(self, word: str) -> bool:
        """True for a word that is surely none of the abbreviations that the lists lack."""
        known = word in self.language.frequent and word not in WORDS_TOO
        if self.code == "en":
            return word.isalpha() and (known or len(word) >= 4)
        return word.isalpha() and word.islower() and (known or len(word) >= 5)

    def _begins(self, after: Following) -> bool:
        return after.kind == "upper" and after.word.lower() in self.language.frequent

    def _is_number(self, after: Following) -> bool:
        return after.kind == "digit" or (after.kind == "upper" and bool(ROMAN.match(after.word)))


def _is_acronym(word: str) -> bool:
    """True for letters with periods between: `u.s`, `a.m`, `ph.d`."""
    return "." in word and all(len(part) <= 2 and part.isalpha() for part in word.split("."))
