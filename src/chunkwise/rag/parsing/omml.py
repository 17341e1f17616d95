"""Equations of Office files (OMML) as linear text: `(a+b)/2`, `x^2`, `√(x)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chunkwise.rag.parsing.ooxml import local_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"


def equation_text(element: Element) -> str:
    """The equation in one line; a base before its scripts, brackets where they are needed."""
    name = local_name(element)
    if name == "t":
        return (element.text or "").replace("\u2061", "")  # an invisible "apply function"
    if name in _WRITERS:
        return _WRITERS[name](element)
    if name.endswith("Pr"):
        return ""
    return "".join(map(equation_text, element))


def _part(element: Element, name: str) -> str:
    found = element.find(MATH + name)
    return "" if found is None else equation_text(found)


def _value(element: Element, properties: str, name: str, default: str) -> str:
    found = element.find(f"{MATH}{properties}/{MATH}{name}")
    return default if found is None else found.get(f"{MATH}val", default)


def _grouped(text: str) -> str:
    return text if len(text) <= 1 or text.isalnum() else f"({text})"


def _fraction(e: Element) -> str:
    top, bottom = _part(e, "num"), _part(e, "den")
    if _value(e, "fPr", "type", "bar") == "noBar":
        return f"{top}¦{bottom}"
    return f"{_grouped(top)}/{_grouped(bottom)}"


def _radical(e: Element) -> str:
    degree = _part(e, "deg")
    sign = {"": "√", "2": "√", "3": "∛", "4": "∜"}.get(degree, f"{degree}√")
    return f"{sign}({_part(e, 'e')})"


def _scripts(e: Element) -> str:
    sub, sup = _part(e, "sub"), _part(e, "sup")
    below = f"_{_grouped(sub)}" if sub else ""
    return f"{_part(e, 'e')}{below}{f'^{_grouped(sup)}' if sup else ''}"


def _scripts_before(e: Element) -> str:
    return f"_{_grouped(_part(e, 'sub'))}^{_grouped(_part(e, 'sup'))}{_part(e, 'e')}"


def _operator(e: Element) -> str:
    sign = _value(e, "naryPr", "chr", "∫")
    sub, sup = _part(e, "sub"), _part(e, "sup")
    below = f"_{_grouped(sub)}" if sub else ""
    return f"{sign}{below}{f'^{_grouped(sup)}' if sup else ''} {_part(e, 'e')}"


def _delimited(e: Element) -> str:
    inner = _value(e, "dPr", "sepChr", "|").join(equation_text(x) for x in e.findall(f"{MATH}e"))
    return f"{_value(e, 'dPr', 'begChr', '(')}{inner}{_value(e, 'dPr', 'endChr', ')')}"


def _matrix(e: Element) -> str:
    rows = (row.findall(f"{MATH}e") for row in e.findall(f"{MATH}mr"))
    return "[" + "; ".join(", ".join(map(equation_text, row)) for row in rows) + "]"


def _lines(e: Element) -> str:
    return "; ".join(equation_text(x) for x in e.findall(f"{MATH}e"))


def _accented(e: Element) -> str:
    return _part(e, "e") + _value(e, "accPr", "chr", "\u0302")


def _function(e: Element) -> str:
    argument = _part(e, "e")
    return f"{_part(e, 'fName')} {argument}" if argument else _part(e, "fName")


def _limit(e: Element) -> str:
    mark = "_" if local_name(e) == "limLow" else "^"
    return f"{_part(e, 'e')}{mark}{_grouped(_part(e, 'lim'))}"


_WRITERS: dict[str, Callable[[Element], str]] = {
    "f": _fraction,
    "rad": _radical,
    "sSub": _scripts,
    "sSup": _scripts,
    "sSubSup": _scripts,
    "sPre": _scripts_before,
    "nary": _operator,
    "d": _delimited,
    "m": _matrix,
    "eqArr": _lines,
    "acc": _accented,
    "func": _function,
    "limLow": _limit,
    "limUpp": _limit,
}
