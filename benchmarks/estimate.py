"""What `windrow plan` promises, against what the run then takes.

    python -m benchmarks.estimate [--minutes M] [--task sentiment|summarise]

Distinct pairs of real sentences of the bundled reviews: as many as earlier plans of fewer say fill the minutes. The
job is planned (pilot included), then run whole; the plan's time and its 95 % interval stand beside the run's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from benchmarks.machine import machine
from benchmarks.pipeline import RESULTS
from benchmarks.reuse import distinct_texts
from windrow import Job, run
from windrow.console import quiet
from windrow.inspect import plan_job

MODELS = {"sentiment": "windrow/minilm-sentiment", "summarise": "windrow/minilm-extractive"}
FIRST_ROWS = 4_000


def job_over(rows: int, folder: Path, task: str) -> Job:
    """Write so many rows and return a job over them, with a store and warehouse of its own."""
    file = folder / f"{rows}.parquet"
    parquet.write_table(pa.table({"key": list(map(str, range(rows))), "text": distinct_texts(rows)}), file)
    return Job(
        name=f"estimate_{rows}", source={"path": str(file), "text": "text", "key": "key"}, task=task,
        model=MODELS[task], warehouse={"url": f"duckdb:///{folder}/{rows}.duckdb", "table": "scores"},
        store=str(folder / f"store-{rows}"),
    )  # fmt: skip


def measured(minutes: float, task: str) -> dict[str, Any]:
    """Plan and run a job that takes about so long."""
    with tempfile.TemporaryDirectory(prefix="windrow-estimate-") as place:
        rows = FIRST_ROWS
        for _ in range(2):  # a larger job is worth a pilot, which may find a faster way
            rows = int(plan_job(job_over(rows, Path(place), task))["texts_per_s"] * 60 * minutes)
        job = job_over(rows, Path(place), task)
        told = plan_job(job)
        receipt = run(job)
    taken = receipt.seconds.total
    return {
        "task": task, "rows": receipt.rows_in, "engine": receipt.engine, "precision": receipt.precision,
        "estimated_s": told["estimated_s"], "interval_s": told["interval_s"], "taken_s": round(taken, 1),
        "off": round(told["estimated_s"] / taken - 1, 3),
    }  # fmt: skip


def main() -> None:
    """Measure, print one table, and write it to ``benchmarks/results``."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--minutes", type=float, default=10)
    asked.add_argument("--task", choices=MODELS, default="sentiment")
    options = asked.parse_args()
    quiet()
    found = measured(options.minutes, options.task)
    print(json.dumps(found), flush=True)
    low, high = found["interval_s"]
    lines = ["| job | engine | planned | 95 % interval | taken | plan off by |", "|---|---|---|---|---|---|"]
    lines.append(
        f"| {found['task']}, {found['rows']:,} rows | {found['engine']}, {found['precision']} "
        f"| {found['estimated_s']:.0f} s | {low:.0f} to {high:.0f} s | {found['taken_s']:.0f} s | {found['off']:+.0%} |"
    )
    where = "; ".join(f"{name}: {value}" for name, value in machine().items())
    table = "\n".join([*lines, "", f"One run; the pilot's own time is in neither. {where}."])
    print(f"\n{table}")
    (RESULTS / "estimate.md").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
