"""The house itself: its layout, what a wheel holds, and rules that no linter knows."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from windrow.sources.files import SAMPLES

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "operators/windrow"
ROOMS = ("sources", "models", "tasks", "engines", "warehouses", "quality", "airflow", "samples")
MODULES = ("job", "load", "infer", "publish", "store", "receipt", "schema", "errors", "cli", "testing")
DAG_LINES = 16

EXPORTS = """
import pkgutil, sys
from importlib import import_module

import windrow

wrong = []
for module in pkgutil.walk_packages(windrow.__path__, "windrow."):
    found = import_module(module.name)
    names = getattr(found, "__all__", [])
    wrong += [f"{module.name}.{name} does not exist" for name in names if not hasattr(found, name)]
    wrong += [f"{module.name}.{name} is private" for name in names if name[0] == "_" and name != "__version__"]
    wrong += [f"{module.name}.{name} is exported twice" for name in set(names) if list(names).count(name) > 1]
sys.exit("\\n".join(wrong) or 0)
"""


def tracked() -> list[Path]:
    """Return the files of the repository, new ones included, ignored ones left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git repository")
    return [file for name in listed.stdout.splitlines() if (file := REPOSITORY / name).is_file()]


def python_files() -> list[Path]:
    return [file for file in tracked() if file.suffix == ".py"]


@pytest.mark.parametrize("folder", ["dags", "benchmarks", "docker", "docs", "tests", "operators/windrow"])
def test_the_rooms_of_the_house_are_there(folder):
    assert any((REPOSITORY / folder).iterdir())


def test_the_package_has_its_rooms_and_modules():
    assert [room for room in ROOMS if not (PACKAGE / room / "__init__.py").exists()] == []
    assert [module for module in MODULES if not any(PACKAGE.glob(f"{module}*"))] == []
    assert (PACKAGE / "py.typed").exists()


def test_operators_is_a_source_root_and_no_package():
    assert not (REPOSITORY / "operators/__init__.py").exists()
    wrong = re.compile(r"^\s*(?:from|import) operators\b", re.MULTILINE)
    assert [file for file in python_files() if wrong.search(file.read_text(encoding="utf-8"))] == []


def test_nothing_but_its_own_room_and_two_commands_imports_airflow():
    wrong = re.compile(r"^\s*(?:from|import) (?:airflow|windrow\.airflow)\b", re.MULTILINE)
    told = {PACKAGE / name for name in ("airflow", "demo.py", "preflight.py")}
    core = [file for file in PACKAGE.rglob("*.py") if not told & {file, *file.parents}]
    assert [file.name for file in core if wrong.search(file.read_text(encoding="utf-8"))] == []


def test_every_module_exports_names_that_exist_and_are_public(tmp_path):
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run([sys.executable, "-c", EXPORTS], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    place = re.compile(rb"(?<![\w.~/-])/(?:work|root)(?![\w-])")
    texts = [file for file in tracked() if file.suffix not in {".parquet", ".safetensors", ".png"}]
    assert [str(file.relative_to(REPOSITORY)) for file in texts if place.search(file.read_bytes())] == []


@pytest.mark.parametrize("dag", sorted((REPOSITORY / "dags").glob("*.py")), ids=lambda file: file.name)
def test_a_dag_file_is_a_dozen_lines_a_job(dag):
    module = ast.parse(dag.read_text(encoding="utf-8"))
    body = [part for part in module.body if not isinstance(part, ast.Import | ast.ImportFrom | ast.Expr)]
    lines = sum((part.end_lineno or 0) - part.lineno + 1 for part in body)
    jobs = sum(getattr(node, "id", "") == "batch_inference" for node in ast.walk(module))
    assert 0 < lines <= DAG_LINES * jobs


def test_the_hooks_use_the_pinned_ruff():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    revisions = {repo["repo"].rpartition("/")[2]: repo.get("rev") for repo in hooks["repos"]}
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    assert f"ruff=={revisions['ruff-pre-commit'].removeprefix('v')}\n" in constraints


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a wheel built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl"))).namelist()


def test_a_wheel_holds_samples_adapter_page_types_and_notices(wheel):
    days = [f"windrow/samples/{name}/day-{day}.parquet" for name in SAMPLES for day in range(7)]
    adapter = [f"windrow/models/minilm_sentiment/adapter_{name}" for name in ("model.safetensors", "config.json")]
    others = ["windrow/py.typed", "windrow/samples/SOURCES.md", "windrow/cli.py", "windrow/dags/review_sentiment.py"]
    page = [f"windrow/airflow/page/{name}" for name in ("templates/run.html", "static/page.css", "static/uplot.js")]
    assert [name for name in [*days, *adapter, *others, *page] if name not in wheel] == []
    licences = {name.rpartition("/")[2] for name in wheel if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_a_wheel_holds_nothing_else(wheel):
    assert {name.split("/")[0] for name in wheel} - {"windrow"} == {
        name.split("/")[0] for name in wheel if ".dist-info" in name
    }
    assert [name for name in wheel if "__pycache__" in name or ".mypy_cache" in name] == []


def test_every_sample_is_the_file_that_its_sources_list():
    folder = PACKAGE / "samples"
    page = (folder / "SOURCES.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\w+/day-\d\.parquet) \| \d+ \| (\d+) \| (\w{64}) \|$", page, re.MULTILINE)
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.parquet")}
    assert {name: (int(size), digest) for name, size, digest in listed} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in found.items()
    }
    assert sum(map(len, found.values())) < 2 << 20
