"""Folding of near-duplicates: what is folded, and above all what is not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.selection.duplicates import fold_duplicates
from tests.fakes import make_hit

CLAUSE = (
    "The tenant shall pay the rent of 500 euros on the first day of every month to the account "
    "that the landlord has named in writing, and shall bear the cost of a failed transfer."
)


def folded(*texts: str) -> list[str]:
    return [hit.chunk.text for hit in fold_duplicates([make_hit(t) for t in texts])]


def test_equal_text_of_another_document_becomes_a_copy() -> None:
    hits = [make_hit(CLAUSE, document=f"{name}.txt", start=i) for i, name in enumerate("abc")]
    (only,) = fold_duplicates(hits)
    assert only.document == "a.txt"
    assert only.copies == tuple((hit.document, hit.chunk.span) for hit in hits[1:])


def test_copies_of_a_folded_hit_are_kept_once() -> None:
    first, second = make_hit(CLAUSE, document="a"), make_hit(CLAUSE, document="b")
    (once,) = fold_duplicates([second, make_hit(CLAUSE, document="c")])
    (all_three,) = fold_duplicates([first, once])
    assert [name for name, _ in all_three.copies] == ["b", "c"]
    (again,) = fold_duplicates([all_three, once])
    assert again.copies == all_three.copies


def test_a_part_of_a_better_hit_is_folded_and_a_better_part_of_a_longer_hit_is_not() -> None:
    longer = f"{CLAUSE} Pets need the landlord's consent, which is not to be refused unfairly."
    assert folded(longer, CLAUSE) == [longer]
    assert folded(CLAUSE, longer) == [CLAUSE, longer]


def test_case_and_white_space_do_not_matter() -> None:
    assert folded(CLAUSE, CLAUSE.upper().replace(" ", "\n ")) == [CLAUSE]


def test_a_different_number_or_negation_is_never_folded() -> None:
    long = " ".join([CLAUSE] * 5)
    for other in (
        long.replace("500", "650", 1),
        long.replace("shall bear", "shall not bear", 1),
        long.replace("500", "500.5", 1),
    ):
        assert folded(long, other) == [long, other]


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    text = "本公司对所有员工提供年假并且按照服务年限计算天数，未使用的年假可以转到下一年使用。"
    assert folded(text, text[:-1] + "！") == [text]
    assert len(folded(text, "病假需要医生证明并在三日之内交给人事部门保存。")) == 2


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(alphabet="ab1 n.", max_size=30), max_size=8))
def test_nothing_is_lost_and_the_order_stays(texts: list[str]) -> None:
    hits = [make_hit(text, document=str(i)) for i, text in enumerate(texts)]
    kept = fold_duplicates(hits)
    names = [hit.document for hit in kept]
    assert names == sorted(names, key=int)
    everyone = [*names, *(name for hit in kept for name, _ in hit.copies)]
    assert sorted(everyone, key=int) == [hit.document for hit in hits]
