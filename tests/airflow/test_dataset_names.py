"""What sources and tables are called in lineage, held against OpenLineage's own naming helpers."""

import pytest
from openlineage.client.naming import dataset as spec

from windrow.airflow.datasets import file_dataset, query_columns, source_datasets, table_dataset
from windrow.job import Job

LOGIN = "ann:s3cret@"


def named(naming):
    return naming.get_namespace(), naming.get_name()


@pytest.mark.parametrize(
    ("url", "table", "expected"),
    [
        (
            f"postgresql://{LOGIN}db/shop?sslmode=require",
            "sales.reviews",
            spec.Postgres("db", "5432", "shop", "sales", "reviews"),
        ),
        ("postgresql://db:6543/shop", "reviews", spec.Postgres("db", "6543", "shop", "public", "reviews")),
        ("delta+s3://bucket/lake?key=s3cret", "sales.reviews", spec.S3("bucket", "lake/sales/reviews")),
        ("parquet+gs://bucket/lake", "reviews", spec.GCS("bucket", "lake/reviews")),
        ("delta:////data/lake", "reviews", spec.LocalFileSystem("/data/lake/reviews")),
        ("bigquery://project/sales", "reviews", spec.BigQuery("project", "sales", "reviews")),
        (
            f"snowflake://{LOGIN}org-account/shop",
            "sales.reviews",
            spec.Snowflake("org", "account", "shop", "sales", "reviews"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_tables_are_named_as_the_specification_says(url, table, expected):
    assert table_dataset(url, table) == named(expected)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("duckdb:////data/w.duckdb", ("duckdb:///data/w.duckdb", "w.main.reviews")),
        ("md:shop?motherduck_token=s3cret", ("duckdb://md:", "shop.main.reviews")),
        (f"ducklake+postgresql://{LOGIN}db/lake?data=/x", ("ducklake+postgresql://db/lake", "reviews")),
        ("iceberg+rest://catalog:8181/v1?token=s3cret", ("iceberg+rest://catalog:8181/v1", "reviews")),
    ],
)
def test_what_the_specification_does_not_know_is_named_without_secrets(url, expected):
    assert table_dataset(url, "reviews") == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/reviews.csv", spec.LocalFileSystem("/data/reviews.csv")),
        ("/data/reviews/{partition}.parquet", spec.LocalFileSystem("/data/reviews")),
        ("s3://bucket/reviews/{partition}/*.parquet", spec.S3("bucket", "reviews")),
        ("gs://bucket/reviews/part-*.csv", spec.GCS("bucket", "reviews")),
        ("abfss://box@account.dfs.core.windows.net/reviews/*.csv", spec.ABFSS("box", "account", "reviews")),
    ],
)
def test_files_that_differ_by_partition_are_one_dataset(path, expected):
    assert file_dataset(path) == named(expected)


def job(**source):
    place = {"table": "reviews", "url": "duckdb:///w.duckdb"}
    return Job(name="x", source={"text": "body", "key": "id", **source}, task="sentiment", model="m", warehouse=place)


def test_a_dataset_of_the_hub_is_named_without_its_revision():
    assert source_datasets(job(hub="ann/reviews@abc")) == [("hf://datasets", "ann/reviews")]


def test_the_tables_and_columns_of_a_query_are_found():
    query = "SELECT t.id, t.text AS body FROM support.tickets t JOIN teams USING (id) WHERE day = '{partition}'"
    read = job(query=query, url=f"postgresql://{LOGIN}db/shop")
    tickets = ("postgres://db:5432", "shop.support.tickets")
    assert set(source_datasets(read)) == {tickets, ("postgres://db:5432", "shop.public.teams")}
    assert query_columns(read)["body"] == [(tickets, "text")]


def test_a_query_that_cannot_be_read_names_nothing():
    assert source_datasets(job(query="SELEC 1", url="postgresql://db/shop")) == []
