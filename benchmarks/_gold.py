"""Documents and questions with the characters that answer them, from sets of public data."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunkwise.evaluation.spans import Place, SpanCase
from chunkwise.types import Span

NQ_PASSAGES = 40  # that are put together into a document


@dataclass(frozen=True)
class Gold:
    """A set.

    Attributes:
        texts: Text of each document by name.
        cases: Questions; references are places in these texts.
        note: What it is, and what of it.
    """

    texts: dict[str, str]
    cases: list[SpanCase]
    note: str


def chroma(data: Path, limit: int) -> Gold:
    """Chroma's chunking evaluation: all documents and questions that are here."""
    folder = data / "chunking" / "chroma"
    texts, cases = {}, []
    for path in sorted(folder.glob("*.md")):
        texts[path.name] = path.read_bytes().decode("utf-8")
        for record in _lines(path.with_suffix(".questions.jsonl")):
            spans = [Span(r["start_index"], r["end_index"]) for r in record["references"]]
            places = tuple(Place(path.name, span) for span in spans)
            cases.append(SpanCase(record["question"], places))
    return Gold(texts, cases, "Chroma's evaluation, three of its five corpora")


def covidqa(data: Path, limit: int) -> Gold:
    """Whole scientific articles; the answers are a few words to a sentence long."""
    texts, cases = {}, []
    for number, record in enumerate(_lines(data / "qa_span" / "covidqa_long_docs.jsonl.gz")):
        (paragraph,) = record["paragraphs"]
        name, text = f"{number}.txt", _plain(paragraph["context"])
        found = list(_answered(name, text, paragraph["qas"], anywhere=True))
        if found and len(cases) < limit:
            texts[name] = text
            cases += found
    return Gold(texts, cases[:limit], "COVID-QA, whole articles")


def squad(data: Path, limit: int) -> Gold:
    """Articles put together from their paragraphs; the answerable questions."""
    texts, cases = {}, []
    for record in _lines(data / "qa_span" / "squad_v2_dev_half.jsonl.gz"):
        name, parts, at = f"{record['title']}.txt", [], 0
        for paragraph in record["paragraphs"]:
            text = _plain(paragraph["context"])
            for case in _answered(name, text, paragraph["qas"]):
                (place,) = case.references
                moved = Span(place.span.start + at, place.span.end + at)
                cases.append(SpanCase(case.question, (Place(name, moved),)))
            parts.append(text)
            at += len(text) + 2
        texts[name] = "\n\n".join(parts)
    return Gold(texts, _spread(cases, limit), "SQuAD 2.0, dev, articles of paragraphs")


def xquad_zh(data: Path, limit: int) -> Gold:
    """Chinese articles put together from their paragraphs."""
    texts: dict[str, str] = {}
    cases = []
    for record in _lines(data / "qa_span" / "xquad_12langs.jsonl.gz"):
        if record["lang"] != "zh":
            continue
        for paragraph in record["paragraphs"]:
            name = f"{record['title']}.txt"
            before = f"{texts[name]}\n\n" if name in texts else ""
            text = paragraph["context"].strip("\ufeff \n")
            for case in _answered(name, text, paragraph["qas"], anywhere=True):
                (place,) = case.references
                moved = Span(place.span.start + len(before), place.span.end + len(before))
                cases.append(SpanCase(case.question, (Place(name, moved),)))
            texts[name] = before + text
    return Gold(texts, _spread(cases, limit), "XQuAD in Chinese")


def qmsum(data: Path, limit: int) -> Gold:
    """Meetings, a turn a line; the answers are runs of turns."""
    texts, cases = {}, []
    for record in _lines(data / "qa_long" / "qmsum_val.jsonl.gz"):
        if len(texts) >= max(1, limit // 20):  # they are long
            break
        name, starts, text = f"{record['meeting_id']}.txt", [], ""
        for turn in record["meeting_transcripts"]:
            starts.append(len(text))
            text += f"{turn['speaker']}: {turn['content'].strip()}\n"
        starts.append(len(text))
        texts[name] = text
        for query in record["specific_query_list"]:
            spans = [
                Span(starts[int(first)], starts[min(int(last) + 1, len(starts) - 1)])
                for first, last in query["relevant_text_span"]
            ]
            places = tuple(Place(name, span) for span in spans if span.end > span.start)
            if places:
                cases.append(SpanCase(query["query"], places))
    return Gold(texts, cases[:limit], "QMSum, val, the first meetings")


def nq(data: Path, limit: int) -> Gold:
    """Passages that answer questions of Natural Questions, many after another in a document."""
    records = list(_lines(data / "retrieval" / "nq_open_oracle.jsonl.gz"))
    passages = list(dict.fromkeys(_plain(record["ctxs"][0]["text"]) for record in records))
    passages = passages[: max(2 * limit, NQ_PASSAGES)]
    texts: dict[str, str] = {}
    places: dict[str, Place] = {}
    for number, passage in enumerate(passages):
        name = f"{number // NQ_PASSAGES}.txt"
        before = f"{texts[name]}\n\n" if name in texts else ""
        places[passage] = Place(name, Span(len(before), len(before) + len(passage)))
        texts[name] = before + passage
    cases = [
        SpanCase(record["question"], (places[passage],))
        for record in records
        if (passage := _plain(record["ctxs"][0]["text"])) in places
    ]
    note = f"Natural Questions, {NQ_PASSAGES} gold passages a document, a paragraph each"
    return Gold(texts, _spread(cases, limit), note)


SETS: dict[str, Callable[[Path, int], Gold]] = {
    "chroma": chroma,
    "covidqa": covidqa,
    "squad": squad,
    "xquad-zh": xquad_zh,
    "qmsum": qmsum,
    "nq": nq,
}


def _answered(
    name: str, text: str, questions: list[dict[str, Any]], *, anywhere: bool = False
) -> Iterator[SpanCase]:
    """Questions whose first answer stands where it is said to, or once in the text."""
    for question in questions:
        if question.get("is_impossible") or not question["answers"]:
            continue
        answer = question["answers"][0]
        start, wanted = answer["answer_start"], answer["text"].strip()
        if text[start : start + len(wanted)] != wanted:
            if not anywhere or text.count(wanted) != 1:
                continue
            start = text.index(wanted)
        if wanted:
            place = Place(name, Span(start, start + len(wanted)))
            yield SpanCase(question["question"], (place,))


def _plain(text: str) -> str:
    """The text as a parser of plain text leaves it."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _spread(cases: list[SpanCase], limit: int) -> list[SpanCase]:
    """So many of the questions, from all of them."""
    if len(cases) <= limit:
        return cases
    return [cases[at * len(cases) // limit] for at in range(limit)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    yield from (json.loads(line) for line in text.split("\n") if line.strip())
