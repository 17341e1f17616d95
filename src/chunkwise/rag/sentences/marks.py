"""The characters and patterns the rules look for."""

from __future__ import annotations

import re

BREAKS = "\n\r\f\v\x85\u2028\u2029"
"""Characters that end a line."""

SOFT = ".!?…؟‼⁇⁈⁉‽"
"""Terminators that end a sentence only before white space, and not always."""

HARD = "。！？｡।॥۔။។៕።՞։"
"""Terminators that need no white space after them."""

QUOTES = "\"'”’“‘»«›‹」』＂＇〞"
CLOSERS = QUOTES + ")]}）】〉》］*_`\u200b\u200e\u200f\u2060"
OPENERS = "\"'“‘«»„‚‹›([{¿¡「『（【〈《［*_`\u200e\u200f"

_SOFT = re.escape(SOFT)
_NOTE = r"(?:\[[^\W_]{1,4}\]){0,4}+"  # a footnote mark, as in "ended.[12]"
_CLOSE = rf"(?:[{re.escape(CLOSERS)}]{{1,8}}+[.!?…]{{0,3}}+)?+{_NOTE}"
_CLOSE_HARD = rf"[{re.escape(re.sub('[“‘«]', '', CLOSERS))}]{{0,8}}+{_NOTE}"  # those open as well
_SPACED = r"|(?<=[ก-๙”\"’'\d)] )(?=[ก-๙“\"])"

# One set of characters first, so that the engine can skip to the next candidate; runs are bounded
# and possessive, so that no input is read more than a constant number
# of times. A run of more than 65 terminators ends nothing.
_TAIL = (
    rf"(?:(?<=[{BREAKS}])"
    rf"|(?<=[{HARD}])[{HARD}{_SOFT}]{{0,16}}+{_CLOSE_HARD}"
    rf"|(?<=[{_SOFT}])(?<![{_SOFT}]{{2}})[{_SOFT}]{{0,64}}+{_CLOSE}"
    r"(?:(?=\s|\Z)|(?<=[!?…])(?=[^\W\d_]))"
)
CANDIDATE = re.compile(rf"[{BREAKS}{HARD}{_SOFT}]{_TAIL})")
"""Every place where a sentence may end: a terminator with what closes after it, or a line break."""

CANDIDATE_THAI = re.compile(rf"[ {BREAKS}{HARD}{_SOFT}]{_TAIL}{_SPACED})")
"""The same, and spaces between Thai letters."""

MAX_SPACE = 256
SPACE = re.compile(rf"\s{{0,{MAX_SPACE}}}+")
NEXT = re.compile(
    rf"[{re.escape(OPENERS)}]{{0,8}}+(?:[-–—]{{1,3}}+ ?)?+[{re.escape(OPENERS)}]{{0,8}}+"
    r"(?P<word>[^\W_]{0,40}+)"
)
"""From the first character after the space: what opens, a dash, the first word."""

_BREAK = rf"(?:\r\n|[{BREAKS}])"
BLANK_LINE = re.compile(rf"{_BREAK}[^\S{BREAKS}]*{_BREAK}")
LINE_BREAK = re.compile(rf"[{BREAKS}]")

ITEM = re.compile(
    r"(?:[-*+•‣⁃▪▫◦●○■□–—·»►✓]\s|[(\[]?(?:\d{1,3}|[A-Za-z]|[ivxlcIVXLC]{1,6})[.)\]]\s"
    r"|\d{1,3}(?:\.\d{1,3}){1,4}\.?\s|#{1,6}\s|\||>|={3}|-{3}|\*{3}|~{3}|```|:::|\[\d{1,3}\]|§)"
)
"""How a list item, heading mark, table row, quotation or rule begins a line."""

MARKER = re.compile(
    r"\W{0,3}(?:(?:Tab|Fig|Abb|Табл)[^\W\d_]{0,7} \d{1,3}(?:\.\d{1,3}){0,2}"
    r"|\d{1,4}(?:\.\d{1,3}){0,4}|[A-Za-z]|[ivxlcIVXLC]{1,6}|[А-Яа-я])\W{0,2}\Z"
)
"""A sentence that is nothing yet but the number of an item or a table."""

ROMAN = re.compile(r"[IVXLCDM]{1,6}\Z")
PARTICLE = re.compile(
    r"[とっのをがはにでもやへなか、，,だと]|という|など|와|과|라고|이라고|고 |하고|라는"
)
"""What goes on after a closed quotation in Japanese and Korean."""
