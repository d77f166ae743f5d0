"""Fixtures: a home of its own for every test, a tiny real model, job files, and the command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # tests run beside each other: a thread that waits lets others work

REPOSITORY = Path(__file__).resolve().parents[1]
WORDS = ["good", "bad", "film", "phone", "battery", "great", "awful", "the", "it", "was", "is", "not", "plot", "lovely"]


@pytest.fixture(scope="session", autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test without a `home` makes stays out of the WINDROW_HOME of whoever runs the tests."""
    os.environ["WINDROW_HOME"] = str(tmp_path_factory.mktemp("nobodys-home"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A WINDROW_HOME of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("WINDROW_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real, tiny, random BERT classifier: two layers, labels negative and positive."""
    from windrow.testing import make_tiny_classifier

    return make_tiny_classifier(tmp_path_factory.mktemp("models") / "tiny", WORDS)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Resolved tiny classifiers by family; settings go into the configuration, and each is made once a module."""
    from windrow.job import Job
    from windrow.models import resolve
    from windrow.testing import make_tiny_family

    made: dict[str, Any] = {}

    def get(kind: str, **settings: Any) -> Any:
        name = "-".join([kind, *map(str, settings.values())])
        if name not in made:
            folder = make_tiny_family(tmp_path_factory.mktemp("families") / name, WORDS, kind, **settings)
            source, warehouse = {"path": "x.csv", "text": "t", "key": "k"}, {"url": "duckdb:///w.duckdb", "table": "t"}
            fields = {"name": "family", "source": source, "task": "sentiment", "warehouse": warehouse}
            made[name] = resolve(Job(**fields, model=str(folder)))
        return made[name]

    return get


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A Parquet file of five short reviews: review_id, body, stars."""
    bodies = ["good film", "bad phone", "the battery was awful", "lovely plot", "slow camera"]
    table = pa.table(
        {"review_id": [f"r{i}" for i in range(5)], "body": bodies, "stars": pa.array([5, 1, 1, 5, 2], pa.int8())}
    )
    path = tmp_path / "reviews.parquet"
    parquet.write_table(table, path)
    return path


@pytest.fixture
def job_fields(tmp_path: Path, tiny_classifier: Path, reviews: Path) -> dict[str, Any]:
    """Fields of a small, sound job over `reviews`."""
    return {
        "name": "review_sentiment",
        "source": {"path": str(reviews), "text": "body", "key": "review_id", "keep": ["stars"]},
        "task": "sentiment",
        "model": str(tiny_classifier),
        "warehouse": {"url": f"duckdb:///{tmp_path}/warehouse.duckdb", "table": "analytics.review_sentiment"},
        "store": str(tmp_path / "store"),
    }


@pytest.fixture
def write_job(tmp_path: Path, job_fields: dict[str, Any]) -> Callable[..., Path]:
    """Write a job file: the sound job with changes; nested fields are merged, None removes one."""

    def write(name: str = "job.yaml", **changes: Any) -> Path:
        fields = merged(job_fields, changes)
        file = tmp_path / name
        file.write_text(yaml.safe_dump(fields), encoding="utf-8")
        return file

    return write


def merged(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `fields` with `changes` merged in, deeply."""
    result = dict(fields)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


@pytest.fixture
def windrow(home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own; its home is the test's."""

    def run(
        *args: object, env: dict[str, str] | None = None, timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from windrow.cli import main; main()", *map(str, args)]
        environment = {
            **os.environ,
            "WINDROW_HOME": str(home),
            "PYTHONPATH": str(REPOSITORY / "operators"),
            **(env or {}),
        }
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_s, check=False)

    return run


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests together that share what is dear to make, where several workers run them."""
    from workers import Scheduling

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what random kills did as a table, by warehouse."""
    reports = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, [])]
    told = [value for report in reports for name, value in getattr(report, "user_properties", []) if name == "kills"]
    if not told:
        return
    columns = ["kills", "landed", "in load", "in infer", "in publish", "resumed", "lost", "doubled", "mixed"]
    lines = ["| warehouse | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    total = {column: sum(counts.get(column, 0) for _, counts in told) for column in columns}
    for name, counts in (*told, ("total", total)):
        lines.append(f"| {name} | " + " | ".join(str(counts.get(column, 0)) for column in columns) + " |")
    terminalreporter.section("killed at random moments")
    terminalreporter.write_line("\n".join(lines))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the tests' own scripts and parts out of the search for doctests."""
    is_part = collection_path.suffix == ".py" and not collection_path.name.startswith(("test_", "conftest"))
    return True if is_part and REPOSITORY / "tests" in collection_path.parents else None
