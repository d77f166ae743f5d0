"""A job over some thousand distinct short texts, many small shards, and what an unbroken run of it gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import REPOSITORY, WORDS

ROWS = 3000
COLUMNS = "id, label, score, windrow_tokens, windrow_truncated, windrow_fingerprint, windrow_model"


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
    return process.communicate(timeout=120)[1]


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


def times_scored(store: Path) -> Counter[int]:
    """Return how many texts have one prediction, two, and so on."""
    files = [str(file) for file in (store / "predictions").rglob("*.parquet")]
    if not files:
        return Counter()
    query = "SELECT n, count(*) FROM (SELECT count(*) AS n FROM read_parquet(?) GROUP BY windrow_hash) GROUP BY n"
    return Counter(dict(duckdb.execute(query, [files]).fetchall()))
