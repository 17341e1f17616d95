"""How well the borders of chunks agree with the headings of a document: Pk and WindowDiff.

Source: Pk (Beeferman, Berger and Lafferty, 1999), WindowDiff (Pevzner and Hearst, 2002), with
    headings as the reference segmentation, as is usual for text segmentation.
Differs: the units are tokens of the corpus's counter, not sentences, so that a cut within a
    sentence has a place of its own. Headings with nothing between them are one border. A chunk
    that repeats text of the one before begins behind what it repeats.
Exact when: always; what it is worth is another question: a chunker that cuts at each heading and
    between them loses by it, so compare chunks of about the same size.
Cost: tokens are counted once a document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from chunkwise.evaluation.bootstrap import Floats, Interval, bootstrap
from chunkwise.evaluation.boundaries import BoundaryCounts, count_units, measures
from chunkwise.types import Document, Span, TokenCounter

_SHOWN = {"pk": "pk_headings", "windowdiff": "windowdiff_headings"}


def heading_counts(
    document: Document, chunks: Sequence[Span], counter: TokenCounter
) -> BoundaryCounts | None:
    """Borders of chunks against headings; None where the document has no two headings.

    Args:
        document: What was cut; only the headings among its blocks are looked at.
        chunks: The chunks, in order.
        counter: Its tokens are the units.
    """
    places = list(_sections(document))
    if len(places) < 2:
        return None
    starts = counter.starts(document.text)
    gold, found = (
        {int(unit) for unit in np.searchsorted(starts, list(each))} - {0, len(starts)}
        for each in (places, _borders(chunks))
    )
    return count_units(gold, found, len(starts))


def summarise_headings(
    counts: Sequence[BoundaryCounts], *, resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval]:
    """`pk_headings` and `windowdiff_headings` with 95 % intervals, lower being better: sums over
    documents, which are drawn whole. Empty without counts."""
    if not counts:
        return {}
    table = np.array(counts, dtype=np.float64)

    def pooled(drawn: Floats) -> dict[str, Floats]:
        found = measures(drawn @ table)
        return {shown: found[name] for name, shown in _SHOWN.items()}

    return bootstrap(pooled, len(counts), resamples=resamples, seed=seed)


def _sections(document: Document) -> Iterator[int]:
    """Where headings begin; those that only blanks part from one before are left out."""
    end = -1
    for block in document.blocks:
        if block.kind != "heading":
            continue
        if end < 0 or document.text[end : block.start].strip():
            yield block.start
        end = block.end


def _borders(chunks: Iterable[Span]) -> Iterator[int]:
    """Where the text begins that a chunk has and none before it."""
    end = 0
    for start, stop in chunks:
        yield max(start, end)
        end = max(end, stop)
