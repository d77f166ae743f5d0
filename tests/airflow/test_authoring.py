"""What an author of Dags writes, and what is said about mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import windrow.airflow

HERE = Path(__file__).parent
pytestmark = pytest.mark.airflow
CONNECTIONS = {
    "typed": {"conn_type": "windrow_duckdb", "host": "/data/w.duckdb"},
    "generic": {"conn_type": "generic", "host": "/data/w.duckdb"},
    "mother": {"conn_type": "windrow_duckdb", "host": "md:shop", "password": "a&b"},
    "lake": {
        "conn_type": "windrow_lake",
        "host": "ducklake+postgresql://db/lake?data=s3://bucket/lake",
        "login": "ann",
        "password": "p@ss",
        "extra": {"sslmode": "require", "empty": ""},
    },
    "hooked": {"conn_type": "postgres", "host": "db", "extra": {"sslmode": "require", "cursor": "dictcursor"}},
    "windrow_models_default": {"conn_type": "windrow_models", "host": "https://hub.example.com", "password": "hf_x1"},
}
_PERSON = {"login": "ann", "password": "pa@ss"}
CLOUDS = {
    "clicks": {
        "conn_type": "clickhouse", "host": "ch", "port": 8443, "schema": "shop", **_PERSON, "extra": {"secure": True},
    },
    "shift": {
        "conn_type": "redshift", "host": "rs", "port": 5439, "schema": "shop", **_PERSON,
        "extra": {"stage": "s3://rows/stage", "iam": False},
    },
    "bricks": {
        "conn_type": "databricks", "host": "https://dbc", "password": "t/k", "schema": "shop",
        "extra": {"http_path": "/sql/1", "catalog": "main", "volume": "/Volumes/main/shop/rows"},
    },
}  # fmt: skip


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
        **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in CONNECTIONS.items()},
        "AIRFLOW_CONN_PLAIN": "delta+s3://bucket/lake/raw?region=eu",
        **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(told) for name, told in CLOUDS.items()},
        "AIRFLOW_CONN_SNOW": json.dumps(
            {
                "conn_type": "snowflake",
                "login": "ann",
                "password": "pa@ss",
                "schema": "mart",
                "extra": {"account": "org-acc", "database": "sales", "warehouse": "load", "role": "etl"},
            }
        ),
        "AIRFLOW_CONN_SNOW_KEY": json.dumps(
            {
                "conn_type": "snowflake",
                "login": "ann",
                "password": "phrase",
                "extra": {"account": "acc", "region": "eu", "database": "sales", "private_key_file": "/k.p8"},
            }
        ),
        "AIRFLOW_CONN_SNOW_BARE": json.dumps({"conn_type": "snowflake", "login": "ann"}),
        "AIRFLOW_CONN_GOOGLE": json.dumps(
            {"conn_type": "google_cloud_platform", "extra": {"project": "shop-1", "key_path": "/key.json"}}
        ),
        "AIRFLOW_CONN_GOOGLE_KEY": json.dumps(
            {"conn_type": "gcpbigquery", "extra": {"keyfile_dict": '{"project_id": "shop-2"}', "location": "EU"}}
        ),
        "PYTHONPATH": str(HERE.parents[1] / "operators"),
    }
    command = [sys.executable, str(HERE / "authoring.py"), str(home / "seen.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads((home / "seen.json").read_text())


def test_all_public_names_can_be_imported(seen):
    assert "batch_inference" in seen["exported"]
    assert seen["exported"] == windrow.airflow.__all__


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
        "clicks": "clickhouse://ann:pa%40ss@ch:8443/shop?secure=true",
        "shift": "redshift://ann:pa%40ss@rs:5439/shop?iam=false&stage=s3%3A%2F%2Frows%2Fstage",
        "bricks": "databricks://token:t%2Fk@dbc/"
        "?schema=shop&catalog=main&http_path=%2Fsql%2F1&volume=%2FVolumes%2Fmain%2Fshop%2Frows",
        "snow": "snowflake://ann:pa%40ss@org-acc/sales/mart?role=etl&warehouse=load",
        "snow_key": "snowflake://ann@acc.eu/sales?private_key_file=%2Fk.p8&private_key_file_pwd=phrase",
        "google": "bigquery://shop-1?credentials_file=%2Fkey.json",
        "google_key": "bigquery://shop-2?credentials_content=%7B%22project_id%22%3A%20%22shop-2%22%7D&location=EU",
    }
    assert "names no Snowflake account" in seen["bare"]


def test_every_type_of_connection_becomes_the_url_of_its_warehouse(seen):
    assert seen["types"] == {
        "typed": "duckdb:////data/w.duckdb",
        "generic": "duckdb:////data/w.duckdb",
        "mother": "md:shop?motherduck_token=a%26b",
        "lake": "ducklake+postgresql://ann:p%40ss@db/lake?data=s3://bucket/lake&sslmode=require",
        "plain": "delta+s3://bucket/lake/raw?region=eu",
        "hooked": "postgresql://db?sslmode=require",
    }


def test_the_default_connection_of_the_hub_is_used_without_its_token_being_shown(seen):
    assert seen["hub"] == "HubAccess(endpoint='https://hub.example.com', cache=None)"
    assert "Airflow knows no connection 'nowhere'." in seen["no_hub"]
