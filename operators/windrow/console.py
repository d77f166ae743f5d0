"""What a person sees on a terminal: progress, a receipt, an error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Self

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from windrow.errors import WindrowError
from windrow.manifest import Manifest
from windrow.receipt import Receipt

__all__ = ["ProgressWatcher", "quiet", "run_told", "show_error", "show_facts", "show_receipt", "show_table", "stderr"]

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
_LONGEST_CELL = 60


def quiet(verbose: bool = False) -> None:
    """Send Windrow's warnings to standard error, and silence the libraries' chatter and progress bars."""
    import os

    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(levelname)s: %(message)s" if not verbose else "%(asctime)s %(levelname)s %(message)s")
    )
    logger = logging.getLogger("windrow")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.propagate = False


class ProgressWatcher:
    """Draws a run's three steps on a terminal; elsewhere it draws nothing."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=False,
            disable=not stderr.is_terminal,
        )
        self._steps: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def loading(self) -> None:
        """Start the line of load."""
        self._steps["load"] = self._progress.add_task("load", total=None)

    def loaded(self, manifest: Manifest) -> None:
        """End the line of load and start that of infer."""
        self._progress.update(self._steps["load"], total=manifest.rows_in, completed=manifest.rows_in)
        self._progress.stop_task(self._steps["load"])
        self._steps["infer"] = self._progress.add_task("infer", total=manifest.texts_to_score)

    def scored(self, done: int, total: int) -> None:
        """Move the line of infer."""
        self._progress.update(self._steps["infer"], completed=done, total=total)

    def publishing(self) -> None:
        """Start the line of publish."""
        self._steps["publish"] = self._progress.add_task("publish", total=None)


def show_receipt(receipt: Receipt, console: Console = stderr) -> None:
    """Print what a run did, in a few lines."""
    reused = f"{receipt.texts_reused:,} reused, {receipt.texts_scored:,} scored"
    facts = {
        "rows": f"{receipt.rows_in:,} in = {receipt.rows_published:,} published + {receipt.rows_rejected:,} rejected",
        "texts": f"{receipt.texts_distinct:,} distinct: {reused}",
        "labels": ", ".join(f"{label} {count:,}" for label, count in receipt.labels.items()),
        "rejects": ", ".join(f"{reason} {count:,}" for reason, count in receipt.rejects.items()),
        "deleted": f"{receipt.rows_deleted:,} rows in the source" if receipt.rows_deleted else "",
        "truncated": f"{receipt.rows_truncated:,} rows" if receipt.rows_truncated else "",
        "quality": _quality(receipt.quality),
        "seconds": f"{receipt.seconds.total:.1f} (load {receipt.seconds.load:.1f}, infer {receipt.seconds.infer:.1f}, "
        f"publish {receipt.seconds.publish:.1f}); {receipt.tokens_per_s:,.0f} tokens/s",
        "model": f"{receipt.model} @ {receipt.revision[:12]}, {receipt.engine} {receipt.precision} on {receipt.device}",
        "fell back": "; ".join(receipt.choice.get("fallbacks", ())),
        "table": f"{receipt.table} in {receipt.warehouse}, partition {receipt.partition}",
    }
    show_facts(f"{receipt.job}: published", facts, console)


def _quality(quality: Mapping[str, Any]) -> str:
    """Say how many gates passed, and what the others found."""
    checks = quality.get("checks", ())
    passed = sum(check["status"] == "pass" for check in checks)
    others = [f"{check['name']} {check['status']} ({check['detail']})" for check in checks if check["status"] != "pass"]
    return "; ".join([f"{passed} of {len(checks)} checks pass", *others]) if checks else ""


def run_told(run: Mapping[str, Any]) -> str:
    """Tell a run of the ledger in a line: when, which partition, model and rows."""
    rows = f"{run['rows_in']:,} in = {run['rows_published']:,} published + {run['rows_rejected']:,} rejected"
    when = f"{run['finished_at']:%Y-%m-%d %H:%M:%S}"
    return f"{when}, partition {run['partition']}: {rows}; {run['model']} @ {run['revision'][:12]}"


def show_plan(facts: Mapping[str, Any], console: Console = stderr) -> None:
    """Print what a run would do, and what was measured to choose its engine."""
    shown = {name: value for name, value in facts.items() if name != "choice"}
    show_facts("A run would do this.", {name: _fact(value) for name, value in shown.items()}, console)
    choice = facts.get("choice") or {}
    if choice:
        console.print(f"[bold]{escape(choice['engine'])} in {escape(choice['precision'])}[/bold]: "
                      f"{escape(choice['reason'])}")  # fmt: skip
    if choice.get("trials"):
        names = ("engine", "precision", "token_budget", "texts", "texts_per_s", "share", "shift", "refused")
        columns = {name: [_fact(trial[name]) for trial in choice["trials"]] for name in names}
        show_table(pa.table(columns), console, "Measured on a sample of the texts; agreement is with fp32")


def _fact(value: Any) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, list | tuple):
        return " to ".join(map(_fact, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)


def show_facts(title: str, facts: Mapping[str, str], console: Console = stderr) -> None:
    """Print names and values in two columns; empty values are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            grid.add_row(escape(name), escape(value))
    console.print(f"[bold]{escape(title)}[/bold]")
    console.print(grid)


def show_table(table: pa.Table, console: Console, title: str = "") -> None:
    """Print a small Arrow table; long values are shortened."""
    drawn = Table(title=title or None, title_justify="left", show_lines=False)
    for name in table.column_names:
        drawn.add_column(escape(name), overflow="fold")
    for row in table.to_pylist():
        drawn.add_row(*(escape(_cell(row[name])) for name in table.column_names))
    console.print(drawn)


def show_error(error: WindrowError) -> None:
    """Print what happened and its fix."""
    stderr.print(f"[red]Error:[/red] {escape(error.problem)}\n[green]Fix:[/green] {escape(error.fix)}")


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"
