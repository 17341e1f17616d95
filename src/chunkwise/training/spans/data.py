"""Questions with answer spans from the data folder: files, licences, passages, splits by document.

Licences are those that the data folder's README gives. Where no licence stands in the repository
that a file is from, it is not trained on unless it is asked for by name, and the card says so.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chunkwise.errors import ConfigError, TrainingDataError
from chunkwise.registry import nearest
from chunkwise.types import Span

Split = Literal["train", "valid", "test"]
FOLDER = "qa_span"
_LONG_CHARS = 4000  # a context with more is a document: cut into passages
_PIECE_CHARS = 1100
_BREAKS = ("\n\n", "\n", ". ", " ")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that questions are asked about; `document` decides its split."""

    document: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a passage.

    Attributes:
        text: The question.
        passage: Index of the passage it was written for.
        answers: Spans of that passage, one an annotator, so that some are equal; empty: the
            passage does not answer it.
        is_loose: The answers are sentences that hold an answer, not answers.
    """

    text: str
    passage: int
    answers: tuple[Span, ...]
    is_loose: bool = False


@dataclass
class Questions:
    """Passages and questions of one data set, or of one split of it."""

    name: str
    passages: list[Passage] = field(default_factory=list)
    questions: list[Asked] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SpanFile:
    """A data set in one file.

    Attributes:
        name: Its short name in options.
        file: Its name in `folder`.
        licence: As its owners give it.
        is_confirmed: Whether its owners state the licence where everybody can read it.
        read: Rows of the file to passages and questions.
        folder: Where it is in the data folder.
    """

    name: str
    file: str
    licence: str
    is_confirmed: bool
    read: Callable[[str, Iterator[Mapping[str, Any]]], Questions]
    folder: str = FOLDER

    @property
    def path(self) -> str:
        """The file's path below the data folder."""
        return f"{self.folder}/{self.file}"


def read_set(data: Path, name: str) -> tuple[Questions, str]:
    """One data set, and the SHA-256 of its file.

    Raises:
        ConfigError: There is no set of that name.
        TrainingDataError: Its file is missing or has another form.
    """
    source = span_file(name)
    path = data / source.path
    if not data.is_dir():
        raise TrainingDataError(f"{data}: there is no such data folder; name it with --data.")
    try:
        content = path.read_bytes()
        lines = gzip.decompress(content).decode("utf-8").splitlines()
    except FileNotFoundError as exc:
        raise TrainingDataError(
            f"{path} is missing: the set {name!r} needs it. Leave the set out with "
            "--set datasets=..., or name another folder with --data."
        ) from exc
    except (OSError, EOFError, UnicodeDecodeError) as exc:
        raise TrainingDataError(f"{path} cannot be read as gzipped text: {exc}.") from exc
    rows = _Rows(path, lines)
    try:
        found = source.read(name, iter(rows))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as exc:
        raise TrainingDataError(
            f"{path}, line {rows.number}: not in the form of {name!r}: {exc!r}."
        ) from exc
    if not found.questions:
        raise TrainingDataError(f"{path} has no questions.")
    return found, hashlib.sha256(content).hexdigest()


def span_file(name: str) -> SpanFile:
    """The file of a data set.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in FILES:
        raise ConfigError(
            f"There is no data set {name!r}.{nearest(name, FILES)} There are: {', '.join(FILES)}."
        )
    return FILES[name]


def chosen_names(datasets: str, heldout: str) -> list[str]:
    """The sets to train on.

    Args:
        datasets: `licensed`, `all`, or names with commas between them.
        heldout: The set kept out.
    """
    if datasets in ("licensed", "all"):
        return [
            name
            for name, file in FILES.items()
            if name != heldout and (file.is_confirmed or datasets == "all")
        ]
    names = [span_file(part.strip()).name for part in datasets.split(",") if part.strip()]
    if not names or heldout in names:
        raise ConfigError(
            f"`datasets` must name sets other than the one kept out ({heldout!r}), got "
            f"{datasets!r}."
        )
    return list(dict.fromkeys(names))


def split_of(document: str) -> Split:
    """The split of a document by a hash of its title: a tenth each for `valid` and `test`."""
    title = " ".join(document.replace("_", " ").casefold().split())
    tenth = hashlib.blake2b(title.encode(), digest_size=4).digest()[0] % 10
    return "valid" if tenth == 0 else "test" if tenth == 1 else "train"


def part(whole: Questions, split: Split) -> Questions:
    """The passages of one split, and the questions about them."""
    places = [i for i, p in enumerate(whole.passages) if split_of(p.document) == split]
    new = {old: i for i, old in enumerate(places)}
    questions = [
        Asked(q.text, new[q.passage], q.answers, q.is_loose)
        for q in whole.questions
        if q.passage in new
    ]
    return Questions(whole.name, [whole.passages[i] for i in places], questions)


class _Rows:
    """Rows of a file of JSON lines, with the number of the one last given."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self.path, self.lines, self.number = path, lines, 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for number, line in enumerate(self.lines, 1):
            self.number = number
            if line.strip():
                yield json.loads(line)


