"""The command ``windrow``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from windrow import __version__
from windrow.console import ProgressWatcher, quiet, show_error, show_facts, show_receipt, show_table, stderr
from windrow.errors import Interrupted, JobError, WindrowError
from windrow.job import Job, windrow_home

__all__ = ["app", "main"]

app = typer.Typer(
    name="windrow",
    help="Transformer models over tables: load, infer, publish; each row exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_stopping = threading.Event()

JobFile = Annotated[str, typer.Argument(metavar="JOB", help="Job file (YAML)")]
Partition = Annotated[str | None, typer.Option(help="Slice of the target table, for example a day")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output")]


@app.callback()
def _common(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, with times")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version", is_eager=True)] = False,
) -> None:
    quiet(verbose)
    if version:
        typer.echo(f"windrow {__version__}")
        raise typer.Exit


@app.command()
def run(
    job: JobFile,
    partition: Partition = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read at most so many rows of the source")] = None,
    as_json: AsJson = False,
) -> None:
    """Score one partition and publish it: load, infer, publish."""
    from windrow.steps import run as run_steps

    with ProgressWatcher() as watcher:
        receipt = run_steps(Job.from_file(job), partition, limit=limit, watcher=watcher)
    if as_json:
        _print_json(receipt.to_dict())
    else:
        show_receipt(receipt)


@app.command()
def check(job: JobFile, partition: Partition = None, as_json: AsJson = False) -> None:
    """Check a job, its source, model and table; nothing is scored or written."""
    from windrow.inspect import check_job

    facts = check_job(Job.from_file(job), partition)
    if as_json:
        _print_json(facts)
    else:
        show_facts("The job is sound.", {name: str(value) for name, value in facts.items()})


@app.command()
def plan(job: JobFile, partition: Partition = None, as_json: AsJson = False) -> None:
    """Tell counts, tokens and time of a run; nothing is scored beyond a small pilot."""
    from windrow.inspect import plan_job

    facts = plan_job(Job.from_file(job), partition)
    if as_json:
        _print_json(facts)
    else:
        show_facts(
            "A run would do this.",
            {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in facts.items()},
        )


@app.command()
def explain(
    job: JobFile,
    key: Annotated[list[str], typer.Option(help="Value of the key column; once for each key column")],
    as_json: AsJson = False,
) -> None:
    """Tell which run, model and partition made a row's value."""
    from windrow.inspect import explain_row

    found = explain_row(Job.from_file(job), key)
    if as_json:
        _print_json(found)
        return
    for row in found["rows"]:
        show_facts("Published row", {name: str(value) for name, value in row.items()})
    for row in found["rejects"]:
        show_facts("Rejected row", {name: str(value) for name, value in row.items()})


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the bundled models, and whether their bytes are the published ones."""
    from windrow.inspect import bundled_models

    listed = bundled_models()
    if as_json:
        _print_json(listed)
        return
    import pyarrow as pa

    show_table(pa.Table.from_pylist(listed), stderr)


@app.command()
def store(
    url: Annotated[str | None, typer.Argument(help="Store; the default one unless given")] = None,
    prune_older_than: Annotated[
        int | None, typer.Option(min=0, metavar="DAYS", help="Remove runs and predictions not written for so many days")
    ] = None,
    compact: Annotated[bool, typer.Option(help="Merge small prediction files")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what runs and predictions take up; prune them by age."""
    from windrow.upkeep import compact_all, prune, store_sizes

    where = url or str(windrow_home() / "store")
    facts: dict[str, Any] = {"store": where}
    if prune_older_than is not None:
        facts["pruned_files"] = prune(where, prune_older_than)
    if compact:
        facts["merged_files"] = compact_all(where)
    facts |= store_sizes(where)
    if as_json:
        _print_json(facts)
    else:
        show_facts(
            "Store", {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in facts.items()}
        )


@app.command()
def schema(task: Annotated[str | None, typer.Option(help="Parameters of one task")] = None) -> None:
    """Print the JSON schema of a job file, for editors."""
    from windrow.inspect import job_schema

    _print_json(job_schema(task))


@app.command()
def demo(
    ui: Annotated[bool, typer.Option(help="Start Airflow's web page on the demo's home")] = False,
    home: Annotated[Path | None, typer.Option(help="Home of the demo's Airflow and tables")] = None,
) -> None:
    """Run the review Dag in a real Airflow over real reviews, and show the table."""
    from windrow.demo import run_demo, start_ui

    place = (home or windrow_home() / "demo").absolute()
    start_ui(place) if ui else run_demo(place)


def main() -> NoReturn:
    """Run the command; every failure becomes a few lines and an exit code."""
    _stopping.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        code = app(standalone_mode=False) or 0
        if code == Interrupted.exit_code:
            raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:
        code = _told(error)
    sys.stdout.flush()
    sys.stderr.flush()
    if code == Interrupted.exit_code:
        os._exit(code)
    sys.exit(code)


def _told(error: Exception | KeyboardInterrupt) -> int:
    """Show what ended the command and return its exit code; after a signal, that is the reason for all that fails."""
    if _stopping.is_set() or isinstance(error, KeyboardInterrupt | typer.Abort):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        error = Interrupted("Interrupted; nothing was half published.", "run the same command again: it resumes.")
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, WindrowError):
        show_error(error)
        return error.exit_code
    return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    """Tell about a wrong call or an error that nobody foresaw; the traceback is kept for a report."""
    if hasattr(error, "format_message"):
        show_error(JobError(error.format_message(), "windrow --help lists commands and options."))
        return 2
    import traceback

    folder = windrow_home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "last-error.txt"
        file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        where = f"report it with {file}"
    except OSError:
        where = "report it"
    show_error(
        WindrowError(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
            f"this is a fault of Windrow; {where}.",
        )
    )
    return 1


def _stop(*_: int | FrameType | None) -> None:
    _stopping.set()
    raise KeyboardInterrupt


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, default=str, ensure_ascii=False))
