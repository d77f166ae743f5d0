"""Which tests share a worker where pytest-xdist runs them side by side: those that share what is dear to make."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

__all__ = ["Scheduling", "group"]

REPOSITORY = Path(__file__).resolve().parents[1]
PARTED = ("tests/bad_input/", "tests/faults/", "tests/warehouses/")
"""Folders whose modules go through all warehouses, each with fixtures of its own."""
KINDS = "duckdb|ducklake|postgresql|iceberg|delta|parquet|snowflake|bigquery|clickhouse|redshift|databricks"
_KIND = re.compile(rf"\[(?:.*-)?({KINDS})(?=[-\]])")


def group(nodeid: str) -> str:
    """Name the tests that stay on one worker with this one, in their order.

    >>> group("tests/faults/test_random.py::test_runs[duckdb-2]"), group("tests/test_job.py::test_a_job")
    ('tests/faults/test_random.py[duckdb]', 'tests/test_job.py')
    """
    file, _, case = nodeid.partition("::")
    if file.startswith("operators/"):
        return "doctests"
    if file.startswith("tests/browser/"):
        return "browser"
    if file.startswith("tests/airflow/") and _is_over_played_runs(file):
        return "played"
    kind = _KIND.search(case) if file.startswith(PARTED) else None
    return f"{file}[{kind[1]}]" if kind else file


@functools.cache
def _is_over_played_runs(file: str) -> bool:
    return bool(re.search(r"\bdef \w+\(.*\bplayed\b", (REPOSITORY / file).read_text(encoding="utf-8")))


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker one group after the other, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
