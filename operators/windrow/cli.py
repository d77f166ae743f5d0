"""The command ``windrow``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from windrow import __version__
from windrow.command_end import end_with
from windrow.console import ProgressWatcher, quiet, run_told, show_error, show_facts, show_receipt, show_table, stderr
from windrow.errors import WindrowError
from windrow.job import Job, default_store, windrow_home
from windrow.receipt import Receipt

__all__ = ["app", "main"]

app = typer.Typer(
    name="windrow",
    help="Transformer models over tables: load, infer, publish; each row exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

JobFile = Annotated[str, typer.Argument(metavar="JOB", help="Job file (YAML)")]
Partition = Annotated[str | None, typer.Option(help="Slice of the target table, for example a day")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"windrow {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, with times")] = False,
    version: Annotated[  # noqa: ARG001 (its callback ends the call)
        bool, typer.Option("--version", help="Show the version", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    quiet(verbose)


@app.command()
def run(
    job: JobFile,
    partition: Partition = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read at most so many rows of the source")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read the whole source, whatever source.since says")] = False,
    approve: Annotated[bool, typer.Option("--approve", help="Publish although a quality gate asks about it")] = False,
    as_json: AsJson = False,
) -> None:
    """Score one partition and publish it: load, infer, publish."""
    from windrow.steps import run as run_steps

    with ProgressWatcher() as watcher:
        asked = Job.from_file(job)
        person = _user() if approve else None
        receipt = run_steps(asked, partition, limit=limit, full=full, approved_by=person, watcher=watcher)
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
def preflight(
    dag: Annotated[str, typer.Argument(metavar="DAG_ID", help="Id of a Dag")],
    dags: Annotated[Path | None, typer.Option(help="Dags folder or file; Airflow's own unless given")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which pool, queue, connection or device a Dag lacks here, and the command that creates it."""
    from windrow.preflight import missing_for

    found = missing_for(dag, dags)
    if as_json:
        _print_json(found)
    elif not found:
        show_facts("Nothing is missing.", {"dag": dag})
    for missing in found if not as_json else ():
        show_error(WindrowError(f"{missing['task']}: {missing['problem']}", missing["fix"]))
    if found:
        raise typer.Exit(2)


@app.command()
def plan(job: JobFile, partition: Partition = None, as_json: AsJson = False) -> None:
    """Tell counts, tokens and time of a run; nothing is scored beyond a small pilot."""
    from windrow.console import show_plan
    from windrow.inspect import plan_job

    facts = plan_job(Job.from_file(job), partition)
    if as_json:
        _print_json(facts)
    else:
        show_plan(facts)


@app.command()
def explain(
    job: JobFile,
    key: Annotated[list[str], typer.Option(help="Value of the key column; once for each key column")],
    as_json: AsJson = False,
) -> None:
    """Tell which run, model bytes, engine, text and partition made a row's value, and what was there before."""
    from windrow.history import explain_row

    found = explain_row(Job.from_file(job), key)
    if as_json:
        _print_json(found)
        return
    for row in found["rows"]:
        show_facts("Published row", {name: str(value) for name, value in row.items()})
    for row in found["rejects"]:
        show_facts("Rejected row", {name: str(value) for name, value in row.items()})
    show_facts("Runs of the partition, newest first", {run["run_id"]: run_told(run) for run in found["history"]})


@app.command()
def backfill(
    job: JobFile,
    first: Annotated[str, typer.Option("--from", help="First partition: a day or a moment, in UTC")],
    last: Annotated[str, typer.Option("--to", help="Last partition")],
    every: Annotated[str, typer.Option(help="Length of a partition: hour, day, week or month")] = "day",
    missing: Annotated[bool, typer.Option("--missing", help="Leave out partitions that are published")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the job for every partition of a span of time, oldest first."""
    from windrow.backfill import backfill as run_all
    from windrow.partitions import partitions_between

    def told(receipt: Receipt) -> None:
        if as_json:
            _print_json(receipt.to_dict())
        else:
            show_receipt(receipt)

    run_all(Job.from_file(job), list(partitions_between(first, last, every)), missing, told)


@app.command()
def forget(
    job: JobFile,
    key: Annotated[
        list[str] | None, typer.Option(help="Value of the key column; once for each key column, for each row")
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option("--keys", metavar="FILE", help="CSV file with a line of the key columns' names")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove the rows of some keys everywhere: table, rejects, runs and predictions. Stop the job's runs before."""
    from windrow.forget import forget as remove
    from windrow.forget import given_keys

    asked = Job.from_file(job)
    receipt = remove(asked, given_keys(asked, key or [], keys_file))
    if as_json:
        _print_json(receipt)
    else:
        show_facts("Forgotten", {name: str(value) for name, value in receipt.items()})
        stderr.print("What the source still holds comes back with the next run.")


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

    where = url or default_store()
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
    end_with(lambda: app(standalone_mode=False))


def _user() -> str:
    """Name who runs the command; a container may have no name for its user."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, default=str, ensure_ascii=False))
