"""Disks that are full under each warehouse and under the store: told, nothing half done; with space the run is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from faults.small_disk import IN_STORE, IN_WAREHOUSE, UNABLE
from faults.test_points import is_named
from warehouses.places import BROKEN

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("kind", [*BROKEN, "store"])
def test_a_full_disk_is_told_and_with_more_space_the_run_is_as_an_unbroken_one(home, tmp_path, tiny_classifier, kind):
    if kind == "postgresql" and os.geteuid() != 0:
        pytest.skip("a server on a small disk needs root")
    command = ["unshare", "-m" if os.geteuid() == 0 else "-rm", sys.executable, "-m", "faults.small_disk"]
    paths = os.pathsep.join([str(REPOSITORY / "operators"), str(REPOSITORY / "tests")])
    environment = {**os.environ, "WINDROW_HOME": str(home), "PYTHONPATH": paths}
    result = subprocess.run(
        [*command, kind, str(tmp_path), str(tiny_classifier)],
        capture_output=True, text=True, env=environment, timeout=280, check=False,
    )  # fmt: skip
    if result.returncode == UNABLE or "unshare failed" in result.stderr:
        pytest.skip("no file system can be mounted here")
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["point"] for each in found] == (IN_STORE if kind == "store" else IN_WAREHOUSE)
    failed = [each for each in found if each["ended"] == "failed"]
    assert len(failed) >= len(found) // 2, found
    for each in found:
        commits_one_by_one = kind != "store" and is_named(kind, "publish.claimed")
        is_fine = each["parts are old or new"] if commits_one_by_one or each["ended"] == "done" else each["all is old"]
        assert (is_fine or each["point"] == "publish.committed", each["whole"]) == (True, True), each
    for each in failed:
        assert each["retryable"], each
        assert "space" in each["told"].rpartition("Fix:")[2], each
