"""What passages say of somebody or something: sentences and the questions that fit them.

`{s}` stands for the subject and `{v}` for the value. Every sentence of a relation says the same,
so that a test can read them back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from chunkwise.training.nano.questions.names import Pool


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation in words.

    Attributes:
        pool: What its values are drawn from.
        says: Sentences.
        asks: Questions for the value.
        finds: Questions for the subject.
    """

    pool: Pool
    says: tuple[str, ...]
    asks: tuple[str, ...]
    finds: tuple[str, ...]


RELATIONS = (
    Relation(
        "thing",
        ("{s} keeps {v}.", "{s} owns {v}.", "{s} has {v}."),
        ("What does {s} keep?", "What does {s} own?", "Which thing does {s} have?"),
        ("Who keeps {v}?", "Who owns {v}?", "Who has {v}?"),
    ),
    Relation(
        "thing",
        ("{s} lost {v}.", "{s} mislaid {v}."),
        ("What did {s} lose?", "Which thing did {s} mislay?"),
        ("Who lost {v}?", "Who mislaid {v}?"),
    ),
    Relation(
        "city",
        ("{s} lives in {v}.", "{s} has a house in {v}.", "The home of {s} is in {v}."),
        ("Where does {s} live?", "In which town does {s} live?", "Where is the home of {s}?"),
        ("Who lives in {v}?", "Who has a house in {v}?"),
    ),
    Relation(
        "city",
        ("{s} was born in {v}.", "The birthplace of {s} is {v}."),
        ("Where was {s} born?", "What is the birthplace of {s}?"),
        ("Who was born in {v}?",),
    ),
    Relation(
        "job",
        ("{s} works as {v}.", "{s} is employed as {v}.", "{s} earns a living as {v}."),
        ("What does {s} work as?", "What is the job of {s}?"),
        ("Who works as {v}?", "Who is employed as {v}?"),
    ),
    Relation(
        "instrument",
        ("{s} plays {v}.", "{s} is learning {v}."),
        ("What does {s} play?", "Which instrument does {s} play?"),
        ("Who plays {v}?",),
    ),
    Relation(
        "beast",
        ("{s} raises {v}.", "{s} looks after {v}."),
        ("What does {s} raise?", "Which animals does {s} look after?"),
        ("Who raises {v}?", "Who looks after {v}?"),
    ),
    Relation(
        "language",
        ("{s} speaks {v}.", "{s} grew up with {v}."),
        ("What does {s} speak?", "Which language does {s} speak?"),
        ("Who speaks {v}?",),
    ),
    Relation(
        "science",
        ("{s} studies {v}.", "{s} takes lessons in {v}."),
        ("What does {s} study?", "Which subject does {s} study?"),
        ("Who studies {v}?",),
    ),
    Relation(
        "dish",
        ("{s} likes {v} best.", "{s} orders {v} every time."),
        ("What does {s} like best?", "Which dish does {s} order?"),
        ("Who likes {v} best?", "Who orders {v}?"),
    ),
    Relation(
        "year",
        ("{s} retired in {v}.", "{s} stopped working in {v}."),
        ("When did {s} retire?", "In which year did {s} stop working?"),
        ("Who retired in {v}?",),
    ),
)
"""Relations between somebody and a value."""


@dataclass(frozen=True, slots=True)
class Link:
    """How an earlier passage says who a later one is about.

    Attributes:
        says: Sentences; `{s}` is who is asked about, `{a}` who the later passage speaks of.
        named: How a question names `{a}` without saying it; `{s}` alone if they are the same.
        finds: Questions for `{a}` itself.
        is_alias: Whether `{a}` is another name of `{s}`, and not another person.
    """

    says: tuple[str, ...]
    named: str
    finds: tuple[str, ...]
    is_alias: bool


LINKS = (
    Link(
        (
            "{s} is also known as {a}.",
            "{a} is another name of {s}.",
            "Friends call {s} by the name {a}.",
            "The real name of {a} is {s}.",
        ),
        "{s}",
        ("By which other name is {s} known?", "What do friends call {s}?"),
        True,
    ),
    Link(
        ("{s} has a brother called {a}.", "{a} is the brother of {s}."),
        "the brother of {s}",
        ("Who is the brother of {s}?",),
        False,
    ),
    Link(
        ("{s} was taught by {a}.", "{a} is the teacher of {s}."),
        "the teacher of {s}",
        ("Who is the teacher of {s}?", "Who taught {s}?"),
        False,
    ),
    Link(
        ("{s} is married to {a}.", "{a} is the spouse of {s}."),
        "the spouse of {s}",
        ("Who is the spouse of {s}?",),
        False,
    ),
)
"""Links between two names."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that can be compared.

    Attributes:
        says: Sentences.
        asks: Questions for the one of `{a}` and `{b}` that has more of it.
        low: Smallest value.
        high: Largest value.
    """

    says: tuple[str, ...]
    asks: tuple[str, ...]
    low: int
    high: int


MEASURES = (
    Measure(
        ("{s} is {v} years old.", "The age of {s} is {v}."),
        ("Who is older, {a} or {b}?",),
        18,
        97,
    ),
    Measure(
        ("{s} has {v} coins.", "{s} has saved {v} coins."),
        ("Who has more coins, {a} or {b}?", "Who is richer, {a} or {b}?"),
        11,
        99,
    ),
    Measure(
        ("{s} won {v} points.", "The score of {s} was {v} points."),
        ("Who won more points, {a} or {b}?", "Who had the higher score, {a} or {b}?"),
        10,
        99,
    ),
)
"""Numbers of people."""


def say(chance: random.Random, templates: tuple[str, ...], **texts: str) -> str:
    """One of the templates, filled in, with a capital at the start."""
    text = chance.choice(templates).format(**texts)
    return text[0].upper() + text[1:]
