"""Warehouses in which each statement commits alone: how table, rejects and ledger still come to tell of the same runs.

ClickHouse and Databricks replace a partition of one table at once, but have no transaction over three tables.

**A publish of run R for partition P**

1. The tables are created, columns added and widened.
2. *Stage*: rows and rejects are uploaded into tables of this attempt alone. Their comments say whose they are. All
   that a later statement reads is there before the claim is.
3. *Claim*: R makes one more table, the claim, and **then** looks at the stages and claims of others on the same table.
   Earlier attempts at P, dead or alive, are *shut out*: their stages are dropped, and then their claims. A claim of a
   later run at P stops R (`FencedError`). Where keys move between partitions (upserts, forgetting), and for whoever
   meets such a claim, R takes its own back, waits and looks again; after `lock_wait_s` the other is shut out.
4. The ledger is read: has a later run published P? Then table and rejects are replaced, each in one statement that
   reads R's stage; the ledger row is written by a statement that reads it as well. The ledger is read back.
5. Stages and claim are dropped.

**Why this is enough.** Of two runs that exclude each other, the one whose claim was made second sees the other's, and
waits, stops, or shuts it out. What is shut out has no stages, so that none of its later statements succeeds. A run
that lists the claims before a successor has made its own is found by that successor, stages and all. Hence of two runs
at P at once the later one's rows, rejects and ledger row remain. Time decides only how long one waits, never what is
in the tables: who is shut out by mistake fails with nothing half told, and is run again.

A run killed after any step leaves stages and perhaps rows; the next attempt at P replaces these and drops those. Until
then the ledger shows which rows are committed. An append finds no earlier row of P in the ledger, so all that the table
holds of P was left by killed runs: it replaces them, and is there once.

A reader of one table sees a partition whole. Between the steps of 4 the three tables are a moment apart.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Self

import pyarrow as pa

from windrow.faults import reach
from windrow.receipt import Receipt
from windrow.warehouses.base import Replacement
from windrow.warehouses.commit import completed, fenced, is_published
from windrow.warehouses.staged import StagedWarehouse
from windrow.warehouses.staged_ledger import Ledger

__all__ = ["PREFIXES", "ClaimedWarehouse", "Owner"]

STAGE, CLAIM = PREFIXES = ("windrow_stage_", "windrow_claim_")
"""How the names of stages and claims begin."""
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a stage or claim is; its comment says so.

    Attributes:
        table: The job's table.
        partition: What is written.
        run_id: By which run.
        attempt: Of this process alone.
        is_whole: Whether rows of other partitions may go, too.
    """

    table: str
    partition: str
    run_id: str
    attempt: str
    is_whole: bool

    @property
    def mark(self) -> str:
        """The comment."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, mark: str) -> Self | None:
        """Read a comment; None if it is not one of ours."""
        try:
            return cls(**json.loads(mark))
        except (ValueError, TypeError):
            return None


@dataclass(slots=True)
class _Rival:
    owner: Owner
    stages: list[str]
    claims: list[str]


class ClaimedWarehouse(StagedWarehouse):
    """One table of a warehouse that has no transaction over several tables."""

    owner: Owner
    """Who writes now."""

    @abstractmethod
    def marks(self) -> list[tuple[str, str, str]]:
        """Return name, full name and comment of each stage and claim in the job's schema."""

    @abstractmethod
    def make(self, name: str) -> str:
        """Make a small table with the owner's mark as its comment; return its full name."""

    @abstractmethod
    def remove(self, sql: str) -> None:
        """Drop a table, if it is there, and wait until no statement reads it."""

    def replace(self, new: Replacement) -> Receipt:
        """Upload rows and rejects, then replace the partition in one table after another, the ledger last."""
        run = new.receipt
        self.owner = self._owner(run.partition, run.run_id, new.mode == "upsert")
        try:
            return super().replace(new)
        finally:
            if new.mode == "append":  # which makes no claim where the ledger has one already
                with suppress(Exception):  # who comes next drops it
                    for rival in filter(self._is_over, self._rivals()):
                        self._shut_out(rival)

    def forget(self, keys: pa.Table) -> dict[str, int]:
        """Delete rows and rejects of the keys from every partition, in one table after the other."""
        attempt = f"forget {uuid.uuid4().hex}"
        self.owner = self._owner(attempt, attempt, True)
        return super().forget(keys)

    def write(self, new: Replacement, statements: list[str], ledger: Ledger) -> Receipt:
        """Run statements under the claim, and write the ledger row last."""
        reach("publish.staged")
        with self.claimed() as claim:
            reach("publish.claimed")
            runs = self.runs(ledger, new.receipt.partition)
            if is_published(runs, self.table, new.receipt, new.mode):
                return new.receipt
            for statement in statements:
                self.run(statement)
                reach("publish.table")
            receipt, row = completed(new)
            delete, insert = ledger.written(row, [receipt.run_id])
            if any(run_id == receipt.run_id for _, run_id in runs):
                self.run(delete)
            self.run(f"{insert} FROM (SELECT COUNT(*) AS n FROM {claim}) AS claim")
            reach("publish.ledger")
        return receipt

    @contextmanager
    def claimed(self) -> Iterator[str]:
        """Have the partition, or the whole table, for oneself; gives the claim's name.

        Raises:
            FencedError: A later run is writing the partition.
        """
        seen: dict[str, float] = {}
        pause_s = 0.05
        while True:
            claim = self.make(f"{CLAIM}{self.owner.attempt}")
            try:
                if self._is_free_of_rivals(seen):
                    yield claim
                    return
            finally:
                with suppress(Exception):  # who comes next drops it
                    self.remove(claim)
            time.sleep(pause_s * (0.5 + random.random()))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.6)

    def _owner(self, partition: str, run_id: str, is_whole: bool) -> Owner:
        table = f"{self.table.schema or ''}.{self.table.name}".lower()
        return Owner(table, partition, run_id, uuid.uuid4().hex[:12], is_whole)

    def _is_free_of_rivals(self, seen: dict[str, float]) -> bool:
        """Shut out who is to be shut out; tell whether nobody is left who must be waited for."""
        is_free = True
        for rival in self._rivals():
            theirs = rival.owner
            if self._is_over(rival):
                self._shut_out(rival)
            elif theirs.partition == self.owner.partition:
                if rival.claims:
                    raise fenced(theirs.partition, theirs.run_id)
            elif rival.claims and (theirs.is_whole or self.owner.is_whole):
                if time.monotonic() - seen.setdefault(theirs.attempt, time.monotonic()) > self.lock_wait_s:
                    self._shut_out(rival)
                else:
                    is_free = False
        return is_free

    def _rivals(self) -> list[_Rival]:
        found: dict[str, _Rival] = {}
        for name, sql, mark in self.marks():
            owner = Owner.read(mark)
            if owner and owner.table == self.owner.table and owner.attempt != self.owner.attempt:
                rival = found.setdefault(owner.attempt, _Rival(owner, [], []))
                (rival.claims if name.startswith(CLAIM) else rival.stages).append(sql)
        return list(found.values())

    def _is_over(self, rival: _Rival) -> bool:
        """Tell whether it is an earlier attempt at the partition."""
        theirs, mine = rival.owner, self.owner
        return theirs.partition == mine.partition and theirs.run_id <= mine.run_id

    def _shut_out(self, rival: _Rival) -> None:
        for sql in (*rival.stages, *rival.claims):
            self.remove(sql)