def _squad(name: str, rows: Iterator[Mapping[str, Any]]) -> Questions:
    """SQuAD's form. Of several languages only English; long contexts become several passages."""
    found = Questions(name)
    for row in rows:
        if row.get("lang", "en") != "en":
            continue
        for paragraph in row["paragraphs"]:
            title = row.get("title") or paragraph["context"][:80]
            # A file in one article, as the comments of Reddit, is split by passage.
            document = paragraph["context"][:80] if len(row["paragraphs"]) > 500 else title
            _add_paragraph(found, document, paragraph)
    return found


def _add_paragraph(found: Questions, document: str, paragraph: Mapping[str, Any]) -> None:
    text, first = paragraph["context"], len(found.passages)
    if not text.strip():
        return
    pieces = cut_text(text, _PIECE_CHARS if len(text) > _LONG_CHARS else len(text))
    found.passages += [Passage(document, text[a:b]) for a, b in pieces]
    for asked in paragraph["qas"]:
        if asked.get("is_impossible", False):
            if len(pieces) == 1:
                found.questions.append(Asked(asked["question"], first, ()))
            continue
        spans = [_place(text, a["text"], a["answer_start"]) for a in asked["answers"]]
        homes = [_home(pieces, span) for span in spans if span is not None]
        held = [home for home in homes if home is not None]
        if held:
            piece = held[0][0]
            answers = tuple(span for number, span in held if number == piece)
            found.questions.append(Asked(asked["question"], first + piece, answers))


def _clapnq(name: str, rows: Iterator[Mapping[str, Any]]) -> Questions:
    """CLAPnq: the gold answers are the sentences that the annotators selected."""
    found = Questions(name)
    for row in rows:
        passage = row["passages"][0]
        text = passage["text"]
        chosen = [s for output in row["output"] for s in output.get("selected_sentences") or ()]
        places = [_place(text, sentence, 0) for sentence in chosen]
        answers = tuple(place for place in places if place is not None)
        if bool(answers) == bool(row["answerable"]):
            asked = Asked(row["input"], len(found.passages), answers, is_loose=True)
            found.questions.append(asked)
            found.passages.append(Passage(passage["title"], text))
    return found


def _natural(name: str, rows: Iterator[Mapping[str, Any]]) -> Questions:
    """Natural Questions with their gold passages: answers are texts, the first place counts."""
    found = Questions(name)
    for row in rows:
        passage = row["ctxs"][0]
        places = [_place(passage["text"], answer, 0) for answer in row["answers"]]
        answers = tuple(place for place in places if place is not None)
        if answers:
            found.questions.append(Asked(row["question"], len(found.passages), answers))
            found.passages.append(Passage(passage["title"], passage["text"]))
    return found


def cut_text(text: str, size: int) -> list[Span]:
    """Spans of at most `size` characters that tile the text; cut after paragraphs or sentences."""
    spans, start = [], 0
    while len(text) - start > size:
        cuts = (text.rfind(mark, start + size // 2, start + size) for mark in _BREAKS)
        found = next(
            ((cut, mark) for cut, mark in zip(cuts, _BREAKS, strict=True) if cut > 0), None
        )
        end = found[0] + len(found[1]) if found else start + size
        spans.append(Span(start, end))
        start = end
    return [*spans, Span(start, len(text))]


def _place(text: str, answer: str, start: int) -> Span | None:
    """Where the answer stands: at `start`, else its nearest occurrence; None: nowhere."""
    answer = answer.strip()
    if not answer:
        return None
    if text.startswith(answer, start):
        return Span(start, start + len(answer))
    before, after = text.rfind(answer, 0, max(start, 0) + len(answer)), text.find(answer, start)
    places = [place for place in (before, after) if place >= 0]
    if not places:
        return None
    best = min(places, key=lambda place: abs(place - start))
    return Span(best, best + len(answer))


def _home(pieces: Sequence[Span], span: Span) -> tuple[int, Span] | None:
    """The piece that holds a span whole, and the span in it."""
    for number, piece in enumerate(pieces):
        if piece.start <= span.start and span.end <= piece.end:
            return number, Span(span.start - piece.start, span.end - piece.start)
    return None


_SHIFTS_LICENCE = "CC BY 4.0 (by its authors' site and dataset card)"
FILES = {
    file.name: file
    for file in (
        SpanFile("squad2", "squad_v2_dev_half.jsonl.gz", "CC BY-SA 4.0", True, _squad),
        SpanFile("xquad", "xquad_12langs.jsonl.gz", "CC BY-SA 4.0", True, _squad),
        SpanFile("policy", "policyqa_dev.jsonl.gz", "MIT", True, _squad),
        SpanFile("covid", "covidqa_long_docs.jsonl.gz", "Apache-2.0", True, _squad),
        SpanFile("clapnq", "clapnq_dev.jsonl.gz", "Apache-2.0; text CC BY-SA 3.0", True, _clapnq),
        SpanFile(
            "nq",
            "nq_open_oracle.jsonl.gz",
            "MIT; text CC BY-SA 3.0",
            True,
            _natural,
            "retrieval",
        ),
        SpanFile(
            "amazon",
            "squadshifts_amazon_reviews_v1.0.jsonl.gz",
            _SHIFTS_LICENCE,
            True,
            _squad,
        ),
        SpanFile("reddit", "squadshifts_reddit_v1.0.jsonl.gz", _SHIFTS_LICENCE, True, _squad),
    )
}
"""The data sets by name."""
