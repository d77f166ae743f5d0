"""What the images install: resolved everywhere, and with WINDROW_IMAGES=1 carried out on empty root file systems."""

import json
import os
import re
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from docker_files import IMAGES, stages
from docker_root import build

WHOLE = pytest.mark.skipif("WINDROW_IMAGES" not in os.environ, reason="takes ten minutes: make images")


def test_what_the_images_install_resolves_under_the_constraints():
    cpu, gpu = ([step.value for step in stages(image)[0] if step.value.startswith("pip install")] for image in IMAGES)
    assert cpu[0] == gpu[0] == "pip install -c constraints.txt torch==2.13.0"
    assert extras_of(gpu[1]) < extras_of(cpu[1])
    words = ["install", "-c", "constraints.txt", re.sub(r".*'(.+)'", r"\1", cpu[1])]
    options = ["--dry-run", "--quiet", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *words, *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def extras_of(install):
    return set(re.search(r"\.\[(.+)\]", install)[1].split(","))


@WHOLE
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("image", IMAGES)
def test_an_image_built_on_an_empty_root_file_system_runs_a_job_without_privileges(image, tmp_path):
    root = build(image, tmp_path)
    assert root.call("/entrypoint id -u") == "50000\n"
    assert "windrow/minilm-sentiment" in root.call("/entrypoint windrow models --json")
    assert root.call("/entrypoint airflow version").strip().endswith("3.3.2")
    assert "No module" not in root.call("python -c 'import s3fs, celery, psycopg, asyncpg, adbc_driver_postgresql'")
    dags = root.call(
        "airflow db migrate >/dev/null 2>&1 && airflow dags list-import-errors --output json 2>/dev/null",
        AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
    )
    assert "[]" in dags or "No data found" in dags
    job = "{name: tried, source: {path: 'windrow://reviews/{partition}.parquet', text: body, key: review_id}, "
    job += "task: sentiment, model: windrow/minilm-sentiment, "
    job += "warehouse: {url: 'duckdb:////opt/windrow/w.duckdb', table: t}}"
    root.inside("/opt/windrow/job.yaml").write_text(job)
    told = root.call("windrow run /opt/windrow/job.yaml --partition 2026-11-23 --limit 20 --json 2>/dev/null")
    receipt = json.loads(told)
    assert receipt["rows_published"] == 20
