"""The tiling of a row of units with the largest gain: shared by chunking and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable

from chunkwise.errors import ConfigError


def segment_dp(
    gain: Callable[[int, int], float], n: int, min_len: int, max_len: int
) -> list[tuple[int, int]]:
    """The tiling of `range(n)` into ranges `[i, j)` with the largest sum of `gain(i, j)`.

    Args:
        gain: Worth of one range; `-inf` forbids it.
        n: How many units there are.
        min_len: Shortest range, in units, from 1.
        max_len: Longest range.

    Raises:
        ConfigError: No tiling is allowed.
    """
    best = [0.0] + [-math.inf] * n
    back = [0] * (n + 1)
    for j in range(min_len, n + 1):
        for i in range(max(0, j - max_len), j - min_len + 1):
            if best[i] == -math.inf:
                continue
            value = best[i] + gain(i, j)
            if value > best[j]:
                best[j], back[j] = value, i
    if best[n] == -math.inf:
        raise ConfigError(
            f"{n} units cannot be tiled by ranges of {min_len} to {max_len} units; "
            "allow shorter or longer ones."
        )
    tiles: list[tuple[int, int]] = []
    end = n
    while end:
        tiles.append((back[end], end))
        end = back[end]
    return tiles[::-1]
