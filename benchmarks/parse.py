"""How long Airflow takes to parse the shipped Dag files, in processes that have Airflow loaded, as its own have.

python -m benchmarks.parse
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

REPOSITORY = Path(__file__).resolve().parents[1]
RUNS = 7
ONE = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
began = time.perf_counter()
bag = DagBag(sys.argv[1])
seconds = time.perf_counter() - began
assert bag.dags and not bag.import_errors, bag.import_errors
heavy = sorted({"torch", "transformers", "datasets", "peft", "duckdb", "pyarrow"} & set(sys.modules))
files = {stat.file: [stat.duration.total_seconds(), stat.dag_num] for stat in bag.dagbag_stats}
print(json.dumps({"seconds": seconds, "files": files, "heavy": heavy}))
"""


def parsed(home: str) -> dict[str, Any]:
    """Parse the Dag files in a process of its own."""
    environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    environment |= {"PYTHONPATH": str(REPOSITORY / "operators"), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-c", ONE, str(REPOSITORY / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Parse the files again and again, and print one table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.parse_args()
    with tempfile.TemporaryDirectory() as home:
        runs = [parsed(home) for _ in range(RUNS + 1)][1:]
    print(", ".join(f"{name}: {value}" for name, value in machine().items()))
    print(f"{RUNS} fresh processes; median, and least to most, in milliseconds\n")
    print("| Dag file | Dags | ms |\n|---|---|---|")
    for file, (_, dags) in sorted(runs[0]["files"].items()):
        print(f"| {file} | {dags} | {_told([run['files'][file][0] for run in runs])} |")
    print(f"| all, with looking for them | | {_told([run['seconds'] for run in runs])} |")
    heavy = sorted({name for run in runs for name in run["heavy"]})
    print(f"\nLibraries of models among what was imported: {', '.join(heavy) or 'none'}")


def _told(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ({min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f})"


if __name__ == "__main__":
    main()
