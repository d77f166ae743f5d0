"""Runs the Dags of `authored/` in one process of its own, and writes down what became of them.

python authored_stage.py RESULT.json
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

import windrow.infer
import windrow.load
from windrow.airflow.jobs import read_job
from windrow.airflow.resources import lane_slots, missing_for
from windrow.sources import presence

windrow.load.SHARD_TEXTS = 100
folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
bag = DagBag(folder, bundle_path=folder)
loads = []
open_on = windrow.infer.open_on


def counted(*args, **options):
    """Load a model, and count it."""
    loads.append(args)
    return open_on(*args, **options)


windrow.infer.open_on = counted


def play(dag_id, logical_date=None, **options):
    """Run a Dag once; return states and tries of its tasks, and how many models were loaded."""
    loads.clear()
    date = datetime.fromisoformat(logical_date).replace(tzinfo=UTC) if logical_date else None
    run = bag.dags[dag_id].test(logical_date=date, **options)
    tasks = {f"{ti.task_id}[{ti.map_index}]": [str(ti.state), ti.try_number] for ti in run.get_task_instances()}
    return {"run_id": run.run_id, "state": str(run.state), "tasks": tasks, "loads": len(loads)}


def play_waiting():
    """Run the Dag of sensors; the source comes when it is looked for the third time."""
    real, looks = presence.is_there, []

    def is_there(place):
        looks.append(place)
        if len([look for look in looks if "2026-01-05" in look]) == 3:
            (folder / "late").mkdir(exist_ok=True)
            (folder / "late/2026-01-05.parquet").touch()
        return real(place)

    presence.is_there = is_there
    return play("waiting")


def described(dag):
    """Return what an author sees of a Dag."""
    return {
        "timetable": repr(dag.timetable),
        "tags": sorted(dag.tags),
        "owner": dag.owner,
        "deadlines": [[alert.reference.reference_name, str(alert.interval)] for alert in dag.deadline or ()],
        "people": {task.task_id: getattr(task, "approvers", None) for task in dag.tasks},
        "partitioned": [task.task_id for task in dag.tasks if getattr(task, "partitioned", False)],
        "start": dag.start_date and dag.start_date.isoformat(),
        "tasks": {
            task.task_id: {
                "inlets": [asset.name for asset in task.inlets],
                "outlets": [asset.name for asset in task.outlets],
                "templates": list(task.template_fields),
                "pool": [task.pool, task.pool_slots],
                "retries": task.retries,
            }
            for task in dag.tasks
        },
    }


seen = {
    "import_errors": bag.import_errors,
    "dags": {name: described(dag) for name, dag in bag.dags.items()},
    "missing": {name: missing_for(name, folder) for name in ("lacking", "presets")},
    "lane_slots": lane_slots(read_job(bag.dags["presets"].get_task("score").job, folder)),
    "decorated": play("decorated", "2026-01-05"),
    "decorated_wrong": play("decorated_wrong"),
    "mapped": play("mapped"),
    "presets": play("presets", "2026-01-05"),
    "keyed": play("keyed", "2026-01-05"),
    "partitioned": play("partitioned"),
    "policies": play("policies"),
    "waiting": play_waiting(),
    "job_daily": play("job_daily", "2026-01-06"),
}
Path(sys.argv[1]).write_text(json.dumps(seen))
