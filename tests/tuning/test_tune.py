"""`tune` over real corpora: what is found, shared, removed, remembered, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import chunkwise
from chunkwise.errors import ChunkwiseError, ConfigError, CorpusLockedError
from chunkwise.evaluation.spans import Place, SpanCase
from chunkwise.pipeline.corpus import Corpus
from chunkwise.pipeline.recipes import derive
from chunkwise.store.lock import WriterLock
from chunkwise.tuning.halving import Deadline
from chunkwise.tuning.journal import Journal
from chunkwise.tuning.space import PRESENT, Configuration
from chunkwise.tuning.trials import Trials, check_whole
from chunkwise.tuning.tune import FOLDER, JOURNAL, Tuned, tune
from chunkwise.types import Span

THINGS = ("harbour", "mill", "bridge", "orchard", "lantern", "copper", "violin", "meadow")
SIZES = [PRESENT, *(Configuration({"size": size}) for size in (12, 24, 48))]


class Ticking:
    """A clock on which a second passes whenever it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return float(self.reads)


def write(folder: Path) -> list[SpanCase]:
    """Documents of short facts, and a question for each."""
    cases = []
    for thing in THINGS:
        text = ""
        for year in range(1900, 1904):
            fact = f"The {thing} number {year} was paid for by the guild of {thing}s. "
            start = len(text)
            text += fact + f"Rain fell on the day of {year}, and nobody came to look at it. "
            place = Place(f"{thing}.txt", Span(start, start + len(fact)))
            cases.append(SpanCase(f"Who paid for {thing} number {year}?", (place,)))
        (folder / f"{thing}.txt").write_text(text)
    return cases


@pytest.fixture
def cases(tmp_path: Path) -> list[SpanCase]:
    return write(tmp_path)


@pytest.fixture
def corpus(tmp_path: Path, cases: list[SpanCase]) -> Corpus:
    opened = chunkwise.open(
        tmp_path / "c", embedder="hashing", counter="words", size=96, passages=2
    )
    opened.add(*(tmp_path / f"{thing}.txt" for thing in THINGS))
    return opened


def journal_lines(corpus: Corpus) -> list[dict[str, object]]:
    text = (corpus.folder / FOLDER / JOURNAL).read_text()
    return [json.loads(line) for line in text.splitlines()]


def without_ms(found: Tuned) -> list[object]:
    return [
        (one.configuration, one.value, one.gain, one.questions, one.is_left)
        for one in found.standings
    ]


def test_smaller_chunks_win_where_little_is_asked_for(
    corpus: Corpus, cases: list[SpanCase]
) -> None:
    found = tune(corpus, cases, space=SIZES, metric="iou")
    assert found.outcome in ("clear", "better")
    assert found.chosen == found.leader
    assert found.chosen.changes["size"] in (12, 24)
    assert found.is_over
    assert all(change.after != change.before for change in found.changes)
    (present,) = (one for one in found.standings if one.configuration == PRESENT)
    assert found.standings[0].cost["chunks"] > present.cost["chunks"]
    assert "kv_bytes" not in present.cost
    assert any(one.is_on_front for one in found.standings)
    corpus.close()
    with chunkwise.open(corpus.folder) as as_before:
        assert as_before.settings.size == 96


def test_trials_of_the_search_share_the_corpus_itself(
    corpus: Corpus, cases: list[SpanCase]
) -> None:
    space = [PRESENT, *(Configuration({"passages": k}) for k in (1, 4))]
    found = tune(corpus, cases, space=space, metric="sent_recall", keep=True)
    assert len(found.standings) == 3
    assert not [path for path in (corpus.folder / FOLDER).iterdir() if path.is_dir()]
    by_passages = {
        one.configuration.changes.get("passages", 2): one.cost["sent_tokens"]
        for one in found.standings
    }
    assert by_passages[1] < by_passages[2] < by_passages[4]


def test_losers_are_removed_and_at_the_end_all(corpus: Corpus, cases: list[SpanCase]) -> None:
    tune(corpus, cases, space=SIZES, metric="iou", keep=True)
    kept = [path for path in (corpus.folder / FOLDER).iterdir() if path.is_dir()]
    assert 1 <= len(kept) <= 3
    tune(corpus, cases, space=SIZES, metric="iou")
    assert not [path for path in (corpus.folder / FOLDER).iterdir() if path.is_dir()]
    assert not corpus.check()


def test_a_second_run_measures_nothing_again(corpus: Corpus, cases: list[SpanCase]) -> None:
    first = tune(corpus, cases, space=SIZES, metric="iou")
    lines = journal_lines(corpus)
    second = tune(corpus, cases, space=SIZES, metric="iou")
    assert journal_lines(corpus) == lines
    assert without_ms(first) == without_ms(second)
    tune(corpus, cases, space=SIZES, metric="iou", fresh=True)
    assert len(journal_lines(corpus)) == len(lines)
    corpus.remove(f"{THINGS[0]}.txt")
    tune(corpus, cases[4:], space=SIZES, metric="iou")
    assert len(journal_lines(corpus)) > len(lines)


def test_the_time_is_kept_and_the_next_run_goes_on(corpus: Corpus, cases: list[SpanCase]) -> None:
    clock = Ticking()
    found = tune(corpus, cases, space=SIZES, metric="iou", budget_minutes=1, clock=clock)
    assert clock.reads <= 62
    assert not found.is_over
    assert found.seconds <= 61
    asked = sum(len(line["rows"]) for line in journal_lines(corpus))  # type: ignore[arg-type]
    whole = tune(corpus, cases, space=SIZES, metric="iou")
    assert whole.is_over
    rows = [key for line in journal_lines(corpus) for key in line["rows"]]  # type: ignore[attr-defined]
    assert len(rows) == sum(one.questions for one in whole.standings) > asked


