"""Successive halving: all configurations answer a few questions, the better half of them more.

Source: successive halving (Jamieson and Talwalkar, 2016), with questions as the resource.
Differs: the present settings are never dropped, so all that is said is said against them; it stops
    as soon as the leader is clearly better than all that are left (`verdict.py`), and three
    or more are left at the end and compared, not one.
Exact when: all questions are asked of all, which is so where there are few questions or
    configurations.
Cost: with `n` configurations and `q` questions about `q * n * rounds / eta^(rounds - 1)` answers in
    place of `q * n`.
Helps or hurts: a configuration that does badly on the first questions by chance is lost; the more
    alike the configurations are, the more often that happens, and the less it costs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.evaluation.bootstrap import Floats
from chunkwise.tuning.verdict import Verdict, decide, estimate

C = TypeVar("C")
Q = TypeVar("Q")
Row = Mapping[str, float]

LEAST_ASKED: Final = 16
"""Questions of a configuration before anything is said of it, where there are so many."""
_MOST_ROUNDS: Final = 6
_LOOKS: Final = 3
"""Rounds also where nothing is dropped: a clear leader is seen before all questions are asked."""
_ERROR: Final = 0.05
_FINALISTS: Final = 3
"""Configurations that are left at least: equals of the best should not be lost by halving."""


class OutOfTime(Exception):
    """The time is up. Internal: the race ends with what is known.

    Args:
        rows: Rows of the first questions that were finished before.
    """

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        super().__init__("the time is up")
        self.rows = list(rows)


class Deadline:
    """When a run must end.

    Args:
        seconds: How long it may take from now.
        clock: Seconds that only grow.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start = clock, clock()
        self._end = self._start + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; negative when it is over."""
        return self._end - self._clock()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def check(self, needed: float = 0.0) -> None:
        """Go on only where so many seconds are left.

        Raises:
            OutOfTime: They are not.
        """
        if self.left <= needed:
            raise OutOfTime


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Attributes:
        questions: Questions that those in it have been asked at its end.
        configurations: How many are in it, the present settings not counted.
    """

    questions: int
    configurations: int


@dataclass
class Race(Generic[C]):
    """How a race went.

    Attributes:
        configurations: All; the first is the present settings.
        rows: By the place of a configuration: a row for each question it was asked.
        left: Places of those that are still in the race.
        verdict: On those that were when it was made; None where fewer than two were asked enough.
        is_over: All rounds were run, or the leader is clear; else the time was up.
        rounds: Rounds that were finished.
    """

    configurations: Sequence[C]
    rows: dict[int, list[Row]] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)
    verdict: Verdict | None = None
    is_over: bool = False
    rounds: list[Round] = field(default_factory=list)

    @property
    def answers(self) -> int:
        """Answers that were scored in all."""
        return sum(len(rows) for rows in self.rows.values())

    def values(self, metric: str) -> dict[int, Floats]:
        """One measure of all that were asked something."""
        return {
            i: np.array([row[metric] for row in rows], dtype=np.float64)
            for i, rows in self.rows.items()
            if rows
        }


def plan(
    configurations: int, questions: int, *, eta: float = 2.0, least: int = LEAST_ASKED
) -> list[Round]:
    """The rounds of a race: each with `eta` times the questions and `1 / eta` of those left.

    Args:
        configurations: How many there are beside the present settings.
        questions: How many there are.
        eta: How much is kept: above 1.
        least: Questions below which nothing is dropped.
    """
    most = math.floor(math.log(max(questions / least, 1.0), eta)) + 1
    few = min(configurations, _FINALISTS)
    useful = math.ceil(math.log(max(configurations / max(few, 1), 1.0), eta)) + 1
    rounds = max(1, min(most, max(useful, _LOOKS), _MOST_ROUNDS))
    return [
        Round(
            max(least, math.ceil(questions / eta ** (rounds - 1 - number)))
            if number < rounds - 1
            else questions,
            max(few, math.ceil(configurations / eta**number)),
        )
        for number in range(rounds)
    ]


