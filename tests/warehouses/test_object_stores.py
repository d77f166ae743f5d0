"""Warehouses, stores and sources that lie in a bucket or in a service, each against a stand-in of it.

S3 and Glue are those of moto, over HTTP, so that the real clients speak to it: s3fs, delta-rs, Arrow, boto3. MotherDuck
is a local file in its place: what is tried is Windrow's part of it.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import boto3
import duckdb
import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from aws_server import shared
from warehouses.places import DuckLakePlace, iceberg_rows
from warehouses.test_contract import held, ids, publish
from windrow import Job, run
from windrow.errors import FencedError, JobError
from windrow.warehouses import motherduck, open_url
from windrow.warehouses.base import TableName
from windrow.warehouses.lake_table import Conflict

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "me",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_REGION": "eu-west-1",
    "AWS_ALLOW_HTTP": "true",
}


@pytest.fixture
def cloud(monkeypatch):
    """The address of an empty AWS, and the environment that leads there."""
    server = shared()
    server.clear()
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": server.endpoint}.items():
        monkeypatch.setenv(name, value)
    return server.endpoint


@pytest.fixture
def bucket(cloud):
    """An empty bucket."""
    place = {"LocationConstraint": ENVIRONMENT["AWS_REGION"]}
    boto3.client("s3", endpoint_url=cloud).create_bucket(Bucket="windrow", CreateBucketConfiguration=place)
    fsspec.filesystem("s3").clear_instance_cache()
    return "windrow"


@dataclass
class Files:
    """Parquet files wherever fsspec reaches."""

    root: str

    @property
    def url(self):
        return f"parquet+{self.root}"

    def rows(self, table):
        files, folder = fsspec.core.url_to_fs(f"{self.root}/analytics/{table}")
        files.invalidate_cache()
        if not files.exists(f"{folder}/_current.json"):
            return pa.table({})
        named = json.loads(files.cat_file(f"{folder}/_current.json"))["files"]
        read = [parquet.read_table(files.open(f"{folder}/{file['path']}"), partitioning=None) for file in named]
        return pa.concat_tables(read) if read else pa.table({})


@dataclass
class Delta:
    root: str

    @property
    def url(self):
        return f"delta+{self.root}"

    def rows(self, table):
        from deltalake import DeltaTable

        place = f"{self.root}/analytics/{table}"
        return pa.table(DeltaTable(place).scan()) if DeltaTable.is_deltatable(place) else pa.table({})


@dataclass
class Glue:
    root: str
    endpoint: str

    @property
    def url(self):
        return f"iceberg+glue://?warehouse={self.root}&glue.endpoint={self.endpoint}&s3.endpoint={self.endpoint}"

    def rows(self, table):
        given = {"glue.endpoint": self.endpoint, "s3.endpoint": self.endpoint}
        return iceberg_rows(table, type="glue", **given)


class DuckLake(DuckLakePlace):
    """A lake with its catalog in a file and its data in a bucket."""

    def __init__(self, folder: Path, root: str) -> None:
        super().__init__(folder)
        self.url = f"ducklake:///{folder / 'catalog.ducklake'}?data={root}/"


@pytest.fixture(params=["parquet+s3", "delta+s3", "iceberg+glue", "parquet+memory"])
def place(request):
    if request.param == "parquet+memory":
        return Files(f"memory://{uuid.uuid4().hex}")
    root = f"s3://{request.getfixturevalue('bucket')}/lake"
    if request.param == "iceberg+glue":
        return Glue(root, request.getfixturevalue("cloud"))
    return (Files if request.param == "parquet+s3" else Delta)(root)


def test_a_partition_is_replaced_whole_in_a_bucket(place):
    publish(place, {"id": ["a", "b"], "label": ["x", "x"]}, "p1", "run-1", rejected=["r1"])
    publish(place, {"id": ["c"], "label": ["x"]}, "p2", "run-2", rejected=["r2"])
    publish(place, {"id": ["b", "d"], "label": ["y", "y"]}, "p1", "run-3", rejected=["r3"])
    assert held(place) == {"b": ("y", "p1"), "c": ("x", "p2"), "d": ("y", "p1")}
    assert ids(place, "reviews__rejects") == ["r2", "r3"]
    with open_url(place.url, TableName.parse("analytics.reviews"), writes=False) as warehouse:
        assert sorted(warehouse.read("table", {"windrow_partition": ["p1"]})["id"].to_pylist()) == ["b", "d"]
        assert sorted(warehouse.read("ledger", {})["run_id"].to_pylist()) == ["run-1", "run-2", "run-3"]
    with pytest.raises(FencedError):
        publish(place, {"id": ["z"], "label": ["z"]}, "p1", "run-2")


def test_a_partition_of_a_ducklake_is_replaced_whole_in_a_bucket(bucket, tmp_path):
    pytest.importorskip("duckdb_extension_httpfs")
    place = DuckLake(tmp_path, f"s3://{bucket}/lake")
    many = [f"k{number}" for number in range(500)]  # few rows stay in the catalog
    publish(place, {"id": many, "label": ["x"] * 500}, "p1", "run-1", rejected=["r1"])
    place.url = place.url.partition("?")[0]  # the lake knows where its data are
    publish(place, {"id": ["c"], "label": ["x"]}, "p2", "run-2", rejected=["r2"])
    publish(place, {"id": many[1:], "label": ["y"] * 499}, "p1", "run-3", rejected=["r3"])
    assert held(place) == {"c": ("x", "p2")} | dict.fromkeys(many[1:], ("y", "p1"))
    assert ids(place, "reviews__rejects") == ["r2", "r3"]
    assert len(fsspec.filesystem("s3").glob(f"{bucket}/lake/analytics/reviews/**/*.parquet")) >= 2
    with pytest.raises(FencedError):
        publish(place, {"id": ["z"], "label": ["z"]}, "p1", "run-2")


def test_a_commit_that_comes_second_is_decided_anew(place):
    publish(place, {"id": ["a"], "label": ["x"]}, "p1", "run-1")
    with open_url(place.url, TableName.parse("analytics.reviews")) as late:
        behind = late.tables["table"].head()
        publish(place, {"id": ["b"], "label": ["y"]}, "p2", "run-2")
        with pytest.raises(Conflict):
            late.tables["table"].commit(behind, [], [], behind.notes)
    assert held(place) == {"a": ("x", "p1"), "b": ("y", "p2")}


def test_source_store_and_target_of_a_job_may_be_one_bucket(cloud, bucket, home, job_fields, reviews, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", cloud)  # as docker/compose.yaml does
    monkeypatch.setenv("WINDROW_STORE", f"s3://{bucket}/store")
    files, place = fsspec.filesystem("s3"), Files(f"s3://{bucket}/lake")
    files.put_file(str(reviews), f"{bucket}/reviews/day.parquet")
    source = {"path": f"s3://{bucket}/reviews/*.parquet", "text": "body", "key": "review_id", "keep": ["stars"]}
    warehouse = {"url": place.url, "table": "analytics.reviews"}
    job = Job(**{**job_fields, "source": source, "warehouse": warehouse, "store": None})
    first, again = run(job, partition="2026-11-23"), run(job, partition="2026-11-23")
    assert (first.texts_scored, again.texts_scored, again.texts_reused) == (5, 0, 5)
    rows = place.rows("reviews")
    assert sorted(rows["review_id"].to_pylist()) == [f"r{number}" for number in range(5)]
    assert set(rows["windrow_run_id"].to_pylist()) == {again.run_id}
    assert files.find(f"{bucket}/store/predictions")
    assert not (home / "store").exists()


class Service:
    """A connection to MotherDuck: its databases are files in a folder, its token is ``s3cret``."""

    def __init__(self, folder: Path, config: dict[str, object]) -> None:
        self.con, self.folder, self.token = duckdb.connect(config=config), folder, ""
        self.con.execute("SET python_scan_all_frames = true")

    def execute(self, statement, *args):
        if statement.startswith("SET motherduck_token = "):
            self.token = statement.partition("= ")[2]
            return self.con
        if not statement.startswith("ATTACH 'md:"):
            return self.con.execute(statement, *args)
        if self.token != "'s3cret'":
            raise duckdb.InvalidInputException(f"Invalid Input Error: unauthorized, token {self.token} is not known")
        name = statement.removeprefix("ATTACH 'md:").removesuffix("'")
        return self.con.execute(f"ATTACH '{self.folder}/{name}.db' AS {name}")

    def __getattr__(self, name):
        return getattr(self.con, name)


class Local:
    """The module ``duckdb``, whose connections are those of the service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def connect(self, config):
        return Service(self.folder, config)

    def __getattr__(self, name):
        return getattr(duckdb, name)


