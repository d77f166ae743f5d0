"""Jobs in child processes that can be killed, stopped and finished, and what their tables then hold."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from conftest import WORDS
from warehouses.places import Place

__all__ = ["KILLS", "PARTITION", "TABLE", "THOROUGH", "Child", "Content", "Site", "serve", "source_of", "times_scored"]

TABLE, PARTITION = "analytics.scores", "2026-11-23"
ROWS = 300
_VARIES = {"windrow_run_id", "windrow_scored_at", "rejected_at"}
_LEDGER = ["job", "task", "partition", "model", "fingerprint", "precision", "rows_in", "rows_published"]
_LEDGER += ["rows_rejected", "rows_truncated", "texts_distinct", "labels", "rejects", "table"]
_FORK = multiprocessing.get_context("forkserver")
KILLS = int(os.environ.get("WINDROW_FAULT_KILLS", "72"))
"""How many processes are killed at random moments, over all warehouses; with more than 200 every test is thorough."""
THOROUGH = KILLS > 200


def serve() -> None:
    """Start the fork server, which imports all that a run needs."""
    paths = os.pathsep.join(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        _FORK.set_forkserver_preload(["pytest", "faults.worker"])
        forkserver.ensure_running()


def source_of(folder: Path, variant: int) -> Path:
    """Write a source of 300 rows: most keys of the variants are the same, their texts are not; some are rejects."""
    chosen = np.random.default_rng(variant)
    keys = np.arange(ROWS) + 30 * variant
    bodies = [f"{' '.join(chosen.choice(WORDS, 6))} {number}" for number in range(ROWS)]
    texts = [
        None if number % 50 == 7 else bodies[number // 10 * 10 if number % 10 == 3 else number]
        for number in range(ROWS)
    ]
    path = folder / f"source-{variant}.parquet"
    parquet.write_table(pa.table({"id": keys, "body": pa.array(texts, pa.string()), "stars": keys % 5}), path)
    return path


@dataclass(frozen=True, slots=True)
class Content:
    """What a partition holds, without run ids and times: table, rejects, and the last ledger row."""

    table: tuple[Any, ...]
    rejects: tuple[Any, ...]
    ledger: tuple[Any, ...]


@dataclass(slots=True)
class Child:
    """A process that works at a job; use it as a context."""

    process: Any
    pipe: Any
    told: list[tuple[str, Any]] = field(default_factory=list)

    def listen(self, until: str | None = None, timeout_s: float = 60) -> None:
        """Take in what the process tells, until a step has begun; else until it has ended."""
        deadline = time.monotonic() + timeout_s
        while until not in self.steps:
            try:
                if self.pipe.poll(max(0, deadline - time.monotonic())):
                    self.told.append(self.pipe.recv())
                    continue
            except (EOFError, OSError):
                break
            raise AssertionError(f"nothing was heard of the process since {self.told}")
        if until is None or not self.process.is_alive():
            self.process.join(timeout_s)

    @property
    def steps(self) -> list[str | None]:
        """What it has told, in words."""
        return [word for word, _ in self.told]

    @property
    def outcome(self) -> tuple[str, Any]:
        """How it ended: ``done``, ``failed``, or the last thing that it told before it was killed."""
        return self.told[-1] if self.told else ("", None)

    @property
    def ref(self) -> dict[str, str] | None:
        """The run's reference, if it got so far."""
        return next((value for word, value in self.told if word == "infer" and value), None)

    def wait_until_stopped(self, timeout_s: float = 60) -> None:
        """Wait until the process has stopped itself."""
        process, deadline = psutil.Process(self.process.pid), time.monotonic() + timeout_s
        while process.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, "the process did not stop"
            assert self.process.is_alive(), "the process has ended"
            time.sleep(0.002)


