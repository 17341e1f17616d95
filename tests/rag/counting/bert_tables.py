"""Makes the data files of the `minilm` counter from a BERT uncased `tokenizer.json`.

    python tests/rag/counting/bert_tables.py tokenizer.json OUT_FOLDER

The character classes are asked from `tokenizers` itself, one code point at a time, because its
Unicode tables are older than Python's and differ from them in some thousand places.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

HANGUL = range(0xAC00, 0xD7A4)
SURROGATES = range(0xD800, 0xE000)


def classify(tokenizer: Any, code: int) -> tuple[str, str]:
    """Class (`word`, `deleted`, `space`, `punctuation`, `cjk`) and normalised form."""
    char = chr(code)
    normal = tokenizer.normalizer.normalize_str(char)
    if not normal:
        return "deleted", ""
    if normal == " ":
        return "space", ""
    if normal[0] == " ":
        return "cjk", normal.strip(" ")
    parts = tokenizer.pre_tokenizer.pre_tokenize_str(f"a{normal}b")
    return ("word" if len(parts) == 1 else "punctuation"), normal


def tables(tokenizer: Any, codes: Iterable[int]) -> dict[str, Any]:
    """`{class: [[first, last], ...], "map": {char: normalised}}` of the code points."""
    found: dict[str, list[int]] = {"deleted": [], "space": [], "punctuation": [], "cjk": []}
    mapped = {}
    for code in codes:
        if code in SURROGATES:
            continue
        kind, normal = classify(tokenizer, code)
        if kind != "word":
            found[kind].append(code)
        if kind in ("word", "punctuation") and normal != chr(code) and code not in HANGUL:
            mapped[chr(code)] = normal
    return {**{kind: list(_runs(codes)) for kind, codes in found.items()}, "map": mapped}


def _runs(codes: list[int]) -> Iterator[list[int]]:
    first = last = None
    for code in codes:
        if last is None or code != last + 1:
            if first is not None:
                yield [first, last]
            first = code
        last = code
    if first is not None:
        yield [first, last]


def main(source: str, out: str) -> None:
    tokenizer = Tokenizer.from_file(source)
    vocab = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    for name, text in {
        "bert_uncased_vocab.txt.gz": "\n".join(vocab) + "\n",
        "bert_uncased_chars.json.gz": json.dumps(tables(tokenizer, range(0x110000))),
    }.items():
        Path(out, name).write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
