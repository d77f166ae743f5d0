"""PostgreSQL queries as record batches, streamed in binary COPY by ADBC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pyarrow as pa

from windrow.errors import SourceError, WarehouseError
from windrow.postgres import connect, driver, words
from windrow.sources.base import require_columns, sliced
from windrow.sources.since import Since
from windrow.sources.sql import selected

__all__ = ["PostgresQuery"]


class PostgresQuery:
    """A query over PostgreSQL.

    ``numeric(p, s)`` becomes a decimal, a bare ``numeric`` its text, since it has no bounds; ``json``
    and ``uuid`` stay what they are; other types of PostgreSQL's own must be cast in the query.
    """

    def __init__(self, query: str, url: str) -> None:
        self.query, self.url = query, url

    def schema(self) -> pa.Schema:
        """Return the query's columns; no row is fetched."""
        with self._run(selected(self.query)) as reader:
            return pa.schema([pa.field(f.name, _plain(f) or f.type) for f in reader.schema])

    def batches(self, columns: Sequence[str], since: Since | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the query's rows as they come."""
        require_columns(self.schema(), columns, "the query")
        with self._run(selected(self.query, columns, since)) as reader:
            target = pa.schema([pa.field(f.name, _known(f)) for f in reader.schema])
            for batch in sliced(reader):
                arrays = [_as(column, field.type) for column, field in zip(batch.columns, target, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=target)

    def malformed(self) -> list[str]:
        """Return nothing: a query has no malformed rows."""
        return []

    @contextmanager
    def _run(self, statement: str) -> Iterator[pa.RecordBatchReader]:
        dbapi = driver()
        with closing(connect(self.url)) as connection, closing(connection.cursor()) as cursor:
            try:
                cursor.execute(statement)
                yield cursor.fetch_record_batch()
            except (dbapi.Error, pa.ArrowException, OSError) as error:
                if "ERROR:" in str(error) or isinstance(error, pa.ArrowException):
                    raise SourceError(f"The query failed: {words(error)}", "correct source.query.") from None
                raise WarehouseError(f"The query broke off: {words(error)}", "try again.") from None


def _plain(field: pa.Field) -> pa.DataType | None:
    """Return the type in which a column is carried; None if there is none."""
    kind = field.type
    if not isinstance(kind, pa.OpaqueType):
        return kind
    if kind.type_name != "numeric":
        return None
    bounds = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")) - 4
    precision, scale = bounds >> 16, bounds & 0xFFFF
    return pa.decimal128(precision, scale) if bounds > 0 and precision <= 38 and scale <= precision else pa.string()


def _known(field: pa.Field) -> pa.DataType:
    kind = _plain(field)
    if kind is None:
        raise SourceError(
            f"Column {field.name!r} has PostgreSQL's type {field.type.type_name}, which cannot be carried.",
            f'cast it in source.query, for example "{field.name}"::text.',
        )
    return kind


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    stored = column.storage if isinstance(column.type, pa.OpaqueType) else column
    return stored if stored.type.equals(kind) else stored.cast(kind)
