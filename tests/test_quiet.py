"""A run speaks to the sources, stores, hubs and warehouses that its job names, to nobody else, and forks nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from conftest import REPOSITORY

WATCHED = """
import sys

def told(event, values):
    if event in {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec",
                 "socket.connect", "socket.getaddrinfo"}:
        print("overheard:", event, values, file=sys.stderr)

sys.addaudithook(told)
from windrow.cli import main
main()
"""


@pytest.fixture
def overheard(tmp_path, tiny_classifier):
    """Run a job of one engine in a process of its own; return its receipt, what was overheard, and its new files."""

    def run(path):
        person = tmp_path / "person"
        person.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, "run", str(path), "--json"],
            env={
                "HOME": str(person),
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(REPOSITORY / "operators"),
                "WINDROW_HOME": str(tmp_path / "home"),
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = [line for line in done.stderr.splitlines() if line.startswith("overheard:")]
        return json.loads(done.stdout), told, sorted(str(file.relative_to(person)) for file in person.rglob("*"))

    return run


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnxruntime"])
def test_a_run_calls_nobody_and_forks_nothing(write_job, overheard, engine):
    receipt, told, files = overheard(write_job("job.yaml", engine=engine))
    assert receipt["engine"] == engine
    assert told == []
    assert not [file for file in files if file.startswith("intel")]


def test_openvino_that_was_imported_before_is_silenced():
    code = """
import openvino, sys
from windrow.engines.openvino_export import import_openvino
assert import_openvino() is openvino
tools = [module for name, module in sys.modules.items() if name.startswith("openvino.") and hasattr(module, "tm")]
print({module.tm.__name__ for module in tools})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "{'openvino.tools.ovc.telemetry_stub'}"
