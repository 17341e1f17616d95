"""Whether a passage says what a statement says, by its words, numbers, names and negations.

`rag.answering.support` finds the sentences that hold the words; here they must also deny as often
as the statement does, and hold its names themselves.
"""

from __future__ import annotations

import re

from chunkwise.rag.answering import matching
from chunkwise.rag.answering.support import Claim, find_support
from chunkwise.types import Hit, Segmenter

_DENIES = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|unable|fails? to|failed to"
    r"|nicht|kein\w*|nie|niemals|ohne|weder|ne|n['’]\w+|jamais|aucune?|sans|sin|nunca|jamás|ningun\w*"
    r"|non|mai|nessun\w*|senza|não|nenhum\w*|sem)\b|n['’]t\b|[不没沒非未無无]|ない|ません",
    re.IGNORECASE,
)

_LEAST_TERMS = 3


def is_supported(
    statement: str, question: str, passage: Hit, segmenter: Segmenter, *, min_overlap: float
) -> bool:
    """Whether the passage says what the statement says in answer to the question.

    Args:
        statement: What is claimed.
        question: What it answers; a statement of one or two words is read behind it.
        passage: What may support it.
        segmenter: Finds the sentences of the passage.
        min_overlap: Least share of the statement's terms that its support must hold.
    """
    if len(matching.content_terms(statement)) < _LEAST_TERMS:  # "1931" stands in many passages
        statement, question = f"{question} {statement}", ""
    claim = Claim.of(statement, question)
    found = find_support(claim, passage, segmenter, min_overlap=min_overlap)
    if found is None:
        return False
    held = " ".join(passage.chunk.text[span.start : span.end] for span in found.spans)
    if _denials(statement) != _denials(held, matching.content_terms(statement)):
        return False
    around = " ".join([passage.document, *passage.chunk.headings, passage.chunk.header])
    return claim.names <= set(matching.terms(f"{held} {around}"))


def _denials(text: str, of: list[str] | None = None) -> bool:
    """Whether a text denies: an odd number of negations, in the clause that holds most of `of`."""
    clauses = re.split(r"[.;:!?]\s|, (?=but\b|and\b|while\b|so\b)", text)
    if of is not None:
        wanted = set(of)
        clauses = [max(clauses, key=lambda clause: len(wanted & set(matching.terms(clause))))]
    return sum(len(_DENIES.findall(clause)) for clause in clauses) % 2 == 1
