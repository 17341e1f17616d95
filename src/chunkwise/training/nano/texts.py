"""Plain text to train on: files of the data folder, and documentation of installed packages.

Debian's packages say in a file each under which licences they are; only those whose file can be
read by machines, and names nothing but licences known as open, are taken. The texts of licences
themselves (`common-licenses`) may be copied but not changed, and are not taken.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chunkwise.errors import TrainingDataError
from chunkwise.training.base import Source

FOLDER = "text"
_MAX_CHARS = 200_000  # of one document; the rest is another document
_MAX_DEBIAN_CHARS = 8_000_000


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of texts.

    Attributes:
        file: Its name in the folder `text`.
        licence: As its owners give it.
        weight: How often it is drawn from, beside the others.
        field: Which field of its JSON lines is the text; empty: the file is one text.
    """

    file: str
    licence: str
    weight: float
    field: str = ""


FILES = (
    TextFile("classic_books.jsonl.gz", "Public domain", 3.0, "markdown"),
    TextFile("standard_ebooks_xhtml.jsonl.gz", "Public domain; mark-up CC0-1.0", 2.0, "xhtml"),
    TextFile("peps_rst.jsonl.gz", "Public domain or CC0-1.0, as each PEP says", 2.0, "rst"),
    TextFile("rust_book_md.jsonl.gz", "MIT or Apache-2.0", 1.0, "markdown"),
    TextFile("tinyshakespeare.txt.gz", "Public domain", 0.3),
    TextFile("sonnet.txt", "Public domain", 0.1),
)
"""Texts with an open licence in the data folder."""

_OPEN = re.compile(
    r"(expat|mit|x11|isc|zlib|bsd-[234]-clause|apache-2(\.0)?|cc0(-1\.0)?|public-domain|cc-by-[34]\.0"
    r"|cc-by-sa-[34]\.0|l?gpl-[23](\.[01])?\+?|psf(-2)?|artistic(-2(\.0)?)?|mpl-2\.0|perl)",
    re.IGNORECASE,
)
_FORMAT = "packaging-manuals/copyright-format"


@dataclass(frozen=True, slots=True)
class Texts:
    """Documents of one source.

    Attributes:
        source: What the card says of it.
        documents: Its documents.
        weight: How often it is drawn from, beside the others.
    """

    source: Source
    documents: tuple[str, ...]
    weight: float


def read_texts(data: Path, debian: str) -> list[Texts]:
    """All texts that are there.

    Args:
        data: The data folder.
        debian: Root of a Debian system whose documentation is read too; empty: none.

    Raises:
        TrainingDataError: There is no text at all, or a file cannot be read.
    """
    found = [_file(data, file) for file in FILES if (data / FOLDER / file.file).exists()]
    if debian:
        found += _debian(Path(debian))
    if not found:
        raise TrainingDataError(
            f"There is no text to train on: {data / FOLDER} has none of "
            f"{', '.join(file.file for file in FILES)}. Name the data folder with --data, or a "
            "Debian system with documentation with --set debian=/."
        )
    return found


def is_held_out(document: str) -> bool:
    """Whether a document is kept for measuring: one of fifty, by its hash."""
    return hashlib.blake2b(document.encode(), digest_size=4).digest()[0] % 50 == 0


def _file(data: Path, file: TextFile) -> Texts:
    path = data / FOLDER / file.file
    try:
        content = path.read_bytes()
        plain = gzip.decompress(content) if path.suffix == ".gz" else content
        text = plain.decode("utf-8")
        whole = (
            [json.loads(line)[file.field] for line in text.splitlines()] if file.field else [text]
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError) as exc:
        raise TrainingDataError(f"{path} cannot be read: {exc!r}. Get it again.") from exc
    clean = _plain_text if file.field == "xhtml" else _same
    pieces = [piece for text in whole for piece in _pieces(clean(text))]
    documents = tuple(pieces)
    digest = hashlib.sha256(content).hexdigest()
    source = Source(f"{FOLDER}/{file.file}", digest, file.licence, True, len(documents))
    return Texts(source, documents, file.weight)


