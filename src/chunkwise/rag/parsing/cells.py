"""Numbers of a spreadsheet as people read them: dates, times, percentages, amounts."""

from __future__ import annotations

import functools
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from chunkwise.rag.parsing.ooxml import find_local, local_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# Number formats that files refer to by id without defining them.
_DATE_IDS = frozenset((*range(14, 18), *range(27, 32), 34, 36, *range(50, 59)))
_TIME_IDS = frozenset((18, 19, 20, 21, 32, 33, 35, 45, 47))
_BUILT_IN = {9: "0%", 10: "0.00%", 22: "yyyy-mm-dd hh:mm", 46: "[h]:mm:ss", 49: "@"}
_LITERALS = re.compile(r'"[^"]*"|\\.|_.|\*.')
_BRACKETS = re.compile(r"\[[^\]]*\]")
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.I)
_CURRENCY = re.compile(r"\[\$([^\]-]+)(?:-[^\]]*)?\]|\"?([$€£¥₹₽₩]|CHF|EUR|USD|GBP|kr)\"?")
_MAX_SERIAL = 2_958_466  # 10000-01-01


class _Format(NamedTuple):
    """How a number is shown.

    Attributes:
        kind: `number`, `date`, `time`, `datetime`, `elapsed` or `percent`.
        decimals: Digits behind the point of a percentage or amount; None: as many as it has.
        before: Currency in front.
        after: Currency behind.
    """

    kind: str
    decimals: int | None = None
    before: str = ""
    after: str = ""


class NumberFormats:
    """The number formats of a workbook.

    Args:
        root: Root of its styles, or None.
        is_1904: Whether days are counted from 1904.
    """

    def __init__(self, root: Element | None, is_1904: bool) -> None:
        self._epoch = datetime(1904, 1, 1) if is_1904 else datetime(1899, 12, 30)
        self._codes = dict(_BUILT_IN)
        self._ids: list[int] = []
        for element in [] if root is None else root:
            if local_name(element) == "numFmts":
                for item in element:
                    self._codes[int(item.get("numFmtId", "0"))] = item.get("formatCode", "")
            elif local_name(element) == "cellXfs":
                self._ids = [int(x.get("numFmtId", "0")) for x in find_local(element, "xf")]

    def text(self, value: str, style: str) -> str:
        """A stored number as text.

        Args:
            value: As it is in the file.
            style: Index of the cell's style; may be empty.
        """
        try:
            number = float(value)
        except ValueError:
            return value
        index = int(style) if style.isdigit() else 0
        number_id = self._ids[index] if index < len(self._ids) else 0
        found = self._format(number_id)
        if found.kind in ("date", "time", "datetime") and 0 <= number < _MAX_SERIAL:
            return self._moment(number, found.kind)
        if found.kind == "elapsed":
            return _elapsed(number)
        if found.kind == "percent":
            return f"{_plain(number * 100, found.decimals)}%"
        return found.before + _plain(number, found.decimals) + found.after

    @functools.cached_property
    def _known(self) -> dict[int, _Format]:
        return {}

    def _format(self, number_id: int) -> _Format:
        if number_id not in self._known:
            self._known[number_id] = self._read(number_id)
        return self._known[number_id]

    def _read(self, number_id: int) -> _Format:
        if number_id not in self._codes:
            kind = "date" if number_id in _DATE_IDS else "number"
            return _Format("time" if number_id in _TIME_IDS else kind)
        return _read_code(self._codes[number_id])

    def _moment(self, serial: float, kind: str) -> str:
        if self._epoch.year == 1899 and serial < 60:
            serial += 1  # the calendar of 1900 has a 29th of February that never was
        moment = self._epoch + timedelta(seconds=round(serial * 86400))
        clock = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
        if kind == "time" and serial < 2:
            return clock
        day = f"{moment:%Y-%m-%d}"
        return day if kind == "date" and clock == "00:00" else f"{day} {clock}"


def _read_code(code: str) -> _Format:
    """What a format code shows of a positive number."""
    first = code.split(";")[0]
    if _ELAPSED.search(first):
        return _Format("elapsed")
    letters = _BRACKETS.sub("", _LITERALS.sub("", first)).lower()
    if "general" not in letters:
        has_day, has_hour = bool(re.search("[dy]|mmm", letters)), "h" in letters or "s" in letters
        has_day = has_day or (letters.strip() in ("m", "mm"))
        if has_day or has_hour:
            both = "datetime" if has_day and has_hour else "date"
            return _Format(both if has_day else "time")
    decimals = re.search(r"\.([0?#]+)", letters)
    places = len(decimals[1]) if decimals else 0
    if "%" in letters:
        return _Format("percent", places)
    sign = _CURRENCY.search(first)
    if sign is None or not re.search("[0#?]", letters):
        return _Format("number")
    text = (sign[1] or sign[2]).strip()
    digits_at = re.search("[0#?]", first)
    is_before = digits_at is not None and sign.start() < digits_at.start()
    before = text if len(text) == 1 else f"{text} "
    return _Format("number", places, before if is_before else "", "" if is_before else f" {text}")


def _plain(number: float, decimals: int | None) -> str:
    """Without exponents for the usual sizes, and without the noise of binary fractions."""
    if decimals is not None and abs(number) < 1e15:
        shown = f"{number:.{decimals}f}"
        # Rounding for show must not hide what is there.
        if abs(float(shown) - number) <= 1e-9 * max(1.0, abs(number)):
            return shown
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    text = f"{number:.15g}"
    if "e" in text and 1e-9 < abs(number) < 1e15:
        text = f"{number:.15f}".rstrip("0")
    return text


def _elapsed(days: float) -> str:
    seconds = round(abs(days) * 86400)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    sign = "-" if days < 0 else ""
    tail = f":{seconds % 60:02}" if seconds % 60 else ""
    return f"{sign}{hours}:{minutes:02}{tail}"
