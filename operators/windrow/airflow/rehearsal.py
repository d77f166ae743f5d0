"""Runs a Dag in this very process for some days, and tells each event as a line of JSON; started by `windrow demo`.

    python -m windrow.airflow.rehearsal DAG_ID DAY…

Libraries are imported first; then it waits for a line on standard input, which says that Airflow's
metadata are ready. Events: ``broken`` (Dag files that cannot be imported), ``began``, ``task``, ``run``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

__all__ = ["main"]

_WARM = (
    "windrow.load",
    "windrow.infer",
    "windrow.publish",
    "transformers.models.bert.modeling_bert",
    "peft",
    "airflow.dag_processing.dagbag",
    "airflow.sdk.execution_time.supervisor",
)
Tell = Callable[..., None]


def main(dag_id: str, days: Sequence[str], tell: Tell) -> int:
    """Run the Dag for each day; return 0 if Airflow could be asked to, whatever became of the tasks."""
    for name in _WARM:
        with suppress(ModuleNotFoundError):  # Airflow 3.1 has its Dags elsewhere
            import_module(name)
    if not sys.stdin.readline():
        return 1
    from windrow.airflow.compat import read_dags

    bag = read_dags(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    dag = bag.dags.get(dag_id)
    if bag.import_errors or dag is None:
        tell(event="broken", errors=bag.import_errors or {dag_id: "there is no such Dag"})
        return 1
    tell(event="began", job=next(task.job for task in dag.tasks if hasattr(task, "job")))
    watch = _Watch(tell)
    watch.begin()
    for day in days:
        watch.day = day
        began = datetime.now(UTC)
        run = dag.test(logical_date=datetime.fromisoformat(day).replace(tzinfo=UTC))
        _say_when_it_began(run, began)
        states = {f"{task.task_id}[{task.map_index}]": str(task.state) for task in run.get_task_instances()}
        tell(event="run", day=day, state=str(run.state), tasks=states)
    return 0


def _say_when_it_began(run: Any, began: datetime) -> None:
    """Give a run its true start: `dag.test` writes the logical date there, and the page would show hours."""
    from airflow.utils.session import create_session

    with create_session() as session:
        run.start_date = began
        session.merge(run)


class _Watch:
    """Hears from Airflow how each task ends, and tells it."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.day = ""
        self.since = time.monotonic()

    def begin(self) -> None:
        """Listen to the tasks of this process."""
        from airflow.listeners import hookimpl

        from windrow.airflow.compat import add_listener

        watch = self

        class Listener:
            @hookimpl
            def on_task_instance_running(self) -> None:
                watch.since = time.monotonic()

            @hookimpl
            def on_task_instance_success(self, task_instance: Any) -> None:
                watch.ended(task_instance, "success")

            @hookimpl
            def on_task_instance_failed(self, task_instance: Any, error: object) -> None:
                watch.ended(task_instance, "failed", error)

        add_listener(Listener())

    def ended(self, task_instance: Any, state: str, error: object = "") -> None:
        """Tell how a task ended, and after how long."""
        facts = {"task": task_instance.task_id, "seconds": round(time.monotonic() - self.since, 1)}
        self.tell(event="task", day=self.day, state=state, error=str(error), **facts)


if __name__ == "__main__":
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def _tell(**event: Any) -> None:
        print(json.dumps(event, default=str), file=events, flush=True)

    sys.exit(main(sys.argv[1], sys.argv[2:], _tell))