def race(
    configurations: Sequence[C],
    cases: Sequence[Q],
    evaluate: Callable[[C, Sequence[Q]], Sequence[Row]],
    *,
    metric: str,
    deadline: Deadline,
    clusters: Callable[[Sequence[Q]], Sequence[Hashable]] = lambda _: (),
    eta: float = 2.0,
    least: int = LEAST_ASKED,
    seed: int = 0,
    on_round: Callable[[Race[C]], None] | None = None,
) -> Race[C]:
    """Find the best configuration with few answers, and say how sure that is.

    Args:
        configurations: The present settings, then the others; earlier ones win ties.
        cases: The questions, in an order that is as good as random.
        evaluate: A row of measures for each question; it may raise `OutOfTime`.
        metric: The measure that is maximised.
        deadline: The race ends there with what is known.
        clusters: What groups questions that are no independent evidence.
        eta: See `plan`.
        least: See `plan`.
        seed: Same seed, same race.
        on_round: Called after each round.

    Raises:
        ConfigError: Fewer than two configurations or questions.
    """
    _check(configurations, cases)
    state: Race[C] = Race(configurations, left=list(range(len(configurations))))
    rounds = plan(len(configurations) - 1, len(cases), eta=eta, least=least)
    for number, each in enumerate(rounds):
        try:
            _ask(state, cases[: each.questions], evaluate, deadline)
        except OutOfTime:
            _judge(state, cases, clusters, metric, _left_error(number, len(rounds)), seed)
            return state
        state.rounds.append(each)
        _judge(state, cases, clusters, metric, _error(number, len(rounds)), seed)
        assert state.verdict is not None, "all were asked enough"
        state.is_over = number == len(rounds) - 1 or state.verdict.is_clear
        if not state.is_over:
            state.left = _best(state, rounds[number + 1].configurations, metric)
        if on_round is not None:
            on_round(state)
        if state.is_over:
            break
    return state


def _error(number: int, rounds: int) -> float:
    """Error that the verdict of a round may spend: half of all in the last, half of that in the
    one before, and so on, so that looking early costs little."""
    return _ERROR / 2 ** (rounds - max(number, 1)) if rounds > 1 else _ERROR


def _left_error(number: int, rounds: int) -> float:
    """What is left of it in a round that is the last because the time is up."""
    return _ERROR - sum(_error(earlier, rounds) for earlier in range(number))


def _check(configurations: Sequence[object], cases: Sequence[object]) -> None:
    if len(configurations) < 2:
        raise ConfigError(
            "There is nothing to compare: the space holds the present settings only. Give it "
            "another value of some setting."
        )
    if len(cases) < 2:
        raise ConfigError(
            f"A comparison needs at least 2 questions, got {len(cases)}; with fewer than 50 only "
            "large differences can be told from chance."
        )


def _best(state: Race[C], count: int, metric: str) -> list[int]:
    """Places of the best so far, in their order, and of the present settings."""
    values = state.values(metric)
    others = [i for i in state.left if i != 0]
    others.sort(key=lambda i: (-float(values[i].mean()), i))
    return [0, *sorted(others[:count])]


def _ask(
    state: Race[C],
    cases: Sequence[Q],
    evaluate: Callable[[C, Sequence[Q]], Sequence[Row]],
    deadline: Deadline,
) -> None:
    """Ask all that are left the questions that they were not asked yet."""
    for i in state.left:
        rows = state.rows.setdefault(i, [])
        if len(rows) == len(cases):
            continue
        try:
            deadline.check()
            rows += evaluate(state.configurations[i], cases[len(rows) :])
        except OutOfTime as exc:
            rows += exc.rows
            raise


def _judge(
    state: Race[C],
    cases: Sequence[Q],
    clusters: Callable[[Sequence[Q]], Sequence[Hashable]],
    metric: str,
    error: float,
    seed: int,
) -> None:
    """The verdict on those that are left and were asked enough."""
    least = min(LEAST_ASKED, len(cases))
    values = {i: each for i, each in state.values(metric).items() if len(each) >= least}
    left = [i for i in state.left if i in values]
    if 0 not in values or len(left) < 2:
        return
    asked = cases[: len(values[0])]
    values = {i: each[: len(asked)] for i, each in values.items()}
    state.verdict = decide(
        values, left, present=0, clusters=clusters(asked), error=error, seed=seed
    )


def standing(state: Race[C], metric: str) -> list[int]:
    """Places of all that were measured, best first; those still in the race before those that were
    dropped, were asked too little to be judged and, unless they lead, the present settings."""
    values = state.values(metric)
    if 0 not in values:
        return list(values)
    score = {i: estimate(each, values[0]) for i, each in values.items()}
    leads = state.verdict is not None and state.verdict.leader == 0
    judged = score.keys() if state.verdict is None else {0, *state.verdict.gains}
    ahead = {i for i in state.left if i in judged and (i != 0 or leads)}
    return sorted(values, key=lambda i: (i not in ahead, -score[i], i))
