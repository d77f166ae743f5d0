"""Runs the Dags of the tests in one process of its own, as `dag.test()` does, and writes down how each run ended.

python stage.py RESULT.json
"""

import faulthandler
import json
import os
import signal
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from airflow.api_fastapi.app import create_app
from airflow.sdk import DAG
from starlette.testclient import TestClient

import windrow.infer
import windrow.load
import windrow.publish
from windrow.airflow.compat import read_dags

faulthandler.dump_traceback_later(500)
windrow.load.SHARD_TEXTS = 100
real_infer = windrow.infer.infer
bag = read_dags(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


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


def is_parked():
    """Tell whether `dag.test()` waits between tasks: an answer before it wrote the task's state would be overwritten.

    Airflow 3.3 writes that state after the task asked, and then waits for ever; earlier ones wait in a trigger.
    """
    frame = sys._current_frames()[threading.main_thread().ident]
    return frame.f_code is DAG.test.__code__


@contextmanager
def answering(option):
    """Answer what tasks ask a person, through the REST API, as the page of required actions does; give the forms."""
    forms, is_over = [], threading.Event()
    client = TestClient(create_app(), raise_server_exceptions=False)
    password = json.loads(Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).read_text())["admin"]
    token = client.post("/auth/token", json={"username": "admin", "password": password}).json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"

    def answer():
        while not is_over.wait(0.2):
            asked = client.get("/api/v2/dags/~/dagRuns/~/hitlDetails", params={"response_received": False})
            if asked.status_code != 200:  # SQLite may be busy; a page would ask again, too
                print("asked in vain", asked.status_code, asked.text[:500], flush=True)
                continue
            for form in asked.json()["hitl_details"]:
                task = form["task_instance"]
                if task["state"] == "deferred" or (task["state"] == "awaiting_input" and is_parked()):
                    run = f"/api/v2/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}"
                    page = client.get(
                        run.replace("/api/v2/", "/windrow/").replace("dagRuns", "runs") + f"/tasks/{task['task_id']}"
                    )
                    path = f"{run}/taskInstances/{task['task_id']}/-1/hitlDetails"
                    done = client.patch(path, json={"chosen_options": [option], "params_input": {}})
                    if done.status_code >= 500:
                        print("answered in vain", done.status_code, done.text[:500], flush=True)
                        continue
                    forms.append({**form, "answered": done.status_code, "page": page.text})

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield forms
    finally:
        is_over.set()
        thread.join()


def play_gated(option, kills=0, dag_id="gated"):
    """Run a Dag whose gate asks; once it is answered, stop publish by a signal as often as asked."""
    real, calls = windrow.publish.publish, []

    def publish(*args, **options):
        calls.append(True)
        if 1 < len(calls) <= 1 + kills:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **options)

    windrow.publish.publish = publish
    try:
        with answering(option) as forms:
            return {**play(dag_id, "2026-01-09"), "forms": forms}
    finally:
        windrow.publish.publish = real


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
    "from_hub": play("from_hub", "2026-01-05"),
    "wrong_column": play("wrong_column", "2026-01-05"),
    "broken_store": play("broken_store", "2026-01-05"),
    "secretive": play("secretive", "2026-01-05"),
    "interrupted": play_interrupted(),
    "gated_first": play("gated", "2026-01-05"),
    "gated_rejected": play_gated("Reject"),
    "gated_approved": play_gated("Approve", kills=1),
    "whole_first": play("gated_whole", "2026-01-05"),
    "whole_rejected": play_gated("Reject", dag_id="gated_whole"),
    "whole_approved": play_gated("Approve", dag_id="gated_whole"),
}
Path(sys.argv[1]).write_text(json.dumps(played, default=str))
