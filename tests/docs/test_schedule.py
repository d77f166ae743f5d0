"""docs/schedule.md and README in a real Airflow: Dags parse, and its commands have these options."""

import os
import subprocess
import sys

import pytest

from docs.pages import REPOSITORY, blocks

CHECK = """
import shlex, sys
from pathlib import Path
from airflow.cli.cli_parser import get_parser
from airflow.dag_processing.dagbag import DagBag

folder = Path(sys.argv[1])
bag = DagBag(dag_folder=str(folder))
assert not bag.import_errors, bag.import_errors
print("dags:", *sorted(bag.dag_ids))
for line in (folder / "commands.txt").read_text().splitlines():
    get_parser().parse_args(shlex.split(line)[1:])
"""


@pytest.mark.airflow
def test_every_dag_parses_and_every_airflow_command_has_its_options(tmp_path):
    dags = [block for block in blocks("python") if "airflow" in block.text]
    for number, block in enumerate(dags):
        (tmp_path / f"page_{number}.py").write_text(block.text, encoding="utf-8")
    (tmp_path / "jobs").mkdir()
    scheduled = [block for block in blocks("yaml") if "\ndag:" in block.text]
    for block in blocks("yaml"):
        folder = tmp_path / "jobs" if block in scheduled else tmp_path
        (folder / f"{block.text.split()[1]}.yaml").write_text(block.text, encoding="utf-8")
    lines = [line for block in blocks("bash") for line in block.text.splitlines() if line.startswith("airflow ")]
    (tmp_path / "commands.txt").write_text("\n".join(lines), encoding="utf-8")
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run([sys.executable, "-c", CHECK, str(tmp_path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = sum(block.text.count("@dag(") for block in dags) + len(scheduled)
    assert len(done.stdout.split("dags:")[1].split()) == expected > 0


def test_a_dag_stands_on_the_first_page():
    assert any("batch_inference" in block.text for block in blocks("python", [REPOSITORY / "README.md"]))
