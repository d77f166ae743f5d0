"""An Airflow home of the tests' own: the demo's, with the Dags of `cases.py` beside the shipped ones."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from windrow.airflow.home import AirflowHome

HERE = Path(__file__).parent
ROWS = 600


@dataclass(frozen=True)
class Stage:
    """An Airflow home with Dags, data, connections and a metadata database."""

    place: AirflowHome
    model: Path

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
        }

    def run(self, *command: str) -> str:
        """Run a Python program in the home; return all that it printed."""
        done = subprocess.run(
            [sys.executable, *command],
            env=self.environment(),
            cwd=self.place.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout

    def metadata(self, query: str, *values: object) -> list[Any]:
        """Ask Airflow's metadata database."""
        with sqlite3.connect(f"file:{self.place.airflow}/airflow.db?mode=ro", uri=True) as database:
            return database.execute(query, values).fetchall()


def write_day(folder: Path, day: str) -> None:
    """Write `ROWS` reviews of one day; no text occurs twice, but for the first and the last."""
    numbers = [*range(ROWS - 1), 0]
    bodies = [f"{'good' if n % 3 else 'bad'} film number {n} of {day}" for n in numbers]
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
    for day in ("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", f"{now:%F}", f"{now + timedelta(days=1):%F}"):
        write_day(data, day)
    ready = Stage(place, model)
    ready.warehouse.parent.mkdir()
    ready.run("-m", "airflow", "db", "migrate")
    return ready


@dataclass(frozen=True)
class Played:
    """What the runs of `stage.py` left behind."""

    stage: Stage
    runs: dict[str, Any]
    log: str


@pytest.fixture(scope="session")
def played(new_stage: Callable[[], Stage]) -> Played:
    """All runs of `stage.py`, once for all tests."""
    stage = new_stage()
    result = stage.place.root / "played.json"
    log = stage.run(str(HERE / "stage.py"), str(result))
    return Played(stage, json.loads(result.read_text()), log)
