import threading

import pyarrow as pa
import pytest

from windrow.overlap import WriteBehind, as_done, in_tables, read_ahead


def test_items_come_in_order():
    assert list(read_ahead(range(100), depth=3)) == list(range(100))


def test_an_error_of_the_reader_is_raised_where_it_is_read():
    def items():
        yield 1
        raise OSError("disk gone")

    read = read_ahead(items())
    assert next(read) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(read)


def test_the_reader_never_runs_further_ahead_than_its_queue():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    read = read_ahead(items(), depth=2)
    for number in read:
        assert len(made) <= number + 5


def test_a_reader_that_is_left_early_ends_its_thread():
    before = threading.active_count()
    read = read_ahead(iter(range(10**6)), depth=1)
    next(read)
    read.close()
    assert threading.active_count() == before


def test_writes_are_done_when_the_block_ends():
    done = []
    with WriteBehind() as writer:
        for number in range(20):
            writer.submit(done.append, number)
    assert done == list(range(20))


def test_a_failed_write_is_not_lost():
    def fail():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), WriteBehind() as writer:
        writer.submit(fail)


def test_record_batches_of_large_texts_are_cut_into_tables_of_bounded_size():
    large = pa.record_batch({"id": range(64), "text": ["x" * 100_000] * 64})
    tables = list(in_tables([large, large], rows=4096, size_bytes=1 << 20))
    assert max(table.nbytes for table in tables) < 2 << 20
    assert pa.concat_tables(tables)["id"].to_pylist() == [*range(64), *range(64)]


def test_all_items_are_worked_on_once_by_several_threads():
    together = threading.Barrier(3, timeout=30)

    def work(number):
        if number < 3:
            together.wait()
        return number, threading.current_thread().name

    found = list(as_done(range(40), work, at_once=3))
    assert sorted(number for number, _ in found) == list(range(40))
    assert len({name for _, name in found}) == 3


def test_after_an_error_nothing_more_is_begun_and_what_is_under_way_is_still_given():
    failing, begun = threading.Event(), []

    def work(number):
        begun.append(number)
        if number == 1:
            failing.set()
            raise OSError("device gone")
        failing.wait(30)
        threading.Event().wait(0.2)
        return number

    given = as_done(range(10), work, at_once=2)
    assert next(given) == 0
    with pytest.raises(OSError, match="device gone"):
        next(given)
    assert sorted(begun) == [0, 1]


def test_one_at_once_needs_no_thread():
    assert set(as_done(range(3), lambda _: threading.current_thread().name, at_once=1)) == {"MainThread"}
