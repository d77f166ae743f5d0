"""How much the page asks of the metadata database: a handful of queries, whatever the history."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).resolve().parents[2]
MOST_QUERIES = 14


@pytest.mark.skipif(not (REPOSITORY / "benchmarks").exists(), reason="the benchmarks are not here")
def test_the_number_of_queries_does_not_grow_with_the_history(tmp_path):
    command = [sys.executable, "-m", "benchmarks.page", "--runs", "120", "--lanes", "3", "--repeats", "1", "--json"]
    path = os.pathsep.join([str(REPOSITORY / "operators"), str(REPOSITORY)])
    done = subprocess.run(
        [*command, str(tmp_path / "found.json")],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    little, much = ({view: told["queries"] for view, told in found[size].items()} for size in ("little", "much"))
    assert little == much
    assert set(much) == {"jobs", "job", "task", "run", "lane", "live", "receipt"}
    assert max(much.values()) <= MOST_QUERIES
