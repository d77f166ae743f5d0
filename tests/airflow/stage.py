"""Runs the Dags of the tests in one process of its own, as `dag.test()` does, and writes down how each run ended.

python stage.py RESULT.json
"""

import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

import windrow.infer
import windrow.load

windrow.load.SHARD_TEXTS = 100
real_infer = windrow.infer.infer
bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


def play(dag_id, logical_date=None, **options):
    """Run a Dag once; return states and tries of its tasks."""
    date = datetime.fromisoformat(logical_date).replace(tzinfo=UTC) if logical_date else None
    run = bag.dags[dag_id].test(logical_date=date, **options)
    tasks = {
        f"{task.task_id}[{task.map_index}]": [str(task.state), task.try_number] for task in run.get_task_instances()
    }
    return {"run_id": run.run_id, "state": str(run.state), "tasks": tasks}


def play_interrupted():
    """Run a Dag whose infer is asked to stop in its first try, by the signal that a worker's end sends."""
    stops = []

    def infer(*args, **options):
        if not stops:
            stops.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
        return real_infer(*args, **options)

    windrow.infer.infer = infer
    try:
        return play("interrupted", "2026-01-08")
    finally:
        windrow.infer.infer = real_infer


def outlets():
    """Return the assets of each Dag's publish tasks."""
    return {name: [asset.name for task in dag.tasks for asset in task.outlets] for name, dag in bag.dags.items()}


played = {
    "import_errors": bag.import_errors,
    "outlets": outlets(),
    "first": play("daily", "2026-01-05"),
    "second": play("daily", "2026-01-05"),
    "manual": play("daily", "2026-01-06T15:42:10"),
    "undated": play("daily", None, run_after=datetime(2026, 1, 7, 3, tzinfo=UTC)),
    "from_file": play("from_file", "2026-01-05"),
    "from_object": play("from_object", "2026-01-05", run_conf={"day": "2026-01-06"}),
    "wrong_column": play("wrong_column", "2026-01-05"),
    "broken_store": play("broken_store", "2026-01-05"),
    "secretive": play("secretive", "2026-01-05"),
    "interrupted": play_interrupted(),
}
Path(sys.argv[1]).write_text(json.dumps(played))
