"""docs/first-dag.md, played from top to bottom: its files are written, its commands run, its Dag runs in Airflow.

`dag.test()` stands in for ``airflow standalone``, and runs the Dag wherever the page triggers it. Airflow gets ready
while the first half of the page is played.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import duckdb
import pytest

from docs.pages import REPOSITORY
from windrow.cli import app

PAGE = REPOSITORY / "docs/first-dag.md"
BLOCK = re.compile(r"(?:Write `([^`]+)`[^\n]*\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLED = ("python3 -m venv", "source ", "pip install")
AIRFLOW = """
import json, os, sys
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import airflow.sdk.execution_time.supervisor, peft, transformers.models.bert.modeling_bert
from windrow.airflow.compat import read_dags
for line in sys.stdin:
    run = read_dags("dags").dags["my_reviews"].test()
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    print(json.dumps(states), file=told, flush=True)
"""


@dataclass
class Reader:
    """Somebody who does what the page says, in a home of his own."""

    home: Path
    environment: dict[str, str]
    printed: str = ""
    promised: str = ""
    """Blocks without a language: what the page says that is printed."""
    runs: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make Airflow's metadata, and let another process import what its tasks will need."""
        self.folder.mkdir()
        self.write("airflow.cfg", "")  # two programs that start together would write two
        with self.log.open("w") as log:
            migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
            self.migration = subprocess.Popen(migrate, env=self.environment, stdout=log, stderr=log)
            play = [sys.executable, "-c", AIRFLOW]
            self.airflow = subprocess.Popen(
                play, env=self.environment, cwd=self.folder, stdin=-1, stdout=-1, stderr=log, text=True
            )

    @property
    def folder(self) -> Path:
        return self.home / "airflow"

    @property
    def log(self) -> Path:
        return self.home / "airflow.log"

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def follow(self, name: str, language: str, text: str) -> None:
        """Do what a block says: write its file, run its lines, or remember what should be printed."""
        if name:
            self.write(name, text)
        elif language == "bash":
            for line in text.splitlines():
                self.do(line)
        else:
            assert not language, f"nothing says where the {language} block goes"
            self.promised += text

    def do(self, line: str) -> None:
        """Run a line of shell; one that nobody here knows how to run is an error."""
        known: dict[str, Callable[[list[str]], None]] = {
            "mkdir": lambda words: Path(words[-1]).expanduser().mkdir(parents=True, exist_ok=True),
            "cd": lambda words: os.chdir(Path(words[-1]).expanduser()),
            "python": self.run_python,
            "windrow": self.run_windrow,
            "export": lambda words: self.environment.update([words[-1].split("=")]),
            "airflow": self.run_airflow,
        }
        words = shlex.split(line, comments=True)
        if not line.startswith(INSTALLED):
            known[words[0]](words[1:])

    def run_python(self, words: list[str]) -> None:
        command = [sys.executable, *words]
        self.printed += subprocess.run(command, env=self.environment, check=True, stdout=-1, text=True).stdout

    def run_windrow(self, words: list[str]) -> None:
        with redirect_stdout(StringIO()) as out, redirect_stderr(out):
            assert not app(words, standalone_mode=False)
        self.printed += out.getvalue()

    def run_airflow(self, words: list[str]) -> None:
        if words == ["standalone"]:
            assert self.migration.wait() == 0, self.log.read_text()
        elif words[:2] == ["dags", "trigger"]:
            self.airflow.stdin.write("go\n")
            self.airflow.stdin.flush()
            self.runs.append(json.loads(self.airflow.stdout.readline() or "{}"))
        else:
            assert words == ["dags", "unpause", "my_reviews"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    home = tmp_path_factory.mktemp("reader")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(home)
        patch.setenv("HOME", str(home))
        for name in [name for name in os.environ if name.startswith(("WINDROW", "AIRFLOW"))]:
            patch.delenv(name)
        reader = Reader(home, {**os.environ, "PYTHONPATH": str(REPOSITORY / "operators")})
        with reader.migration, reader.airflow:
            for name, language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
                reader.follow(name, language, text)
            reader.airflow.stdin.close()
        yield reader


@pytest.mark.airflow
def test_the_commands_print_what_the_page_says(reader):
    told = reader.printed + reader.log.read_text()
    shown = re.sub(r"\s+", " ", told.replace("\\n", "\n"))
    parts = [part.strip() for line in reader.promised.splitlines() for part in line.split("…")]
    assert len(parts) > 5
    assert [part for part in parts if re.sub(r"\s+", " ", part) not in shown] == []


@pytest.mark.airflow
def test_the_first_run_succeeds_and_scores_nothing_twice_and_the_broken_one_fails_at_publish(reader):
    first, broken = reader.runs
    assert set(first.values()) == {"success", "skipped"}, reader.log.read_text()[-4000:]
    assert first["my_reviews.infer"] == "skipped"
    assert {task for task, state in broken.items() if state == "failed"} == {"my_reviews.publish"}


@pytest.mark.airflow
def test_what_the_gate_refused_left_the_table_as_it_was(reader):
    with duckdb.connect(reader.home / ".windrow/warehouse.duckdb", read_only=True) as con:
        rows = con.execute("SELECT count(*), count(DISTINCT id), count(DISTINCT label) FROM my.reviews").fetchall()
        ledger = con.execute("SELECT rows_in, texts_scored FROM my.windrow_runs ORDER BY run_id").fetchall()
    assert rows == [(200, 200, 2)]
    assert ledger == [(200, 200), (200, 0)]
