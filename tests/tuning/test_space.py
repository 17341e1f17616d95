"""Which configurations a file names."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from chunkwise import config
from chunkwise.config import Settings
from chunkwise.errors import ConfigError
from chunkwise.tuning.measures import budgets_of, check_metric
from chunkwise.tuning.space import PRESENT, Configuration, default_space, read_space

HYBRID = Settings(embedder="hashing", retriever="hybrid", answerer="extractive")
WORDS = Settings(embedder="hashing", retriever="bm25", answerer="extractive")


def read(
    tmp_path: Path, text: str, *, metric: str = "recall_at_800", name: str = "space.toml"
) -> list[Configuration]:
    (tmp_path / name).write_text(text)
    return read_space(tmp_path / name, HYBRID, metric)


def test_a_grid_is_all_combinations_and_the_present_settings_are_first(tmp_path: Path) -> None:
    found = read(tmp_path, 'chunker = ["recursive", "sentence"]\nsize = [100, 140]')
    assert found[0] == PRESENT
    assert {str(one) for one in found[1:]} == {
        "size=100",
        "chunker=sentence",
        "chunker=sentence size=100",
    }


def test_several_grids_and_options_of_algorithms(tmp_path: Path) -> None:
    text = """
    [[grid]]
    size = 300
    retriever.dense_weight = [0.5, 1.0]
    [[grid]]
    retriever = [{ name = "hybrid", bm25_weight = 1.0 }, "dense"]
    """
    found = read(tmp_path, text)
    assert [one.changes for one in found] == [
        {},
        {"size": 300, "retriever": {"name": "hybrid", "dense_weight": 0.5}},
        {"size": 300},
        {"retriever": "dense"},
    ]
    assert found[1].stored == {"size": 300}
    assert str(found[1]) == "size=300 retriever=hybrid(dense_weight=0.5)"


def test_json_says_the_same(tmp_path: Path) -> None:
    given = {"size": [100], "retriever": {"dense_weight": [2.0]}}
    found = read(tmp_path, json.dumps(given), name="space.json")
    assert found[1].changes["retriever"] == {"name": "hybrid", "dense_weight": 2.0}


def test_flags_are_read_back_as_they_were(tmp_path: Path) -> None:
    (_, one) = read(tmp_path, "size = [90]\nretriever.dense_weight = [0.5]")
    pairs = [flag.partition("=") for flag in one.flags]
    assert {key: config.parse_value(key, value, "x") for key, _, value in pairs} == one.changes


def test_overlaps_that_are_no_smaller_than_a_size_are_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, "size = [50, 100]\noverlap = [50]")
    assert [one.changes for one in found] == [{}, {"size": 100, "overlap": 50}]


@pytest.mark.parametrize("present", [HYBRID, WORDS])
@pytest.mark.parametrize("metric", ["recall_at_800", "iou", "sent_recall", "best_iou"])
def test_the_default_space_is_small_and_no_two_are_the_same(present: Settings, metric: str) -> None:
    found = default_space(present, metric)
    assert found[0] == PRESENT
    assert len({one.key for one in found}) == len(found)
    assert 6 <= len(found) <= 90
    assert len({Configuration(one.stored).key for one in found}) <= 15
    has_weights = any("retriever" in one.changes for one in found)
    assert has_weights == (present is HYBRID and metric != "best_iou")
    assert any("passages" in one.changes for one in found) == (metric == "iou")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sizes = [100]", "Did you mean 'size'"),
        ("workers = [1, 2]", "'workers' cannot be tuned"),
        ("counter = ['words']", "'counter' cannot be tuned"),
        ("size.dense_weight = [1.0]", "cannot be tuned"),
        ("chunker = ['recursiv']", "Did you mean 'recursive'"),
        ("retriever.dense_wieght = [1.0]", "Did you mean 'dense_weight'"),
        ("chunker = [{ size = 3 }]", "must be a name or a table with `name`"),
        ("size = ['small']", "`size` must be a whole number"),
        ("size = [0]", "at least 1"),
        ("overlap = ['x']", "'x'"),
        ("size = []", "`size` has no value"),
        ("passages = [4, 8]", "does not change with `passages`"),
        ("grid = 3", "`grid` must be a table"),
        ("size = [1]\n[[grid]]\nsize = [2]", "stands beside `grid`"),
        ("size = [1", "cannot be read as TOML"),
        ("", "holds none"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_a_space_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_space(tmp_path / "none.toml", HYBRID, "iou")


def test_measures_by_name() -> None:
    assert check_metric("recall_at_123") == "recall_at_123"
    assert budgets_of("recall_at_123") == (123, 400, 800, 1600)
    assert budgets_of("iou") == (400, 800, 1600)
    for wrong, near in (
        ("recal", "recall"),
        ("recall_at_0", "recall_at_800"),
        ("sent_io", "sent_iou"),
    ):
        with pytest.raises(ConfigError, match=f"Did you mean '{near}'"):
            check_metric(wrong)


def test_enrichers_and_situators_are_read_with_their_options(tmp_path: Path) -> None:
    found = read(tmp_path, 'enrich = ["none", "headings,title", ["title", "keywords"]]')
    assert [one.changes.get("enrich") for one in found] == [
        None,
        "none",
        ["headings", "title"],
        ["title", "keywords"],
    ]
    given = {"situate": ["situated"], "situate.gain": [0.5]}
    found = read(tmp_path, json.dumps(given), name="space.json")
    assert found[1].changes == {"situate": {"name": "situated", "gain": 0.5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('enrich = ["titel"]', "Did you mean 'title'"),
        ('enrich = [{ name = "keywords", mots = 3 }]', "has no option 'mots'"),
        ("enrich = [3]", "must be names or tables"),
        ('situate = ["sitated"]', "Did you mean 'situated'"),
        ('situate = [{ name = "situated", gian = 1.0 }]', "has no option 'gian'"),
        ("situate.gain = [0.5]", "'none' has no option 'gain'"),
    ],
)
def test_unknown_enrichers_and_situators_are_refused_at_once(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_what_is_embedded_is_not_varied_where_it_changes_nothing(tmp_path: Path) -> None:
    bare = dataclasses.replace(HYBRID, enrich="none")
    assert not any("context_tokens" in one.changes for one in default_space(bare, "iou"))
    assert any("context_tokens" in one.changes for one in default_space(HYBRID, "iou"))
    assert not any("context_tokens" in one.changes for one in default_space(HYBRID, "best_iou"))
    with pytest.raises(ConfigError, match="does not change with `context_tokens`"):
        read(tmp_path, "context_tokens = [0, 32]", metric="best_iou")
