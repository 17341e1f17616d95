"""What can be maximised: the measures of a question's row, by name."""

from __future__ import annotations

import re
from typing import Final

from chunkwise.config import EMBEDDING
from chunkwise.errors import ConfigError
from chunkwise.registry import nearest

DEFAULT_METRIC: Final = "recall_at_800"
PASSAGES: Final = ("recall", "precision", "iou")
"""Of the best `passages` chunks."""
SENT: Final = ("sent_recall", "sent_precision", "sent_iou")
"""Of the passages that would be sent: chosen by the selector under `passages` and
`budget_tokens`."""
ASKED: Final = ("retriever", "reranker", "candidates", "selector", "passages", "budget_tokens")
"""Settings that may be tuned and only decide how a corpus is asked."""
_SEARCHED: Final = tuple(name for name in EMBEDDING if name != "embedder")
"""Settings of what is embedded; the embedder itself also cuts, with some chunkers."""
_CHUNKS: Final = ("precision_omega", "best_iou")
_BUDGET: Final = re.compile(r"recall_at_([1-9][0-9]{0,8})")
_ALL: Final = (*PASSAGES, *SENT, *_CHUNKS)


def check_metric(name: str) -> str:
    """The name, if a row has such a measure.

    Raises:
        ConfigError: It has none; the nearest is suggested.
    """
    if name in _ALL or _BUDGET.fullmatch(name):
        return name
    known = (*_ALL, DEFAULT_METRIC)
    raise ConfigError(
        f"There is no measure {name!r}.{nearest(name, known)} There are: {', '.join(_ALL)}, and "
        "recall_at_N for N tokens."
    )


def budgets_of(metric: str) -> tuple[int, ...]:
    """Tokens at which recall is measured: those that the metric names, beside the usual."""
    usual = {400, 800, 1600}
    named = _BUDGET.fullmatch(metric)
    return tuple(sorted(usual | ({int(named[1])} if named else set())))


def unseen(metric: str) -> frozenset[str]:
    """Settings that change nothing in a measure."""
    if metric in SENT:
        return frozenset()
    if metric in PASSAGES:
        return frozenset({"selector", "budget_tokens"})
    if metric in _CHUNKS:
        return frozenset((*ASKED, *_SEARCHED))
    return frozenset({"selector", "budget_tokens", "passages"})
