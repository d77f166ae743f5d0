"""A job over some thousand distinct short texts, many small shards, and what an unbroken run of it gives."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import REPOSITORY, WORDS
from faults.trials import Site, serve
from warehouses.places import BROKEN

ROWS = 3000
COLUMNS = "id, label, score, windrow_tokens, windrow_truncated, windrow_fingerprint, windrow_model"


@pytest.fixture(scope="session")
def fork_server() -> None:
    """A process that has imported everything, and forks a child a trial."""
    serve()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, fork_server: None, tiny_classifier: Path) -> Callable[[str], Site]:
    """Warehouses by name, each made once for the tests of a module."""

    @functools.cache
    def made(kind: str) -> Site:
        folder = tmp_path_factory.mktemp(kind)
        return Site(kind, folder, BROKEN[kind](folder), tiny_classifier).prepare()

    return made


@pytest.fixture(params=list(BROKEN))
def site(request: pytest.FixtureRequest, sites: Callable[[str], Site]) -> Site:
    """A warehouse that unbroken runs have filled.

    Its own scope is a function's, as a fixture gets anyway that is named beside others in ``parametrize``.
    """
    return sites(request.param)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A Parquet file of distinct texts, every hundredth of them null."""
    chosen = np.random.default_rng(7)
    bodies = [f"{' '.join(chosen.choice(WORDS, 12))} {number}" for number in range(ROWS)]
    texts = [None if number % 100 == 0 else body for number, body in enumerate(bodies)]
    path = tmp_path / "many.parquet"
    parquet.write_table(pa.table({"id": np.arange(ROWS), "body": pa.array(texts, pa.string())}), path)
    return path


@pytest.fixture
def job(write_job: Callable[..., Path], many: Path) -> Callable[..., Path]:
    """The job over `many`, with a store and a warehouse of its own by name."""

    def make(name: str, **changes: Any) -> Path:
        folder = many.parent
        source = {"path": str(many), "key": "id", "keep": None}
        warehouse = {"url": f"duckdb:///{folder}/{name}.duckdb", "table": "scores"}
        fields = {"source": source, "warehouse": warehouse, "store": str(folder / f"store-{name}"), **changes}
        return write_job(f"{name}.yaml", **fields)

    return make


@pytest.fixture
def start(home: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command in a process group of its own, with small shards."""

    def begin(*args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from windrow.cli import main; main()", *map(str, args)]
        environment = {
            **os.environ,
            "WINDROW_HOME": str(home),
            "PYTHONPATH": str(REPOSITORY / "operators"),
            "WINDROW_SHARD_TEXTS": "100",
        }
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    return begin


@pytest.fixture
def finish(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    """Run the command to its end; return exit code and both streams."""

    def end(*args: object) -> tuple[int, str, str]:
        process = start(*args)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err

    return end


def kill(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal to the process and wait for its end; return what it wrote to standard error."""
    process.send_signal(number)
    try:
        return process.communicate(timeout=120)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def content(folder: Path, name: str) -> dict[str, Any]:
    """Return the job's columns of the table, the rejects, and how many rows each partition's last run published."""
    with duckdb.connect(str(folder / f"{name}.duckdb"), read_only=True) as con:
        return {
            "table": con.execute(f"SELECT {COLUMNS} FROM scores ORDER BY id").fetchall(),
            "rejects": con.execute("SELECT id, reason, detail FROM scores__rejects ORDER BY id").fetchall(),
            "ledger": con.execute(
                "SELECT rows_in, rows_published, rows_rejected FROM windrow_runs ORDER BY run_id DESC LIMIT 1"
            ).fetchall(),
        }
