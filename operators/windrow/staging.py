"""Source rows into a scratch DuckDB: text joined and hashed, and what cannot be scored set aside with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
from pyarrow import compute

from windrow.duck import execute, first_line, literal, quoted
from windrow.errors import SchemaError, SourceError
from windrow.images import Spool, check_images
from windrow.job import Job
from windrow.overlap import in_tables, read_ahead
from windrow.sources import RowSource

__all__ = ["file_schema", "stage"]

_OURS = [
    ("windrow_row", pa.int64()),
    ("windrow_text", pa.string()),
    ("windrow_early", pa.string()),
    ("windrow_note", pa.string()),
]
_ROWS = 32_768
_BYTES = 16 << 20
_BLANK = r"'[\s\p{Z}\p{Cc}\p{Cf}]*'"
_LETTERS = r"length(regexp_replace(windrow_text, '[^\p{L}]', '', 'g'))"
_LATIN = r"length(regexp_replace(windrow_text, '[^\p{Latin}]', '', 'g'))"


def stage(
    con: duckdb.DuckDBPyConnection,
    job: Job,
    source: RowSource,
    carried: pa.Schema,
    english_only: bool,
    limit: int | None,
    images: Spool | None = None,
) -> None:
    """Make the table ``staged``: carried columns, ``windrow_row``, ``_text``, ``_hash``, ``_reason``, ``_detail``.

    Every source row becomes exactly one row; those with a reason are rejects. Where the source's texts are images,
    these go into the spool, and ``_text`` is the hash of their bytes in hex.

    Raises:
        SourceError: The source breaks off, or a text column holds no text.
    """
    rows = _Rows(job, source, carried, limit, images)
    hashed = "unhex(windrow_text)" if images else "unhex(left(sha256(windrow_text), 32))"
    columns = ", ".join(map(quoted, carried.names))
    query = f"""SELECT {columns}, windrow_row, windrow_text,
        CASE WHEN windrow_reason IS NULL THEN {hashed} END AS windrow_hash,
        windrow_reason, coalesce(windrow_note, {_details(job)}) AS windrow_detail
        FROM (SELECT *, {_reason(job, english_only)} AS windrow_reason FROM arriving)"""
    execute(con, f"CREATE TABLE staged AS {query}", rows.schema.empty_table())
    for table in read_ahead(in_tables(rows.batches(), _ROWS, _BYTES), depth=1):
        execute(con, f"INSERT INTO staged {query}", table)
    _reject_repeated_keys(con, job)


def file_schema(con: duckdb.DuckDBPyConnection, file: str | Path, names: Sequence[str]) -> pa.Schema:
    """Return the types that columns have once they have gone through a Parquet file, as publish will read them."""
    columns = ", ".join(map(quoted, names))
    return con.execute(f"SELECT {columns} FROM read_parquet({literal(file)}) LIMIT 0").to_arrow_table().schema


def _reason(job: Job, english_only: bool) -> str:
    """Return the SQL expression that gives a row's reason code, or NULL."""
    null_key = " OR ".join(f"{quoted(name)} IS NULL" for name in job.source.key)
    foreign = (
        f"WHEN strlen(windrow_text) <> length(windrow_text) AND {_LATIN} * 2 < {_LETTERS} THEN 'unsupported_script'"
        if english_only
        else ""
    )
    return f"""CASE
        WHEN windrow_early IS NOT NULL THEN windrow_early
        WHEN {null_key} THEN 'null_key'
        WHEN windrow_text IS NULL THEN 'null_text'
        WHEN strlen(windrow_text) > {job.limits.max_text_bytes} THEN 'too_large'
        WHEN regexp_full_match(windrow_text, {_BLANK}) THEN 'empty_text'
        {foreign} END"""


def _details(job: Job) -> str:
    """Return the SQL expression that explains a reason to a person."""
    return f"""CASE windrow_reason
        WHEN 'null_key' THEN 'a key column is null'
        WHEN 'null_text' THEN 'the text is null'
        WHEN 'empty_text' THEN 'the text is empty or blank'
        WHEN 'too_large' THEN strlen(windrow_text) || ' bytes; limits.max_text_bytes is {job.limits.max_text_bytes}'
        WHEN 'unsupported_script' THEN 'most letters are not Latin, and the model reads English only' END"""


def _reject_repeated_keys(con: duckdb.DuckDBPyConnection, job: Job) -> None:
    """Keep the first row of each key; later ones become rejects."""
    keys = ", ".join(map(quoted, job.source.key))
    execute(
        con,
        f"CREATE TABLE repeated AS SELECT {keys}, min(windrow_row) AS windrow_first FROM staged "
        "WHERE windrow_reason IS NULL GROUP BY ALL HAVING count(*) > 1",
    )
    same = " AND ".join(f"staged.{quoted(name)} = repeated.{quoted(name)}" for name in job.source.key)
    if con.execute("SELECT count(*) FROM repeated").fetchall()[0][0]:
        execute(
            con,
            "UPDATE staged SET windrow_reason = 'duplicate_key', "
            "windrow_detail = 'row ' || (windrow_row + 1) || ' repeats the key of row ' || (windrow_first + 1) "
            f"FROM repeated WHERE {same} AND windrow_row > windrow_first AND windrow_reason IS NULL",
        )


