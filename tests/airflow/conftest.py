"""An Airflow home of the tests' own: the demo's, with the Dags of `cases.py` beside the shipped ones."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pytest
from pyarrow import parquet

from models.hub_stand_in import HubStandIn
from windrow.airflow.home import AirflowHome

HERE = Path(__file__).parent
ROWS = 600


@dataclass(frozen=True)
class Stage:
    """An Airflow home with Dags, data, connections and a metadata database."""

    place: AirflowHome
    model: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def warehouse(self) -> Path:
        return self.place.root / "tables" / "warehouse.duckdb"

    def environment(self) -> dict[str, str]:
        return {
            **self.place.environment(LOGGING__LOGGING_LEVEL="INFO"),
            "TINY_MODEL": str(self.model),
            "AIRFLOW_VAR_DATA": str(self.place.dags / "data"),
            "AIRFLOW_CONN_WAREHOUSE": f"duckdb:///{self.warehouse}",
            "AIRFLOW_CONN_SHOP": "postgres://ann:battery%40staple@127.0.0.1:1/shop",
            "PYTHONPATH": str(HERE.parents[1] / "operators"),
            **self.more,
        }

    def run(self, *command: str) -> str:
        """Run a Python program in the home; return all that it printed."""
        try:
            done = subprocess.run(
                [sys.executable, *command],
                env=self.environment(),
                cwd=self.place.root,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=540,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            pytest.fail(f"{command} did not end:\n{(error.stdout or b'').decode()[-8000:]}", pytrace=False)
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout

    def metadata(self, query: str, *values: object) -> list[Any]:
        """Ask Airflow's metadata database."""
        with sqlite3.connect(f"file:{self.place.airflow}/airflow.db?mode=ro", uri=True) as database:
            return database.execute(query, values).fetchall()


DRIFTED = "2026-01-09"
"""A day whose reviews are all bad."""


def write_day(folder: Path, day: str) -> None:
    """Write `ROWS` reviews of one day; no text occurs twice, but for the first and the last."""
    numbers = [*range(ROWS - 1), 0]
    bodies = [f"{'good' if n % 3 and day != DRIFTED else 'bad'} film number {n} of {day}" for n in numbers]
    keys = [f"{day}-{n}" for n in range(ROWS)]
    table = pa.table({"review_id": keys, "body": bodies, "stars": pa.array([n % 5 + 1 for n in numbers], pa.int8())})
    parquet.write_table(table, folder / f"{day}.parquet")


@pytest.fixture(scope="session")
def new_stage(tmp_path_factory: pytest.TempPathFactory, tiny_classifier: Path) -> Callable[[], Stage]:
    """Prepare homes in which nothing has run yet."""
    return lambda: make_stage(tmp_path_factory.mktemp("airflow"), tiny_classifier)


def make_stage(root: Path, model: Path) -> Stage:
    place = AirflowHome(root)
    place.prepare()
    shutil.copytree(HERE / "dags", place.dags, dirs_exist_ok=True)
    data = place.dags / "data"
    data.mkdir()
    now = datetime.now(UTC)
    past = ("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", DRIFTED)
    for day in (*past, f"{now:%F}", f"{now + timedelta(days=1):%F}"):
        write_day(data, day)
    ready = Stage(place, model)
    ready.warehouse.parent.mkdir()
    ready.run("-m", "airflow", "db", "migrate")
    return ready


class StatsD(threading.Thread):
    """A StatsD server that writes down what it hears."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.heard: list[str] = []

    def run(self) -> None:
        while (packet := self.socket.recv(65536)) != b"end":
            self.heard += packet.decode().splitlines()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.sendto(b"end", self.socket.getsockname())
        self.join()
        self.socket.close()


@dataclass(frozen=True)
class Played:
    """What the runs of `stage.py` left behind, and what they told."""

    stage: Stage
    runs: dict[str, Any]
    log: str
    metrics: list[str]

    def events(self, task_id: str, kind: str = "COMPLETE") -> list[dict[str, Any]]:
        """Return the OpenLineage events of a task."""
        lines = (self.stage.place.root / "lineage.jsonl").read_text().splitlines()
        told = [json.loads(line) for line in lines]
        return [event for event in told if event["job"]["name"] == task_id and event["eventType"] == kind]


def watched(stage: Stage, hub: HubStandIn, port: int) -> Stage:
    """Return the stage with a private Hub, and with lineage and metrics switched on."""
    lineage = {"type": "file", "log_file_path": str(stage.place.root / "lineage.jsonl"), "append": True}
    connection = {"conn_type": "windrow_models", "host": hub.url, "password": "hf_correct_horse"}
    cache = {"extra": {"cache": str(stage.place.root / "cache")}}
    more = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(lineage),
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_PORT": str(port),
        "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "windrow",
        "AIRFLOW_CONN_WINDROW_MODELS_DEFAULT": json.dumps(connection | cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    return replace(stage, more=more)


@pytest.fixture(scope="session")
def played(new_stage: Callable[[], Stage], tiny_classifier: Path) -> Played:
    """All runs of `stage.py`, once for all tests."""
    with HubStandIn() as hub, StatsD() as statsd:
        hub.put("models/ann/mood", tiny_classifier)
        hub.guard("models/ann/mood", "hf_correct_horse", "ann")
        stage = watched(new_stage(), hub, statsd.socket.getsockname()[1])
        result = stage.place.root / "played.json"
        log = stage.run(str(HERE / "stage.py"), str(result))
    return Played(stage, json.loads(result.read_text()), log, statsd.heard)