@dataclass(slots=True)
class Site:
    """A warehouse, sources, and as many stores as are wanted.

    Attributes:
        kind: Its name among the places.
        folder: For job files, sources and stores.
        place: The warehouse.
        model: Folder of the model.
        mode: How partitions are written.
        whole: What the warehouse holds after an unbroken run of a variant, if another was published before.
    """

    kind: str
    folder: Path
    place: Place
    model: Path
    mode: str = "replace"
    jobs: int = 0
    whole: dict[int, Content] = field(default_factory=dict)

    def prepare(self) -> Self:
        """Run both variants unbroken, and note what the warehouse then holds."""
        for variant in (1, 0, 1):
            self.finished(self.job(variant))
            self.whole[variant] = self.content()
        return self

    def job(self, variant: int = 0, store: Path | None = None, **fields: Any) -> Path:
        """Write a job file over a variant of the source, with a store of its own unless one is given."""
        self.jobs += 1
        source = {"path": str(source_of(self.folder, variant)), "text": "body", "key": "id", "keep": ["stars"]}
        content = {
            "name": "scores", "source": source, "task": "sentiment", "model": str(self.model), "engine": "torch",
            "precision": "fp32", "device": "cpu",
            "warehouse": {"url": self.place.url, "table": TABLE, "mode": self.mode},
            "store": str(store or self.folder / f"store-{self.jobs}"), **fields,
        }  # fmt: skip
        file = self.folder / f"job-{self.jobs}.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return file

    @contextmanager
    def child(self, what: str, job: Path, kill_at: str = "", **arguments: Any) -> Iterator[Child]:
        """Start a process; it is killed at the end if it still lives.

        Args:
            what: As in `worker.work`.
            job: The job file.
            kill_at: As in `windrow.faults`.
            arguments: As in `worker.work`.
        """
        from faults import worker  # heavy; and only a fork server's children need what it imports

        arguments = arguments if what != "run" else {"partition": PARTITION, **arguments}
        environment = {
            "WINDROW_KILL_AT": kill_at,
            "WINDROW_HOME": str(self.folder / "home"),
            "WINDROW_LOCK_WAIT_S": "20",
        }
        environment |= {name: str(arguments.pop(name)) for name in list(arguments) if name.isupper()}
        mine, theirs = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=worker.work, args=(theirs, what, str(job), arguments, environment), daemon=True)
        process.start()
        theirs.close()
        try:
            yield Child(process, mine)
        finally:
            process.kill()
            process.join()
            mine.close()
            process.close()

    def ended(self, what: str, job: Path, kill_at: str = "", **arguments: Any) -> tuple[int, Child]:
        """Let a process come to its end; return its exit code too."""
        with self.child(what, job, kill_at, **arguments) as child:
            child.listen()
            return child.process.exitcode, child

    def finished(self, job: Path, ref: dict[str, str] | None = None, **arguments: Any) -> dict[str, Any]:
        """Run a job to its end, or resume the run of a reference; return the receipt."""
        how = {"what": "resume", "ref": ref} if ref else {"what": "run"}
        _, child = self.ended(job=job, **how, **arguments)
        word, value = child.outcome
        assert word == "done", child.told
        return value

    def content(self) -> Content:
        """Return what the warehouse holds."""
        name = TABLE.partition(".")[2]
        ledger = _plain(self.place.rows("windrow_runs"), _LEDGER, "run_id", PARTITION)
        return Content(_rows(self.place.rows(name)), _rows(self.place.rows(f"{name}__rejects")), ledger[-1:])

    def rows(self, name: str) -> tuple[Any, ...]:
        """Return what a table of another name and its rejects hold."""
        return tuple(_rows(self.place.rows(part)) for part in (name, f"{name}__rejects"))

    def owners(self) -> set[str]:
        """Return the run ids that own rows or rejects."""
        name = TABLE.partition(".")[2]
        tables = [self.place.rows(part) for part in (name, f"{name}__rejects")]
        return {run_id for table in tables if table.num_rows for run_id in table["windrow_run_id"].to_pylist()}

    def ledger(self) -> list[str]:
        """Return the run ids of the ledger, sorted."""
        table = self.place.rows("windrow_runs")
        return sorted(table["run_id"].to_pylist()) if table.num_rows else []


def _rows(table: pa.Table) -> tuple[Any, ...]:
    names = sorted(set(table.column_names) - _VARIES)
    return _plain(table, names, "id") if table.num_rows else ()


def _plain(table: pa.Table, names: list[str], order: str, partition: str | None = None) -> tuple[Any, ...]:
    """Return rows, perhaps of one partition alone, as sorted texts, which compares what any driver gives."""
    if not table.num_rows:
        return ()
    rows = sorted(table.to_pylist(), key=lambda row: str(row[order]).rjust(40))
    wanted = [row for row in rows if partition is None or row["partition"] == partition]
    return tuple(repr([(name, _settled(row[name])) for name in names]) for row in wanted)


def _settled(value: Any) -> Any:
    """Return a map in one form, whether a driver gives pairs, a dictionary or JSON."""
    if isinstance(value, list) and all(isinstance(item, tuple) for item in value):
        value = dict(value)
    return sorted(value.items()) if isinstance(value, Mapping) else value


def times_scored(store: Path) -> Counter[int]:
    """Return how many texts have one prediction, two, and so on."""
    files = [str(file) for file in (store / "predictions").rglob("*.parquet")]
    if not files:
        return Counter()
    query = "SELECT n, count(*) FROM (SELECT count(*) AS n FROM read_parquet(?) GROUP BY windrow_hash) GROUP BY n"
    return Counter(dict(duckdb.execute(query, [files]).fetchall()))
