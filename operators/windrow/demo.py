"""The demo: the review Dag in a real Airflow over real reviews, and the tables that it makes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import yaml
from rich.console import Console
from rich.markup import escape

from windrow.airflow.home import AirflowHome
from windrow.console import show_table
from windrow.errors import WindrowError

__all__ = ["run_demo", "start_ui"]

DAG_ID = "review_sentiment"
DAYS = 1

_HEAD = """
    SELECT product, opinion AS "people say", label, score, summary
    FROM analytics.review_sentiment
    JOIN analytics.review_summaries USING (review_id, windrow_partition, product, opinion)
    WHERE windrow_partition = ? ORDER BY md5(review_id) LIMIT 6
"""
_LABELS = """
    SELECT label, count(*) AS reviews, avg(score) AS "mean score", count(*) FILTER (opinion = label) AS "people agree",
           count(*) FILTER (opinion != label AND opinion IN ('positive', 'negative')) AS "disagree",
           count(*) FILTER (opinion IS NULL OR opinion = 'mixed') AS "neither"
    FROM analytics.review_sentiment WHERE windrow_partition IN (SELECT unnest(?)) GROUP BY label ORDER BY label
"""
_RUNS = """
    SELECT job, rows_in AS rows, rows_published AS published, rows_rejected AS rejected,
           texts_scored AS scored, texts_reused AS reused, round(seconds.total, 1)::VARCHAR AS seconds
    FROM analytics.windrow_runs WHERE partition IN (SELECT unnest(?))
    QUALIFY row_number() OVER (PARTITION BY "table", partition ORDER BY run_id DESC) = 1 ORDER BY partition, "table"
"""


def run_demo(home: Path) -> None:
    """Run the review Dag for the latest days, and show what it published.

    Args:
        home: Folder of the demo; made if it is not there.

    Raises:
        WindrowError: Airflow is missing, or a task failed.
    """
    out = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    place = AirflowHome(home)
    place.prepare()
    today = datetime.now(UTC).date()
    days = [str(today - timedelta(days=ago)) for ago in reversed(range(DAYS))]
    out.print(f"Running the Dag [bold]{DAG_ID}[/bold] for {' and '.join(days)} in an Airflow of its own, in {home}")
    job = _run_dag(place, days, out)
    out.print(f"[green]Every task succeeded[/green], after {time.monotonic() - began:.0f} s.\n")
    _show_tables(place, days, out)
    _show_next(place, days, job, out)


def start_ui(home: Path) -> None:
    """Serve Airflow's web page on the demo's home until Ctrl-C; print its address and a login.

    Raises:
        WindrowError: Airflow is missing or does not start.
    """
    from windrow.airflow.standalone import serve

    serve(AirflowHome(home), Console(highlight=False, soft_wrap=True))


def _run_dag(place: AirflowHome, days: Sequence[str], out: Console) -> dict[str, Any]:
    """Run the Dag in a process that imports the models' libraries while another makes Airflow's metadata.

    Returns:
        The fields of the Dag's first job.
    """
    log = place.airflow / "demo.log"
    rehearsal = [sys.executable, "-m", "windrow.airflow.rehearsal", DAG_ID, *days]
    events = []
    status = out.status("Preparing Airflow and the models' libraries")
    with log.open("wb") as sink, status, _started(place, rehearsal, sink) as dag:
        place.migrate(sink)
        out.print("  Airflow's metadata are ready")
        status.update("Running the Dag")
        for event in _events(dag):
            _tell(event, log, out)
            events.append(event)
    if dag.returncode or sum(event["event"] == "run" for event in events) < len(days):
        raise WindrowError("Airflow ended before the Dag did.", f"read {log}.")
    return next(event["job"] for event in events if event["event"] == "began")


@contextmanager
def _started(place: AirflowHome, command: Sequence[str], log: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """Start a program in the demo's home; whatever happens, it does not outlive the context."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=place.environment(), cwd=place.root, text=True, stdin=pipe, stdout=pipe, stderr=log
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _events(dag: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Let the Dag begin, and yield what it tells."""
    if dag.stdin is None or dag.stdout is None:
        return
    dag.stdin.write("begin\n")
    dag.stdin.flush()
    for line in dag.stdout:
        yield json.loads(line)


def _tell(event: dict[str, Any], log: Path, out: Console) -> None:
    """Print an event.

    Raises:
        WindrowError: A Dag file is broken, or a task failed.
    """
    if event["event"] == "broken":
        file, reason = next(iter(event["errors"].items()))
        last = reason.strip().splitlines()[-1]
        raise WindrowError(f"The Dag file {file} is broken: {last}", f"correct it; the log is {log}.")
    if event["event"] == "task":
        out.print(f"  {event['day']}  {event['task']:<25} {event['state']} {event['seconds']:>6.1f} s")
        if event["state"] == "failed":
            problem, _, fix = event["error"].partition("\nFix: ")
            raise WindrowError(f"Task {event['task']} failed: {problem}", f"{fix or 'read the log.'} The log is {log}.")
    if event["event"] == "run":
        bad = [f"{task} {state}" for task, state in event["tasks"].items() if state not in {"success", "skipped"}]
        if bad or event["state"] != "success":
            what = ", ".join(bad) or event["state"]
            raise WindrowError(f"The run of {event['day']} did not succeed: {what}.", f"read {log}.")


def _show_tables(place: AirflowHome, days: Sequence[str], out: Console) -> None:
    """Print the head of both tables joined, the labels beside what people said, and the ledger."""
    import duckdb

    with duckdb.connect(str(place.warehouse), read_only=True) as con:
        show_table(
            con.execute(_HEAD, [days[-1]]).to_arrow_table(), out, f"Reviews of {days[-1]}, scored and summarised"
        )
        show_table(con.execute(_LABELS, [list(days)]).to_arrow_table(), out, "Labels, and what people said")
        show_table(con.execute(_RUNS, [list(days)]).to_arrow_table(), out, "Runs, from analytics.windrow_runs")


def _show_next(place: AirflowHome, days: Sequence[str], job: dict[str, Any], out: Console) -> None:
    """Print where all is, and three commands to try; they need a job file, which is the Dag's first job."""
    import duckdb

    file = place.root / f"{job['name']}.yaml"
    warehouse = {**job["warehouse"], "url": f"duckdb:///{place.warehouse}"}
    here = {**job, "warehouse": warehouse, "store": str(place.root / "store")}
    file.write_text(yaml.safe_dump(here, sort_keys=False), encoding="utf-8")
    with duckdb.connect(str(place.warehouse), read_only=True) as con:
        key = con.execute("SELECT min(review_id) FROM analytics.review_sentiment").fetchall()[0][0]
    earlier = datetime.fromisoformat(days[0]).date() - timedelta(days=1)
    windrow, home, path = _command(), shlex.quote(str(place.root)), shlex.quote(str(file))
    commands = {
        f"{windrow} demo --ui --home {home}": "the same Dag on Airflow's web page",
        f"{windrow} run {path} --partition {earlier}": "one more day, without Airflow",
        f"{windrow} explain {path} --key {shlex.quote(key)}": "which run and model made a value",
    }
    out.print(f"\nThe tables are in [bold]{escape(str(place.warehouse))}[/bold] (DuckDB). Try next:")
    for command, about in commands.items():
        out.print(f"  {escape(command)}\n    [dim]{about}[/dim]")


def _command() -> str:
    """Return how this command was called, for the reader to repeat."""
    called = Path(sys.argv[0])
    if called.name != "windrow" or not called.exists():
        return "windrow"
    absolute = called.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
