"""A reference solver: reads generated passages back by their templates, and reasons over them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from chunkwise.training.nano.questions import coreference, counting, words
from chunkwise.training.nano.questions.relations import LINKS, MEASURES, RELATIONS

Found = tuple[str, int, dict[str, str]]


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w\})", template)
    body = "".join(
        f"(?P<{part[1]}>.+?)" if part.startswith("{") else re.escape(part) for part in parts
    )
    return re.compile(f"{body}$")


def _table(groups: dict[str, Sequence[Sequence[str]]]) -> list[tuple[int, re.Pattern[str], Found]]:
    """Patterns, those with most fixed letters first: they say more."""
    rows = [
        (len(re.sub(r"\{\w\}", "", template)), _pattern(template), (name, number, {}))
        for name, group in groups.items()
        for number, templates in enumerate(group)
        for template in templates
    ]
    return sorted(rows, key=lambda row: -row[0])


SAYS = _table(
    {
        "fact": [r.says for r in RELATIONS],
        "link": [link.says for link in LINKS],
        "job": [coreference._JOB],
        "opening": [coreference._OPENINGS],
        "number": [m.says for m in MEASURES],
        "bought": [counting._SAYS],
        "list": [("{s}: {v}.",)],
    }
)
ASKS = _table(
    {
        "fact": [r.asks for r in RELATIONS],
        "who": [r.finds for r in RELATIONS],
        "link": [link.finds for link in LINKS],
        "more": [m.asks for m in MEASURES],
        "count": [counting._ASKS],
        "list": [("Repeat the list of {s}.",)],
    }
)


def _match(table: list[tuple[int, re.Pattern[str], Found]], text: str) -> list[Found]:
    """All readings that are as sure as the surest."""
    found: list[tuple[int, Found]] = []
    for letters, pattern, (name, number, _) in table:
        if (match := pattern.match(text)) and (not found or letters == found[0][0]):
            found.append((letters, (name, number, match.groupdict())))
    return [reading for _, reading in found]


class World:
    """What some passages say; None stands for a passage that was taken out."""

    def __init__(self, passages: Sequence[str | None]) -> None:
        self.facts: list[tuple[str, int, str]] = []
        self.links: dict[tuple[int, str], str] = {}
        self.same: dict[str, str] = {}  # another name, or "the baker", to a name
        self.numbers: dict[tuple[int, str], int] = {}
        self.bought: dict[str, int] = {}
        self.lists: dict[str, str] = {}
        before: str | None = None
        for text in passages:
            before = self._read(text, before) if text is not None else None

    def _read(self, text: str, before: str | None) -> str | None:
        """Take a passage in; whom a pronoun in the next one means."""
        opened = None
        text = text.removeprefix(next((o for o in words.OPENERS if text.startswith(o)), ""))
        for name, number, said in _match(SAYS, text):
            subject = said["s"]
            if subject.casefold() in ("he", "she"):
                if before is None:
                    continue
                subject = before
            if name == "fact":
                self.facts.append((subject, number, said["v"]))
            if name == "job" or (name == "fact" and RELATIONS[number].pool == "job"):
                self.same["the " + said["v"].split(" ", 1)[-1].casefold()] = subject
            if name == "link":
                self.links[number, subject.casefold()] = said["a"]
                if LINKS[number].is_alias:
                    self.same[said["a"].casefold()] = subject
            if name == "number" and said["v"].isdecimal():
                self.numbers[number, subject.casefold()] = int(said["v"])
            if name == "bought":
                self.bought[subject.casefold()] = self.bought.get(subject.casefold(), 0) + 1
            if name == "list":
                self.lists[subject.casefold()] = said["v"]
            if name == "opening":
                opened = subject
        return opened

    def answer(self, question: str) -> str | None:
        """The answer; None if the passages do not tell it, or not without doubt."""
        for name, number, said in _match(ASKS, question):
            answers = {a.casefold(): a for a in getattr(self, f"_{name}")(number, said)}
            if len(answers) == 1:
                return next(iter(answers.values()))
        return None

    def _meant(self, phrase: str) -> str | None:
        for number, link in enumerate(LINKS):
            match = _pattern(link.named).match(phrase) if not link.is_alias else None
            if match:
                other = self.links.get((number, match["s"].casefold()))
                return None if other is None else self._meant(other)
        return self.same.get(phrase.casefold(), phrase).casefold()

    def _fact(self, number: int, said: dict[str, str]) -> list[str]:
        who = self._meant(said["s"])
        return [v for s, n, v in self.facts if n == number and self._meant(s) == who]

    def _who(self, number: int, said: dict[str, str]) -> list[str]:
        return [s for s, n, v in self.facts if n == number and v.casefold() == said["v"].casefold()]

    def _link(self, number: int, said: dict[str, str]) -> list[str]:
        other = self.links.get((number, said["s"].casefold()))
        return [] if other is None else [other]

    def _more(self, number: int, said: dict[str, str]) -> list[str]:
        pair = [said["a"], said["b"]]
        values = [self.numbers.get((number, name.casefold())) for name in pair]
        if None in values:
            return []
        return [pair[0] if values[0] > values[1] else pair[1]]  # type: ignore[operator]

    def _count(self, number: int, said: dict[str, str]) -> list[str]:
        count = self.bought.get(said["s"].casefold())
        return [] if count is None else [words.NUMBERS[count]]

    def _list(self, number: int, said: dict[str, str]) -> list[str]:
        known = self.lists.get(said["s"].casefold())
        return [] if known is None else [known]
