"""How well each sentence or row of the hits answers a question: features and fitted weights.

Two small regressions, each fitted with an embedder's cosines and without. The first, over the
features of a unit, ranks: a softmax over the units of one question, fitted so that the units
that hold the answer get the probability. The second, over features of the best unit and of its
lead, is logistic: do the sentences shown hold the answer?
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunkwise.rag.answering import matching
from chunkwise.rag.answering.units import Unit
from chunkwise.types import Embedder, Hit

Floats = NDArray[np.float64]
_MAX_MARGIN = 3.0

_DATE = re.compile(
    r"\b1\d{3}\b|\b20\d{2}\b|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d年|\d月|\d년|centur|"
    r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tues|wednes|thurs|fri|satur|sun)"
    r"[a-z]*\b|\b(?:januar|februar|märz|mai|juni|juli|oktober|dezember|janvier|février|mars|"
    r"avril|août|enero|febrero|marzo|abril|junio|julio|agosto|diciembre)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|half|hundred|"
    r"thousand|million|billion|percent|once|twice|eins?|zwei|drei|vier|deux|trois|quatre|dos|"
    r"tres|cuatro|due|tre|quattro)\b|[一二三四五六七八九十百千万]",
    re.IGNORECASE,
)
_ASKED = (  # kind, words, characters of scripts without spaces
    (
        "number",
        r"how (?:many|much|long|far|old|often|large|big|tall|high|fast|deep|heavy)|what (?:percent"
        r"(?:age)?|number|amount|price|cost|size)|wie ?viele?|wie (?:lange|oft|hoch|groß)|combien|"
        r"cuánt[oa]s?|quant[oiae]|quantos|quantas|hoeveel",
        "多少|几|幾|いくつ|いくら|何人",
    ),
    (
        "date",
        r"when|(?:what|which) (?:year|date|day|month|century|decade|time)|wann|quand|cuándo|"
        r"quando|wanneer",
        "什么时候|何时|何時|哪年|哪一年|いつ|언제",
    ),
    (
        "name",
        r"who|whom|whose|where|wer|wen|wem|wo|qui|où|quién(?:es)?|dónde|chi|dove|quem|onde|wie is",
        "谁|誰|哪里|哪裡|どこ|누구|어디",
    ),
)
_ASKED_PATTERNS = tuple(
    (kind, re.compile(rf"\b(?:{words})\b|{characters}", re.IGNORECASE))
    for kind, words, characters in _ASKED
)

LEXICAL_FEATURES = (
    "coverage", "window", "passage", "pairs", "kind", "rank", "length", "novelty", "question",
    "marks", "similarity", "overlap",
)  # fmt: skip
VECTOR_FEATURES = ("cosine", "cosine_passage")
UNIT_FEATURES = LEXICAL_FEATURES + VECTOR_FEATURES
_OF_BEST = tuple(
    UNIT_FEATURES.index(name)
    for name in ("window", "passage", "pairs", "marks", "similarity", "cosine", "cosine_passage")
)
_BEST_OF_ALL = tuple(UNIT_FEATURES.index(name) for name in ("coverage", "overlap", "cosine"))


@dataclass(frozen=True, slots=True)
class Weights:
    """Fitted coefficients.

    Attributes:
        rank: One a unit feature.
        trust: One a trust feature.
        bias: Constant of the trust regression.
        threshold: Confidence that parts answerable from unanswerable best on the training split.
    """

    rank: tuple[float, ...]
    trust: tuple[float, ...]
    bias: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """How the units of a candidate set compare with the question.

    Attributes:
        scores: Higher is better, `(num_units,)`; a difference of 1 is odds of e.
        confidence: Probability that the best units hold the answer, in [0, 1].
        threshold: Confidence below which the answer is more likely not there.
    """

    scores: Floats
    confidence: float
    threshold: float


def weigh(
    question: str, hits: Sequence[Hit], units: Sequence[Unit], *, embedder: Embedder | None
) -> Evidence:
    """Score every unit as an answer to the question, and say how far to trust the best.

    Args:
        question: As asked.
        hits: Where the units are from, best first.
        units: At least one.
        embedder: Adds cosines; must be a trained one.
    """
    features = unit_features(question, hits, units, embedder=embedder)
    weights = LEXICAL_WEIGHTS if embedder is None else VECTOR_WEIGHTS
    scores = features @ np.array(weights.rank)
    trust = (
        trust_features(question, features, scores, units) @ np.array(weights.trust) + weights.bias
    )
    return Evidence(scores, float(1 / (1 + np.exp(-trust))), weights.threshold)


def unit_features(
    question: str, hits: Sequence[Hit], units: Sequence[Unit], *, embedder: Embedder | None
) -> Floats:
    """`UNIT_FEATURES` of every unit, without the vector ones when there is no embedder."""
    lexical = _lexical(question, hits, units)
    if embedder is None:
        return lexical
    return np.hstack([lexical, _cosines(question, hits, units, embedder)])


def trust_features(
    question: str, features: Floats, scores: Floats, units: Sequence[Unit]
) -> Floats:
    """What tells whether the best unit holds the answer.

    Its own features; the best of all units; its lead, as a share of the probability and as a
    margin over the best unit of another hit; and how many terms the question has.
    """
    best = int(scores.argmax())
    odds = np.exp(scores - scores[best])
    others = [s for s, unit in zip(scores, units, strict=True) if unit.hit != units[best].hit]
    margin = min(_MAX_MARGIN, scores[best] - max(others)) if others else _MAX_MARGIN
    own = [features[best, i] for i in _OF_BEST if i < features.shape[1]]
    top = [features[:, i].max() for i in _BEST_OF_ALL if i < features.shape[1]]
    length = math.log(max(len(matching.content_terms(question)), 1))
    return np.array([*own, *top, 1 / odds.sum(), margin, length], dtype=np.float64)


def unit_text(hits: Sequence[Hit], unit: Unit) -> str:
    """What a unit says, for comparing: its characters, and for a row its column names too."""
    chunk = hits[unit.hit].chunk
    own = chunk.text[unit.start : unit.end]
    if not unit.is_row:
        return own
    header = chunk.text[slice(*unit.header)] if unit.header else chunk.header
    return f"{header}\n{own}"


def _lexical(question: str, hits: Sequence[Hit], units: Sequence[Unit]) -> Floats:
    asked = matching.content_terms(question)
    texts = [unit_text(hits, unit) for unit in units]
    said = [matching.terms(text) for text in texts]
    sets = [frozenset(terms) for terms in said]
    weights = matching.inverse_frequency(sets)
    context = [frozenset(matching.terms(_context(hit))) for hit in hits]
    passages = [
        context[i].union(*(s for s, u in zip(sets, units, strict=True) if u.hit == i))
        for i in range(len(hits))
    ]
    marks = sorted(matching.names(question) | matching.numbers(question))
    kind = asked_kind(question)
    rows = []
    for i, unit in enumerate(units):
        around = _around(i, units, sets) | context[unit.hit]
        rows.append(
            (
                matching.coverage(asked, sets[i], weights),
                matching.coverage(asked, around, weights),
                matching.coverage(asked, passages[unit.hit], weights),
                _pairs(asked, said[i]),
                _kind_present(kind, question, texts[i]),
                1 / (1 + unit.hit),
                np.log1p(len(said[i])) / 4,
                min(1.0, len(sets[i].difference(asked)) / 8),
                float(texts[i].rstrip().endswith(("?", "？"))),
                matching.coverage(marks, passages[unit.hit], weights) if marks else 1.0,
                _similarity(asked, sets[i], weights),
                sum(term in sets[i] for term in asked) / len(asked) if asked else 0.0,
            )
        )
    return np.array(rows, dtype=np.float64).reshape(len(units), len(LEXICAL_FEATURES))


def _context(hit: Hit) -> str:
    return "\n".join([hit.document, *hit.chunk.headings, hit.chunk.header])


def _around(i: int, units: Sequence[Unit], sets: Sequence[frozenset[str]]) -> frozenset[str]:
    """Terms of a unit and its neighbours in the same hit."""
    near = [j for j in (i - 1, i, i + 1) if 0 <= j < len(units) and units[j].hit == units[i].hit]
    return frozenset().union(*(sets[j] for j in near))


def _pairs(asked: Sequence[str], said: Sequence[str]) -> float:
    """Share of neighbouring question terms that stand at most three apart in the unit."""
    wanted = [(a, b) for a, b in itertools.pairwise(asked) if a != b]
    if not wanted:
        return 0.0
    near = {(said[i], b) for i in range(len(said)) for b in said[max(i - 2, 0) : i + 4]}
    return sum(pair in near for pair in wanted) / len(wanted)


def asked_kind(question: str) -> str:
    """What the question asks for: `number`, `date`, `name`, or empty when it does not say."""
    for kind, pattern in _ASKED_PATTERNS:
        if pattern.search(question):
            return kind
    return ""


def _kind_present(kind: str, question: str, text: str) -> float:
    """1 when the unit holds something of the asked kind, -1 when not, 0 when none is asked."""
    if kind == "number":
        found = bool(_NUMBER.search(text))
    elif kind == "date":
        found = bool(_DATE.search(text))
    elif kind == "name":
        if not re.search(r"[A-Za-zÀ-ÿΑ-ωА-я]", text):
            return 0.0
        found = bool(matching.names(f"· {text}") - set(matching.terms(question)))
    else:
        return 0.0
    return 1.0 if found else -1.0


def _similarity(asked: Sequence[str], said: frozenset[str], weights: Mapping[str, float]) -> float:
    """Cosine of the weighted term sets."""
    wanted = set(asked)
    shared = sum(weights[t] ** 2 for t in wanted & said)
    norms = sum(weights[t] ** 2 for t in wanted) * sum(weights[t] ** 2 for t in said)
    return float(shared / np.sqrt(norms)) if norms else 0.0


def _cosines(
    question: str, hits: Sequence[Hit], units: Sequence[Unit], embedder: Embedder
) -> Floats:
    vectors = embedder.embed([unit_text(hits, unit) for unit in units], "passage")
    cosine = vectors @ embedder.embed([question], "query")[0]
    places = np.array([unit.hit for unit in units])
    passage = np.empty(len(units))
    for place in set(places.tolist()):
        rows = places == place
        passage[rows] = np.sort(cosine[rows])[-3:].mean()
    return np.stack([cosine, passage], axis=1).astype(np.float64)


# Fitted by `benchmarks/answers.py DATA --fit --questions 300` on 2,300 questions, answerable and
# not, of the training halves of SQuAD 2.0, SQuADShifts (amazon, reddit), PolicyQA and CLAPnq:
# `rank` by softmax over the units of a question, `trust` by logistic regression.
LEXICAL_WEIGHTS = Weights(
    rank=(-2.557, 2.425, 0.012, 0.781, 0.701, 1.817, 2.726, 0.591, -0.305, 2.387, 6.634, 4.603),
    trust=(0.713, 0.387, 0.679, 1.051, 1.772, -1.297, 2.257, 0.334, 0.311, 0.661),
    bias=-5.154,
    threshold=0.18,
)
VECTOR_WEIGHTS = Weights(
    rank=(
        0.62,
        2.33,
        1.138,
        0.377,
        0.674,
        0.454,
        2.773,
        0.883,
        -0.029,
        1.652,
        3.424,
        0.959,
        5.43,
        5.281,
    ),
    trust=(
        0.242,
        0.111,
        0.2,
        1.246,
        -0.68,
        0.906,
        1.029,
        -0.072,
        1.097,
        1.516,
        1.096,
        0.422,
        0.438,
    ),
    bias=-6.094,
    threshold=0.145,
)
