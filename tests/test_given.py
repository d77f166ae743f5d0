"""Rows that a program hands over, staged as a file."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from windrow.errors import SourceError
from windrow.sources.given import write_rows

TABLE = pa.table(
    {
        "id": pa.array(range(1000), pa.int64()),
        "text": pa.array([f"text {n}" for n in range(1000)]).dictionary_encode(),
        "parts": pa.array([[{"a": n}] for n in range(1000)]),
        "at": pa.array(range(1000), pa.timestamp("ns", tz="UTC")),
    }
)


class Stream:
    """Whatever else gives an Arrow stream, such as a data frame."""

    def __arrow_c_stream__(self, requested_schema=None):
        return TABLE.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "rows",
    [
        TABLE,
        pa.RecordBatchReader.from_batches(TABLE.schema, iter(TABLE.to_batches(max_chunksize=7))),
        TABLE.combine_chunks().to_batches()[0],
        Stream(),
    ],
    ids=["table", "reader", "record batch", "stream"],
)
def test_rows_are_staged_as_they_are(rows, tmp_path):
    assert write_rows(rows, tmp_path / "given.parquet") == 1000
    assert parquet.read_table(tmp_path / "given.parquet").equals(TABLE)


def test_small_batches_are_joined(tmp_path):
    batches = iter(TABLE.to_batches(max_chunksize=7))
    write_rows(pa.RecordBatchReader.from_batches(TABLE.schema, batches), tmp_path / "given.parquet")
    assert parquet.ParquetFile(tmp_path / "given.parquet").num_row_groups == 1


def test_no_rows_are_rows_too(tmp_path):
    assert write_rows(TABLE.slice(0, 0), tmp_path / "given.parquet") == 0
    assert parquet.read_schema(tmp_path / "given.parquet").equals(TABLE.schema)


def test_an_error_of_the_stream_is_raised_as_it_is(tmp_path):
    def batches():
        yield TABLE.to_batches()[0]
        raise LookupError("the database is gone")

    with pytest.raises(LookupError, match="the database is gone"):
        write_rows(pa.RecordBatchReader.from_batches(TABLE.schema, batches()), tmp_path / "given.parquet")


def test_a_column_that_cannot_be_staged_is_told(tmp_path):
    table = pa.table({"span": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    with pytest.raises(SourceError, match="The rows cannot be staged"):
        write_rows(table, tmp_path / "given.parquet")


@pytest.mark.parametrize("rows", [[{"id": 1}], 7, "text"])
def test_what_is_no_stream_of_rows_is_told(rows, tmp_path):
    with pytest.raises(SourceError, match="is no stream of Arrow rows"):
        write_rows(rows, tmp_path / "given.parquet")
