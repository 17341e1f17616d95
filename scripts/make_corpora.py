"""Paragraphs in many languages for `chunkwise train segmenter -s corpora=FOLDER`.

    mkdir packages && cd packages
    apt-get download debian-handbook libreoffice-help-{de,es,fi,fr,hi,ja,ko,nl,pt,ru,tr,zh-cn,zh-tw}
    git clone --depth 1 https://github.com/UniversalDependencies/UD_Thai-TUD    # and others, if wanted
    python scripts/make_corpora.py --packages packages --treebanks packages --data DATA --out FOLDER

Reads the HTML of Debian's packages (LibreOffice's help, MPL-2.0; The Debian Administrator's Handbook,
GPL-2+ or CC BY-SA 3.0), the passages of XQuAD in the data folder (CC BY-SA 4.0) and treebanks of
Universal Dependencies under CC BY-SA 4.0 (`*.conllu` in folders named `UD_Language-Name`). Writes one
paragraph a line and `sources.json` with language, licence and origin of each file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selectolax.lexbor import LexborHTMLParser

HELP = re.compile(r"libreoffice-help-([a-z-]+)_")
HANDBOOK = [
    "ar-MA",
    "de-DE",
    "es-ES",
    "fr-FR",
    "ja-JP",
    "ko-KR",
    "nl-NL",
    "pt-BR",
    "ru-RU",
    "tr-TR",
    "zh-CN",
]
LANGUAGES = {
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Russian": "ru",
    "Japanese": "ja",
    "Chinese": "zh",
    "Portuguese": "pt",
    "Korean": "ko",
    "Turkish": "tr",
    "Finnish": "fi",
    "Dutch": "nl",
    "Thai": "th",
}
XQUAD = "qa_span/xquad_12langs.jsonl.gz"
MOST_CHARS = 4_000_000  # of one file
LEAST_CHARS = 40
LATIN = frozenset({"de", "es", "fi", "fr", "nl", "pt", "tr"})


def paragraphs(page: str) -> Iterator[str]:
    """The texts of a page's paragraphs."""
    tree = LexborHTMLParser(page)
    for node in tree.css("footer, script, style, pre, [hidden]"):
        node.decompose()
    for node in tree.css("p, dd, div.para"):
        text = " ".join(node.text(separator="").split())
        if len(text) >= LEAST_CHARS:
            yield text


def is_in(language: str, text: str) -> bool:
    """Whether a paragraph was translated: by its script, where that tells."""
    letters = [character for character in text if character.isalpha()]
    foreign = sum(ord(character) > 0x2FF for character in letters)
    return (language in LATIN) == (2 * foreign < len(letters))


def unpacked(package: Path, into: Path) -> Path:
    """The files of a package, in a folder."""
    subprocess.run(["dpkg-deb", "-x", str(package), str(into)], check=True)
    return into


def pages(folder: Path) -> Iterator[str]:
    """Paragraphs of all pages below a folder."""
    for path in sorted(folder.rglob("*.html")):
        yield from paragraphs(path.read_text(encoding="utf-8", errors="replace"))


def from_packages(folder: Path, work: Path) -> Iterator[tuple[dict[str, Any], Iterator[str]]]:
    """What is said of each file of the packages, and its paragraphs."""
    for package in sorted(folder.glob("*.deb")):
        root = work / package.name
        if match := HELP.match(package.name):
            texts = unpacked(package, root) / "usr/share/libreoffice/help"
            file = f"libreoffice-help-{match[1]}.txt"
            yield entry(file, match[1][:2], "MPL-2.0", "debian"), pages(texts)
        elif package.name.startswith("debian-handbook_"):
            books = unpacked(package, root) / "usr/share/doc/debian-handbook/html"
            for name in HANDBOOK:
                file, licence = f"debian-handbook-{name[:2]}.txt", "GPL-2+ or CC BY-SA 3.0"
                yield entry(file, name[:2], licence, "debian"), pages(books / name)


def from_xquad(data: Path) -> Iterator[tuple[dict[str, Any], Iterator[str]]]:
    """The passages of XQuAD by language; there is English enough."""
    by_language: dict[str, dict[str, None]] = {}
    with gzip.open(data / XQUAD, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts = by_language.setdefault(row["lang"], {})
            texts |= {" ".join(p["context"].split()): None for p in row["paragraphs"]}
    for language, texts in sorted(by_language.items()):
        if language != "en":
            yield entry(f"xquad-{language}.txt", language, "CC BY-SA 4.0", "qa_span"), iter(texts)


def entry(file: str, language: str, licence: str, origin: str) -> dict[str, Any]:
    """A row of `sources.json`."""
    return {
        "file": file,
        "language": language,
        "licence": licence,
        "is_confirmed": True,
        "origin": origin,
    }


def treebanks(folder: Path, out: Path) -> Iterator[dict[str, Any]]:
    """Treebanks under CC BY-SA 4.0, as they are."""
    for bank in sorted(path for path in folder.iterdir() if path.name.startswith("UD_")):
        language = LANGUAGES.get(bank.name.removeprefix("UD_").partition("-")[0])
        words = (bank / "LICENSE.txt").read_text(encoding="utf-8")
        is_open = re.search(r"Attribution-ShareAlike\s+4\.0", words)
        if language is None or not is_open or "NonCommercial" in words:
            sys.stdout.write(f"{bank.name}: left out\n")
            continue
        for path in sorted(bank.glob("*.conllu")):
            shutil.copyfile(path, out / path.name)
            yield entry(path.name, language, "CC BY-SA 4.0", bank.name)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--treebanks", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    rows = list(treebanks(asked.treebanks, asked.out)) if asked.treebanks else []
    with tempfile.TemporaryDirectory() as work:
        found = [*from_packages(asked.packages, Path(work)), *from_xquad(asked.data)]
        for row, texts in found:
            kept: dict[str, None] = {}
            size = 0
            for text in texts:
                if is_in(row["language"], text) and text not in kept and size < MOST_CHARS:
                    kept[text] = None
                    size += len(text)
            if kept:
                (asked.out / row["file"]).write_text("\n".join(kept) + "\n", encoding="utf-8")
                rows.append(row)
                sys.stdout.write(f"{row['file']}: {len(kept)} paragraphs, {size} characters\n")
    (asked.out / "sources.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
