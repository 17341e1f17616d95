"""Headings of a PDF: by its outline, by font size and weight, and by numbering."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chunkwise.rag.parsing.geometry import Line
from chunkwise.rag.parsing.paragraphs import Draft, body_size

_SECTION = re.compile(
    r"^(?:(?P<number>\d{1,2}(?:\.\d{1,2}){0,4})\.?|(?P<roman>[IVX]{1,5})\.|(?P<letter>[A-Z])\.?)\s+"
    r"(?=[^\W\d_])"
)
_DIVISIONS = ("part", "chapter", "article", "item", "section")
_NAMED = re.compile(rf"^({'|'.join(_DIVISIONS)})\s+[\dIVX]+[A-Z]?\b", re.IGNORECASE)
_LONG_WORD = re.compile(r"[^\W\d_]{4}")
_LONGEST, _MOST_LINES, _DEEPEST = 160, 4, 6


class Bookmark(NamedTuple):
    """An entry of a document's outline: title, depth from 1, page from 1 if it says so."""

    title: str
    level: int
    page: int | None


class _Look(NamedTuple):
    """What headings of one level share; sorts the most prominent first."""

    minus_size: float
    weight: int
    named: int


def set_headings(drafts: Sequence[Draft], outline: Sequence[Bookmark]) -> None:
    """Turn paragraphs that are headings into headings with levels, in place.

    A bookmark makes a heading only of a paragraph with its very words on its page; an
    outline that matches nothing changes nothing.
    """
    whole, near = _bodies(drafts)
    bold_body = _bold_share(drafts) > 0.4
    marked = _matches(drafts, outline)
    found: dict[int, Draft] = {}
    for i, draft in enumerate(drafts):
        following = drafts[i + 1] if i + 1 < len(drafts) else None
        local = near[draft.lines[0].page]
        body = (min(local, whole), max(local, whole))
        if i in marked or _is_heading(draft, following, body, bold_body):
            found[i] = draft
    levels = _levels(found, marked)
    for i, draft in found.items():
        draft.kind, draft.level = "heading", max(1, min(levels[i], _DEEPEST))


def _bodies(drafts: Sequence[Draft]) -> tuple[float, dict[int, float]]:
    """Font size of most characters, of the document and around each page."""
    pages: dict[int, list[Line]] = {}
    for draft in drafts:
        pages.setdefault(draft.lines[0].page, []).extend(draft.lines)
    whole = body_size(line for lines in pages.values() for line in lines)
    near = {
        page: body_size(x for p in range(page - 2, page + 3) for x in pages.get(p, ()))
        for page in pages
    }
    return whole, near


def _bold_share(drafts: Sequence[Draft]) -> float:
    sizes = [(line.style.bold, len(line.text)) for draft in drafts for line in draft.lines]
    return sum(n for bold, n in sizes if bold) / max(sum(n for _, n in sizes), 1)


def plain(draft: Draft) -> str:
    """The text of a short draft, lines parted by spaces."""
    return " ".join(line.text for line in draft.lines)


def _key(text: str) -> str:
    """Letters and digits of a title, without its section number."""
    bare = _SECTION.sub("", " ".join(text.split()))
    return "".join(c for c in bare.casefold() if c.isalnum())


def _matches(drafts: Sequence[Draft], outline: Sequence[Bookmark]) -> dict[int, int]:
    """Level by index of draft, for drafts that a bookmark names."""
    titles: dict[str, list[Bookmark]] = {}
    for bookmark in outline:
        titles.setdefault(_key(bookmark.title), []).append(bookmark)
    found = {}
    for i, draft in enumerate(drafts):
        if draft.kind not in ("paragraph", "list_item") or len(draft.lines) > _MOST_LINES:
            continue
        for bookmark in titles.get(_key(plain(draft)), ()) if _key(plain(draft)) else ():
            if bookmark.page in (None, draft.lines[0].page):
                found[i] = bookmark.level
    return found


def _is_heading(
    draft: Draft, following: Draft | None, body: tuple[float, float], bold_body: bool
) -> bool:
    text, first = plain(draft), draft.lines[0]
    letters = [c for c in text if c.isalpha()]
    if draft.kind not in ("paragraph", "list_item") or len(draft.lines) > _MOST_LINES:
        return False
    if len(letters) < 3 or len(text) > _LONGEST or "@" in text:
        return False
    numbered = bool(_SECTION.match(text))
    if len(first.cells) > (2 if numbered else 1):
        return False
    if draft.kind == "list_item" and not numbered:
        return False
    if text.endswith((",", ";")) or first.text[:1].islower():
        return False
    if first.size >= 1.15 * body[1]:
        return not (numbered and text.endswith(".") and len(text) > 80)
    closed = text.endswith((".", ":")) or len(draft.lines) > 2
    if closed or following is None or first.size < 0.95 * body[0]:
        return False
    if all(line.style.bold for line in draft.lines) and not bold_body:
        return True
    if first.style.italic and len(draft.lines) == 1 and following.kind == "paragraph":
        alone = not following.lines[0].style.italic and len(text) < 80
        return alone and bool(_LONG_WORD.search(text))
    return numbered and all(c.isupper() for c in letters)


def _levels(found: Mapping[int, Draft], marked: Mapping[int, int]) -> dict[int, int]:
    """Levels: the outline's, else that of outlined headings of one look, else rank of looks."""
    looks = {i: _look(draft) for i, draft in found.items()}
    title = _title(found, looks)
    shift = 1 if title is not None and title not in marked else 0
    ranks = {look: rank for rank, look in enumerate(sorted(set(looks.values())), 1)}
    by_look: dict[_Look, Counter[int]] = {}
    for i, level in marked.items():
        by_look.setdefault(looks[i], Counter())[level + shift] += 1
    levels = {}
    for i, look in looks.items():
        known = by_look.get(look)
        level = known.most_common(1)[0][0] if known else ranks[look]
        levels[i] = marked[i] + shift if i in marked else level
    return _numbered(found, levels, marked)


def _numbered(
    found: Mapping[int, Draft], levels: dict[int, int], marked: Mapping[int, int]
) -> dict[int, int]:
    """Section numbers set levels: `2.1` stands one below `2`."""
    depths = {i: _depth(draft) for i, draft in found.items()}
    tops = Counter(levels[i] for i, depth in depths.items() if depth == 1)
    if not tops:
        return levels
    top = tops.most_common(1)[0][0]
    for i, depth in depths.items():
        if depth and i not in marked:
            levels[i] = top + depth - 1
    return levels


def _depth(draft: Draft) -> int:
    match = _SECTION.match(plain(draft))
    if match is None or not match["number"]:
        return 0
    return match["number"].count(".") + 1


def _look(draft: Draft) -> _Look:
    line = draft.lines[0]
    weight = 0 if line.style.bold else 2 if line.style.italic else 1
    match = _NAMED.match(line.text)
    named = _DIVISIONS.index(match[1].casefold()) if match else len(_DIVISIONS)
    return _Look(-round(line.size), weight, named)


def _title(found: Mapping[int, Draft], looks: Mapping[int, _Look]) -> int | None:
    """The one most prominent heading of the first page, if no other looks like it."""
    if not found:
        return None
    top = min(looks.values())
    first = [i for i, look in looks.items() if look == top]
    page = min(draft.lines[0].page for draft in found.values())
    alone = len(first) == 1 and found[first[0]].lines[0].page == page
    return first[0] if alone else None
