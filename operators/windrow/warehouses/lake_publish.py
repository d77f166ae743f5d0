"""The steps of one publish to a lake; `windrow.warehouses.lake` tells their order, and why it is enough."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Self

import pyarrow as pa

from windrow.warehouses.base import Part, Replacement, TableName
from windrow.warehouses.commit import fenced, is_published
from windrow.warehouses.lake_read import head_of, read, rows_of
from windrow.warehouses.lake_rows import Keys, aligned, in_our_years, matching
from windrow.warehouses.lake_staged import Staged, clean
from windrow.warehouses.lake_table import Head, LakeTable, Owner

__all__ = ["LakePublish"]

_LEDGER_FILES = 50
"""So many files of one row are written together as one."""


class LakePublish:
    """A run's publish of its partition; every step may be done again, whole, after a `Conflict`.

    As a context manager it holds the keys whose earlier rows go; what was staged in vain is deleted at its end.

    Args:
        tables: All three, which exist and have the columns needed.
        target: The job's table.
        new: What is published.
        holds_any_moment: Whether the lake stores days and moments outside the years 1 to 9999.
    """

    def __init__(
        self, tables: Mapping[Part, LakeTable], target: TableName, new: Replacement, holds_any_moment: bool
    ) -> None:
        self.tables, self.target, self.new, self.holds_any_moment = tables, target, new, holds_any_moment
        self._claim_key = json.dumps([target.name.lower(), new.receipt.partition])
        self._runs: dict[int, list[tuple[str, str]]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._keys = self._gathered(stack)
            owner = Owner(self.new.receipt.partition, self.new.receipt.run_id)
            self._staged = {part: Staged(table, owner) for part, table in self.tables.items()}
            stack.callback(lambda: clean(self._staged.values()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def may_write(self, head: Head | None = None) -> bool:
        """Read the ledger: is the partition still this run's? Tell whether an append is there already.

        Raises:
            FencedError: A later run has published or claimed it.
        """
        head = head or head_of(self.tables["ledger"])
        run = self.new.receipt
        claimed = head.notes.get("claims", {}).get(self._claim_key, "")
        if claimed > run.run_id:
            raise fenced(run.partition, claimed)
        if head.version not in self._runs:
            asked = {"partition": [run.partition]}
            needed = pa.schema([head.schema.field(name) for name in ("table", "run_id", "partition")])
            files = self.tables["ledger"].files(head, asked)
            found = matching(rows_of(self.tables["ledger"], head, files, needed), needed, asked, needed.names)
            runs = zip(found["table"].to_pylist(), found["run_id"].to_pylist(), strict=True)
            self._runs = {head.version: list(runs)}
        return is_published(self._runs[head.version], self.target, run, self.new.mode)

    def stage(self, part: Part) -> None:
        """Write the rows or rejects as files that no version names yet."""
        self._stage(part, head_of(self.tables[part]))

    def claim(self) -> None:
        """Commit to the ledger that the partition is this run's."""
        head = head_of(self.tables["ledger"])
        self.may_write(head)
        claims = {**head.notes.get("claims", {}), self._claim_key: self.new.receipt.run_id}
        if claims != head.notes.get("claims"):
            self.tables["ledger"].commit(head, [], [], {**head.notes, "claims": claims})

    def write(self, part: Part, after: int | None = None) -> int | None:
        """Commit rows or rejects; return the version, or None if an upsert of another partition has overtaken.

        Args:
            after: Of rejects, the version of the table that their run has made.
        """
        head, staged = head_of(self.tables[part]), self._staged[part]
        self.may_write()
        notes = dict(head.notes)
        if after is not None and self.new.mode == "upsert":
            if notes.get("after", 0) > after:
                return None
            notes["after"] = after
        files = self.tables[part].files(head, {})
        if {file.path for file in staged.files} & {file.path for file in files}:
            staged.discard(but=files)
        self._stage(part, head)
        stays = self.new.mode == "upsert" and (part == "table" or self.new.is_increment)
        gone = [] if stays else [file for file in files if file.partition == self.new.receipt.partition]
        come = list(staged.files)
        if self._keys:
            hit = staged.rewrite(head, [file for file in files if file not in gone], self._keys)
            gone += hit
            come += [made for file in hit for made in staged.rewritten[file.path][1]]
        return staged.commit(head, gone, come, notes)

    def record(self, row: pa.Table) -> None:
        """Commit the ledger row and take the claim away; few large files are kept, not one for each run."""
        table, staged = self.tables["ledger"], self._staged["ledger"]
        head = head_of(table)
        self.may_write(head)
        staged.discard()
        claims = dict(head.notes.get("claims", {}))
        claims.pop(self._claim_key, None)
        run_id = self.new.receipt.run_id
        files = table.files(head, {})
        if len(files) < _LEDGER_FILES:
            had = read(table, {"run_id": [run_id]}, ["run_id"]).num_rows
            files = table.files(head, {"run_id": [run_id]}) if had else []
        rows = [row.combine_chunks()]
        if files:
            kept = pa.Table.from_batches(rows_of(table, head, files, head.schema), head.schema)
            rows.append(kept.filter(pa.compute.not_equal(kept["run_id"], run_id)))
        batches = (batch for part in rows for batch in aligned(part.to_batches(), head.schema))
        staged.files = table.stage(head, batches, staged.owner, "")
        staged.commit(head, files, staged.files, {**head.notes, "claims": claims})

    def _stage(self, part: Part, head: Head) -> None:
        """Write the rows or rejects as files, unless they are there already with the table's columns."""
        staged = self._staged[part]
        if staged.schema == head.schema:
            return
        staged.discard()
        rows = aligned((self.new.rows if part == "table" else self.new.reject_rows)(), head.schema)
        rows = rows if self.holds_any_moment else in_our_years(rows)
        staged.files = staged.table.stage(head, rows, staged.owner, staged.owner.partition)
        staged.schema = head.schema

    def _gathered(self, stack: ExitStack) -> Keys | None:
        """Gather the keys whose earlier rows go, if any do."""
        if self.new.mode != "upsert":
            return None
        head = head_of(self.tables["table"])
        keys = stack.enter_context(Keys(pa.schema([head.schema.field(name) for name in self.new.keys])))
        for reader in self.new.key_streams():
            keys.add(reader)
        return keys