def test_too_little_time_is_said(corpus: Corpus, cases: list[SpanCase]) -> None:
    with pytest.raises(ConfigError, match="0 of 4 configurations could be asked 16 questions"):
        tune(corpus, cases, space=SIZES, budget_minutes=0.2, clock=Ticking())
    assert len(journal_lines(corpus)) == 1


def test_documents_of_another_recipe_are_cut_again_for_the_present(
    corpus: Corpus, cases: list[SpanCase]
) -> None:
    corpus.close()
    with chunkwise.open(corpus.folder, size=24) as other:
        found = tune(other, cases, space=[PRESENT, Configuration({"size": 96})], metric="iou")
    by_size = {one.configuration.changes.get("size", 24): one.cost for one in found.standings}
    assert by_size[24]["chunks"] > by_size[96]["chunks"]


def test_two_runs_at_once_are_refused(corpus: Corpus, cases: list[SpanCase]) -> None:
    place = corpus.folder / FOLDER
    place.mkdir()
    with WriterLock(place).held(0.0), pytest.raises(CorpusLockedError):
        tune(corpus, cases, space=SIZES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cases": []}, "no questions"),
        ({"cases": slice(0, 1)}, "at least 2 questions"),
        ({"space": [PRESENT]}, "nothing to compare"),
        ({"metric": "recal"}, "Did you mean 'recall'"),
    ],
)
def test_what_cannot_be_compared_is_said(
    change: dict[str, object], message: str, corpus: Corpus, cases: list[SpanCase]
) -> None:
    given: dict[str, object] = {"cases": cases, "space": SIZES, **change}
    if isinstance(given["cases"], slice):
        given["cases"] = cases[given["cases"]]
    with pytest.raises(ConfigError, match=message):
        tune(corpus, **given)  # type: ignore[arg-type]


def test_a_corpus_of_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The pier is green.")
    case = SpanCase("What is green?", (Place("a.txt", Span(0, 8)),))
    with chunkwise.open(tmp_path / "c", embedder="hashing") as opened:
        with pytest.raises(ChunkwiseError, match="no corpus"):
            tune(opened, [case, case])
        opened.add(tmp_path / "a.txt")
        with pytest.raises(ConfigError, match="nothing to tune"):
            tune(opened, [case, case])


def test_a_model_tells_what_the_keys_and_values_of_passages_take(
    corpus: Corpus, cases: list[SpanCase]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jinja2")
    corpus.close()
    with chunkwise.open(corpus.folder, model="nano", dtype="float32") as opened:
        token = opened.parts.kv_bytes_per_token
        found = tune(opened, cases, space=[PRESENT, Configuration({"passages": 1})], metric="iou")
    assert token
    for one in found.standings:
        assert one.cost["kv_bytes"] == pytest.approx(token * one.cost["sent_tokens"])


def test_a_configuration_that_cannot_cut_a_document_is_named(
    corpus: Corpus, tmp_path: Path
) -> None:
    with chunkwise.open(tmp_path / "less", embedder="hashing") as less:
        less.add(tmp_path / f"{THINGS[0]}.txt")
        with pytest.raises(ConfigError, match="With size=12 7 documents cannot be cut"):
            check_whole(corpus, less, SIZES[1])
        check_whole(less, corpus, SIZES[1])


def test_a_recipe_of_another_corpus_is_refused_at_once(
    corpus: Corpus, cases: list[SpanCase]
) -> None:
    with (
        derive(corpus, corpus.folder / "recipes" / "small", size=48) as made,
        pytest.raises(ConfigError, match="tune that corpus"),
    ):
        tune(made, cases, space=SIZES)


def test_variables_do_not_change_what_is_tried(
    corpus: Corpus, cases: list[SpanCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = [PRESENT, Configuration({"embedder": {"name": "hashing", "dim": 64}})]
    trials = Trials(
        corpus, "iou", corpus.folder / FOLDER, Journal(corpus.folder / "j"), Deadline(60)
    )
    monkeypatch.setenv("CHUNKWISE_EMBEDDER", "hashing")
    with trials._opened(space[1]) as opened:
        assert opened.settings.embedder == {"name": "hashing", "dim": 64}


def test_other_folders_are_left_alone(corpus: Corpus, cases: list[SpanCase]) -> None:
    mine = corpus.folder / FOLDER / "sixteen-letters-"
    digits = corpus.folder / FOLDER / "0123456789abcdef"
    for folder in (mine, digits):
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
    tune(corpus, cases, space=[PRESENT, Configuration({"passages": 1})], metric="iou")
    assert (mine / "notes.txt").exists()
    assert (digits / "notes.txt").exists()


def test_another_model_is_measured_again(corpus: Corpus) -> None:
    def key(**settings: str) -> str:
        with chunkwise.open(corpus.folder, **settings) as opened:
            place = corpus.folder / FOLDER
            trials = Trials(opened, "iou", place, Journal(place / "j"), Deadline(60))
            return trials.key(PRESENT)

    assert key() == key()
    assert len({key(), key(model="a", base_url="http://x/v1"), key(base_url="http://x/v1")}) == 3
