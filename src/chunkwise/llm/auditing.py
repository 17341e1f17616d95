"""Whether answers over reused chunks stay those of full prefill: a sample is answered again.

As in the self-test, the first tokens are compared: an answer agrees if all of them are the same.
Where too few of the last ones agree, chunks are not reused any more.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from typing import NamedTuple

from chunkwise.llm.outputs import Output
from chunkwise.llm.sequence import Request
from chunkwise.types import SamplingParams

logger = logging.getLogger(__name__)

NEW_TOKENS = 8
_LAST, _FEWEST, _WAITING = 50, 10, 100


class Due(NamedTuple):
    """An answer that is to be given again, in full.

    Attributes:
        request: What was asked.
        sampling: For its first tokens.
        token_ids: What these were.
    """

    request: Request
    sampling: SamplingParams
    token_ids: list[int]


class Audit:
    """Chooses answers, and counts how many agree.

    Args:
        ratio: Share of the answers that are given again.
        least: Share of these that must agree.

    Attributes:
        due: Answers that were chosen, oldest first.
        is_refused: Whether too few agreed: chunks are not reused any more.
    """

    def __init__(self, ratio: float, least: float) -> None:
        self.ratio, self.least = ratio, least
        self.due: deque[Due] = deque(maxlen=_WAITING)
        self.is_refused = False
        self._credit = 0.0
        self._agreed: deque[bool] = deque(maxlen=_LAST)

    @property
    def counts(self) -> tuple[int, int]:
        """How many of the last answers that were given again agreed, and how many that is."""
        return sum(self._agreed), len(self._agreed)

    def note(self, request: Request, output: Output) -> None:
        """Look at a finished answer: of those over reused chunks that would come again with the
        same settings, every so many-th is due. Tests, which want logits, do not count."""
        sampling, first = request.sampling, output.completions[0]
        is_random = sampling.temperature > 0 and sampling.seed is None
        is_test = request.wants_logits or "reused_tokens" not in output.usage
        if is_test or is_random or not first.token_ids or first.error:
            return
        self._credit += self.ratio
        if self._credit >= 1:
            self._credit -= 1
            tokens = first.token_ids[:NEW_TOKENS]
            sampling = replace(sampling, max_tokens=len(tokens), n=1, logprobs=None)
            self.due.append(Due(request, sampling, tokens))

    def book(self, due: Due, token_ids: list[int]) -> None:
        """Count one: `token_ids` are what full prefill gives."""
        self._agreed.append(due.token_ids == token_ids)
        agreed, count = self.counts
        if not self.is_refused and count >= _FEWEST and agreed < self.least * count:
            self.is_refused = True
            logger.warning(
                "Chunks are not reused any more: of the last %d answers that were given again in "
                "full, %d were the same, and %.2f of them must be.",
                count,
                agreed,
                self.least,
            )
