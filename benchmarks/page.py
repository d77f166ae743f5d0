"""How fast the page in Airflow answers over a long history, and how many queries it asks.

    python -m benchmarks.page [--runs N] [--lanes N] [--dags N] [--repeats N] [--json FILE]

Makes a metadata database of its own (SQLite, in a temporary folder) with so many runs, each of load, lanes and
publish, and asks each view through Airflow's whole application, login included. Prints one table: milliseconds
(median and slowest) and queries of each view, with little history and with all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

LABELS = ("negative", "positive")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TRIALS = 5


def prepare(home: Path) -> None:
    """Let Airflow live in `home`; to be called before it is imported."""
    os.environ.update(
        {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
            "WINDROW_HOME": str(home),
        }
    )


def receipt_of(number: int, lanes: int) -> dict[str, Any]:
    """Return the receipt of a run, with the table of a pilot."""
    trial = {"engine": "openvino", "precision": "int8", "token_budget": None, "texts": 512, "texts_per_s": 91.5}
    trial |= {"tokens_per_s": 4100.0, "share": 0.997, "shift": 0.002, "refused": ""}
    moment = (BEGAN + timedelta(days=number)).isoformat()
    return {
        "job": "reviews", "task": "sentiment", "partition": f"{BEGAN + timedelta(days=number):%F}",
        "run_id": f"{number:020d}Z-aaaaaa", "model": "windrow/minilm-sentiment", "revision": "a" * 40,
        "fingerprint": "f" * 64, "engine": "openvino", "device": "cpu", "precision": "int8", "rows_in": 40_960,
        "rows_published": 40_900, "rows_rejected": 60, "rows_truncated": 0, "texts_distinct": 40_960,
        "texts_reused": 1000, "texts_scored": 39_960, "tokens": 1_800_000,
        "seconds": {"load": 4.0, "infer": 430.0 + number % 7, "publish": 2.0, "total": 436.0 + number % 7},
        "rows_per_s": 93.0 + number % 11, "tokens_per_s": 4100.0, "warehouse": "duckdb:///w.duckdb",
        "table": "analytics.reviews", "started_at": moment, "finished_at": moment,
        "labels": {"negative": 20_000 + number, "positive": 20_900 - number}, "rejects": {"empty_text": 60},
        "versions": {"windrow": "0"}, "rows_deleted": 0, "watermark": None, "lanes": lanes,
        "choice": {"engine": "openvino", "precision": "int8", "reason": "measured", "trials": [trial] * TRIALS},
    }  # fmt: skip


def write_history(dags: range, runs: range, lanes: int) -> None:
    """Write runs of each Dag, straight into the metadata database."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance, uuid7
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert, select
    from sqlalchemy.orm import Session

    from airflow import settings
    from windrow.airflow.telling import LANE, LOAD, PUBLISH, brief
    from windrow.job import Job

    source = {"path": "x.parquet", "text": "t", "key": "k"}
    target = {"url": "duckdb:///w.duckdb", "table": "reviews"}
    job = Job(name="reviews", source=source, task="sentiment", model="m", warehouse=target, price_per_hour=2.0)
    with Session(settings.engine) as session, session.begin():
        if session.get(DagBundleModel, "history") is None:
            session.add(DagBundleModel(name="history"))
            session.flush()
        for dag_number in dags:
            dag_id = f"reviews_{dag_number}"
            if session.get(DagModel, dag_id) is None:
                session.add(DagModel(dag_id=dag_id, bundle_name="history", is_stale=False, fileloc="x"))
                session.flush()
            table: dict[Any, list[dict[str, Any]]] = {DagRun: [], TaskInstance: [], XComModel: []}
            for number in runs:
                start = BEGAN + timedelta(days=number)
                mine = {"dag_id": dag_id, "run_id": f"scheduled__{start.isoformat()}"}
                run_dates = {"logical_date": start, "run_after": start, "start_date": start, "end_date": start}
                table[DagRun].append({**mine, "state": "success", "run_type": "scheduled", **run_dates})
                receipt = receipt_of(number, lanes)
                ref = {name: receipt[name] for name in ("job", "partition", "run_id")}
                loaded = {**receipt, "texts_to_score": 39_960}
                told = [("load", -1, "Load", {LOAD: loaded, "run": ref, "return_value": [ref] * lanes})]
                report = {"texts": 4096, "tokens": 180_000, "seconds": 43.0}
                told += [
                    ("infer", lane, "Infer", {LANE: {**ref, "lane": lane}, "return_value": report})
                    for lane in range(lanes)
                ]
                short = brief(job, receipt, lanes)
                told.append(("publish", -1, "Publish", {PUBLISH: short, "return_value": receipt}))
                for name, index, kind, values in told:
                    where = {**mine, "task_id": f"reviews.{name}", "map_index": index}
                    facts = {"id": uuid7(), "state": "success", "operator": f"{kind}Operator", "pool": "default_pool"}
                    table[TaskInstance].append({**where, **facts, "start_date": start, "end_date": start})
                    table[XComModel] += [{**where, "key": key, "value": value} for key, value in values.items()]
            session.execute(insert(DagRun), [_renamed(row) for row in table[DagRun]])
            ids = dict(session.execute(select(DagRun.run_id, DagRun.id).where(DagRun.dag_id == dag_id)).all())
            session.execute(insert(TaskInstance), table[TaskInstance])
            xcoms = [{**row, "dag_run_id": ids[row["run_id"]]} for row in table[XComModel]]
            session.execute(insert(XComModel), xcoms)


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    return {("_state" if name == "state" else name): value for name, value in row.items()}


