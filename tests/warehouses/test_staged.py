"""What warehouses behind a stage do with connections, rights, names, files and others who write: over stand-ins."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import socket
import time
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from warehouses.places import STAND_INS
from warehouses.test_contract import REJECTS, TABLE, held, ids, new, publish
from windrow.errors import FencedError, JobError, SchemaError, WarehouseError
from windrow.job import redacted
from windrow.warehouses import open_url, staged_rows
from windrow.warehouses.base import TableName
from windrow.warehouses.bigquery_session import Address as BigQueryAddress
from windrow.warehouses.snowflake_session import Address as SnowflakeAddress
from windrow.warehouses.staged_rows import parquet_files, sent_type


@pytest.fixture(params=list(STAND_INS))
def place(request, tmp_path):
    return STAND_INS[request.param](tmp_path)


@pytest.fixture
def snowflake(tmp_path):
    return STAND_INS["snowflake"](tmp_path)


@pytest.fixture
def bigquery(tmp_path):
    return STAND_INS["bigquery"](tmp_path)


def opened(url, table=TABLE, **others):
    return open_url(url, TableName.parse(table), **others)


def planned(url, rows=None, table=TABLE):
    asked = new(rows or {"id": ["a"], "label": ["x"]})
    with opened(url, table) as warehouse:
        return warehouse.plan(asked.table, asked.rejects)


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_wrong_password_fails_at_once_and_is_not_shown(snowflake):
    with (
        pytest.raises(JobError, match="Incorrect username or password") as refused,
        opened(snowflake.at("fake:guess")),
    ):
        pass
    assert "guess" not in str(refused.value)


def test_a_project_that_one_may_not_use_is_a_mistake_in_the_job(bigquery):
    with pytest.raises(JobError, match="Access Denied"):
        planned(f"bigquery://denied/analytics?endpoint={bigquery.endpoint}")


def test_a_host_that_is_not_there_fails_in_seconds(snowflake, monkeypatch):
    began = time.monotonic()
    with (
        pytest.raises(WarehouseError, match="cannot be reached"),
        opened(snowflake.at(port=unused_port(), login_timeout=1)),
    ):
        pass
    monkeypatch.setattr("windrow.warehouses.bigquery_session._CONNECT_WAIT_S", 1.0)
    with (
        pytest.raises(WarehouseError, match="cannot be reached"),
        opened(f"bigquery://project/analytics?endpoint=http://127.0.0.1:{unused_port()}"),
    ):
        pass
    assert time.monotonic() - began < 60


def test_a_user_who_may_not_write_is_told_what_to_grant(snowflake):
    with (
        pytest.raises(JobError, match="Insufficient privileges") as refused,
        opened(snowflake.at("reader:snow")) as warehouse,
    ):
        warehouse.replace(new({"id": ["a"]}))
    assert "docs/warehouses/snowflake.md" in refused.value.fix


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("snowflake://ann:pw@account", "no account and database"),
        ("snowflake:///database", "no account and database"),
        ("snowflake://ann:p@w@account/database", "no account and database"),
        ("snowflake://ann:pw@account/database?warehuose=x", "did you mean 'warehouse'"),
        ("bigquery:///dataset", "names no project"),
        ("bigquery://project/dataset/table", "names no project"),
        ("bigquery://project/dataset?locaton=EU", "did you mean 'location'"),
        ("bigquery://project", "names no dataset"),
    ],
)
def test_a_url_that_cannot_be_read_says_how_it_is_written(url, words):
    with pytest.raises(JobError, match=words):
        opened(url, "reviews")


def test_a_url_gives_the_driver_what_it_asks_for():
    address = SnowflakeAddress.of("snowflake://ann:p%40ss@org-account/sales/mart?warehouse=wh&role=etl&port=44")
    assert (address.database, address.schema) == ("sales", "mart")
    assert address.options == {
        "account": "org-account", "user": "ann", "password": "p@ss", "warehouse": "wh", "role": "etl", "port": 44,
    }  # fmt: skip
    assert "p@ss" not in repr(address)


def test_a_private_key_comes_from_the_url(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    lock = serialization.BestAvailableEncryption(b"phrase")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    content = base64.urlsafe_b64encode(pem).decode().replace("-", "%2B").replace("_", "/")
    url = f"snowflake://ann@account/sales?private_key_content={content}&private_key_file_pwd=phrase"
    options = SnowflakeAddress.of(url).options
    assert serialization.load_der_private_key(options["private_key"], None).private_numbers() == key.private_numbers()
    assert "private_key_file_pwd" not in options
    assert redacted(url) == "snowflake://ann@account/sales?private_key_content=***&private_key_file_pwd=***"
    with pytest.raises(JobError, match="private key"):
        SnowflakeAddress.of(url.replace("phrase", "wrong"))


def test_a_key_file_that_is_missing_is_a_mistake_in_the_job(tmp_path):
    with pytest.raises(JobError, match="credentials cannot be read"):
        planned(f"bigquery://project/analytics?credentials_file={tmp_path}/key.json")


def test_the_content_of_a_key_is_nobodys_to_see():
    url = f"bigquery://project/d?credentials_content={base64.b64encode(b'{}').decode()}"
    assert redacted(url) == "bigquery://project/d?credentials_content=***"
    assert "e30=" not in repr(BigQueryAddress.of(url))


def test_a_view_in_the_tables_place_is_refused(place):
    publish(place, {"id": ["a"], "label": ["x"]})
    with opened(place.url) as warehouse:
        table = warehouse.relations()["table"].sql
        warehouse.run(
            f"CREATE VIEW {table.replace('REVIEWS', 'SEEN').replace('reviews', 'seen')} AS SELECT * FROM {table}"
        )
    with pytest.raises(SchemaError, match="is a view"):
        planned(place.url, table="analytics.seen")


def test_names_that_are_too_long_are_refused_before_anything_is_made(place):
    with pytest.raises(SchemaError, match=r"(?i)xxxx"):
        planned(place.url, {"id": ["a"], "x" * 400: ["y"]})
    with pytest.raises(SchemaError, match=r"(?i)xxxx"):
        planned(place.url, table=f"analytics.{'x' * 1100}")


@pytest.mark.parametrize("name", ["_partition_of", "_TABLE_x", "a.b"])
def test_names_that_bigquery_keeps_for_itself_are_refused(bigquery, name):
    with pytest.raises(SchemaError, match="cannot take the name"):
        planned(bigquery.url, {"id": ["a"], name: ["y"]})


def test_snowflake_finds_names_however_they_are_spelled(snowflake):
    publish(snowflake, {"id": ["a"], "Label": ["x"]}, "p1", "run-1")
    rows = {"ID": ["b"], "label": ["y"]}
    with opened(snowflake.url, "Analytics.Reviews") as warehouse:
        asked = dataclasses.replace(new(rows, "p2", "run-2"), keys=("ID",))
        rejects = pa.schema([pa.field("ID", pa.string()), *list(REJECTS)[1:]])
        assert warehouse.plan(asked.table, rejects) == []
        assert warehouse.read("table", {"Id": ["a"]}, ["LABEL"]).to_pydict() == {"LABEL": ["x"]}
    assert ids(snowflake) == ["a"]


def test_a_type_that_nothing_holds_is_refused_by_name(place):
    for kind in (pa.duration("s"), pa.decimal256(76, 0)):
        with pytest.raises(SchemaError, match="'span'"):
            planned(place.url, pa.table({"id": ["a"], "span": pa.nulls(1, kind)}))


def test_numbers_out_of_the_common_range_arrive_unchanged(place):
    large = pa.array([2**64 - 1, None], pa.uint64())
    wide = pa.array([Decimal("12345678901234567890123456789012345.123"), None], pa.decimal128(38, 3))
    publish(place, {"id": ["a", "b"], "large": large, "wide": wide})
    with opened(place.url, writes=False) as warehouse:
        found = warehouse.read("table", {"id": ["a"]}, ["large", "wide"]).to_pylist()
    assert found == [{"large": Decimal(2**64 - 1), "wide": wide[0].as_py()}]


def test_a_vector_is_an_array_in_bigquery_and_one_that_is_null_is_refused_by_name(bigquery):
    publish(bigquery, {"id": ["a"], "vector": pa.array([[0.5, -1.0]], pa.list_(pa.float32()))})
    assert bigquery.rows("reviews")["vector"].to_pylist() == [[0.5, -1.0]]
    for vector in ([None], [[None]]):
        with pytest.raises(SchemaError, match="'vector'"):
            publish(bigquery, {"id": ["b"], "vector": pa.array(vector, pa.list_(pa.float32()))}, "p2", "run-2")
    assert ids(bigquery) == ["a"]


def test_large_streams_go_up_in_several_files(place, monkeypatch):
    monkeypatch.setattr(staged_rows, "FILE_BYTES", 1)
    monkeypatch.setattr(staged_rows, "_ROWS", 2)
    rows = {"id": [str(number) for number in range(7)], "label": ["x"] * 7}
    publish(place, rows)
    assert ids(place) == rows["id"]


def test_nothing_staged_is_left_behind(place):
    publish(place, {"id": ["a"]}, rejected=["r"])
    with opened(place.url) as warehouse:
        warehouse.forget(pa.table({"id": ["a"]}))
    if hasattr(place, "names"):
        tables = place.names()
    elif hasattr(place, "project"):
        tables = place.server.con.cursor().execute("SELECT table_name FROM duckdb_tables()").fetchall()
    else:
        tables = place.server.rows("SELECT table_name FROM duckdb_tables()")["table_name"].to_pylist()
    assert not [name for name in tables if "windrow_stage" in str(name).lower()]


def test_a_run_that_was_overtaken_while_it_uploaded_changes_nothing(place):
    publish(place, {"id": ["a"], "label": ["first"]}, run_id="run-1")
    late = new({"id": ["a"], "label": ["late"]}, run_id="run-2")

    def rows():
        publish(place, {"id": ["a"], "label": ["later"]}, run_id="run-3")
        return late.rows()

    with opened(place.url) as warehouse, pytest.raises(FencedError, match="later run run-3"):
        warehouse.replace(dataclasses.replace(late, rows=rows))
    assert held(place) == {"a": ("later", "2026-11-23")}
    assert sorted(place.rows("windrow_runs")["run_id"].to_pylist()) == ["run-1", "run-3"]


def test_of_two_bigquery_scripts_at_once_the_second_begins_again(bigquery):
    publish(bigquery, {"id": ["a"], "label": ["x"]}, run_id="run-1")
    with opened(bigquery.url) as warehouse:
        runs, tries = warehouse.runs, []

        def slow(ledger, partition):
            found = runs(ledger, partition)
            if len(tries) == 1:  # between looking and writing, the earlier run comes first
                publish(bigquery, {"id": ["a"], "label": ["y"]}, run_id="run-2")
            tries.append(found)
            return found

        warehouse.runs = slow
        warehouse.replace(new({"id": ["a"], "label": ["z"]}, run_id="run-3"))
    assert len(tries) == 3, "looked before the upload, before the first try and before the second"
    assert held(bigquery) == {"a": ("z", "2026-11-23")}
    assert sorted(bigquery.rows("windrow_runs")["run_id"].to_pylist()) == ["run-1", "run-2", "run-3"]


def test_a_publisher_that_holds_the_ledger_keeps_the_other_out(snowflake):
    publish(snowflake, {"id": ["a"], "label": ["x"]}, run_id="run-1")
    with opened(snowflake.url) as first:
        ledger = first.ledger(first.relations())
        first._do("BEGIN TRANSACTION")
        for statement in ledger.claims("claim"):
            first._do(statement)
        first._do(f"DELETE FROM {ledger.sql} WHERE RUN_ID = 'run-1'")
        with opened(snowflake.url) as second, pytest.raises(WarehouseError, match="Another session holds the table"):
            second.replace(new({"id": ["a"], "label": ["y"]}, run_id="run-1"))
        first._do("ROLLBACK")
    assert held(snowflake) == {"a": ("x", "2026-11-23")}


def test_a_commit_whose_answer_is_lost_is_looked_up_in_the_ledger(snowflake):
    lost = snowflake.server.OperationalError(msg="250003: connection broken", errno=250003)
    with opened(snowflake.url) as warehouse:
        do = warehouse._do

        def broken(statement):
            count = do(statement)
            if statement == "COMMIT":
                raise lost
            return count

        warehouse._do = broken
        receipt = warehouse.replace(new({"id": ["a"], "label": ["x"]}))
    assert place_runs(snowflake) == [receipt.run_id]


def test_a_commit_that_never_arrived_is_an_error_that_may_be_tried_again(snowflake):
    lost = snowflake.server.OperationalError(msg="250003: connection broken", errno=250003)
    with opened(snowflake.url) as warehouse:
        do = warehouse._do

        def broken(statement):
            if statement == "COMMIT":
                do("ROLLBACK")
                raise lost
            return do(statement)

        warehouse._do = broken
        with pytest.raises(WarehouseError, match="was not committed") as failed:
            warehouse.replace(new({"id": ["a"], "label": ["x"]}))
    assert failed.value.retryable
    assert ids(snowflake) == []


def place_runs(place):
    return place.rows("windrow_runs")["run_id"].to_pylist()


def test_files_hold_plain_types_and_json(tmp_path):
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    table = pa.table(
        {
            "tiny": pa.array([1], pa.int8()),
            "kind": pa.array(["x"]).dictionary_encode(),
            "tags": pa.array([["a", None]]),
            "at": pa.array([moment], pa.timestamp("s", tz="UTC")),
        }
    )
    (path,) = parquet_files(table.to_batches(), table.schema, tmp_path, sent_type, "Nobody")
    found = parquet.read_table(path)
    assert found.schema.types == [pa.int32(), pa.string(), pa.string(), pa.timestamp("us", tz="UTC")]
    assert json.loads(found["C2"][0].as_py()) == ["a", None]
    assert found.column_names == ["C0", "C1", "C2", "C3"]
