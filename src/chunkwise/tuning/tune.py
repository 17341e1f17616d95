"""`tune`: from a corpus and questions to the settings that suit both, with what they cost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.evaluation.bootstrap import Interval
from chunkwise.evaluation.chunking import clusters_of
from chunkwise.evaluation.spans import SpanCase
from chunkwise.pipeline.corpus import Corpus
from chunkwise.pipeline.reports import Progress
from chunkwise.store.lock import WriterLock
from chunkwise.tuning.halving import LEAST_ASKED, Deadline, Race, plan, race, standing
from chunkwise.tuning.journal import Journal
from chunkwise.tuning.measures import DEFAULT_METRIC, check_metric
from chunkwise.tuning.pareto import Point, front
from chunkwise.tuning.space import PRESENT, Configuration, default_space
from chunkwise.tuning.trials import Trials, check_corpus
from chunkwise.tuning.verdict import Verdict, estimate

FOLDER: Final = "tune"
JOURNAL: Final = "journal.jsonl"
_SEED: Final = 0
_RESERVE, _MOST_RESERVE_S = 0.05, 5.0  # of the time, for the verdict and removing corpora

Outcome = Literal["clear", "better", "unproven"]
CostName = Literal["index_bytes", "chunks", "ms", "sent_tokens"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One configuration that was measured.

    Attributes:
        configuration: Its settings.
        value: The measure: the mean over all questions, foreseen for one that was dropped early.
        gain: More than the present settings, with an interval that holds for all configurations
            at once; None for the present settings, and for one that was asked too little.
        questions: Questions that it was asked.
        is_left: Whether it was never dropped.
        is_on_front: Whether no other is as good and as cheap.
        cost: `chunks`, `mean_tokens`, `index_bytes`; `ms` of a search, median; `sent_tokens` of
            the passages of a question, mean; `kv_bytes` of these where a local model is set.
    """

    configuration: Configuration
    value: float
    gain: Interval | None
    questions: int
    is_left: bool
    is_on_front: bool
    cost: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Change:
    """A question that the leader answers better or worse than the present settings."""

    question: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a run of `tune` found.

    Attributes:
        metric: What was maximised.
        outcome: `clear`: the leader is better than all that were left. `better`: than the present
            settings, but it cannot be told from some others. `unproven`: nor from these.
        leader: The best one.
        chosen: What is recommended: the leader if it is proven to be better than the present
            settings, else these.
        rivals: The leader less each other one that was left, by its place in `standings`.
        standings: All that were measured, best first.
        changes: Questions that come out otherwise for the leader, the largest change first.
        questions: Questions there are.
        configurations: Configurations there are.
        is_over: Whether all was measured that was planned; else the time was up.
        seconds: How long it took.
    """

    metric: str
    outcome: Outcome
    leader: Configuration
    chosen: Configuration
    rivals: Mapping[int, Interval]
    standings: Sequence[Standing]
    changes: Sequence[Change]
    questions: int
    configurations: int
    is_over: bool
    seconds: float

    def place(self, configuration: Configuration) -> int:
        """Where a configuration stands in `standings`."""
        return [one.configuration for one in self.standings].index(configuration)

    def points(self, cost: CostName) -> list[Point]:
        """Quality and cost of all standings, in their order."""
        return [Point(one.cost[cost], one.value) for one in self.standings]


def tune(
    corpus: Corpus,
    cases: Sequence[SpanCase],
    *,
    space: Sequence[Configuration] | None = None,
    metric: str = DEFAULT_METRIC,
    budget_minutes: float = 30.0,
    cost: CostName = "index_bytes",
    folder: Path | None = None,
    keep: bool = False,
    fresh: bool = False,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[Progress], None] | None = None,
) -> Tuned:
    """Find better settings for a corpus; it stays as it is.

    What was measured is kept in a journal, so that a run that was killed, or that had too little
    time, is gone on with.

    Args:
        corpus: The corpus, with the present settings.
        cases: Questions with the characters that answer them.
        space: What is tried, the present settings first; by default a small space around them.
        metric: The measure that is maximised.
        budget_minutes: How long it may take. Checked after each document and each question.
        cost: What quality is set against for the front.
        folder: For the journal and corpora that are needed meanwhile; by default in the corpus's.
        keep: Leave the corpora that were made for the last configurations.
        fresh: Forget what was measured before.
        clock: Seconds that only grow.
        progress: Called before a configuration is asked.

    Raises:
        ConfigError: Nothing can be compared, or the time was too short for two configurations.
        StoreError: There is no corpus, or another run is at work.
    """
    budget_s = budget_minutes * 60
    deadline = Deadline(budget_s - min(_RESERVE * budget_s, _MOST_RESERVE_S), clock)
    check_metric(metric)
    if not cases:
        raise ConfigError("There are no questions to tune by.")
    space = default_space(corpus.settings, metric) if space is None else space
    check_corpus(corpus, space)
    place = folder or corpus.folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    with WriterLock(place).held(0.0):
        if fresh:
            (place / JOURNAL).unlink(missing_ok=True)
        trials = Trials(corpus, metric, place, Journal(place / JOURNAL), deadline)
        if fresh:
            trials.remove_all()
        asked = random.Random(_SEED).sample(list(cases), len(cases))
        done = _race(trials, _ordered(space), asked, metric, deadline, progress)
        if not keep:
            trials.remove_all()
        if done.verdict is None:
            raise _too_short(done)
        return _tuned(done, done.verdict, trials, asked, metric, cost, deadline)


def _race(
    trials: Trials,
    space: Sequence[Configuration],
    cases: Sequence[SpanCase],
    metric: str,
    deadline: Deadline,
    progress: Callable[[Progress], None] | None,
) -> Race[Configuration]:
    rounds = plan(len(space) - 1, len(cases))
    total, done = sum(each.configurations + 1 for each in rounds), 0

    def evaluate(one: Configuration, some: Sequence[SpanCase]) -> Sequence[Mapping[str, float]]:
        nonlocal done
        if progress is not None:
            progress(Progress(done, total, str(one)))
        done += 1
        return trials.evaluate(one, some)

    def on_round(state: Race[Configuration]) -> None:
        trials.keep_only([space[i] for i in state.left])

    return race(
        space,
        cases,
        evaluate,
        metric=metric,
        deadline=deadline,
        clusters=clusters_of,
        on_round=on_round,
    )


def _ordered(space: Sequence[Configuration]) -> list[Configuration]:
    """The present settings, then the others in chance order, those of one corpus together."""
    groups: dict[str, list[Configuration]] = {}
    for one in space:
        groups.setdefault(Configuration(one.stored).key, []).append(one)
    first = groups.pop(PRESENT.key, [])
    rest = list(groups.values())
    random.Random(_SEED).shuffle(rest)
    others = [one for group in [first, *rest] for one in group if one != PRESENT]
    return [PRESENT, *others]


def _tuned(
    done: Race[Configuration],
    verdict: Verdict,
    trials: Trials,
    cases: Sequence[SpanCase],
    metric: str,
    cost: CostName,
    deadline: Deadline,
) -> Tuned:
    places = standing(done, metric)
    standings = _standings(done, verdict, trials, metric, places, cost)
    leader = done.configurations[verdict.leader]
    outcome: Outcome = "clear" if verdict.is_clear else "better" if verdict.is_gain else "unproven"
    return Tuned(
        metric=metric,
        outcome=outcome,
        leader=leader,
        chosen=leader if verdict.is_gain else PRESENT,
        rivals={places.index(i): interval for i, interval in verdict.rivals.items()},
        standings=standings,
        changes=_changes(done, verdict, cases, metric),
        questions=len(cases),
        configurations=len(done.configurations),
        is_over=done.is_over,
        seconds=deadline.spent,
    )


def _standings(
    done: Race[Configuration],
    verdict: Verdict,
    trials: Trials,
    metric: str,
    places: Sequence[int],
    cost: CostName,
) -> list[Standing]:
    values = done.values(metric)
    scores = [estimate(values[i], values[0]) for i in places]
    costs = [_cost(done, trials, i) for i in places]
    best = front([Point(each[cost], score) for each, score in zip(costs, scores, strict=True)])
    return [
        Standing(
            configuration=done.configurations[i],
            value=scores[number],
            gain=verdict.gains.get(i),
            questions=len(values[i]),
            is_left=i in done.left,
            is_on_front=number in best,
            cost=costs[number],
        )
        for number, i in enumerate(places)
    ]


def _cost(done: Race[Configuration], trials: Trials, place: int) -> dict[str, float]:
    rows = done.rows[place]
    sent = float(np.mean([row["sent_tokens"] for row in rows]))
    found = dict(trials.sizes(done.configurations[place]))
    found |= {"ms": float(np.median([row["ms"] for row in rows])), "sent_tokens": sent}
    token = trials.corpus.parts.kv_bytes_per_token
    return found if token is None else {**found, "kv_bytes": sent * token}


def _changes(
    done: Race[Configuration], verdict: Verdict, cases: Sequence[SpanCase], metric: str
) -> list[Change]:
    rows, present = done.rows[verdict.leader], done.rows[verdict.present]
    changes = [
        Change(case.question, float(before[metric]), float(after[metric]))
        for case, before, after in zip(cases, present, rows, strict=False)
        if before[metric] != after[metric]
    ]
    return sorted(changes, key=lambda change: -abs(change.after - change.before))


def _too_short(done: Race[Configuration]) -> ConfigError:
    measured = sum(len(rows) >= LEAST_ASKED for rows in done.rows.values())
    return ConfigError(
        f"The time was too short: {measured} of {len(done.configurations)} "
        f"configurations could be asked {LEAST_ASKED} questions, and it takes the present settings "
        "and one other to compare. What was measured is kept; give more with --budget-minutes, "
        "or fewer values with --space."
    )
