"""Where do sentences end, by language, and how fast is it found?

Question: boundary precision, recall and F1 of `RuleSegmenter` against gold sentences, beside a
    naive split after `.`, `!`, `?` and white space (and line breaks), beside spaces for Thai,
    beside a trained model where one is named, and beside pysbd where that is installed
    (`pip install pysbd`).
Why: chunks, quotations and citations are cut at these boundaries.
What it does not tell: how good the gold is. Treebanks join sentences of one document or of many
    by a space, so that headings and e-mail signatures, which a reader sees by their layout, can
    not be found; legal sets take an enumeration for one sentence (pt, it) or its number for a
    sentence of its own (es). The last boundary of a text is left out: it is found by anyone.
    Errors were read in the even documents only, but F1 of both halves was seen after each change
    and a few odd documents were read at the start: the odd half is a check, no clean test set.
    A row longer than 300 sentences counts as documents of 20 sentences each, so that in most
    languages the halves alternate within one text and share its style.
Usage: python benchmarks/sentences.py DATA_DIR [--model FOLDER]
    (a folder with sentences_*.jsonl.gz; a folder made by `chunkwise train segmenter`)
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from _machine import machine
from chunkwise.rag.sentences.learned import LearnedSegmenter
from chunkwise.rag.sentences.rules import RuleSegmenter

SETS = ("sentences_ud", "sentences_ud_en_ewt_train", "sentences_legal")
NAIVE = re.compile(r"[.!?]\s+|\n+|[。！？।]")
WRAP = 72
Ends = Callable[[str, str], list[int]]


class Text(NamedTuple):
    language: str
    is_odd: bool
    text: str
    ends: list[int]


def texts(path: Path) -> Iterator[Text]:
    """Documents with the offsets where their sentences end."""
    seen: dict[str, int] = defaultdict(int)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            spans = record.get("spans") or record["sentence_spans"]
            step = 20 if len(spans) > 300 else len(spans)
            for first in range(0, len(spans), step):
                part = spans[first : first + step]
                low, high = part[0][0], part[-1][1]
                text = record["text"][low:high]
                ends = [trimmed(text, end - low) for _, end in part]
                language = record["lang"]
                yield Text(language, bool(seen[language] % 2), text, ends)
                seen[language] += 1


def trimmed(text: str, end: int) -> int:
    while end > 0 and text[end - 1].isspace():
        end -= 1
    return end


def wrapped(text: str) -> str:
    """The text with line breaks in place of some spaces, as an editor or a PDF would wrap it."""
    characters, column, space = list(text), 0, -1
    for at, character in enumerate(text):
        column = 0 if character == "\n" else column + 1
        space = -1 if character == "\n" else at if character == " " else space
        if column > WRAP and space >= 0:
            characters[space], column, space = "\n", at - space, -1
    return "".join(characters)


def naive(text: str, language: str) -> list[int]:
    if language == "th":
        return [match.start() for match in re.finditer(r"\s+", text)]
    return [trimmed(text, match.end()) for match in NAIVE.finditer(text)]


def systems(model: str) -> dict[str, Ends]:
    segmenter = RuleSegmenter()
    found: dict[str, Ends] = {
        "naive": naive,
        "rules": lambda text, language: [end for _, end in segmenter.split(text, language)],
        "rules, guessing": lambda text, language: [end for _, end in segmenter.split(text)],
    }
    if model:
        learned = LearnedSegmenter(model)
        found["learned"] = lambda text, language: [end for _, end in learned.split(text, language)]
    if importlib.util.find_spec("pysbd"):
        found["pysbd"] = pysbd_ends()
    return found


def pysbd_ends() -> Ends:
    import pysbd
    from pysbd.languages import LANGUAGE_CODES

    segmenters: dict[str, Any] = {}

    def ends(text: str, language: str) -> list[int]:
        code = language if language in LANGUAGE_CODES else "en"
        if code not in segmenters:
            segmenters[code] = pysbd.Segmenter(language=code, clean=False, char_span=True)
        return [trimmed(text, span.end) for span in segmenters[code].segment(text)]

    return ends


def score(rows: list[Text], ends: Ends, *, is_wrapped: bool = False) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of both halves."""
    counts = {half: [0, 0, 0] for half in ("even", "odd")}
    for row in rows:
        text = wrapped(row.text) if is_wrapped else row.text
        last = trimmed(text, len(text))
        gold = set(row.ends) - {last}
        found = set(ends(text, row.language)) - {last}
        count = counts["odd" if row.is_odd else "even"]
        for at, value in enumerate((len(gold & found), len(found), len(gold))):
            count[at] += value
    return {
        half: {
            "precision": hits / max(1, found),
            "recall": hits / max(1, gold),
            "f1": 2 * hits / max(1, found + gold),
            "boundaries": gold,
        }
        for half, (hits, found, gold) in counts.items()
    }


def speed(ends: Ends, text: str, runs: int = 5) -> float:
    """Million characters a second: median of some runs after one to warm up."""
    ends(text, "en")
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        ends(text, "en")
        seconds.append(time.perf_counter() - began)
    return len(text) / 1e6 / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with sentences_*.jsonl.gz")
    parser.add_argument("--model", default="", help="folder of a trained segmenter")
    asked = parser.parse_args()
    data = asked.data
    tried, result = systems(asked.model), {"machine": machine(), "sets": {}, "mchars_per_s": {}}
    print(result["machine"])
    english = ""
    for name in SETS:
        by_language: dict[str, list[Text]] = defaultdict(list)
        for row in texts(data / f"{name}.jsonl.gz"):
            by_language[row.language].append(row)
        if name.endswith("ewt_train"):
            english = "\n".join(row.text for row in by_language["en"])
        for is_wrapped in (False, True) if name == "sentences_ud" else (False,):
            title = f"{name}{f' wrapped at {WRAP}' if is_wrapped else ''}"
            report(title, by_language, tried, result, is_wrapped=is_wrapped)
    for system, ends in tried.items():
        text = english[:100_000] if system == "pysbd" else english
        result["mchars_per_s"][system] = round(speed(ends, text, 1 if system == "pysbd" else 5), 3)
        print(f"{system}: {result['mchars_per_s'][system]} million characters a second (English)")
    print(json.dumps(result))


def report(
    title: str,
    by_language: dict[str, list[Text]],
    tried: dict[str, Ends],
    result: dict[str, Any],
    *,
    is_wrapped: bool,
) -> None:
    columns = "  ".join(f"{name:>22}" for name in tried)
    print(f"\n{title}: F1 even/odd documents\nlang  gold {columns}")
    rows = result["sets"].setdefault(title, {})
    for language, documents in sorted(by_language.items()):
        if is_wrapped and language in ("zh", "ja", "th"):
            continue  # no spaces to wrap at
        rows[language] = {
            name: score(documents, ends, is_wrapped=is_wrapped) for name, ends in tried.items()
        }
        gold = sum(half["boundaries"] for half in rows[language]["naive"].values())
        cells = "  ".join(
            f"{rows[language][name]['even']['f1']:>14.3f} / {rows[language][name]['odd']['f1']:.3f}"
            for name in tried
        )
        print(f"{language:4} {gold:5} {cells}")


if __name__ == "__main__":
    main()
