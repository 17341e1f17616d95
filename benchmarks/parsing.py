"""How much of a document's text do the parsers keep, in what order, and how fast are PDFs?

    python benchmarks/parsing.py DATA_DIR [--low SHARE] [--runs N]

Question. (1) For files with expected text (`docling/expected_md/NAME.md`): how near do the
parsed words come to it? `f1` compares words as a bag, `order` is difflib's ratio of the two word
sequences, 2 * matched / total, so words in another order count as lost. Markdown mark-up is
stripped from the expected text first. (2) For PDFs, which have no expected text: the share of
letters and digits of pdfium's own plain text that the parsed text holds, each occurrence
counted (`kept`: running headers and page numbers left in; `filtered`: without them), the
share of known answers that stand in it as one string, and pages a second of CPU time.
Baseline of (2), in the same run: pdfium's plain text.

Why. Text that a parser loses or mixes up can never be found, however good the rest is.

What it does not tell. The expected text was written by another program (docling), with its own
choices: pictures' descriptions, furniture, headings of sheets. A file far from it need not be
wrong; look at the ones that are listed. Text in the wrong column still counts as kept;
`evidence` (sentences of papers that people marked as evidence, found as one string) tells more
of reading order. 10-Q answers are numbers that people quoted; some were computed by them
and stand in no document.

Data: `docling`, `markitdown`, `sample-files`, `sec_10q`, `uda_pdf` in DATA_DIR.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import pypdfium2

from _machine import machine
from chunkwise.errors import ChunkwiseError
from chunkwise.rag.parsing import parse
from chunkwise.rag.parsing.pdf import PdfParser

_WORD = re.compile(r"\w+")
_MARKUP = (
    (re.compile(r"<!--.*?-->", re.DOTALL), " "),
    (re.compile(r"<[^<>]+>"), " "),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"^\s*\|?[\s|:-]+\|?\s*$", re.MULTILINE), " "),
    (re.compile(r"^```.*$", re.MULTILINE), " "),
    (re.compile(r"\\([_*#`|\\])"), r"\1"),
    (re.compile(r"&(amp|lt|gt|quot);"), " "),
    (re.compile(r"(\*\*|\*|~~|`|\b__|__\b)"), ""),
)


def words(text: str) -> list[str]:
    """Words, case folded, compatibility characters made equal."""
    text = unicodedata.normalize("NFKC", text).replace("_", " ")
    return _WORD.findall(text.casefold())


def without_markup(markdown: str) -> str:
    """The text that a reader of the Markdown sees."""
    for pattern, replacement in _MARKUP:
        markdown = pattern.sub(replacement, markdown)
    return markdown


def f1(found: list[str], expected: list[str]) -> float:
    """Bag-of-words F1."""
    common = sum((Counter(found) & Counter(expected)).values())
    return 2 * common / max(len(found) + len(expected), 1)


def order(found: list[str], expected: list[str]) -> float:
    """Ratio of the sequences: words in another order are lost."""
    return SequenceMatcher(None, found, expected, autojunk=False).ratio()


@dataclass
class Scored:
    """A file beside its expected text."""

    name: str
    format: str
    f1: float
    order: float
    missing: list[str]
    extra: list[str]


def score_expected(folder: Path, failures: dict[str, str]) -> list[Scored]:
    """Scores of all files of `folder` that have an expected text."""
    scored = []
    for expected_path in sorted((folder / "expected_md").glob("*.md")):
        path = folder / expected_path.stem
        if not path.exists():
            failures[expected_path.name] = "no file of that name"
            continue
        try:
            document = parse(path.read_bytes(), name=path.name)
        except ChunkwiseError as error:
            failures[path.name] = str(error)
            continue
        # The text of a Markdown file is its source, mark-up and all.
        text = without_markup(document.text) if path.suffix == ".md" else document.text
        found, expected = words(text), words(without_markup(expected_path.read_text()))
        scored.append(
            Scored(
                path.name,
                path.suffix[1:],
                f1(found, expected),
                order(found, expected),
                [w for w, _ in (Counter(expected) - Counter(found)).most_common(8)],
                [w for w, _ in (Counter(found) - Counter(expected)).most_common(8)],
            )
        )
    return scored


def print_formats(scored: list[Scored], low: float) -> dict[str, dict[str, float]]:
    """The table by format, then the files below `low`."""
    print(f"\n{'format':<8}{'n':>4}{'f1 mean':>10}{'f1 min':>9}{'order mean':>12}{'order min':>11}")
    summary = {}
    for suffix in sorted({s.format for s in scored}):
        group = [s for s in scored if s.format == suffix]
        bags, orders = [s.f1 for s in group], [s.order for s in group]
        means = statistics.mean(bags), min(bags), statistics.mean(orders), min(orders)
        names = ("f1_mean", "f1_min", "order_mean", "order_min")
        summary[suffix] = {"n": len(group), **dict(zip(names, means, strict=True))}
        a, b, c, d = means
        print(f"{suffix:<8}{len(group):>4}{a:>10.3f}{b:>9.3f}{c:>12.3f}{d:>11.3f}")
    for s in sorted(scored, key=lambda s: s.order):
        if s.order < low:
            print(f"  low: {s.name}: f1 {s.f1:.3f}, order {s.order:.3f}")
            print(f"       missing: {' '.join(s.missing)} | more: {' '.join(s.extra)}")
    return summary


def plain_text(data: bytes) -> str:
    """pdfium's own text, page after page; words that it joins over line ends stay joined."""
    pdf = pypdfium2.PdfDocument(data)
    try:
        pages = [page.get_textpage().get_text_range() for page in pdf]
    finally:
        pdf.close()
    return "\n".join(pages).replace("\ufffe", "").replace("\u00ad", "")


