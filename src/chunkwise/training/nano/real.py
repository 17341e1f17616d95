"""Questions that people wrote, as contexts of several passages.

Passages of one paragraph with all its questions stand among passages of other documents. Splits
are by document, as in `training.spans`, and only files whose licence is confirmed are trained on.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunkwise.errors import TrainingDataError
from chunkwise.training.base import Source
from chunkwise.training.nano.questions.base import UNANSWERABLE, Context, Question
from chunkwise.training.spans.data import (
    Questions,
    Split,
    cut_text,
    read_set,
    span_file,
    split_of,
)

_SETS = ("squad2", "xquad", "policy", "covid", "nq")
_MAX_ANSWER_CHARS = 80
_PASSAGE_CHARS = 900
_MOST_QUESTIONS = 6


@dataclass(frozen=True, slots=True)
class Case:
    """Passages that belong together, with questions about them.

    Attributes:
        name: The data set.
        split: Decided by the document.
        passages: The passages that the questions are about, and others if the set has them.
        questions: Text and answer; `UNANSWERABLE` if there is none.
        is_complete: Whether other passages come with the case, so that none are added.
    """

    name: str
    split: Split
    passages: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class MultihopFile:
    """A file of questions over several passages.

    Attributes:
        name: Short name.
        file: In `qa_multihop`.
        licence: As its owners give it.
        is_trained: Whether the licence stands with the file; if not, it is measured on only.
        read: A row to passages (those needed first), question and answer.
    """

    name: str
    file: str
    licence: str
    is_trained: bool
    read: Callable[[Mapping[str, Any]], tuple[list[tuple[str, bool]], str, str]]


def read_cases(data: Path) -> tuple[list[Case], list[Source], dict[str, str]]:
    """All cases of the files that are there, sources of those trained on, hashes of all.

    Raises:
        TrainingDataError: A file cannot be read.
    """
    cases: list[Case] = []
    sources: list[Source] = []
    hashes: dict[str, str] = {}
    for name in _SETS:
        file = span_file(name)
        if not (data / file.path).exists():
            continue
        whole, hashes[name] = read_set(data, name)
        mine = list(_span_cases(whole))
        trained = sum(len(case.questions) for case in mine if case.split == "train")
        sources.append(Source(file.path, hashes[name], file.licence, file.is_confirmed, trained))
        cases += mine
    for multihop in MULTIHOP:
        path = data / "qa_multihop" / multihop.file
        if path.exists():
            mine, hashes[multihop.name] = _multihop_cases(path, multihop)
            cases += mine
            if multihop.is_trained:
                place = f"qa_multihop/{multihop.file}"
                digest, licence = hashes[multihop.name], multihop.licence
                sources.append(Source(place, digest, licence, True, len(mine)))
    return cases, sources, hashes


def draw(
    cases: Sequence[Case], others: Sequence[str], chance: random.Random, *, most: int
) -> Context:
    """A context of one case: its passages among up to `most` others, and some questions."""
    case = chance.choice(cases)
    return as_context(case, others, chance, most=most)


def as_context(case: Case, others: Sequence[str], chance: random.Random, *, most: int) -> Context:
    """The case as a context, in a random order."""
    added = 0 if case.is_complete or not others else chance.randint(0, most)
    passages = [*case.passages, *chance.sample(others, min(added, len(others)))]
    passages = list(dict.fromkeys(passages))
    chance.shuffle(passages)
    asked = list(case.questions)
    chance.shuffle(asked)
    questions = tuple(
        Question(case.name, text, answer, frozenset()) for text, answer in asked[:_MOST_QUESTIONS]
    )
    return Context(tuple(passages), questions)


def _span_cases(whole: Questions) -> Iterator[Case]:
    by_passage: dict[int, list[tuple[str, str]]] = {}
    for asked in whole.questions:
        text = whole.passages[asked.passage].text
        answers = [text[span.start : span.end] for span in asked.answers]
        answer = min(answers, key=len) if answers else UNANSWERABLE
        if len(answer) <= _MAX_ANSWER_CHARS and "\n" not in answer:
            by_passage.setdefault(asked.passage, []).append((asked.text.strip(), answer.strip()))
    for number, pairs in by_passage.items():
        passage = whole.passages[number]
        if len(passage.text) <= 2 * _PASSAGE_CHARS:
            split = split_of(passage.document)
            yield Case(whole.name, split, (passage.text.strip(),), tuple(pairs))


def _multihop_cases(path: Path, file: MultihopFile) -> tuple[list[Case], str]:
    try:
        content = path.read_bytes()
        lines = gzip.decompress(content).decode("utf-8").splitlines()
    except (OSError, EOFError, ValueError) as exc:
        raise TrainingDataError(f"{path} cannot be read: {exc!r}. Get it again.") from exc
    cases = []
    for number, line in enumerate(lines, 1):
        try:
            case = _multihop_case(file, json.loads(line))
        except (ValueError, KeyError, TypeError, IndexError) as exc:
            raise TrainingDataError(
                f"{path}, line {number}: not in the form of {file.name!r}: {exc!r}."
            ) from exc
        if case.passages and 0 < len(case.questions[0][1]) <= _MAX_ANSWER_CHARS:
            cases.append(case)
    if not cases:
        raise TrainingDataError(f"{path}: no row has passages and an answer. Get it again.")
    return cases, hashlib.sha256(content).hexdigest()


def _multihop_case(file: MultihopFile, row: Mapping[str, Any]) -> Case:
    """The passages that are needed and two others."""
    passages, question, answer = file.read(row)
    passages.sort(key=lambda passage: not passage[1])
    kept = passages[: 2 + sum(is_needed for _, is_needed in passages)]
    texts = tuple(dict.fromkeys(_first(text) for text, _ in kept))
    split: Split = "train" if file.is_trained else "test"
    return Case(file.name, split, texts, ((question, answer),), True)


def _first(text: str) -> str:
    start, end = cut_text(text.strip(), _PASSAGE_CHARS)[0]
    return text.strip()[start:end].strip()


def _hotpot(row: Mapping[str, Any]) -> tuple[list[tuple[str, bool]], str, str]:
    needed = {title for title, _ in row["supporting_facts"]}
    context = row.get("context", [])  # some rows come without their passages
    found = [(f"{title}: {''.join(lines)}", title in needed) for title, lines in context]
    return found, row["question"], row["answer"]


def _musique(row: Mapping[str, Any]) -> tuple[list[tuple[str, bool]], str, str]:
    found = [
        (f"{p['title']}: {p['paragraph_text']}", p["is_supporting"]) for p in row["paragraphs"]
    ]
    return found, row["question"], row["answer"]


MULTIHOP = (
    MultihopFile(
        "hotpot", "hotpotqa_train100_distractor.jsonl.gz", "MIT; CC BY-SA 4.0", True, _hotpot
    ),
    MultihopFile("musique", "musique_train100.jsonl.gz", "MIT; CC BY 4.0", True, _musique),
    MultihopFile(
        "hotpot_dev", "hotpotqa_dev200_distractor.jsonl.gz", "CC BY-SA 4.0", False, _hotpot
    ),
    MultihopFile("2wiki_dev", "2wikimultihopqa_dev200.jsonl.gz", "Apache-2.0", False, _hotpot),
    MultihopFile("musique_dev", "musique_dev200.jsonl.gz", "CC BY 4.0", False, _musique),
)
"""Questions over several passages; the dev sets are measured on, never trained on."""