@dataclass(slots=True)
class _Rows:
    """The source as record batches of carried columns, row number, text and early rejects."""

    job: Job
    source: RowSource
    carried: pa.Schema
    limit: int | None
    images: Spool | None = None
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        fields = [pa.field(f.name, _staged_type(f.type)) for f in self.carried]
        self.schema = pa.schema([*fields, *_OURS])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the staged record batches."""
        start = 0
        for batch in self.source.batches(self.job.source.columns):
            left = batch.num_rows if self.limit is None else min(batch.num_rows, self.limit - start)
            if left > 0:
                yield self._staged(batch.slice(0, left), start)
                start += left
            if self.limit is not None and start >= self.limit:
                return
        yield self._malformed(start)

    def _malformed(self, start: int) -> pa.RecordBatch:
        """Return a record batch of what was no row: null keys, and where it stands."""
        lines = self.source.malformed()
        empty = [pa.nulls(len(lines), f.type) for f in self.schema][: -len(_OURS)]
        numbers = pa.array(range(start, start + len(lines)), pa.int64())
        reasons = pa.array(["malformed_row"] * len(lines), pa.string())
        ours = [numbers, pa.nulls(len(lines), pa.string()), reasons, pa.array(lines, pa.string())]
        return pa.RecordBatch.from_arrays([*empty, *ours], schema=self.schema)

    def _staged(self, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        broken: dict[int, str] = {}
        carried = [_clean(batch.column(f.name), f, broken) for f in self.schema if f.name in self.carried.names]
        numbers = pa.array(range(start, start + batch.num_rows), pa.int64())
        if self.images:
            ours = self.images.taken(check_images(batch.column(self.job.source.text[0]), self.job.source.text[0]))
            return pa.RecordBatch.from_arrays([*carried, numbers, *ours], schema=self.schema)
        texts = [_clean(_text(batch, name), pa.field(name, pa.string()), broken) for name in self.job.source.text]
        text = texts[0] if len(texts) == 1 else _joined(texts)
        reasons = pa.nulls(batch.num_rows, pa.string())
        details = reasons
        if broken:
            reasons = pa.array(
                ["invalid_utf8" if row in broken else None for row in range(batch.num_rows)], pa.string()
            )
            details = pa.array([broken.get(row) for row in range(batch.num_rows)], pa.string())
        return pa.RecordBatch.from_arrays([*carried, numbers, text, reasons, details], schema=self.schema)


def _staged_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a carried column is staged."""
    if pa.types.is_null(kind):
        return pa.string()
    return _staged_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _text(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a text column as strings.

    Raises:
        SourceError: It holds something else.
    """
    column = batch.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    ):
        raise SourceError(
            f"Text column {name!r} has type {kind}, not text.",
            "name a text column in source.text, or cast it in the source.",
        )
    return column


def _joined(texts: list[pa.Array]) -> pa.Array:
    """Join the text columns of each row by a blank line; null if all are null."""
    joined = texts[0]
    for column in texts[1:]:
        joined = compute.coalesce(compute.binary_join_element_wise(joined, column, "\n\n"), joined, column)
    return joined


def _cast(column: pa.Array, wanted: pa.Field) -> pa.Array:
    """Cast a column, and name it where a value would be lost."""
    try:
        return column.cast(wanted.type)
    except pa.ArrowInvalid as error:
        raise SchemaError(
            f"Column {wanted.name!r} holds a value that cannot be carried unchanged: {first_line(error)}.",
            "cast it in the source, for example to whole microseconds, or leave it out of source.keep.",
        ) from None


def _clean(column: pa.Array, wanted: pa.Field, broken: dict[int, str]) -> pa.Array:
    """Cast a column to its staged type; rows with bytes that are not UTF-8 are noted in `broken` and mended."""
    is_text = (
        pa.types.is_string(wanted.type) or pa.types.is_large_string(wanted.type) or pa.types.is_string_view(wanted.type)
    )
    if not is_text:
        return column if column.type.equals(wanted.type) else _cast(column, wanted)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        values = column.cast(
            pa.binary() if not pa.types.is_large_string(column.type) else pa.large_binary()
        ).to_pylist()
        for row, value in enumerate(values):
            try:
                _ = value is None or value.decode("utf-8")
            except UnicodeDecodeError as error:
                broken[row] = f"column {wanted.name!r} is not UTF-8 at byte {error.start}"
        mended = [None if value is None else value.decode("utf-8", "replace") for value in values]
        return pa.array(mended, wanted.type)
    return column.cast(wanted.type)
