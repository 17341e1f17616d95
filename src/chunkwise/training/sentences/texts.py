"""Texts to learn boundaries from: treebanks and plain text, with their licences; what is held out.

Of the data folder: `segmentation/sentences_ud_en_ewt_train` and `text/classic_books`. Further
files, such as CoNLL-U treebanks and plain texts, come from a folder with a `sources.json`: a list
of `{"file", "language", "licence", "origin", "is_confirmed"}`. In a `.conllu` file sentences are
gold; in a `.txt` file each line is a paragraph, and its sentences are those of the rules.

Held out is `segmentation/sentences_ud`: documents, or blocks of 20 sentences where a treebank has
none, are put in the order of the hash of their text; the first ones of each language, up to 256
sentences, fit heads and thresholds, the others are measured on. No sentence of either is learnt.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from chunkwise.errors import DocumentError, TrainingDataError
from chunkwise.evaluation.segmentation import GoldText, read_texts
from chunkwise.rag.sentences.rules import RuleSegmenter
from chunkwise.training.base import Source
from chunkwise.types import Span

HELD_OUT: Final = "segmentation/sentences_ud.jsonl.gz"
EWT: Final = "segmentation/sentences_ud_en_ewt_train.jsonl.gz"
BOOKS: Final = "text/classic_books.jsonl.gz"
SOURCES: Final = "sources.json"
ADAPT_SENTENCES: Final = 256

UNSPACED: Final = frozenset({"ja", "zh"})
"""Languages whose sentences follow one another without a space."""

GUESSED: Final = frozenset({"th"})
"""Languages without terminators: what the rules find is a guess and nothing to learn from."""

_BLOCK = 20
_LONG = 300  # sentences: a row with more is many texts
_SHORT = 200  # sentences: a document with at most so many is left out whole if any is held out
_LETTERS = re.compile(r"[\W_]+")
_MARKDOWN = re.compile(r"[*_#>`]+")
_BOOK_CHARS = 6_000_000
_PARAGRAPH_CHARS = 40


Known = Literal["gold", "rules", "lines"]
"""Where sentences are from: a treebank, the rules, or only ends of lines are known to be ends."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text as its sentences.

    Attributes:
        language: ISO 639-1 code.
        sentences: Their texts.
        gaps: What stands behind each: a blank, nothing, or line breaks.
        has_lines: Line breaks are part of the text, so that one can be learnt from where none is.
        is_ordered: The sentences follow one another; else they were collected.
        known: Where the sentences are from.
    """

    language: str
    sentences: tuple[str, ...]
    gaps: tuple[str, ...]
    has_lines: bool
    is_ordered: bool
    known: Known = "gold"


@dataclass(frozen=True)
class Texts:
    """All that is read.

    Attributes:
        documents: What is learnt from.
        adapt: Held-out texts that heads and thresholds are fitted on.
        test: Held-out texts that are measured on.
        sources: Files learnt from.
        hashes: SHA-256 of all files by name.
    """

    documents: Sequence[Document]
    adapt: Sequence[GoldText]
    test: Sequence[GoldText]
    sources: Sequence[Source]
    hashes: Mapping[str, str]


def read_all(data: Path, corpora: Path | None) -> Texts:
    """Texts of the data folder and of a folder of further ones.

    Raises:
        TrainingDataError: A file is missing or has another form.
    """
    held_out = read_gold(data / HELD_OUT)
    known = {plain(sentence) for text in held_out for sentence in sentences_of(text)}
    adapt, test = split_held_out(held_out)
    hashes = {HELD_OUT: _sha256(data / HELD_OUT)}
    documents: list[Document] = []
    sources: list[Source] = []
    for place, path, made in _files(data, corpora):
        found = list(_unknown(made, known))
        if not found:
            continue  # all of it is held out: the card does not name it
        hashes[place["file"]] = _sha256(path)
        items = sum(len(document.sentences) for document in found)
        sources.append(
            Source(
                place["file"], hashes[place["file"]], place["licence"], place["confirmed"], items
            )
        )
        documents += found
    if not documents:
        raise TrainingDataError(f"{data} has no sentence that is not held out.")
    return Texts(documents, adapt, test, sources, hashes)


def read_gold(path: Path) -> list[GoldText]:
    """Texts with gold sentences; errors are those of training data."""
    try:
        return read_texts(path)
    except DocumentError as exc:
        raise TrainingDataError(f"{exc} Name the data folder with --data.") from exc


def sentences_of(text: GoldText) -> list[str]:
    """The sentences of a text, trimmed."""
    starts = [0, *text.ends]
    return [text.text[start:end].strip() for start, end in zip(starts, text.ends, strict=False)]


def plain(sentence: str) -> str:
    """Letters and digits only: equal for sentences that are the same but for their form."""
    return _LETTERS.sub("", sentence).casefold()


def blocks_of(text: GoldText) -> list[GoldText]:
    """A text, or where it is a row of many its blocks of 20 sentences."""
    if len(text.ends) <= _LONG:
        return [text]
    found = []
    low = 0
    for first in range(0, len(text.ends), _BLOCK):
        ends = text.ends[first : first + _BLOCK]
        part = text.text[low : ends[-1]]
        skipped = len(part) - len(part.lstrip())
        shifted = tuple(end - low - skipped for end in ends)
        found.append(GoldText(part.lstrip(), shifted, text.language))
        low = ends[-1]
    return found


def split_held_out(texts: Iterable[GoldText]) -> tuple[list[GoldText], list[GoldText]]:
    """Held-out texts to fit on, up to 256 sentences a language, and to measure on."""
    blocks = [block for text in texts for block in blocks_of(text)]
    blocks.sort(key=lambda block: hashlib.blake2b(block.text.encode(), digest_size=8).digest())
    taken: dict[str, int] = {}
    adapt, test = [], []
    for block in blocks:
        total = taken.get(block.language, 0) + len(block.ends)
        if total <= ADAPT_SENTENCES:
            taken[block.language] = total
            adapt.append(block)
        else:
            test.append(block)
    return adapt, test


def document_of(text: GoldText, *, has_lines: bool) -> Document:
    """A gold text as its sentences and gaps."""
    sentences: list[str] = []
    gaps: list[str] = []
    starts = [0, *text.ends]
    for start, end in zip(starts, text.ends, strict=False):
        part = text.text[start:end]
        body = part.strip()
        if sentences:
            gaps.append(part[: len(part) - len(part.lstrip())])
        sentences.append(body)
    return Document(text.language, tuple(sentences), (*gaps, "\n"), has_lines, is_ordered=True)


def silver_document(paragraphs: Iterable[str], language: str) -> Document:
    """Paragraphs with the sentences of the rules; whole where the rules only guess."""
    known: Known = "lines" if language in GUESSED else "rules"
    rules = RuleSegmenter()
    sentences, gaps = [], []
    for paragraph in paragraphs:
        spans = rules.split(paragraph, language)
        if known == "lines" and spans:
            spans = [Span(spans[0].start, spans[-1].end)]
        for span, after in zip(spans, [*spans[1:], None], strict=True):
            sentences.append(paragraph[span.start : span.end])
            gaps.append("\n\n" if after is None else paragraph[span.end : after.start])
    return Document(language, tuple(sentences), tuple(gaps), True, True, known)


def read_conllu(path: Path, language: str) -> list[Document]:
    """Documents of a treebank; without `newdoc` its sentences are collected ones."""
    documents: list[Document] = []
    sentences: list[str] = []
    gaps: list[str] = []
    has_documents = False

    def finish() -> None:
        if sentences:
            found = (language, tuple(sentences), tuple(gaps))
            documents.append(Document(*found, has_lines=False, is_ordered=has_documents))
        sentences.clear()
        gaps.clear()

    for comments, rows in _conllu_sentences(_read(path)):
        if any(comment.startswith("# newdoc") for comment in comments):
            finish()
            has_documents = True
        text = next((c[8:] for c in comments if c.startswith("# text =")), "").strip()
        if text:
            sentences.append(text)
            is_close = language in UNSPACED or bool(rows and "SpaceAfter=No" in rows[-1])
            gaps.append("" if is_close else " ")
    finish()
    return documents


def _conllu_sentences(text: str) -> Iterator[tuple[list[str], list[str]]]:
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        comments = [line for line in lines if line.startswith("#")]
        yield comments, [line for line in lines if line[:1].isdigit()]


def _files(
    data: Path, corpora: Path | None
) -> Iterator[tuple[dict[str, Any], Path, list[Document]]]:
    """Each file that is learnt from, what is said of it, and its documents."""
    path = data / EWT
    ewt = [document_of(text, has_lines=True) for text in read_gold(path)]
    yield {"file": EWT, "licence": "CC BY-SA 4.0", "confirmed": True}, path, ewt
    path = data / BOOKS
    books = [silver_document(_book_paragraphs(_read(path)), "en")]
    yield {"file": BOOKS, "licence": "public domain", "confirmed": True}, path, books
    for place in _listed(corpora) if corpora else ():
        path = place.pop("path")
        if path.suffix == ".conllu":
            yield place, path, read_conllu(path, place["language"])
        else:
            lines = [line for line in _read(path).splitlines() if len(line) >= _PARAGRAPH_CHARS]
            yield place, path, [silver_document(lines, place["language"])]


def _listed(corpora: Path) -> list[dict[str, Any]]:
    """The entries of `sources.json`, checked."""
    path = corpora / SOURCES
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [
            {
                "file": f"{entry['origin']}/{entry['file']}",
                "path": corpora / str(entry["file"]),
                "language": str(entry["language"]),
                "licence": str(entry["licence"]),
                "confirmed": bool(entry["is_confirmed"]),
            }
            for entry in entries
        ]
    except OSError as exc:
        raise TrainingDataError(
            f"{path} cannot be read ({exc.strerror}): a folder of corpora needs a list of its "
            "files with language, licence and origin."
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise TrainingDataError(f"{path} has another form than it should: {exc!r}.") from exc


def _book_paragraphs(lines: str) -> Iterator[str]:
    """Paragraphs of the books, Markdown marks left out, the same share of each."""
    books = [json.loads(line)["markdown"] for line in lines.splitlines() if line.strip()]
    for book in books:
        for paragraph in book[: _BOOK_CHARS // len(books)].split("\n\n"):
            body = " ".join(_MARKDOWN.sub("", paragraph).split())
            if len(body) >= _PARAGRAPH_CHARS:
                yield body


def _unknown(documents: Iterable[Document], known: set[str]) -> Iterator[Document]:
    """Documents without the sentences that are held out."""
    for document in documents:
        is_known = [plain(sentence) in known for sentence in document.sentences]
        if any(is_known) and len(is_known) <= _SHORT:
            continue
        kept = [i for i, held in enumerate(is_known) if not held and document.sentences[i]]
        if kept:
            yield Document(
                document.language,
                tuple(document.sentences[i] for i in kept),
                tuple(document.gaps[i] for i in kept),
                document.has_lines,
                document.is_ordered,
                document.known,
            )


def _read(path: Path) -> str:
    """The text of a file, gzipped or not."""
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise TrainingDataError(f"{path} cannot be read: {reason}.") from exc
    except (EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise TrainingDataError(f"{path} cannot be read as UTF-8 text: {exc}.") from exc


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
