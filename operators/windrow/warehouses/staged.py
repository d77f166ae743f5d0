"""Warehouses that are loaded through a stage: rows are uploaded first, then one transaction moves them into place."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pyarrow as pa

from windrow.errors import WarehouseError, WindrowError
from windrow.receipt import LEDGER_SCHEMA, Receipt
from windrow.warehouses.base import Part, Replacement
from windrow.warehouses.commit import is_published
from windrow.warehouses.nested import from_json
from windrow.warehouses.staged_catalog import Column, Relation, planned
from windrow.warehouses.staged_ledger import Ledger
from windrow.warehouses.staged_rows import parquet_files, staged_names
from windrow.warehouses.staged_tables import LostCommitError, Stage, StagedTables

__all__ = ["LostCommitError", "Stage", "StagedWarehouse"]

log = logging.getLogger("windrow")


class StagedWarehouse(StagedTables):
    """One table of a warehouse, as the seam asks for it; see `StagedTables` for what each warehouse brings."""

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *error: object) -> None:
        self.close(is_sound=error[:1] == (None,))

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas; nothing is changed."""
        with self.telling():
            return self._planned(table, rejects)[0]

    def replace(self, new: Replacement) -> Receipt:
        """Upload rows and rejects, then write the partition, its rejects and its ledger row in one transaction."""
        with self.telling(), self._stages() as stages:
            statements, relations = self._planned(new.table, new.rejects)
            for statement in statements:
                self.run(statement)
            relations = self.relations() if statements else relations
            ledger = self.ledger(relations)
            if is_published(self.runs(ledger, new.receipt.partition), self.table, new.receipt, new.mode):
                return new.receipt
            streams = {"table": new.rows, "rejects": new.reject_rows}
            if new.mode == "upsert" and new.gone:
                streams["gone"] = new.gone
            for name, start in streams.items():
                reader = start()
                stages[name] = self._staged(name, reader.schema, reader)
            try:
                receipt = self.write(new, self._statements(new, stages, relations), ledger)
                is_there = self._is_in(ledger, receipt, new)
            except LostCommitError as lost:
                receipt, is_there = lost.receipt, self._found_again(ledger, lost, new)
        if not is_there:
            problem = f"Run {receipt.run_id} was not committed: it is not in {ledger.sql}."
            raise WarehouseError(problem, "run it again; nothing was changed, and nothing is scored twice.")
        return receipt

    def read(self, part: Part, equals: Mapping[str, Sequence[str]], columns: Sequence[str] = ()) -> pa.Table:
        """Return the rows whose named columns, cast to text, have one of the texts given."""
        with self.telling():
            relation = self.relations()[part]
            held = relation.columns
            if not held or any(name.lower() not in held for name in equals):
                return pa.table({})
            chosen = {name: held[name.lower()] for name in columns if name.lower() in held}
            chosen = chosen or {self.dialect.shown(each.name): each for each in held.values()}
            names = ", ".join(self.dialect.quoted(column.name) for column in chosen.values())
            where = " AND ".join(self._one_of(held[name.lower()], texts) for name, texts in equals.items())
            found = self.query(f"SELECT {names} FROM {relation.sql}{f' WHERE {where}' if where else ''}")
        known = {f.name: f.type for f in LEDGER_SCHEMA} if part == "ledger" else {}
        arrays = [
            self._decoded(values, column.type, known.get(name))
            for values, (name, column) in zip(found.columns, chosen.items(), strict=True)
        ]
        return pa.table(arrays, names=list(chosen))

    def forget(self, keys: pa.Table) -> dict[str, int]:
        """Delete rows and rejects of the keys from every partition, in one transaction."""
        gone: dict[str, int] = {}
        with self.telling(), self._stages() as stages:
            relations = self.relations()
            parts: list[Part] = [part for part in ("table", "rejects") if relations[part].columns]
            stages["keys"] = stage = self._staged("keys", keys.schema, keys.to_reader())
            if stage.sql:
                statements = [self._deleted(relations[part], stage, keys.column_names, True) for part in parts]
                gone = dict(zip(parts, self.changed(statements), strict=True))
        return gone

    def _planned(self, table: pa.Schema, rejects: pa.Schema) -> tuple[list[str], dict[Part, Relation]]:
        wanted: dict[Part, pa.Schema] = {"table": table, "rejects": rejects, "ledger": LEDGER_SCHEMA}
        relations = self.relations()
        return [*self.places(), *planned(self.dialect, relations, wanted, self._is_free)], relations

    @contextmanager
    def _stages(self) -> Iterator[dict[str, Stage]]:
        """Drop at the end what was staged."""
        stages: dict[str, Stage] = {}
        try:
            yield stages
        finally:
            for stage in stages.values():
                if stage.sql:
                    self.drop(stage)

    def _staged(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Stage:
        """Upload a stream."""
        columns = []
        for plain_name, told in zip(staged_names(schema), schema, strict=True):
            kind = self.dialect.column_type(self.sent_type(told.type))
            columns.append(Column(plain_name, kind or ""))
        with tempfile.TemporaryDirectory(prefix="windrow-stage-") as folder:
            files = parquet_files(batches, schema, Path(folder), self.sent_type, self.dialect.product)
            stage = f"windrow_stage_{uuid.uuid4().hex[:12]}_{name}"
            return Stage(self.load(stage, columns, schema, files), schema)

    def _one_of(self, column: Column, texts: Sequence[str]) -> str:
        values = ", ".join(map(self.dialect.literal, texts))
        return f"{self.dialect.as_text(self.dialect.quoted(column.name))} IN ({values})" if texts else "FALSE"

    def _decoded(self, values: pa.ChunkedArray, held: str, known: pa.DataType | None) -> pa.Array | pa.ChunkedArray:
        """Return a column in the type that it was written with, as far as the warehouse can tell."""
        kind = self.dialect.arrow_type(held)
        if isinstance(kind, pa.JsonType):
            return from_json(values.to_pylist(), known)
        try:
            return values if kind is None or values.type == kind else values.cast(kind)
        except pa.ArrowException:  # more digits than the common case has
            return values

    def _is_free(self, relation: Relation, column: Column) -> bool:
        """Tell whether a column holds no value yet."""
        return bool(self.rows(f"SELECT COUNT({self.dialect.quoted(column.name)}) FROM {relation.sql}")[0][0] == 0)

    def _is_in(self, ledger: Ledger, receipt: Receipt, new: Replacement) -> bool:
        """Tell whether the ledger has this very attempt of the run; of an append, any that wrote it."""
        return bool(self.rows(ledger.count(receipt, new.mode != "append"))[0][0] == 1)

    def _found_again(self, ledger: Ledger, lost: LostCommitError, new: Replacement) -> bool:
        """Connect anew and look into the ledger."""
        log.warning("The connection to %s broke at commit, so the ledger is looked at.", self.dialect.product)
        try:
            self.close(is_sound=False)
            self.connect()
            with self.telling():
                return self._is_in(ledger, lost.receipt, new)
        except WindrowError as error:
            raise WarehouseError(
                f"The connection broke at commit; whether run {lost.receipt.run_id} is published is unknown. "
                f"{error.problem}",
                "run it again: a run that is published twice is there once.",
            ) from None
