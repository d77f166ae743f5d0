"""What an author of Dags writes, and what is said about mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What `authoring.py` wrote down."""
    home = tmp_path_factory.mktemp("authoring")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_ABSOLUTE": "duckdb:////data/w.duckdb",
        "AIRFLOW_CONN_RELATIVE": "duckdb:///data/w.duckdb",
        "AIRFLOW_CONN_HOSTED": json.dumps({"conn_type": "duckdb", "host": "/data/w.duckdb"}),
        "AIRFLOW_CONN_SHOP": "postgres://ann:pa%40ss@db:5432/shop",
        "PYTHONPATH": str(HERE.parents[1] / "operators"),
    }
    command = [sys.executable, str(HERE / "authoring.py"), str(home / "seen.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads((home / "seen.json").read_text())


def test_all_public_names_can_be_imported(seen):
    assert "batch_inference" in seen["exported"]
    assert len(seen["exported"]) == 6


def test_load_infer_and_publish_follow_each_other(seen):
    assert seen["edges"]["reviews.load"] == ["reviews.infer", "reviews.publish"]
    assert seen["edges"]["reviews.infer"] == ["reviews.publish"]
    assert seen["rule"] == "none_failed_min_one_success"


def test_the_groups_id_names_the_job(seen):
    assert seen["name"] == "reviews"


def test_queue_pool_and_executor_config_are_those_of_infer_alone(seen):
    assert seen["infer"] == {"queue": "gpu", "pool": "gpus", "executor_config": {"pod": "big"}}
    assert seen["others"] == [["default", "default_pool", {}]] * 2


def test_a_misspelt_field_is_named_with_the_nearest(seen):
    assert "batch_inference knows no 'modle'; did you mean 'model'?" in seen["typo"]


def test_a_job_and_fields_together_are_refused(seen):
    assert "Both `job` and 'limits' are given." in seen["both"]


def test_a_job_file_that_is_not_there_is_named(seen):
    assert "nowhere.yaml" in seen["no_file"]


def test_a_number_of_lanes_must_be_one(seen):
    assert "lanes is 'none'." in seen["lanes"]


def test_a_connection_that_is_not_there_is_named(seen):
    assert "Airflow knows no connection 'nowhere'." in seen["no_connection"]


def test_assets_have_stable_names_without_secrets(seen):
    assert seen["assets"] == [
        "windrow://postgresql/db:5432/shop/sales.reviews",
        "windrow://duckdb/${WINDROW_HOME}/w.duckdb/reviews",
        "windrow://connection/warehouse/reviews",
    ]


def test_connections_become_urls(seen):
    assert seen["urls"] == {
        "absolute": "duckdb:////data/w.duckdb",
        "relative": "duckdb:///data/w.duckdb",
        "hosted": "duckdb:////data/w.duckdb",
        "shop": "postgresql://ann:pa%40ss@db:5432/shop",
    }
