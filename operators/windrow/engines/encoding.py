"""What all engines do around an encoder's forward pass: pad micro-batches, gather rows in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.engines.base import Outputs
from windrow.engines.halving import run_all
from windrow.engines.packing import pack
from windrow.models.pictures import Pixels
from windrow.models.windows import Windows

__all__ = ["NOT_FINITE", "encoded", "padded", "tagged", "to_unit_length"]

NOT_FINITE = ("not_finite", "the model's outputs are not finite numbers")


def padded(
    windows: Windows, rows: list[int], pad_id: int, vocabulary: int, width: int = 0, left: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return token ids and which of them are inside a window, shape ``(rows, longest)`` each, or `width` if larger.

    Args:
        left: Pad before the windows, so that all end together.

    Raises:
        IndexError: A token is not in the vocabulary; a GPU's look-up would end the process's use of the device.
    """
    lengths = windows.lengths[rows]
    inside = np.arange(max(width, int(lengths.max()))) < lengths[:, None]
    inside = inside[:, ::-1] if left else inside
    ids = np.full(inside.shape, pad_id, dtype=np.int64)
    ids[inside] = np.concatenate([windows.window(row) for row in rows])
    if ids.max() >= vocabulary:
        raise IndexError(f"token {ids.max()} is not in the model's vocabulary of {vocabulary}")
    return ids, inside


def to_unit_length(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return vectors of length one, shape ``(rows, size)``; one of zeros stays.

    >>> to_unit_length(np.array([[3, 4], [0, 0]], dtype=np.float32)).round(1).astype(str).tolist()
    [['0.6', '0.8'], ['0.0', '0.0']]
    """
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def encoded(
    windows: Windows | Pixels,
    token_budget: int,
    forward: Callable[[list[int]], Any],
    fetch: Callable[[Any], npt.NDArray[np.float32]],
    relieve: Callable[[], None],
    workers: int,
    cut: Callable[[npt.NDArray[np.int64], int], Iterable[list[int]]] = pack,
) -> Outputs:
    """Run an encoder over all windows and gather float32 rows in their order.

    Args:
        forward: Runs one micro-batch, given the indices of its windows.
        fetch: Brings one result of `forward` to the host, shape ``(rows, values)``; called when all have run.
        relieve: Called after a lack of memory.
        workers: Threads that run micro-batches.
        cut: Makes micro-batches of the windows' lengths and the token budget.
    """
    outputs = Outputs(np.zeros((0, 0), dtype=np.float32))
    batches = cut(windows.lengths, token_budget)
    waiting = list(run_all(batches, forward, outputs.failed, relieve, workers))
    if waiting:
        results = [(rows, fetch(values)) for rows, values in waiting]
        outputs.values = np.zeros((len(windows.rows), results[0][1].shape[1]), dtype=np.float32)
        for rows, values in results:
            outputs.values[rows] = values
    for row in np.flatnonzero(~np.isfinite(outputs.values).all(axis=1)).tolist():
        outputs.failed[row] = NOT_FINITE
    return outputs


def tagged(
    windows: Windows,
    token_budget: int,
    forward: Callable[[list[int]], Any],
    fetch: Callable[[Any], Iterable[npt.NDArray[np.float32]]],
    relieve: Callable[[], None],
    workers: int,
    cut: Callable[[npt.NDArray[np.int64], int], Iterable[list[int]]] = pack,
) -> Outputs:
    """Run an encoder over all windows and gather one float32 array ``(tokens, labels)`` a window, in their order.

    The arguments are those of `encoded`; `fetch` returns ``(rows, longest, labels)``, padding included, or one array
    ``(tokens, labels)`` a row.
    """
    outputs = Outputs([np.zeros((0, 0), dtype=np.float32)] * len(windows.rows))
    batches = cut(windows.lengths, token_budget)
    for rows, values in list(run_all(batches, forward, outputs.failed, relieve, workers)):
        for row, logits, length in zip(rows, fetch(values), windows.lengths[rows], strict=True):
            outputs.values[row] = logits[:length]
            if not np.isfinite(outputs.values[row]).all():
                outputs.failed[row] = NOT_FINITE
    return outputs
