"""Locks that publishers to PostgreSQL share, and what is done under them alone: indexing the partitions."""

from __future__ import annotations

import logging

import pyarrow as pa

from windrow.duck import literal
from windrow.postgres import Session, driver
from windrow.warehouses.base import Replacement, TableName
from windrow.warehouses.nested import without_nul
from windrow.warehouses.postgres_catalog import Catalog

__all__ = ["advisory", "index_partitions", "lock", "text_literal"]

log = logging.getLogger("windrow")

_INDEX_WAIT_S = 2
"""All that is missing without an index is speed."""


def _held(text: str) -> str:
    """Return a text as it is held."""
    found: str = without_nul(pa.array([text.encode("utf-8", "replace").decode()]))[0].as_py()
    return found


def text_literal(text: str) -> str:
    """Write a text as it is held, as a literal."""
    return literal(_held(text))


def advisory(kind: str, name: str) -> str:
    """Return the query that takes a lock of a name until the transaction ends."""
    return f"SELECT pg_advisory_xact_lock{kind}(hashtextextended({text_literal(name)}, 0))::text"


def lock(session: Session, catalog: Catalog, new: Replacement | None = None) -> None:
    """Wait for those that write the same partition, and, where keys move between partitions, the same table."""
    name = f"windrow: rows of {catalog.schema}.{catalog.names['table']}".lower()
    if new is None or new.mode == "upsert":
        session.rows(advisory("", name))
    else:
        session.rows(advisory("_shared", name))
        session.rows(advisory("", f"{name}, partition {new.receipt.partition}"))


def index_partitions(session: Session, table: TableName, partition: str) -> None:
    """Index the partitions of a table that holds another one than `partition`, unless somebody writes just then."""
    with session.transaction():
        if not Catalog(session, table).indexes(_held(partition)):
            return
    try:
        with session.transaction():
            session.run(f"SET LOCAL lock_timeout TO '{_INDEX_WAIT_S}s'")
            session.rows(advisory("", f"windrow: tables of {Catalog(session, table).schema}".lower()))
            for statement in Catalog(session, table).indexes(_held(partition)):
                session.run(statement)
    except driver().Error as error:
        if error.sqlstate != "55P03":
            raise
        log.info("Others write the table, so its partitions are indexed by a later run.")
