"""BigQuery: rows are loaded from Parquet files into a stage of their own; one script moves them into place.

The script is one job on the server, a transaction from its first statement to its last: it ends whole or not at all,
even if whoever asked is gone. Publishers meet in the ledger, where each changes a row of its own: of two at once
BigQuery cancels one, which begins again.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from windrow.errors import JobError
from windrow.faults import reach
from windrow.receipt import Receipt
from windrow.warehouses.base import Part, Replacement, TableName
from windrow.warehouses.bigquery_session import Address, connect, driver, is_conflict, is_lost, patience, problems, told
from windrow.warehouses.bigquery_types import BigQueryDialect, catalog_type, sent
from windrow.warehouses.commit import completed, is_published
from windrow.warehouses.staged import LostCommitError, Stage, StagedWarehouse
from windrow.warehouses.staged_catalog import Column, Relation, names_of
from windrow.warehouses.staged_ledger import Ledger

__all__ = ["BigQueryWarehouse"]

log = logging.getLogger("windrow")

_KINDS = {"VIEW": "a view", "MATERIALIZED_VIEW": "a materialized view", "EXTERNAL": "an external table"}
_STAGE_LIVES = dt.timedelta(days=1)


class BigQueryWarehouse(StagedWarehouse):
    """One table in a dataset of BigQuery.

    Args:
        url: ``bigquery://project/dataset``.
        table: The job's table; its schema is the dataset.
        writes: Whether anything will be written.
        lock_wait_s: How long to begin again after others who write; ``$WINDROW_LOCK_WAIT_S`` or ten minutes.
    """

    dialect = BigQueryDialect()

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        super().__init__(url, table, writes, lock_wait_s)
        self.address = Address.of(url)
        self.dataset = table.schema or self.address.dataset
        if not self.dataset:
            raise JobError(f"warehouse.table {table.name!r} names no dataset.", "write dataset.table.")

    def connect(self) -> None:
        """Make a client and ask for the dataset once, without waiting for long."""
        self.client = connect(self.address)
        self._dataset_is_there()

    def close(self, is_sound: bool) -> None:  # noqa: ARG002
        """Let the client's connections go."""
        with suppress(Exception):  # the connection may be what broke
            self.client.close()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn what the client raises into what a person can act on."""
        try:
            yield
        except problems() as error:
            raise told(error, self.address) from None

    def relations(self) -> dict[Part, Relation]:
        """Ask for the tables; case counts."""
        return {part: self._relation(name) for part, name in names_of(self.table).items()}

    def places(self) -> list[str]:
        """Return the statement that makes the dataset, if it is missing."""
        if self._dataset_is_there():
            return []
        location = self.address.options.get("location")
        where = f" OPTIONS(location={self.dialect.literal(location)})" if location else ""
        return [f"CREATE SCHEMA IF NOT EXISTS {self.dialect.quoted(self.address.project, self.dataset)}{where}"]

    def run(self, statement: str) -> None:
        """Run a statement."""
        self._result(statement)

    def query(self, query: str) -> pa.Table:
        """Return the rows of a query."""
        return self._result(query).to_arrow(create_bqstorage_client=False)

    def sent_type(self, kind: pa.DataType) -> pa.DataType:
        """Return the type in Parquet."""
        return sent(kind)

    def load(self, name: str, columns: list[Column], schema: pa.Schema, files: Iterator[Path]) -> str:  # noqa: ARG002
        """Upload file after file; BigQuery loads each while the next is made."""
        bigquery = driver()
        jobs: list[Any] = []
        place = f"{self.address.project}.{self.dataset}.{name}"
        fields = [_field(column) for column in columns]
        options = bigquery.ParquetOptions()
        options.enable_list_inference = True
        config = bigquery.LoadJobConfig(
            source_format="PARQUET", schema=fields, write_disposition="WRITE_APPEND", parquet_options=options
        )
        for file in files:
            if not jobs:
                table = bigquery.Table(place, schema=fields)
                table.expires = dt.datetime.now(dt.UTC) + _STAGE_LIVES
                self.client.create_table(table)
            with file.open("rb") as content:
                size = file.stat().st_size
                jobs.append(self.client.load_table_from_file(content, place, size=size, job_config=config))
            file.unlink()
        for job in jobs:
            job.result()
        return self.dialect.quoted(self.address.project, self.dataset, name) if jobs else ""

    def drop(self, stage: Stage) -> None:
        """Drop the table; one that is left over expires."""
        with suppress(*problems()):
            self.client.delete_table(stage.sql.replace("`", ""), not_found_ok=True)

    def write(self, new: Replacement, statements: list[str], ledger: Ledger) -> Receipt:
        """Run one script, and begin again as long as another publisher was first and there is time to wait."""
        deadline, pause_s = time.monotonic() + self.lock_wait_s, 0.5
        while True:
            runs = self.runs(ledger, new.receipt.partition)
            if is_published(runs, self.table, new.receipt, new.mode):
                return new.receipt
            try:
                return self._written(new, statements, ledger, [run_id for _, run_id in runs])
            except problems() as error:
                if not is_conflict(error) or time.monotonic() > deadline:
                    raise
                log.info("Another run was first, so publishing begins again: %s", error)
            time.sleep(pause_s * (0.5 + random.random()))
            pause_s = min(10.0, pause_s * 1.6)

    def changed(self, statements: list[str]) -> list[int]:
        """Run statements in one script."""
        counted = [f"{each};\nSET counts = ARRAY_CONCAT(counts, [@@row_count])" for each in statements]
        script = [
            "DECLARE counts ARRAY<INT64> DEFAULT []",
            "BEGIN TRANSACTION",
            *counted,
            "COMMIT TRANSACTION",
            "SELECT TO_JSON_STRING(counts)",
        ]
        ((text,),) = self.rows(";\n".join(script))
        return [int(count) for count in text.strip("[]").split(",") if count]

    def _written(self, new: Replacement, statements: list[str], ledger: Ledger, seen: list[str]) -> Receipt:
        """Run the transaction once; it fails if the ledger knows of a run that was not there before."""
        mark = f"claim-{uuid.uuid4().hex}"
        receipt, row = completed(new)
        others = f"{ledger.column('partition')} = {self.dialect.literal(receipt.partition)}"
        if seen:
            others += f" AND {ledger.column('run_id')} NOT IN ({', '.join(map(self.dialect.literal, seen))})"
        script = [
            "BEGIN TRANSACTION",
            *ledger.claims(mark),
            f"ASSERT (SELECT COUNT(*) FROM {ledger.sql} WHERE {others}) = 0 AS 'another run was first'",
            *statements,
            *ledger.written(row, [mark, receipt.run_id]),
            "COMMIT TRANSACTION",
        ]
        reach("publish.ledger")
        job_id = f"windrow-{uuid.uuid4()}"
        try:
            self._result(";\n".join(script), job_id)
        except problems() as error:
            if not is_lost(error):
                raise
            try:  # the server goes on by itself
                self.client.get_job(job_id).result(timeout=self.lock_wait_s)
            except problems() as again:
                if not is_lost(again):
                    raise
                raise LostCommitError(receipt, error) from None
        return receipt

    def _result(self, query: str, job_id: str | None = None) -> Any:
        given: dict[str, Any] = {"job_id": job_id, "job_retry": None} if job_id else {}
        return self.client.query(query, **given).result()

    def _dataset_is_there(self) -> bool:
        from google.api_core.exceptions import NotFound

        with self.telling():
            try:
                self.client.get_dataset(f"{self.address.project}.{self.dataset}", **patience())
            except NotFound:
                return False
        return True

    def _relation(self, name: str) -> Relation:
        from google.api_core.exceptions import NotFound

        sql = self.dialect.quoted(self.address.project, self.dataset, name)
        self.dialect.check_name(name, "warehouse.table", False)
        try:
            found = self.client.get_table(f"{self.address.project}.{self.dataset}.{name}")
        except NotFound:
            return Relation(name, sql)
        columns = {field.name.lower(): Column(field.name, catalog_type(field)) for field in found.schema}
        what = "" if found.table_type == "TABLE" else _KINDS.get(found.table_type, "no table")
        return Relation(name, sql, columns, what)


def _field(column: Column) -> Any:
    """Return a column of a stage as the client takes it."""
    kind, is_array = column.type.removeprefix("ARRAY<").removesuffix(">"), column.type.startswith("ARRAY<")
    name, _, digits = kind.removesuffix(")").partition("(")
    precision, scale = (int(each) for each in digits.split(",")) if digits else (None, None)
    mode = "REPEATED" if is_array else "NULLABLE"
    return driver().SchemaField(column.name, name, mode=mode, precision=precision, scale=scale)