@dataclass
class MotherDuck:
    folder: Path
    url: str = "md:shop?motherduck_token=s3cret"

    def rows(self, table):
        with duckdb.connect(str(self.folder / "shop.db"), read_only=True) as con:
            return con.execute(f"SELECT * FROM analytics.{table}").to_arrow_table()


@pytest.fixture
def mother(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(motherduck, "duckdb", Local(tmp_path))
    monkeypatch.setattr(motherduck, "load_extension", lambda _, name: loaded.append(name))
    yield MotherDuck(tmp_path)
    assert set(loaded) == {"motherduck"}


def test_a_partition_is_replaced_whole_in_motherduck(mother):
    publish(mother, {"id": ["a", "b"], "label": ["x", "x"]}, "p1", "run-1", rejected=["r1"])
    publish(mother, {"id": ["c"], "label": ["x"]}, "p2", "run-2", rejected=["r2"])
    publish(mother, {"id": ["b", "d"], "label": ["y", "y"]}, "p1", "run-3", rejected=["r3"])
    assert held(mother) == {"b": ("y", "p1"), "c": ("x", "p2"), "d": ("y", "p1")}
    assert ids(mother, "reviews__rejects") == ["r2", "r3"]
    assert sorted(mother.rows("windrow_runs")["run_id"].to_pylist()) == ["run-1", "run-2", "run-3"]
    with pytest.raises(FencedError):
        publish(mother, {"id": ["z"], "label": ["z"]}, "p1", "run-2")


def test_motherducks_token_comes_from_the_environment_and_is_not_shown(mother, monkeypatch):
    monkeypatch.setenv("MOTHERDUCK_TOKEN", "s3cret")
    mother.url = "md:shop"
    publish(mother, {"id": ["a"], "label": ["x"]})
    assert ids(mother) == ["a"]
    monkeypatch.setenv("MOTHERDUCK_TOKEN", "wr0ng")
    with pytest.raises(JobError, match="refuses") as refused:
        publish(mother, {"id": ["a"], "label": ["x"]}, run_id="run-2")
    assert "wr0ng" not in str(refused.value)