def share_kept(text: str, plain: str) -> float:
    """Share of the letters and digits of `plain` in `text`, counted with repetition.

    Characters, not words: mending a word that a line end cuts must not count as a loss.
    Nothing lost can hide behind an equal word elsewhere, as each occurrence counts.
    """
    have, wanted = Counter("".join(words(text))), Counter("".join(words(plain)))
    return sum((have & wanted).values()) / max(wanted.total(), 1)


def seconds(parsed: Callable[[], object], runs: int) -> float:
    """Median CPU time of one thread; the caller has run it once already."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        parsed()
        times.append(time.process_time() - start)
    return statistics.median(times)


def measure_pdfs(
    folder: Path, runs: int, failures: dict[str, str]
) -> tuple[list[dict[str, object]], dict]:
    """Rows of the PDF table, and the parsed and the plain text by path."""
    rows, texts = [], {}
    for path in sorted(folder.rglob("*.pdf")):
        data = path.read_bytes()
        try:
            document = PdfParser().parse(data, name=path.name)
        except ChunkwiseError as error:
            failures[path.name] = str(error)
            continue
        plain = plain_text(data)
        whole = PdfParser(keep_furniture=True).parse(data, name=path.name)
        taken = seconds(lambda data=data, name=path.name: PdfParser().parse(data, name=name), runs)
        base = seconds(lambda data=data: plain_text(data), runs)
        pages = len(document.pages)
        rows.append(
            {
                "name": path.name,
                "pages": pages,
                "kept": share_kept(whole.text, plain),
                "kept_without_furniture": share_kept(document.text, plain),
                "pages_per_s": pages / taken,
                "plain_pages_per_s": pages / base,
                "seconds": taken,
            }
        )
        texts[path.relative_to(folder).as_posix()] = (document.text, plain)
    return rows, texts


def print_pdfs(rows: list[dict[str, object]]) -> dict[str, float]:
    """The PDF table and its summary."""
    print(f"\n{'PDF':<46}{'pages':>6}{'kept':>8}{'filtered':>10}{'pages/s':>9}{'plain':>8}")
    for r in rows:
        print(
            f"{str(r['name'])[:45]:<46}{r['pages']:>6}{r['kept']:>8.4f}"
            f"{r['kept_without_furniture']:>10.4f}{r['pages_per_s']:>9.0f}"
            f"{r['plain_pages_per_s']:>8.0f}"
        )
    kept = [float(r["kept"]) for r in rows]
    total = sum(int(r["pages"]) for r in rows) / sum(float(r["seconds"]) for r in rows)
    print(f"kept: mean {statistics.mean(kept):.4f}, min {min(kept):.4f}; all: {total:.1f} pages/s")
    return {"n": len(rows), "kept_mean": statistics.mean(kept), "kept_min": min(kept),
            "pages_per_s": total}  # fmt: skip


def solid(text: str) -> str:
    """Letters and digits alone, so that spacing and hyphens make no difference."""
    return "".join(words(text)).replace(" ", "")


def paper_answers(folder: Path) -> Iterator[tuple[str, str, str]]:
    """File, kind and string of the papers' extractive answers and evidence.

    The data set's text has place-holders for citations and formulas; the parts between are
    what can be found.
    """
    path = folder / "uda_pdf" / "paper_questions.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        asked = json.loads(line)
        name = f"uda_pdf/{asked['pdf']}"
        for answer in asked["answers"]:
            if answer["type"] == "extractive":
                yield from ((name, "answers", part) for part in parts(answer["answer"], 1))
        for evidence in asked["evidence"]:
            for text in evidence["raw_evidence"] + evidence["highlighted_evidence"]:
                yield from ((name, "evidence", part) for part in parts(text, 40))


def parts(text: str, least: int) -> list[str]:
    """Parts between place-holders, of at least so many letters and digits."""
    pieces = re.split(r"[A-Z]+REF\d+|FLOAT SELECTED|INLINEFORM\d+|DISPLAYFORM\d+|\$[^$]*\$", text)
    return [piece for piece in pieces if len(solid(piece)) >= least]


def filing_numbers(folder: Path) -> Iterator[tuple[str, str, str]]:
    """File, kind and amounts that answers quote; any of the filings may hold them."""
    path = folder / "sec_10q" / "qna.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        for number in re.findall(r"\d{1,3}(?:,\d{3})+", json.loads(line)["Answer"]):
            yield "sec_10q", "numbers", number


def score_answers(folder: Path, texts: dict) -> dict[str, dict[str, float]]:
    """Shares of answers that stand in the parsed text and in pdfium's plain text."""
    filings = [pair for name, pair in texts.items() if name.startswith("sec_10q/")]
    texts = {**texts, "sec_10q": tuple(map(" ".join, zip(*filings, strict=True)))}
    solids = {name: (solid(a), solid(b)) for name, (a, b) in texts.items()}
    found: dict[str, list[tuple[bool, bool]]] = {}
    for name, kind, answer in {*paper_answers(folder), *filing_numbers(folder)}:
        if name in texts and solid(answer):
            pair = texts[name] if kind == "numbers" else solids[name]
            wanted = answer if kind == "numbers" else solid(answer)
            found.setdefault(kind, []).append((wanted in pair[0], wanted in pair[1]))
    print(f"\n{'found in the text':<20}{'n':>5}{'parsed':>9}{'plain':>8}")
    summary = {}
    for kind, pairs in sorted(found.items()):
        ours, plain = (statistics.mean(pair[i] for pair in pairs) for i in (0, 1))
        summary[kind] = {"n": len(pairs), "parsed": ours, "plain": plain}
        print(f"{kind:<20}{len(pairs):>5}{ours:>9.3f}{plain:>8.3f}")
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with docling, sec_10q, uda_pdf ...")
    parser.add_argument("--low", type=float, default=0.95, help="list files with less order")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each PDF")
    options = parser.parse_args()
    failures: dict[str, str] = {}
    print(machine())
    scored = score_expected(options.data / "docling", failures)
    formats = print_formats(scored, options.low)
    rows, texts = measure_pdfs(options.data, options.runs, failures)
    pdfs = print_pdfs(rows) if rows else {}
    answers = score_answers(options.data, texts)
    print("\nnot parsed:")
    for name, reason in failures.items():
        print(f"  {name}: {reason}")
    report = {"benchmark": "parsing", "machine": machine(), "formats": formats, "pdf": pdfs}
    print(json.dumps({**report, "answers": answers, "failures": failures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
