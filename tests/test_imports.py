"""The core knows nothing of Airflow; a Dag file is parsed without a model's libraries. Each in a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "operators" / "windrow"
HEAVY = {"torch", "transformers", "datasets", "peft", "duckdb", "pyarrow"}


def loaded_after(code: str, tmp_path: Path) -> set[str]:
    """Run `code` in a fresh Python; return the top-level modules it has imported."""
    script = f"{code}\nimport sys\nprint('LOADED', *{{name.partition('.')[0] for name in sys.modules}})"
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY / "operators")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def core_modules() -> list[str]:
    files = sorted(file.relative_to(PACKAGE.parent) for file in PACKAGE.rglob("*.py"))
    files = [file for file in files if file.parts[1] not in {"airflow", "dags"} and file.name != "__main__.py"]
    return [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]


def test_the_core_never_imports_airflow(tmp_path):
    modules = core_modules()
    assert {"windrow", "windrow.load", "windrow.publish", "windrow.cli", "windrow.demo"} <= set(modules)
    loaded = loaded_after("\n".join(f"import {name}" for name in modules), tmp_path)
    assert "windrow" in loaded
    assert "airflow" not in loaded


def test_import_windrow_is_light(tmp_path):
    assert not HEAVY & loaded_after("import windrow, windrow.airflow", tmp_path)


@pytest.mark.airflow
@pytest.mark.parametrize("file", sorted((REPOSITORY / "dags").glob("*.py")), ids=lambda file: file.stem)
def test_a_dag_file_is_parsed_without_a_models_libraries(file, tmp_path):
    loaded = loaded_after(f"import runpy\nrunpy.run_path({str(file)!r})", tmp_path)
    assert "airflow" in loaded
    assert not HEAVY & loaded


@pytest.mark.airflow
def test_airflow_learns_of_windrow_without_a_models_libraries(tmp_path):
    code = "import windrow.airflow.plugin, windrow.airflow.provider, windrow.airflow.group, windrow.airflow.hooks"
    assert not HEAVY & loaded_after(code, tmp_path)
