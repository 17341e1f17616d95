"""Claims are clauses, and a passage supports those whose words, numbers, names and negations it
has; no model is asked.

Source: the measures are those of RAGAS (arXiv 2309.15217), which asks a language model.
Differs: compares surfaces. It catches a wrong passage, a changed number, a foreign name and a
    turned negation. It does not read: two names that change places pass, and a paraphrase without
    common words is not supported. Questions to an answer are made by rules, in English; where none
    fits, and in other languages, a sentence of the answer stands for its question.
Exact when: never; compare systems that answer in the words of their passages.
Cost: about a millisecond a claim and passage.
Helps or hurts: of sentences of the sample documents held against the passage that they are from,
    it accepts all as they stand and refuses nearly all with a changed number or a negation put in
    (`tests/evaluation/test_judging.py`); not measured against people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chunkwise.errors import ConfigError
from chunkwise.evaluation._question_rules import rule_questions
from chunkwise.evaluation._support import is_supported
from chunkwise.evaluation.judging.base import Asked, Claim
from chunkwise.types import Hit, Segmenter

__all__ = ["OfflineJudge"]

_CLAUSE = re.compile(r";\s+|,\s+(?=(?:and|but|while|whereas|although|though)\s)")
_LINK = re.compile(r"(?:and|but|while|whereas|although|though)\s+", re.IGNORECASE)
_LEAST_WORDS = 4  # of a clause that stands for itself
_WORD = re.compile(r"\w+")
_EVASIVE = re.compile(
    r"\b(?:(?:do|does|did) ?(?:not|n['’]t) (?:know|say|mention|contain|provide|answer|state)"
    r"|(?:can(?:not| not|['’]t)|unable to|could not|couldn['’]t) (?:answer|find|determine|say)"
    r"|(?:not|nothing|no (?:answer|information)) (?:was |is |were )?"
    r"(?:found|available|given|known|mentioned|stated|provided)"
    r"|I['’]?m not sure|unclear|unknown|insufficient information)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineJudge:
    """Judges by words, without a model.

    Attributes:
        segmenter: Finds the sentences.
        min_overlap: Least share of a claim's terms that a passage must hold in up to three of its
            sentences, in (0, 1].
    """

    segmenter: Segmenter
    min_overlap: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.min_overlap <= 1:
            raise ConfigError(f"`min_overlap` must be in (0, 1], got {self.min_overlap!r}.")

    @property
    def fingerprint(self) -> str:
        """See `Judge`."""
        return f"offline 1 {self.min_overlap} {self.segmenter.fingerprint}"

    def claims(self, text: str, question: str) -> list[Claim]:
        """Sentences, and their clauses where each has some words of its own."""
        spans = self.segmenter.split(text)
        return [Claim(each, question) for a, b in spans for each in _clauses(text[a:b])]

    def supports(self, claim: Claim, passage: Hit) -> bool:
        """See `Judge.supports`."""
        return is_supported(
            claim.text, claim.question, passage, self.segmenter, min_overlap=self.min_overlap
        )

    def asked(self, answer: str, count: int) -> list[Asked]:
        """Questions made by rules, then sentences of the answer; evasive by their wording."""
        sentences = [answer[a:b] for a, b in self.segmenter.split(answer)]
        made = [one.text for sentence in sentences for one in rule_questions(sentence)]
        is_evasive = bool(sentences) and all(_EVASIVE.search(each) for each in sentences)
        texts = (made or sentences)[:count]
        return [Asked(text, is_evasive) for text in texts]


def _clauses(sentence: str) -> list[str]:
    """The clauses of a sentence without their linking words; the sentence where one is short."""
    first, *others = _CLAUSE.split(sentence)
    parts = [first, *(_LINK.sub("", part, count=1) for part in others)]
    if any(len(_WORD.findall(part)) < _LEAST_WORDS for part in parts):
        return [sentence] if _WORD.search(sentence) else []
    return parts
