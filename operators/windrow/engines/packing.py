"""Which rows share a forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "CACHED_TOKENS",
    "at_most",
    "pack",
    "pack_tokens",
    "padding_share",
    "places_in_rows",
    "shared_budget",
    "stepped",
]

_STEPS = 16
CACHED_TOKENS = 512
"""About how many tokens' states stay in a core's cache."""
_TURNS = 4
"""Micro-batches that each worker should get at least, so that none waits long for the last of another."""
_LEAST_TOKENS = 256
"""Of a micro-batch that is small so that workers share what is left."""


def pack(lengths: Sequence[int] | npt.NDArray[np.int64], token_budget: int) -> Iterator[list[int]]:
    """Yield micro-batches of row indices, longest first; each row appears exactly once.

    Neighbours in length share a micro-batch, so little is padded. A row longer than the budget
    goes alone.

    Args:
        lengths: Tokens per row, shape ``(rows,)``.
        token_budget: Most padded tokens in one forward pass (rows x longest row).

    >>> list(pack([3, 9, 4, 3], token_budget=12))
    [[1], [2, 0, 3]]
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(sizes[order[start]]))
        stop = start + max(1, token_budget // longest)
        yield order[start:stop].tolist()
        start = stop


def stepped(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Round lengths up to one of 16 steps between powers of two, and none beyond the longest.

    An engine that compiles each shape anew then meets some hundred shapes instead of all, for 2 % more padding.

    >>> stepped(np.array([3, 27, 33, 130, 260, 263])).tolist()
    [3, 27, 34, 136, 263, 263]
    """
    sizes = np.maximum(lengths, 1)
    step = np.maximum(1, 2 ** np.floor(np.log2(sizes)).astype(np.int64) // _STEPS)
    return np.asarray(np.minimum(-(-sizes // step) * step, sizes.max(initial=1)), dtype=np.int64)


def shared_budget(sizes: npt.NDArray[np.int64], token_budget: int, workers: int) -> int:
    """Return the token budget, or less where so few tokens would leave workers without their turns.

    >>> shared_budget(np.full(1000, 100), 2048, workers=2), shared_budget(np.full(60, 100), 2048, workers=2)
    (2048, 750)
    """
    return min(token_budget, max(CACHED_TOKENS, int(sizes.sum()) // (_TURNS * workers)))


def pack_tokens(
    lengths: Sequence[int] | npt.NDArray[np.int64], token_budget: int, workers: int = 0
) -> Iterator[list[int]]:
    """Yield micro-batches of row indices whose tokens fill the budget, longest first; each row appears exactly once.

    For rows that are not padded: what counts is their tokens, not rows x longest row. A row longer than the
    budget goes alone.

    Args:
        lengths: Tokens per row, shape ``(rows,)``.
        token_budget: Most tokens in one forward pass.
        workers: If several share the rows: towards the end they get less at once, so that none waits long for the
            last of another (guided self-scheduling, Polychronopoulos and Kuck 1987).

    >>> list(pack_tokens([3, 9, 4, 3], token_budget=12))
    [[1], [2, 0, 3]]
    >>> list(pack_tokens([3, 9, 4, 3], token_budget=13))
    [[1, 2], [0, 3]]
    >>> [len(rows) for rows in pack_tokens([100] * 50, token_budget=1000, workers=2)]
    [10, 10, 7, 5, 4, 3, 2, 2, 2, 2, 2, 1]
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    ends = np.cumsum(sizes[order])
    start = sent = 0
    while start < len(order):
        share = (int(ends[-1]) - sent) // (2 * workers) if workers else token_budget
        stop = int(np.searchsorted(ends, sent + min(token_budget, max(share, _LEAST_TOKENS)), side="right"))
        stop = max(start + 1, stop)
        yield order[start:stop].tolist()
        start, sent = stop, int(ends[stop - 1])


def at_most(micro_batches: Iterable[list[int]], rows: int) -> Iterator[list[int]]:
    """Yield micro-batches of at most so many rows.

    >>> list(at_most([[0], [1, 2, 3]], 2))
    [[0], [1, 2], [3]]
    """
    for batch in micro_batches:
        yield from (batch[start : start + rows] for start in range(0, len(batch), rows))


def places_in_rows(
    ids: npt.NDArray[Any], bounds: npt.NDArray[np.int64], padding: int | None = None
) -> npt.NDArray[np.int64]:
    """Return the position of each token in its row, shape ``(tokens,)``, where rows lie one after another.

    Args:
        ids: Token ids of all rows, shape ``(tokens,)``.
        bounds: Where rows start, and where the last ends, shape ``(rows + 1,)``.
        padding: If given, positions count the tokens that are not this one, from the number after it, and padding
            stands at its own (fairseq's numbering).

    >>> places_in_rows(np.array([7, 8, 9, 7]), np.array([0, 3, 4])).tolist()
    [0, 1, 2, 0]
    >>> places_in_rows(np.array([7, 1, 9, 7]), np.array([0, 3, 4]), padding=1).tolist()
    [2, 1, 3, 2]
    """
    lengths = np.diff(bounds)
    if padding is None:
        return np.arange(len(ids)) - np.repeat(bounds[:-1], lengths)
    counts = ids != padding
    seen = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    return np.asarray((seen[1:] - np.repeat(seen[bounds[:-1]], lengths)) * counts + padding)


def padding_share(lengths: Sequence[int] | npt.NDArray[np.int64], token_budget: int) -> float:
    """Return the share of padding among all tokens that `pack` would send to the device.

    >>> padding_share([4, 2], token_budget=8)
    0.25
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    sent = sum(len(rows) * int(sizes[rows].max()) for rows in pack(sizes, token_budget))
    return 1 - float(sizes.sum()) / sent if sent else 0.0
