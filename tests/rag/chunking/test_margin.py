"""Margin sampling: who is asked decides, within the size, with the paper's thresholds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.counting import named_counter
from chunkwise.types import Document, Prompt
from tests.fakes import ScriptedModel, SimpleSegmenter


@dataclass
class Asked(ScriptedModel):
    """A `ScoringModel` that keeps a sentence with what comes before as `keep` says by its number.

    Attributes:
        keep: Nats by which keeping is likelier, by the number of the second piece.
        lefts: First pieces that it was shown.
    """

    keep: dict[int, float] = field(default_factory=dict)
    lefts: list[str] = field(default_factory=list)

    def nll(self, prefix: str | Prompt, text: str) -> NDArray[np.float32]:
        assert isinstance(prefix, Prompt)
        shown = prefix.segments[0].text
        (first,) = re.findall(r"First piece: (.*)", shown)
        (second,) = re.findall(r"Second piece: S(\d+)", shown)
        if text == "1":
            self.lefts.append(first)
        return np.array([self.keep.get(int(second), 1.0) if text == "1" else 0.0], np.float32)

    def next_logits(self, prompt: str | Prompt) -> NDArray[np.float32]:
        return np.zeros(1, np.float32)


def cut(model: Asked, count: int = 8, **options: object) -> list[str]:
    text = " ".join(f"S{i} end." for i in range(count))
    chunker = chunkers.build(
        {"name": "margin", "size": 200, "dynamic": False, **options},
        counter=named_counter("words"),
        segmenter=SimpleSegmenter(),
        model=model,
    )
    spans = chunker.split(Document("d", text))
    return ["".join(re.findall(r"S(\d)", text[a:b])) for a, b in spans]


def test_it_is_cut_where_splitting_is_likelier_and_merged_up_to_the_size() -> None:
    model = {3: -1.0, 5: -1.0}
    assert cut(Asked(keep=model), size=6) == ["012", "34", "567"]
    assert cut(Asked(keep=model), size=10) == ["01234", "567"]
    assert cut(Asked(keep=model)) == ["01234567"]


def test_the_dynamic_threshold_is_the_mean_of_the_last_five() -> None:
    rising = {i: 0.1 * i for i in range(1, 8)}
    falling = {**rising, 7: 0.2}
    given = {"size": 14, "dynamic": True}
    assert cut(Asked(keep=rising), **given) == cut(Asked(keep=rising), size=14)
    assert cut(Asked(keep=falling), **given) == ["0123456", "7"]


def test_the_left_piece_is_the_sentence_or_the_chunk_so_far() -> None:
    one, whole = Asked(keep={2: -1.0}), Asked(keep={2: -1.0})
    cut(one, 4)
    cut(whole, 4, left="chunk")
    assert one.lefts == ["S0 end.", "S1 end.", "S2 end."]
    assert whole.lefts == ["S0 end.", "S0 end. S1 end.", "S2 end."]


@pytest.mark.parametrize("options", [{"left": "page"}, {"threshold": 2}, {"size": 0}])
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        cut(Asked(), **options)
