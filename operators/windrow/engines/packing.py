"""Which rows share a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["pack", "padding_share"]


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


def padding_share(lengths: Sequence[int] | npt.NDArray[np.int64], token_budget: int) -> float:
    """Return the share of padding among all tokens that `pack` would send to the device.

    >>> padding_share([4, 2], token_budget=8)
    0.25
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    sent = sum(len(rows) * int(sizes[rows].max()) for rows in pack(sizes, token_budget))
    return 1 - float(sizes.sum()) / sent if sent else 0.0
