"""Forward passes that survive a lack of memory and a row that breaks the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from windrow.engines.pulse import heard
from windrow.errors import EngineError, WindrowError

__all__ = ["check_any_done", "halved", "is_out_of_memory", "reason_of", "run_all"]

T = TypeVar("T")
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")
_DETAIL_LETTERS = 300


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device lacks memory."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(part in words for part in _MEMORY_WORDS)


def reason_of(error: BaseException) -> tuple[str, str]:
    """Return the code and the detail of a reject, from the error that a forward pass raised."""
    detail = str(error).strip().split("\n")[0][:_DETAIL_LETTERS]
    return ("out_of_memory" if is_out_of_memory(error) else "model_error", f"{type(error).__name__}: {detail}")


def check_any_done(done: int, failed: dict[int, tuple[str, str]]) -> None:
    """Raise an `EngineError` if no row is done and several failed: the model or the device is at fault."""
    if done == 0 and len(failed) > 1:
        reason, detail = next(iter(failed.values()))
        raise EngineError(
            f"The model failed on all {len(failed)} texts ({reason}): {detail}",
            "check the model, the device and its memory.",
        )


def halved(
    rows: list[int], forward: Callable[[list[int]], T], failed: dict[int, tuple[str, str]], relieve: Callable[[], None]
) -> Iterator[tuple[list[int], T]]:
    """Yield ``(rows, result)`` of one micro-batch, in halves where the whole fails.

    A single row that still fails is put into `failed` with its reason.

    Args:
        rows: Indices of the micro-batch.
        forward: Runs one forward pass.
        failed: Receives reason code and detail by row.
        relieve: Called after a lack of memory, before the halves are tried.
    """
    try:
        result = forward(rows)
    except WindrowError:
        raise
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        lacking, reason = is_out_of_memory(error), reason_of(error)
    else:
        yield rows, result
        return
    if lacking:
        relieve()
    if len(rows) == 1:
        failed[rows[0]] = reason
        return
    middle = len(rows) // 2
    yield from halved(rows[:middle], forward, failed, relieve)
    yield from halved(rows[middle:], forward, failed, relieve)


def run_all(
    micro_batches: Iterable[list[int]],
    forward: Callable[[list[int]], T],
    failed: dict[int, tuple[str, str]],
    relieve: Callable[[], None],
    workers: int = 1,
) -> Iterator[tuple[list[int], T]]:
    """Yield the results of all micro-batches, over `workers` threads.

    Raises:
        EngineError: Every row of at least two failed: the model or the device is at fault.
    """
    done, tell = 0, heard()

    def one(rows: list[int]) -> list[tuple[list[int], T]]:
        return list(halved(rows, forward, failed, relieve))

    if workers == 1:
        for rows in micro_batches:
            for part in one(rows):
                done += len(part[0])
                tell(part[0])
                yield part
    else:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="windrow-engine")
        try:
            for parts in pool.map(one, micro_batches):
                for part in parts:
                    done += len(part[0])
                    tell(part[0])
                    yield part
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    check_any_done(done, failed)
