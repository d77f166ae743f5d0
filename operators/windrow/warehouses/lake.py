"""Lakes: tables that commit one by one, and how table, rejects and ledger still come to tell of the same runs.

Iceberg, Delta Lake and Parquet folders differ in how one table commits (`windrow.warehouses.lake_table`); what follows
is the same in all. A commit is made from the version that was read, and refused if another came first (`Conflict`):
then everything is read and decided again. Windrow keeps a few notes with every version.

**A publish of run R for partition P**

1. The tables are created, columns added and widened, each in a commit of its own.
2. *Stage*: rows and rejects are written as data files that no version names yet.
3. *Claim*: a commit of the ledger notes ``claims[table, P] = R``. It is refused if the ledger has a row or a claim of a
   later run. Claiming takes over from an earlier run, alive or dead.
4. *Table*: read its newest version, **then** the ledger: is the claim still R's? If so, commit over that very version:
   P's files go (in an upsert: files that hold the keys are written anew without them), the staged files come.
5. *Rejects*: likewise.
6. *Ledger*: check the claim; commit R's row and take the claim away, in one commit. This is the record of the publish.

**Why this is enough.** A later run S claims before it touches the table. So if S has committed to a table before R
read its newest version, R finds S's claim or row and stops (`FencedError`). If S commits after that, R's commit is a
conflict or lies under S's, and S replaces it whole, since every commit makes a new version, even one that changes no
file. Hence of two runs at once the later one's rows and rejects remain, both. R's ledger row is refused once S has
claimed, so no row tells of a run that was overwritten by one at the same time. A run killed after any step leaves a
claim and perhaps its rows; the next run of P, or R itself, replaces them and takes the claim. Until then the ledger
shows which rows are committed: those whose ``windrow_run_id`` is in it. An append finds no earlier row of P in the
ledger, so all that the table holds of P was left by killed runs: it replaces them, and is there once.

**Upserts** of different partitions may hold the same key and must commit to rejects in the order in which they did to
the table: the note ``after`` of the rejects is the table's version at which the last upsert went on from it. A run
that finds a greater one than its own has been overtaken, and commits to the table again.

A reader of one table sees a version whole. Between steps 4 and 6 the three tables are a moment apart.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import unquote

import pyarrow as pa

from windrow.errors import WarehouseError, WindrowError
from windrow.faults import reach
from windrow.receipt import LEDGER_SCHEMA, Receipt
from windrow.warehouses.base import PARTS, Part, Replacement, TableName
from windrow.warehouses.commit import completed
from windrow.warehouses.lake_publish import LakePublish
from windrow.warehouses.lake_read import read
from windrow.warehouses.lake_rows import Keys
from windrow.warehouses.lake_schema import LeafRule, fitted, planned
from windrow.warehouses.lake_staged import Staged, clean
from windrow.warehouses.lake_table import Conflict, LakeTable, Owner
from windrow.warehouses.local import check_writable

__all__ = ["LakeWarehouse", "opened"]

PATIENCE_S = 120.0

R = TypeVar("R")


class LakeWarehouse:
    """A table, its rejects and its ledger in a lake; each kind of lake gives `open_table` and its rules.

    Args:
        url: Where the lake is.
        table: The job's table.
        writes: Whether anything will be written.
    """

    leaf: LeafRule
    """Which types the lake stores; see `windrow.warehouses.lake_schema.stored`."""
    holds_any_moment = False
    """Whether days and moments outside the years 1 to 9999 can be stored and read by all who read the lake."""

    def __init__(self, url: str, table: TableName, writes: bool = True) -> None:
        self.url, self.table, self.writes = url, table, writes

    def open_table(self, name: TableName) -> LakeTable:
        """Return the table of a name, which may not exist yet."""
        raise NotImplementedError

    def local_place(self) -> Path | None:
        """Return the local folder or file that has to be writable; None if there is none."""
        raise NotImplementedError

    def told(self, error: Exception) -> WindrowError | None:
        """Say what an error of the lake's library means; None if it is none of its own."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with self._telling():
            self.tables: dict[Part, LakeTable] = {part: self.open_table(self.table.of(part)) for part in PARTS}
        return self

    def __exit__(self, *error: object) -> None:
        self.tables = {}

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return in words what would fit the tables to the schemas; nothing is changed."""
        steps = []
        with self._telling():
            if place := self.local_place():
                check_writable(place)
            for part, asked in self._asked(table, rejects).items():
                name, head = self.tables[part].name, self.tables[part].head()
                held = head.schema if head else None
                steps += planned(name, held, fitted(name, held, asked, self.leaf))
        return steps

    def replace(self, new: Replacement) -> Receipt:
        """Write the partition by the protocol above; return the receipt as written."""
        with self._telling():
            for part, asked in self._asked(new.table, new.rejects).items():
                self._patiently(lambda part=part, asked=asked: self._fit(part, asked))  # type: ignore[misc]
            publish = LakePublish(self.tables, self.table, new, self.holds_any_moment)
            if publish.may_write():
                return new.receipt
            with publish:
                publish.stage("table")
                publish.stage("rejects")
                reach("publish.staged")
                self._patiently(publish.claim)
                reach("publish.claimed")
                after: int | None = None
                while after is None:
                    after = self._patiently(lambda: publish.write("table"))
                    reach("publish.table")
                    after = self._patiently(lambda after=after: publish.write("rejects", after))  # type: ignore[misc]
                receipt, row = completed(new)
                self._patiently(lambda: publish.record(row))
                self._check_ledger(receipt)
        return receipt

    def read(self, part: Part, equals: Mapping[str, Sequence[str]], columns: Sequence[str] = ()) -> pa.Table:
        """Return the rows whose named columns, cast to text, have one of the texts given."""
        with self._telling():
            return self._patiently(lambda: read(self.tables[part], equals, columns))

    def forget(self, keys: pa.Table) -> dict[str, int]:
        """Delete rows and rejects of the keys, then the earlier versions and files that still hold them."""
        gone: dict[str, int] = {}
        owner = Owner("", "")
        with self._telling(), Keys(keys.schema, as_text=True) as sought:
            sought.add(keys.to_batches())
            for part in ("table", "rejects"):
                staged = Staged(self.tables[part], owner)
                try:
                    gone |= self._patiently(lambda part=part, staged=staged: self._forget(part, staged, sought))  # type: ignore[misc]
                finally:
                    clean([staged])
                self._patiently(self.tables[part].purge)
        return gone

    def _fit(self, part: Part, asked: pa.Schema) -> None:
        """Create the table, or add and widen columns."""
        table = self.tables[part]
        head = table.head()
        held = head.schema if head else None
        wanted = fitted(table.name, held, asked, self.leaf)
        if planned(table.name, held, wanted):
            table.fit(head, wanted)

    def _forget(self, part: Part, staged: Staged, keys: Keys) -> dict[str, int]:
        """Commit the table without the rows of the keys; return how many went."""
        head = self.tables[part].head()
        if head is None:
            return {}
        if staged.schema != head.schema:
            staged.discard()
            staged.schema = head.schema
        hit = []
        if all(name in head.schema.names for name in keys.schema.names):
            hit = staged.rewrite(head, self.tables[part].files(head, {}), keys)
        rows = sum(staged.rewritten[file.path][0] for file in hit)
        if hit:
            staged.commit(head, hit, [made for file in hit for made in staged.rewritten[file.path][1]], head.notes)
        return {part: rows}

    def _asked(self, table: pa.Schema, rejects: pa.Schema) -> dict[Part, pa.Schema]:
        return {"table": table, "rejects": rejects, "ledger": LEDGER_SCHEMA}

    def _check_ledger(self, receipt: Receipt) -> None:
        """Read the commit back; a commit that is not there is an error."""
        if read(self.tables["ledger"], {"run_id": [receipt.run_id]}, ["run_id"]).num_rows != 1:
            name = self.tables["ledger"].name
            raise WarehouseError(f"Run {receipt.run_id} was committed, but is not in {name}.", "run the job again.")

    def _patiently(self, step: Callable[[], R]) -> R:
        """Do a step again, after a pause, as long as another commit comes first."""
        deadline, pause_s = time.monotonic() + PATIENCE_S, 0.02
        while True:
            try:
                return step()
            except Conflict:
                if time.monotonic() > deadline:
                    raise
            time.sleep(pause_s * (0.5 + random.random()))
            pause_s = min(2.0, pause_s * 1.6)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say errors of the lake's library in words for people."""
        try:
            yield
        except WindrowError:
            raise
        except Conflict as error:
            fix = "run it again when fewer writers are at work; nothing is scored twice."
            raise WarehouseError(f"Other writers of {self.table.name!r} always came first.", fix) from error
        except Exception as error:
            told = self.told(error)
            if told is None:
                raise
            raise told from error


def opened(url: str) -> tuple[str, str, dict[str, str]]:
    """Take a lake's url apart: what follows ``+`` in its scheme, its place, and the options in its query.

    >>> opened("delta+s3://bucket/folder?region=eu-west-1")
    ('s3', 'bucket/folder', {'region': 'eu-west-1'})
    """
    base, _, query = url.partition("?")
    scheme, _, place = base.partition("://")
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return scheme.partition("+")[2], place, {unquote(name): unquote(value) for name, _, value in pairs}
