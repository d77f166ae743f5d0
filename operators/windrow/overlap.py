"""Reading ahead and writing behind, through bounded queues, so that the device never waits for a disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import pyarrow as pa

__all__ = ["WriteBehind", "as_done", "flowing", "in_tables", "read_ahead"]

T = TypeVar("T")
R = TypeVar("R")
_END = object()
_POLL_S = 0.1
_LAST_WAIT_S = 10.0


def read_ahead(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield `items`, made by a thread that runs at most `depth` ahead; its errors are raised here.

    >>> list(read_ahead([1, 2, 3]))
    [1, 2, 3]
    """
    ready: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()

    def offer(item: Any) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=_POLL_S)
                break

    def work() -> None:
        try:
            for item in items:
                offer((item, None))
                if stop.is_set():
                    return
        except BaseException as error:
            offer((None, error))
        else:
            offer((_END, None))

    thread = threading.Thread(target=work, name="windrow-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stop.set()
        thread.join(_LAST_WAIT_S)


def as_done(items: Iterable[T], work: Callable[[T], R], at_once: int) -> Iterator[R]:
    """Yield ``work(item)`` of all items as each is done, at most `at_once` under way, each in a thread.

    After an error nothing more is begun; what is under way is yielded when it is done, and then the error raised.

    >>> sorted(as_done([1, 2, 3], lambda number: number * 2, at_once=2))
    [2, 4, 6]
    """
    if at_once == 1:
        yield from map(work, items)
        return
    source, failed = iter(items), None
    under_way: set[Future[R]] = set()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="windrow-device")
    try:
        while True:
            while failed is None and len(under_way) < at_once and (item := next(source, _END)) is not _END:
                under_way.add(pool.submit(work, item))  # type: ignore[arg-type]
            if not under_way:
                break
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                if future.exception() is None:
                    yield future.result()
                else:
                    failed = failed or future.exception()
        if failed is not None:
            raise failed
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_tables(batches: Iterable[pa.RecordBatch], rows: int, size_bytes: int) -> Iterator[pa.Table]:
    """Cut and join record batches into tables of about so many rows or bytes, whichever comes first.

    >>> batch = pa.record_batch({"a": range(5)})
    >>> [table.num_rows for table in in_tables([batch, batch], rows=4, size_bytes=1 << 20)]
    [4, 5, 1]
    """
    waiting: list[pa.RecordBatch] = []
    held_rows = held_bytes = 0
    for batch in batches:
        step = max(1, min(rows, batch.num_rows * size_bytes // max(batch.nbytes, 1)))
        for start in range(0, batch.num_rows, step):
            piece = batch.slice(start, step)
            waiting.append(piece)
            held_rows += piece.num_rows
            held_bytes += piece.nbytes
            if held_rows >= rows or held_bytes >= size_bytes:
                yield pa.Table.from_batches(waiting)
                waiting, held_rows, held_bytes = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)


class WriteBehind:
    """Runs writes in one thread, at most `depth` waiting; their errors are raised at the next call."""

    def __init__(self, depth: int = 2) -> None:
        self._depth = depth
        self._waiting: list[Future[Any]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="windrow-write-behind")

    def submit(self, write: Callable[..., Any], *args: Any) -> None:
        """Queue a write; waits while too many are queued."""
        while len(self._waiting) >= self._depth:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(write, *args))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                for future in self._waiting:
                    future.result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=error is not None)


@contextmanager
def flowing(reader: pa.RecordBatchReader, rows: int, size_bytes: int) -> Iterator[pa.RecordBatchReader]:
    """Give the stream in batches of about so many rows or bytes, made by a thread that runs ahead.

    What reads the stream in C++ turns its errors into errors of its own; here the stream's own are raised instead.

    >>> batch = pa.record_batch({"a": range(5)})
    >>> with flowing(pa.RecordBatchReader.from_batches(batch.schema, [batch, batch]), 100, 1 << 20) as stream:
    ...     stream.read_all().num_rows
    10
    """
    broken: list[BaseException] = []
    tables = read_ahead(in_tables(reader, rows, size_bytes), depth=1)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for table in tables:
                yield from table.to_batches()
        except Exception as error:
            broken.append(error)
            raise

    try:
        yield pa.RecordBatchReader.from_batches(reader.schema, batches())
    except Exception:
        if broken:
            raise broken[0] from None
        raise
    finally:
        with suppress(ValueError):  # an interrupted reader may still be waiting in it
            tables.close()
