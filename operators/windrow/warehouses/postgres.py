"""PostgreSQL: a partition in one transaction, copied straight into its table, under locks that publishers share."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Self

import pyarrow as pa

from windrow.duck import quoted
from windrow.errors import WarehouseError, WindrowError
from windrow.faults import reach
from windrow.postgres import Session, driver, told, words
from windrow.receipt import LEDGER_SCHEMA, Receipt
from windrow.warehouses.base import Part, Replacement, TableName
from windrow.warehouses.commit import completed, is_published
from windrow.warehouses.patience import TEN_MINUTES_S, lock_wait
from windrow.warehouses.postgres_catalog import Catalog
from windrow.warehouses.postgres_copy import columns_of, copy_in
from windrow.warehouses.postgres_locks import advisory, index_partitions, lock, text_literal
from windrow.warehouses.postgres_read import decoded, selected

__all__ = ["PostgresWarehouse"]

log = logging.getLogger("windrow")

_DDL_WAIT_S = 30
"""Readers queue behind a statement that waits to change a table; so it does not wait long."""
_TRIES = 4
_AGAIN = ("40001", "40P01")
"""Serialization failure and deadlock: the server has undone the whole transaction."""
_KEYS = "windrow_keys"
_USING_KEYS = f"USING pg_temp.{_KEYS} AS k"


class PostgresWarehouse:
    """One table in a PostgreSQL database.

    Args:
        url: ``postgresql://user:password@host/database``, as libpq reads it.
        table: The job's table.
        writes: Whether anything will be written; the transactions of a reader cannot write.
        lock_wait_s: How long to wait for another run that writes the same partition or table;
            ``$WINDROW_LOCK_WAIT_S`` or ten minutes unless given.
    """

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        self.url, self.table, self.writes = url, table, writes
        self.lock_wait_s = lock_wait(TEN_MINUTES_S, lock_wait_s)

    def __enter__(self) -> Self:
        self.session = self._connected()
        return self

    def __exit__(self, *error: object) -> None:
        self.session.__exit__(*error)

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas; nothing is changed."""
        with self._told(), self.session.transaction():
            return Catalog(self.session, self.table).plan(_wanted(table, rejects))

    def replace(self, new: Replacement) -> Receipt:
        """Write the partition, its rejects and its ledger row in one transaction."""
        with self._told():
            self._evolve(new)
            index_partitions(self.session, self.table, new.receipt.partition)
            for trial in range(1, _TRIES):
                try:
                    return self._replaced(new)
                except driver().Error as error:
                    if error.sqlstate not in _AGAIN:
                        raise
                    log.warning("PostgreSQL undid the transaction, which is tried again: %s", words(error))
                time.sleep(0.1 * 2**trial * (0.5 + random.random()))
            return self._replaced(new)

    def read(self, part: Part, equals: Mapping[str, Sequence[str]], columns: Sequence[str] = ()) -> pa.Table:
        """Return the rows whose named columns, cast to text, have one of the texts given.

        Nested values are read from ``jsonb``, which keeps neither the order of a struct's fields nor the sizes of
        its numbers.
        """
        with self._told(), self.session.transaction():
            catalog = Catalog(self.session, self.table)
            held = catalog.relation(part).columns
            if not held or any(name.lower() not in held for name in equals):
                return pa.table({})
            chosen = [held[name.lower()] for name in columns if name.lower() in held] or list(held.values())
            where = [
                f"{quoted(held[name.lower()].name)}::text = ANY (ARRAY[{', '.join(map(text_literal, texts))}]::text[])"
                for name, texts in equals.items()
            ]
            names = ", ".join(map(selected, chosen))
            found = self.session.table(f"SELECT {names} FROM {catalog.sql[part]} WHERE {' AND '.join(where) or 'true'}")
        return decoded(found, chosen, {f.name: f.type for f in LEDGER_SCHEMA} if part == "ledger" else {})

    def forget(self, keys: pa.Table) -> dict[str, int]:
        """Delete rows and rejects of the keys from every partition, under the lock of the whole table, and vacuum."""
        gone: dict[str, int] = {}
        with self._told(), self.session.transaction():
            catalog = Catalog(self.session, self.table)
            lock(self.session, catalog)
            texts = dict.fromkeys(keys.column_names, "text")
            copy_in(self.session, keys.to_batches(), texts, _KEYS, mode="create", temporary=True)
            parts: list[Part] = [part for part in ("table", "rejects") if catalog.relation(part).columns]
            for part in parts:
                held = catalog.relation(part).columns
                pairs = [(quoted(held[name.lower()].name), quoted(name)) for name in keys.column_names]
                same = " AND ".join(f"t.{mine}::text = k.{theirs}" for mine, theirs in pairs)
                gone[part] = self.session.run(f"DELETE FROM {catalog.sql[part]} AS t {_USING_KEYS} WHERE {same}")
            self.session.run(f"DROP TABLE pg_temp.{_KEYS}")
        try:
            for part in parts:
                self.session.run_alone(f"VACUUM {catalog.sql[part]}")
        except driver().Error as error:
            log.warning("The rows are deleted, but not vacuumed from the table's files yet: %s", words(error))
        return gone

    def _evolve(self, new: Replacement) -> None:
        """Create the schema and the tables, add and widen columns, in a transaction of its own."""
        wanted = _wanted(new.table, new.rejects)
        with self.session.transaction():
            if not Catalog(self.session, self.table).plan(wanted):
                return
        with self.session.transaction():
            self.session.run(f"SET LOCAL lock_timeout TO '{_DDL_WAIT_S}s'")
            schema = Catalog(self.session, self.table).schema
            self.session.rows(advisory("", f"windrow: tables of {schema}".lower()))
            for statement in Catalog(self.session, self.table).plan(wanted):
                self.session.run(statement)

    def _replaced(self, new: Replacement) -> Receipt:
        """Write in one transaction, commit, and make sure of it."""
        session, receipt = self.session, new.receipt
        try:
            catalog = Catalog(session, self.table)
            lock(session, catalog, new)
            session.run(f"LOCK TABLE {', '.join(catalog.sql.values())} IN ROW EXCLUSIVE MODE")
            partition = text_literal(receipt.partition)
            query = f'SELECT "table", run_id FROM {catalog.sql["ledger"]} WHERE partition = {partition}'
            is_done = is_published(session.rows(query), self.table, receipt, new.mode)
            receipt = receipt if is_done else self._write(catalog, new)
        except BaseException:
            with suppress(Exception):  # the connection may be what broke
                session.con.rollback()
            raise
        self._commit(catalog, new, receipt)
        return receipt

    def _write(self, catalog: Catalog, new: Replacement) -> Receipt:
        """Delete and copy inside the open transaction; the tables' types cannot change meanwhile."""
        partition = text_literal(new.receipt.partition)
        if new.mode == "replace":
            self.session.run(f"DELETE FROM {catalog.sql['table']} WHERE windrow_partition = {partition}")
        if new.clears_rejects:
            self.session.run(f"DELETE FROM {catalog.sql['rejects']} WHERE windrow_partition = {partition}")
        if new.mode == "upsert":
            self._clear_keys(catalog, new)
        self._insert(catalog, "table", new.table, new.rows())
        self._insert(catalog, "rejects", new.rejects, new.reject_rows())
        receipt, row = completed(new)
        self.session.run(f"DELETE FROM {catalog.sql['ledger']} WHERE run_id = {text_literal(receipt.run_id)}")
        self._insert(catalog, "ledger", LEDGER_SCHEMA, row.to_reader())
        reach("publish.ledger")
        return receipt

    def _clear_keys(self, catalog: Catalog, new: Replacement) -> None:
        """Delete the rows and rejects of the keys that arrive, whichever partition they are in."""
        keyed = pa.schema([new.table.field(name) for name in new.keys])
        columns = columns_of(catalog, "table", keyed)
        for number, reader in enumerate(new.key_streams()):
            mode = "append" if number else "create"
            copy_in(self.session, reader, columns, _KEYS, mode=mode, temporary=True)
        self.session.run(f"ANALYZE pg_temp.{_KEYS}")
        missing = " OR ".join(f"{quoted(name)} IS NULL" for name in columns)
        some_are_null = self.session.rows(f"SELECT EXISTS (SELECT FROM pg_temp.{_KEYS} WHERE {missing})")[0][0]
        for part in ("table", "rejects"):
            pairs = list(zip(map(quoted, columns_of(catalog, part, keyed)), map(quoted, columns), strict=True))
            same = " AND ".join(f"t.{mine} = k.{theirs}" for mine, theirs in pairs)
            self.session.run(f"DELETE FROM {catalog.sql[part]} AS t {_USING_KEYS} WHERE {same}")
            if some_are_null:  # apart, since only equality can be hashed
                nulls = f"USING (SELECT DISTINCT * FROM pg_temp.{_KEYS} WHERE {missing}) AS k"
                absent = " OR ".join(f"t.{mine} IS NULL" for mine, _ in pairs)
                same = " AND ".join(f"t.{mine} IS NOT DISTINCT FROM k.{theirs}" for mine, theirs in pairs)
                self.session.run(f"DELETE FROM {catalog.sql[part]} AS t {nulls} WHERE ({absent}) AND {same}")
        self.session.run(f"DROP TABLE pg_temp.{_KEYS}")

    def _insert(self, catalog: Catalog, part: Part, schema: pa.Schema, reader: pa.RecordBatchReader) -> None:
        """Copy a stream into a table by column names, each in the column's type."""
        columns = columns_of(catalog, part, schema)
        copy_in(self.session, reader, columns, catalog.names[part], mode="append", db_schema_name=catalog.schema)

    def _commit(self, catalog: Catalog, new: Replacement, receipt: Receipt) -> None:
        """Commit and read the ledger back; if the connection broke, over a new one, once the server has decided.

        Raises:
            WarehouseError: The run is not in the ledger, or nobody can tell.
        """
        try:
            self.session.con.commit()
            with self.session.transaction():
                is_there = _is_in_ledger(self.session, catalog, new, receipt)
        except driver().Error as error:
            log.warning("The connection to PostgreSQL broke at commit, so the ledger is looked at: %s", words(error))
            try:
                self.session.close(is_sound=False)
                self.session = self._connected()
                with self._told(), self.session.transaction():
                    lock(self.session, catalog, new)  # which the broken transaction holds as long as it lives
                    is_there = _is_in_ledger(self.session, catalog, new, receipt)
            except WindrowError as lost:
                raise WarehouseError(
                    f"The connection broke at commit; whether run {receipt.run_id} is published is unknown. "
                    f"{lost.problem}",
                    "run it again: a run that is published twice is there once.",
                ) from None
        if not is_there:
            problem = f"Run {receipt.run_id} was not committed: it is not in {catalog.sql['ledger']}."
            raise WarehouseError(problem, "run it again; nothing was changed, and nothing is scored twice.")

    def _connected(self) -> Session:
        with self._told():
            return Session(self.url, reads=not self.writes, lock_wait_s=self.lock_wait_s)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the driver raises into what a person can act on."""
        try:
            yield
        except driver().Error as error:
            raise told(error, self.url) from None


def _wanted(table: pa.Schema, rejects: pa.Schema) -> dict[Part, pa.Schema]:
    return {"table": table, "rejects": rejects, "ledger": LEDGER_SCHEMA}


def _is_in_ledger(session: Session, catalog: Catalog, new: Replacement, receipt: Receipt) -> bool:
    """Tell whether the ledger has this very attempt of the run; of an append, any that wrote it."""
    query = f"SELECT count(*) FROM {catalog.sql['ledger']} WHERE run_id = {text_literal(receipt.run_id)}"
    if new.mode != "append":
        query += f" AND finished_at = {text_literal(receipt.finished_at.isoformat())}::timestamptz"
    return bool(session.rows(query)[0][0] == 1)