def measure(client: Any, token: str, last: int, repeats: int) -> dict[str, dict[str, float]]:
    """Ask each view; return milliseconds and queries by view."""
    from sqlalchemy import event

    from airflow import settings

    run = f"/windrow/dags/reviews_0/runs/scheduled__{(BEGAN + timedelta(days=last)).isoformat()}"
    views = {
        "jobs": "/windrow/",
        "job": "/windrow/dags/reviews_0",
        "task": "/windrow/dags/reviews_0/tasks/reviews.infer",
        "run": run,
        "lane": f"{run}/tasks/reviews.infer?map_index=3",
        "live": f"{run}/tasks/reviews.publish/live",
        "receipt": f"{run}/tasks/reviews.publish/receipt.json",
    }
    asked: list[str] = []
    event.listen(settings.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    found = {}
    for name, path in views.items():
        times = []
        for _ in range(repeats + 1):
            asked.clear()
            began = time.perf_counter()
            answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
            times.append(1000 * (time.perf_counter() - began))
            if answer.status_code != 200:
                raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:500]}")
        kept = times[1:]
        found[name] = {"ms": statistics.median(kept), "slowest_ms": max(kept), "queries": len(asked)}
    return found


def main() -> None:
    """Measure with little history and with all of it; print one table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 1000), ("lanes", 10), ("dags", 1), ("repeats", 20)):
        asked.add_argument(f"--{name}", type=int, default=default)
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="windrow-page-") as folder:
        prepare(Path(folder))
        from airflow.api_fastapi.app import create_app, get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.utils.db import initdb
        from starlette.testclient import TestClient

        initdb()
        few = min(100, options.runs // 10)
        dags = range(options.dags)
        write_history(dags, range(few), options.lanes)
        with TestClient(create_app(apps="core")) as client:
            token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="anonymous", role="ADMIN"))
            little = measure(client, token, few - 1, options.repeats)
            write_history(dags, range(few, options.runs), options.lanes)
            much = measure(client, token, options.runs - 1, options.repeats)
    if options.json:
        options.json.write_text(json.dumps({"little": little, "much": much}))
    shards = options.dags * options.runs * options.lanes
    print(f"{options.dags * options.runs:,} runs, {shards:,} lanes; of each: milliseconds (slowest), queries")
    for name, new in much.items():
        old = little[name]
        print(
            f"{name:8} {old['ms']:7.1f} ({old['slowest_ms']:.1f}), {old['queries']:.0f}   ->"
            f" {new['ms']:7.1f} ({new['slowest_ms']:.1f}), {new['queries']:.0f}"
        )


if __name__ == "__main__":
    main()
