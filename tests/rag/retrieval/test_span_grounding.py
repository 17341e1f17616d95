"""Evidence is verbatim, of whole sentences; a wide beam scores all; equals go by position."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, RequestError
from chunkwise.rag.answering.units import units_of
from chunkwise.rag.chunking import cut_few
from chunkwise.rag.parsing import parse
from chunkwise.rag.retrieval import retrievers
from chunkwise.rag.retrieval.narrowing import merged, narrowed
from chunkwise.rag.retrieval.pointing import Passage, beam_search
from chunkwise.scores import Continuation
from chunkwise.types import Hit, Prompt, Query, Segment, Span, content_id
from tests.fakes import CharCounter, HashedContinuations, SimpleSegmenter, make_hit, prompt_text

COUNTER, SEGMENTER = CharCounter(), SimpleSegmenter()
FACTS = "The gate opens at nine. It closes at ten. Dogs wait outside. Cats may enter."


@dataclass(frozen=True)
class Fixed:
    """A `Retriever` that finds the same hits whatever is asked."""

    found: Sequence[Hit]

    def search(self, query: Query, k: int) -> list[Hit]:
        return list(self.found[:k])


@dataclass
class Pointing(HashedContinuations):
    """Goes on with one text, then ends; without a question, anything is as likely."""

    answer: str = ""

    def row(self, prompt: str | Prompt, ids: tuple[int, ...]) -> NDArray[np.float32]:
        wanted = (*self.encode(self.answer), 256)
        row = np.full(257, -6.0, np.float32)
        is_asked = "Question: \n" not in prompt_text(prompt)
        if is_asked and len(ids) < len(wanted) and ids == wanted[: len(ids)]:
            row[wanted[len(ids)]] = -0.1
        return row


def nowhere(document: str, version: int, spans: Sequence[Span]) -> None:
    """A `Cut` of documents that are not stored any more."""


def search(model: HashedContinuations, given: Sequence[Hit], k: int = 50, **options: Any) -> Any:
    retriever = retrievers.build(
        {"name": "span_grounding", **options},
        base=Fixed(given),
        model=model,
        segmenter=SEGMENTER,
        counter=COUNTER,
        cut=nowhere,
    )
    return retriever.search(Query("What is it?"), k)


def text_of(chance: random.Random, sentences: int) -> str:
    words = ["one", "two", "three", "no", "水が", "é", "one."]
    made = (" ".join(chance.choices(words, k=chance.randint(1, 6))) for _ in range(sentences))
    return "".join(f"{each}.{chance.choice([' ', '  ', chr(10)])}" for each in made)


@pytest.mark.parametrize("mode", ["beam", "pmi"])
@pytest.mark.parametrize("seed", range(3))
def test_evidence_is_verbatim_and_at_sentence_borders(mode: str, seed: int) -> None:
    chance = random.Random(seed)
    texts = {f"d{i}": text_of(chance, 12) for i in range(4)}
    hits = [
        make_hit(text[low:], document=name, start=low, headings=("A", name))
        for name, text in texts.items()
        for low in (0, len(text) // 3)
    ]
    options: dict[str, Any] = {"mode": mode, "extension": 60, "spans": 20, "hit_weight": 0.0}
    found = search(HashedContinuations(), hits, **options)
    borders = {
        (hit.document, hit.chunk.span.start + edge)
        for hit in hits
        for span in SEGMENTER.split(hit.chunk.text)
        for edge in span
    }
    assert len(found) > 3
    for hit in found:
        start, end = hit.chunk.span
        assert texts[hit.document][start:end] == hit.chunk.text
        assert {(hit.document, start), (hit.document, end)} <= borders
        assert hit.chunk.id == content_id(hit.chunk.text)
        assert hit.chunk.tokens == len(hit.chunk.text)
        assert hit.chunk.headings == ("A", hit.document)
    for a, b in itertools.combinations(found, 2):
        assert a.chunk.id != b.chunk.id
        apart = a.chunk.span.end <= b.chunk.span.start or b.chunk.span.end <= a.chunk.span.start
        assert a.document != b.document or apart


def exhaustive(model: HashedContinuations, passage: Passage) -> list[tuple[int, float]]:
    """All distinct sentences by the mean of the fewest first tokens that only they have."""
    found = {}
    for i, sentence in enumerate(passage.sentences):
        if sentence in passage.sentences[:i]:
            continue
        others = [other for other in passage.sentences if other != sentence]
        sizes = range(1, len(sentence))
        unique = (n for n in sizes if all(o[:n] != sentence[:n] for o in others))
        head = sentence[: next(unique, len(sentence))]
        (scores,) = model.scores([Continuation(passage.prompt, head)])
        found[i] = float(scores.tokens.mean())
    return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_scores_every_sentence(seed: int) -> None:
    chance, model = random.Random(seed), HashedContinuations()
    passages = []
    for size in (1, 7, 50):
        text = text_of(chance, size)
        sentences = tuple(model.encode(text[slice(*s)]) for s in SEGMENTER.split(text)[:50])
        prompt = Prompt((Segment("user", text),))
        passages.append(Passage(prompt, "", sentences))
    found = beam_search(model, passages, 50)
    for passage, pointed in zip(passages, found, strict=True):
        wanted = exhaustive(model, passage)
        assert [one.sentence for one in pointed] == [i for i, _ in wanted]
        assert [one.score for one in pointed] == pytest.approx([s for _, s in wanted], abs=1e-5)


def test_a_beam_asks_for_no_more_than_its_width() -> None:
    chance, model = random.Random(1), HashedContinuations()
    sentences = tuple(model.encode(f"The {chance.random()}.") for _ in range(50))
    passage = Passage(Prompt((Segment("user", "x"),)), "", sentences)
    (found,) = beam_search(model, [passage], 3)
    assert max(model.asked) <= 3
    (everything,) = beam_search(model, [passage], 50)
    assert found[0].score <= everything[0].score
    assert {one.sentence for one in found} < {one.sentence for one in everything}


def test_a_sentence_that_begins_another_is_found_by_all_of_it() -> None:
    model = HashedContinuations()
    sentences = tuple(map(model.encode, ("Yes", "Yes, sir", "Yes, madam")))
    passage = Passage(Prompt((Segment("user", "x"),)), "", sentences)
    (found,) = beam_search(model, [passage], 9)
    assert sorted(one.sentence for one in found) == [0, 1, 2]
    wanted = dict(exhaustive(model, passage))
    assert {one.sentence: one.score for one in found} == pytest.approx(wanted)


@pytest.mark.parametrize("mode", ["beam", "pmi"])
def test_the_sentence_that_the_model_goes_on_with_is_found(mode: str) -> None:
    model = Pointing(answer=" Dogs wait outside.")
    hits = [make_hit("Nothing here. Nor there.", document="a"), make_hit(FACTS, document="b")]
    best = search(model, hits, mode=mode)[0]
    assert (best.document, best.chunk.text) == ("b", "Dogs wait outside.")
    assert best.scores["span"] > best.score  # the second hit pays for its rank


@pytest.mark.parametrize("mode", ["beam", "pmi"])
def test_sentences_that_begin_alike_are_told_apart(mode: str) -> None:
    text = "The harbour gate opens at nine. The harbour gate closes at ten. The harbour gate."
    model = Pointing(answer=" The harbour gate closes at ten.")
    found = search(model, [make_hit(text)], mode=mode)
    assert found[0].chunk.text == "The harbour gate closes at ten."
    assert len(found) == 3


def test_evidence_goes_on_to_the_likeliest_end_within_reach() -> None:
    model = Pointing(answer=" The gate opens at nine. It closes at ten.")
    hits = [make_hit(FACTS)]
    assert search(model, hits, spans=1, extension=256)[0].chunk.text == FACTS[:41]
    assert search(model, hits, spans=1, extension=18)[0].chunk.text == FACTS[:41]
    for extension in (0, 17):  # " It closes at ten." has 18 bytes
        (found,) = search(model, hits, spans=1, extension=extension)
        assert found.chunk.text == FACTS[:23]


@pytest.mark.parametrize("mode", ["beam", "pmi"])
def test_equals_and_duplicates_go_by_position(mode: str) -> None:
    text = "Same. Same. Other. Same."
    model = Pointing(answer="none of them")
    (found,) = search(model, [make_hit(text)], mode=mode, spans=1, extension=0)
    assert found.chunk.span == Span(0, 5)
    both = search(model, [make_hit(text)], mode=mode, extension=0)
    spans = sorted(hit.chunk.span for hit in both)
    assert spans == [Span(0, 5), Span(12, 18)]


def test_a_chunk_that_is_one_sentence_stays_as_it_is() -> None:
    hit = dataclasses.replace(make_hit("All of it."), content=7, copies=(("e", Span(3, 13)),))
    (found,) = search(HashedContinuations(), [hit])
    assert found.chunk == hit.chunk
    assert (found.content, found.copies) == (7, hit.copies)


def test_copies_hold_the_same_part() -> None:
    hit = dataclasses.replace(make_hit(FACTS, start=10), copies=(("e", Span(100, 176)),), content=3)
    part = narrowed(hit, Span(34, 51), COUNTER)
    assert part.chunk.text == FACTS[24:41]
    assert part.copies == (("e", Span(124, 141)),)
    assert part.content == -1


TABLE = "| name | cost |\n|---|---|\n| pump | 12 |\n| rope | 7 |\n"
MANUAL = f"# Costs\n\n{TABLE}\nPrices fell in May.\n\n# Gates\n\nThe gate opens at nine.\n"


@pytest.mark.parametrize(
    ("start", "answer", "headings", "header"),
    [
        (9, "| rope | 7 |", ("Costs",), TABLE[:25]),
        (35, "| rope | 7 |", ("Costs",), TABLE[:25]),
        (35, "Prices fell in May.", ("Costs",), ""),
        (9, "The gate opens at nine.", ("Gates",), ""),
    ],
)
def test_evidence_is_labelled_as_its_own_place(
    start: int, answer: str, headings: tuple[str, ...], header: str
) -> None:
    document = parse(MANUAL.encode(), name="manual.md")
    (chunk,) = cut_few(document, [Span(start, len(MANUAL) - 1)], COUNTER)
    retriever = retrievers.build(
        {"name": "span_grounding", "spans": 1},
        base=Fixed([Hit(chunk, 1.0, "manual.md")]),
        model=Pointing(answer=f" {answer}"),
        segmenter=SEGMENTER,
        counter=COUNTER,
        cut=lambda name, version, spans: cut_few(document, spans, COUNTER),
    )
    (found,) = retriever.search(Query("What is it?"), 1)
    assert found.chunk.text == answer
    assert (found.chunk.headings, found.chunk.header) == (headings, header)
    if header:
        (unit,) = units_of([found], SEGMENTER)
        assert unit.is_row


def test_overlapping_chunks_give_one_span() -> None:
    first, second = make_hit(FACTS[:41], score=1), make_hit(FACTS[24:], start=24, score=2)
    inside = make_hit(FACTS[5:9], start=5, score=3)
    other = make_hit(FACTS[:41], document="other", score=0)
    (best, rest) = merged([second, other, first, inside], COUNTER)
    assert (best.chunk.text, best.chunk.span, best.score) == (FACTS, Span(0, len(FACTS)), 3)
    assert (rest.document, rest.copies) == ("other", ())
    beside = [make_hit(FACTS[:23]), make_hit(FACTS[23:41], start=23)]
    assert len(merged(beside, COUNTER)) == 2, "they only touch"


def test_equal_evidence_of_two_documents_is_one_hit_with_a_copy() -> None:
    hits = [make_hit("Alpha.", document="a", score=1), make_hit("Alpha.", document="b", score=2)]
    (found,) = merged(hits, COUNTER)
    assert (found.document, found.copies) == ("b", (("a", Span(0, 6)),))


def test_a_chunk_that_is_too_long_is_read_in_parts() -> None:
    hit = make_hit(FACTS)
    model = Pointing(answer=" Cats may enter.")
    retriever = retrievers.build(
        "span_grounding",
        base=Fixed([hit]),
        model=model,
        segmenter=SEGMENTER,
        counter=COUNTER,
        cut=nowhere,
    )
    whole = list(retriever._parts("What is it?", hit, 1))
    assert len(whole) == 1
    model.context -= model.room(whole[0].passage.prompt) - 50
    parts = list(retriever._parts("What is it?", hit, 1))
    assert len(parts) > 1
    assert [span for part in parts for span in part.spans] == list(whole[0].spans)
    assert retriever.search(Query("What is it?"), 1)[0].chunk.text == "Cats may enter."
    model.context = 20
    with pytest.raises(RequestError, match=r"doc\.txt, characters 0 to 23: .*`size`"):
        retriever.search(Query("What is it?"), 1)


def test_a_hit_with_a_sentence_that_is_too_long_stays_whole() -> None:
    model = Pointing(answer=" Dogs wait outside.")
    long = dataclasses.replace(make_hit(f"Short. {'x' * 5000}.", document="long"), content=7)
    model.context = 1000
    for given in ([make_hit(FACTS), long], [long, make_hit(FACTS)]):
        found = search(model, given)
        (whole,) = (hit for hit in found if hit.document == "long")
        assert (whole.chunk, whole.content) == (long.chunk, 7)
        assert "span" not in whole.scores
        assert "Dogs wait outside." in [hit.chunk.text for hit in found]


def test_languages_without_spaces() -> None:
    text = "门九点开。狗在外面等。猫可以进来。"
    model = Pointing(answer=" 狗在外面等。")
    assert search(model, [make_hit(text)], spans=1)[0].chunk.text == "狗在外面等。"


def test_nothing_found_is_nothing_read() -> None:
    assert search(HashedContinuations(), []) == []
    assert search(HashedContinuations(), [make_hit(FACTS)], k=0) == []


@pytest.mark.parametrize(
    "options",
    [{"mode": "best"}, {"against": "all"}, {"hits": 0}, {"spans": 0}, {"beam": 0},
     {"extension": -1}, {"hit_weight": -1.0}, {"hit_weight": float("nan")}],
)  # fmt: skip
def test_wrong_settings_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"`{next(iter(options))}`"):
        search(HashedContinuations(), [], **options)
