"""Removing what a DuckDB file still holds of rows that are deleted: in row groups beside others, and in free blocks."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from windrow.duck import execute, quoted

__all__ = ["erase_deleted"]

_FILLER, _KEPT = "windrow_filler", "windrow_kept"
_LEAST = 122_880
"""Numbers of eight bytes: more than what is left of a row group."""


def erase_deleted(con: duckdb.DuckDBPyConnection, tables: Sequence[str], database: str, schema: str) -> None:
    """Write tables anew, and numbers over the free blocks of their file.

    Args:
        con: In no transaction.
        tables: As SQL names them; whatever belongs to them (comments, views) stays.
        database: That all of them are in.
        schema: Where a table may be made for a moment.
    """
    for table in tables:
        con.execute("BEGIN TRANSACTION")
        try:
            con.execute(f"CREATE OR REPLACE TEMP TABLE {_KEPT} AS FROM {table}")
            con.execute(f"DELETE FROM {table}")
            execute(con, f"INSERT INTO {table} FROM temp.{_KEPT}")
            con.execute(f"DROP TABLE temp.{_KEPT}")
            con.execute("COMMIT")
        except BaseException:
            con.execute("ROLLBACK")
            raise
    con.execute(f"CHECKPOINT {quoted(database)}")
    query = "SELECT block_size * free_blocks FROM pragma_database_size() WHERE database_name = ?"
    free_bytes = con.execute(query, [database]).fetchall()[0][0]
    filler = quoted(database, schema, _FILLER)
    con.execute("PRAGMA force_compression = 'uncompressed'")
    try:
        execute(con, f"CREATE OR REPLACE TABLE {filler} AS SELECT random() FROM range({free_bytes // 8 + _LEAST})")
        con.execute(f"CHECKPOINT {quoted(database)}")
        con.execute(f"DROP TABLE {filler}")
        con.execute(f"CHECKPOINT {quoted(database)}")
    finally:
        con.execute("PRAGMA force_compression = 'auto'")
