"""The command inside the test's own process (many cases, no start-up cost), and what a good failure looks like."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

MOST_LINES = 6


@dataclass(frozen=True)
class Called:
    """What a command left: exit code and both streams."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Called]]:
    """Run the command's `main` in this process."""
    from windrow.cli import main

    def run(*args: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["windrow", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        streams = capsys.readouterr()
        return Called(int(ended.value.code or 0), streams.out, streams.err)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def refused() -> Callable[..., None]:
    """Check a failure: its exit code, a few lines with the fix, all `words` in them, no traceback, an empty stdout."""

    def check(result: Any, code: int, *words: str) -> None:
        assert result.returncode == code, (result.stdout, result.stderr)
        assert "Traceback" not in result.stderr + result.stdout
        assert result.stdout == ""
        assert result.stderr.startswith("Error:"), result.stderr
        assert "\nFix: " in result.stderr
        assert "fault of Windrow" not in result.stderr
        assert len(result.stderr.splitlines()) <= MOST_LINES, result.stderr
        for word in words:
            assert word in result.stderr, result.stderr

    return check


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., list[tuple[Any, ...]]]:
    """Run a query over the job's warehouse; ``{t}`` is its table, ``{r}`` the rejects, ``{l}`` the ledger."""

    def read(query: str, name: str = "analytics.review_sentiment") -> list[tuple[Any, ...]]:
        schema = name.rpartition(".")[0] or "main"
        with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as con:
            return con.execute(query.format(t=name, r=f"{name}__rejects", l=f"{schema}.windrow_runs")).fetchall()

    return read


@pytest.fixture
def published(call: Callable[..., Called], tables: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Run a job and check that every row of the source is in exactly one of the two tables; return the receipt."""
    import json

    def run(job: Path, *args: object, warning: str = "") -> dict[str, Any]:
        result = call("run", job, "--json", *args)
        assert result.returncode == 0, result.stderr
        assert result.stderr == (f"WARNING: {warning}\n" if warning else "")
        receipt: dict[str, Any] = json.loads(result.stdout)
        assert receipt["rows_in"] == receipt["rows_published"] + receipt["rows_rejected"]
        assert receipt["texts_distinct"] == receipt["texts_reused"] + receipt["texts_scored"]
        mine = f"WHERE windrow_run_id = '{receipt['run_id']}'"
        assert tables(f"SELECT count(*) FROM {{t}} {mine}") == [(receipt["rows_published"],)]
        assert tables(f"SELECT count(*) FROM {{r}} {mine}") == [(receipt["rows_rejected"],)]
        assert sum(receipt["rejects"].values()) == receipt["rows_rejected"]
        return receipt

    return run
