"""The protocol of judges, and their registry."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from chunkwise.registry import Registry
from chunkwise.types import Hit


class Claim(NamedTuple):
    """One statement, and the question that it answers: "1931" alone says nothing."""

    text: str
    question: str


class Asked(NamedTuple):
    """A question that an answer would answer, and whether the answer evades it."""

    text: str
    is_evasive: bool = False


class Judge(Protocol):
    """Says what an answer claims, what supports it, and what it answers.

    An implementation is a frozen dataclass; the fields below are offered by whoever builds it
    (`segmenter`, `model`), and it declares those it uses.

    Attributes:
        fingerprint: Changes when verdicts may change; verdicts are remembered under it.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def claims(self, text: str, question: str) -> list[Claim]:
        """What a text claims in answer to the question, in order; empty: nothing.

        Raises:
            RequestError: A model cannot be asked, or says what cannot be read.
        """
        ...

    def supports(self, claim: Claim, passage: Hit) -> bool:
        """Whether the passage alone says what the claim says.

        Raises:
            RequestError: As `claims`.
        """
        ...

    def asked(self, answer: str, count: int) -> list[Asked]:
        """Questions to which this would be the answer, at most so many; at least one for a text
        that is not blank.

        Raises:
            RequestError: As `claims`.
        """
        ...


judges: Registry[Judge] = Registry("chunkwise.evaluation.judging")
