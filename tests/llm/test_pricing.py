"""What the engine says that chunks cost."""

from __future__ import annotations

from pathlib import Path

from chunkwise.llm.pricing import chunk_costs
from chunkwise.llm.sequence import TokenSegment
from tests.llm.reuse.test_in_engine import complete, engine
from tests.llm.reuse.test_policies import asked


def test_what_was_read_costs_less(tiny_llama: Path, tmp_path: Path) -> None:
    pieces = asked(1)[1]
    chunks = [piece for piece in pieces if piece.content_id]
    llm = engine(tiny_llama, folder=tmp_path)
    before = chunk_costs(llm, chunks)
    assert llm.engine.costs.is_measured
    assert {cost.where for cost in before} == {"none"}
    assert all(
        cost.ms > llm.engine.costs.compute_ms(len(c.token_ids))
        for cost, c in zip(before, chunks, strict=True)
    )
    complete(llm, [pieces])
    after = chunk_costs(llm, chunks)
    assert {cost.where for cost in after} == {"memory"}
    assert llm.engine.reuse is not None
    assert 0.2 < llm.engine.reuse.share_computed < 0.4, "the policy picks 30 %"
    full = [llm.engine.costs.compute_ms(len(chunk.token_ids)) for chunk in chunks]
    assert all(cost.ms < 0.5 * ms for cost, ms in zip(after, full, strict=True))
    other = engine(tiny_llama, folder=tmp_path)
    on_disk = chunk_costs(other, chunks)
    assert {cost.where for cost in on_disk} == {"disk"}
    assert chunk_costs(other, [TokenSegment((1, 2, 3))])[0].where == "none"
