"""Runs the Dags of the page's tests in one process, as `dag.test()` does, and writes down their run ids.

python stage.py RESULT.json
"""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

import windrow.infer
import windrow.load
import windrow.pace
from windrow.airflow.compat import read_dags

windrow.load.SHARD_TEXTS = 100
windrow.pace.EVERY_S = 0.0
DAYS = ("2026-11-21", "2026-11-22", "2026-11-23")
bag = read_dags(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


def play(dag_id, day):
    """Run a Dag for a day; return its run id."""
    return bag.dags[dag_id].test(logical_date=datetime.fromisoformat(day).replace(tzinfo=UTC)).run_id


def play_stopped():
    """Run a Dag whose lane fails after its first shard."""
    real = windrow.infer._score_all

    def fails_soon(*args):
        yield next(real(*args))
        raise RuntimeError("the device has gone")

    windrow.infer._score_all = fails_soon
    try:
        return play("stopped", DAYS[0])
    finally:
        windrow.infer._score_all = real


def leave_parked(day, told):
    """Run a Dag whose gate asks, write down what was told as soon as it waits, and end this process there."""

    def watch():
        asking = select(TaskInstance.run_id).where(TaskInstance.state == "awaiting_input")
        while True:
            time.sleep(0.5)
            with suppress(OSError), create_session() as session:
                if run_id := session.scalar(asking):
                    Path(sys.argv[1]).write_text(json.dumps({**told, "parked": [run_id]}))
                    os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    play("parked", day)
    sys.exit("no gate has asked")


played = {
    "import_errors": bag.import_errors,
    "review_sentiment": [play("review_sentiment", day) for day in DAYS[-1:]],
    "tickets": [play("tickets", day) for day in DAYS],
    "hostile": [play("hostile", DAYS[0])],
    "broken": [play("broken", DAYS[0])],
    "stopped": [play_stopped()],
}
play("parked", DAYS[0])
if hasattr(TaskInstanceState, "AWAITING_INPUT"):
    leave_parked("2026-11-24", played)
Path(sys.argv[1]).write_text(json.dumps(played))  # before Airflow 3.3, dag.test() cannot wait for an answer
