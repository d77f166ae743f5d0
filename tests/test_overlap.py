import threading

import pyarrow as pa
import pytest

from windrow.overlap import WriteBehind, in_tables, read_ahead


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