def _pieces(text: str) -> list[str]:
    text = text.replace("\r\n", "\n")
    return [text[i : i + _MAX_CHARS] for i in range(0, len(text), _MAX_CHARS)]


def _same(text: str) -> str:
    return text


def _plain_text(xhtml: str) -> str:
    body = re.sub(r"(?s).*?<body[^>]*>", "", xhtml, count=1)
    lines = (line.strip() for line in re.sub(r"<[^>]+>", "", body).splitlines())
    return html.unescape("\n".join(line for line in lines if line))


def _debian(root: Path) -> list[Texts]:
    """Documentation of packages, in order of their names, up to some megabytes."""
    found: list[Texts] = []
    left = _MAX_DEBIAN_CHARS
    for listing in sorted((root / "var/lib/dpkg/info").glob("*.list")):
        package = listing.name.removesuffix(".list").partition(":")[0]
        licence = _licence(root / "usr/share/doc" / package / "copyright")
        if licence is None or left <= 0:
            continue
        documents = [text for text in _package(root, listing) if len(text) > 500]
        if documents:
            left -= sum(map(len, documents))
            digest = hashlib.sha256("\0".join(documents).encode()).hexdigest()
            source = Source(f"debian/{package}", digest, licence, True, len(documents))
            found.append(Texts(source, tuple(documents), 0.0))
    total = sum(len(text) for texts in found for text in texts.documents)
    return [Texts(t.source, t.documents, 2.0 * sum(map(len, t.documents)) / total) for t in found]


def _licence(path: Path) -> str | None:
    """The licences of a package; None if not all are known as open."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None  # no such file, or an old one in another encoding: not taken
    if _FORMAT not in text:
        return None
    said = {line[8:].strip() for line in text.splitlines() if line.startswith("License:")}
    names = {
        name.strip(" ,()")
        for each in said
        for name in re.split(r"\s+(?:or|and)\s+|,", each, flags=re.IGNORECASE)
        if name.strip(" ,()")
    }
    is_open = names and all(_OPEN.fullmatch(name) for name in names)
    return " and ".join(sorted(said)) if is_open else None


def _package(root: Path, listing: Path) -> Iterator[str]:
    for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
        read = _reader(line)
        path = root / line.lstrip("/")
        if read is None or not path.is_file():
            continue
        try:
            content = path.read_bytes()
            plain = gzip.decompress(content) if path.suffix == ".gz" else content
            yield from _pieces(read(plain.decode("utf-8")))
        except (OSError, EOFError, ValueError):
            continue  # one file that is no text: the others are read


def _reader(path: str) -> Callable[[str], str] | None:
    """How a file of a package is read; None: it is no English text."""
    name = path.rpartition("/")[2].removesuffix(".gz")
    if path.startswith("/usr/share/man/man"):
        return _man
    is_doc = path.startswith("/usr/share/doc/") and name != "copyright"
    is_text = name.startswith(("README", "NEWS", "TODO", "FAQ")) or name.endswith((".txt", ".md"))
    return _same if is_doc and is_text else None


def _man(text: str) -> str:
    """The words of a manual page: requests and fonts are taken out."""
    lines = []
    for line in text.splitlines():
        if line.startswith((".\\", "'\\", "'\"")):
            continue
        if line.startswith("."):
            request, _, line = line.partition(" ")
            if request not in (".SH", ".SS", ".B", ".I", ".BR", ".IR", ".BI", ".IP", ".TP", ".Nm"):
                continue
        line = re.sub(r"\\f[A-Z0-9]|\\f\(..|\\[&|/^,]|\\s[-+]?\d", "", line)
        line = line.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")
        lines.append(line.strip('"'))
    return "\n".join(lines)


def sample(texts: Sequence[Texts], chars: int, chance: random.Random) -> Iterator[str]:
    """Documents by the weights of their sources, some `chars` characters in all."""
    weights = [each.weight for each in texts]
    while chars > 0:
        (each,) = chance.choices(texts, weights=weights)
        document = chance.choice(each.documents)
        start = chance.randrange(max(1, len(document) - 4000))
        piece = document[start : start + 4000]
        chars -= len(piece)
        yield piece
