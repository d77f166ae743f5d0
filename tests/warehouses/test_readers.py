"""An analyst reads in a loop while partitions are published: old or new, never a part, and no unexplained error."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from warehouses.places import BROKEN
from warehouses.reader import READERS
from warehouses.test_contract import publish

RUNS, ROWS = 4, 300
DOCUMENTED = {
    "duckdb": ["Could not set lock on file"],
    "ducklake": ["Could not set lock on file"],
    "parquet": ["No such file or directory", "No files found"],
}
"""What an analyst may be told meanwhile; the docs have the words and say what to do."""


@pytest.mark.parametrize("kind", list(BROKEN))
def test_an_analyst_who_reads_in_a_loop_sees_the_old_rows_or_the_new(kind, tmp_path):
    place = BROKEN[kind](tmp_path)

    def written(number):
        rows = {"id": [str(n) for n in range(ROWS + number)], "label": [f"run-{number}"] * (ROWS + number)}
        publish(place, rows, run_id=f"run-{number}", rejected=["r"])

    written(0)
    paths = os.pathsep.join([str(REPOSITORY / "operators"), str(REPOSITORY / "tests")])
    command = [sys.executable, "-m", "warehouses.reader", kind, place.url]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as analyst:
        assert analyst.stdout.readline() == "reads\n"
        for number in range(1, RUNS + 1):
            written(number)
        found = json.loads(analyst.communicate(timeout=60)[0])
    states = [(rows, *{*runs}) for rows, *runs, _ in found["seen"]]
    assert {(ROWS, "run-0"), (ROWS + RUNS, f"run-{RUNS}")} <= set(states)
    assert set(states) <= {(ROWS + number, f"run-{number}") for number in range(RUNS + 1)}
    unexplained = [text for text in found["told"] if not any(word in text for word in DOCUMENTED.get(kind, []))]
    assert unexplained == []


def test_what_an_analyst_may_be_told_is_in_the_docs():
    assert set(READERS) == set(BROKEN)
    for kind, words in DOCUMENTED.items():
        pages = [REPOSITORY / "docs/query.md", REPOSITORY / f"docs/warehouses/{kind}.md"]
        text = "".join(page.read_text(encoding="utf-8") for page in pages if page.exists())
        assert all(re.search(re.escape(word), text) for word in words)
