"""What is ClickHouse's own: claims, stages, types, refusals; over its real engine behind a stand-in for HTTP."""

from __future__ import annotations

import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest

from test_receipt import RECEIPT
from warehouses.places import ClickHousePlace
from warehouses.test_contract import TABLE, held, ids, new, publish
from windrow.errors import FencedError, JobError, SchemaError, WarehouseError
from windrow.warehouses import claimed, clickhouse_session, commit, open_url
from windrow.warehouses.base import TableName
from windrow.warehouses.claimed import Owner
from windrow.warehouses.clickhouse import ClickHouseWarehouse

ROWS = {"id": ["a"], "label": ["x"]}


@pytest.fixture
def place(tmp_path):
    return ClickHousePlace(tmp_path)


def opened(place, **options):
    return ClickHouseWarehouse(place.url, TableName.parse(TABLE), **options)


def test_neither_stages_nor_claims_are_left_behind(place):
    publish(place, ROWS, rejected=["r"], mode="upsert")
    publish(place, pa.table({"id": pa.array([], pa.string())}), run_id="run-2")
    with pytest.raises(SchemaError, match="'at'"):
        publish(place, {"id": ["a", "b"], "at": pa.array([0, -(2**57)], pa.timestamp("us"))}, run_id="run-3")
    assert sorted(place.names()) == ["reviews", "reviews__rejects", "windrow_runs"]


def test_a_run_that_wakes_up_after_its_successor_changes_nothing(place, monkeypatch):
    late = new({"id": ["old"], "label": ["x"]}, run_id="run-1", rejected=["q"])
    slept = []

    def sleep_through_a_run(point):
        if point == "publish.table" and not slept:
            slept.append(point)
            publish(place, {"id": ["new"], "label": ["y"]}, run_id="run-2", rejected=["r"])

    with opened(place) as warehouse:
        monkeypatch.setattr(claimed, "reach", sleep_through_a_run)
        with pytest.raises(WarehouseError, match="took this one's place"):
            warehouse.replace(late)
    assert (held(place), ids(place, "reviews__rejects")) == ({"new": ("y", "2026-11-23")}, ["r"])
    assert place.rows("windrow_runs")["run_id"].to_pylist() == ["run-2"]
    with pytest.raises(FencedError, match="later run run-2"), opened(place) as warehouse:
        warehouse.replace(late)


def test_a_run_without_rows_that_wakes_up_after_its_check_empties_nothing(place, monkeypatch):
    late = new(pa.table({"id": pa.array([], pa.string()), "label": pa.array([], pa.string())}), run_id="run-1")
    checks = []

    def sleep_through_a_run(point):
        checks.append(point)
        if checks.count("publish.checked") == 2:
            checks.append("publish.checked")
            publish(place, {"id": ["new"], "label": ["y"]}, run_id="run-2", rejected=["r"])

    with opened(place) as warehouse:
        monkeypatch.setattr(commit, "reach", sleep_through_a_run)
        with pytest.raises(WarehouseError, match="took this one's place"):
            warehouse.replace(late)
    assert (held(place), ids(place, "reviews__rejects")) == ({"new": ("y", "2026-11-23")}, ["r"])


def claim_of_another(place, **changes):
    """Leave the claim and stage of a run that was killed."""
    publish(place, ROWS, "p1", "run-1")
    owner = Owner(
        **{"table": TABLE, "partition": "p9", "run_id": "run-9", "attempt": "dead", "is_whole": True, **changes}
    )
    for name in ("windrow_stage_dead_table", "windrow_claim_dead"):
        place.server.run(
            f"CREATE TABLE analytics.{name} (n UInt8) ENGINE = MergeTree ORDER BY n COMMENT '{owner.mark}'"
        )


def left(place):
    found = place.server.table("SELECT count() AS n FROM system.tables WHERE name LIKE 'windrow_%_dead%'")
    return found["n"][0].as_py()


def test_what_a_killed_run_of_the_partition_left_is_taken_over_at_once(place):
    claim_of_another(place, partition="p1", run_id="run-1")
    publish(place, {"id": ["b"], "label": ["y"]}, "p1", "run-2")
    assert (held(place), left(place)) == ({"b": ("y", "p1")}, 0)


def test_the_claim_of_a_later_run_of_the_partition_stops_an_earlier_one(place):
    claim_of_another(place, partition="p1", run_id="run-5")
    with pytest.raises(FencedError, match="later run run-5"):
        publish(place, {"id": ["b"], "label": ["y"]}, "p1", "run-3")
    assert (held(place), left(place)) == ({"a": ("x", "p1")}, 2)


def test_who_moves_keys_is_waited_for_and_then_shut_out(place, monkeypatch):
    claim_of_another(place)
    waited = []
    monkeypatch.setattr(claimed.time, "sleep", lambda pause_s: waited.append(pause_s))
    with opened(place, lock_wait_s=0.5) as warehouse:
        warehouse.replace(new({"id": ["a"], "label": ["y"]}, "p2", "run-2", mode="upsert"))
    assert waited
    assert (held(place), left(place)) == ({"a": ("y", "p2")}, 0)


def test_partitions_that_are_replaced_do_not_wait_for_each_other(place, monkeypatch):
    claim_of_another(place, is_whole=False)
    monkeypatch.setattr(claimed.time, "sleep", lambda _: pytest.fail("waited"))
    publish(place, {"id": ["b"], "label": ["y"]}, "p2", "run-2")
    assert ids(place) == ["a", "b"]


def test_columns_have_the_types_and_comments_that_the_docs_name(place):
    columns = {
        "id": pa.array(["a"]), "small": pa.array([1], pa.int8()), "vector": pa.array([[0.5]], pa.list_(pa.float32())),
        "tags": pa.array([["t"]]), "raw": pa.array([b"x"]), "at": pa.array([0], pa.timestamp("us", tz="UTC")),
        "local": pa.array([0], pa.timestamp("us")), "huge": pa.array([2**64 - 1], pa.uint64()),
    }  # fmt: skip
    publish(place, columns)
    query = "SELECT name, type, comment FROM system.columns WHERE database = 'analytics' AND table = 'reviews'"
    told = {row["name"]: (row["type"], row["comment"]) for row in place.server.table(query).to_pylist()}
    assert {name: told[name] for name in (*columns, "windrow_partition")} == {
        "id": ("Nullable(String)", ""),
        "small": ("Nullable(Int8)", ""),
        "vector": ("Array(Float32)", ""),
        "tags": ("Nullable(String)", "(JSON text)"),
        "raw": ("Nullable(String)", "(bytes)"),
        "at": ("Nullable(DateTime64(6, 'UTC'))", ""),
        "local": ("Nullable(DateTime64(6, 'UTC'))", "(wall time)"),
        "huge": ("Nullable(UInt64)", ""),
        "windrow_partition": ("String", ""),
    }


def test_a_vector_that_is_null_stops_the_publish_by_name(place):
    with pytest.raises(SchemaError, match="'vector'"):
        publish(place, {"id": ["a"], "vector": pa.array([None], pa.list_(pa.float32()))})
    assert place.rows("reviews").num_rows == 0


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ("CREATE VIEW analytics.reviews AS SELECT 1 AS windrow_partition", "a view"),
        ("CREATE TABLE analytics.reviews (windrow_partition String) ENGINE = Memory", "engine Memory"),
        (
            "CREATE TABLE analytics.reviews (windrow_partition String) ENGINE = MergeTree ORDER BY windrow_partition",
            "not partitioned by windrow_partition",
        ),
    ],
)
def test_what_has_no_partitions_to_replace_is_refused(place, made, problem):
    place.server.run("CREATE DATABASE analytics")
    place.server.run(made)
    asked = new(ROWS)
    with opened(place, writes=False) as warehouse, pytest.raises(SchemaError, match=problem):
        warehouse.plan(asked.table, asked.rejects)


def test_a_name_that_does_not_fit_is_refused(place):
    asked = new({"id": ["a"], "n" * 220: ["x"]})
    with opened(place, writes=False) as warehouse, pytest.raises(SchemaError, match="takes 220 bytes"):
        warehouse.plan(asked.table, asked.rejects)


def test_a_wrong_password_is_told_and_not_shown(place):
    with pytest.raises(JobError, match="Authentication failed") as refused:
        open_url(place.server.at("checked", "wr0ng"), TableName.parse(TABLE)).__enter__()
    assert "wr0ng" not in f"{refused.value} {refused.value.__cause__}"
    with open_url(place.server.at("checked", "s3cret"), TableName.parse(TABLE)) as warehouse:
        assert warehouse.read("table", {}).num_rows == 0


def test_a_missing_privilege_is_named_with_the_statement_that_grants_it(place):
    publish(place, ROWS)
    asked = new(ROWS, run_id="run-2")
    with open_url(place.server.at("reader"), TableName.parse(TABLE), writes=False) as warehouse:
        assert warehouse.read("table", {}, ["id"]).num_rows == 1
        with pytest.raises(JobError, match="lacks a privilege") as refused:
            warehouse.plan(asked.table, asked.rejects)
    assert "GRANT SELECT, INSERT, ALTER DELETE" in refused.value.fix


def test_a_host_that_cannot_be_reached_is_given_up_within_seconds():
    began = time.monotonic()
    with pytest.raises(WarehouseError, match="cannot be reached"):
        open_url("clickhouse://u:p@127.0.0.1:9/db", TableName.parse(TABLE)).__enter__()
    assert time.monotonic() - began < 20


@contextmanager
def losing_an_answer(place):
    """Lead to the server, and lose the first answer to an upload; gives the url, and a list of the uploads."""
    uploads = []

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            address = f"http://127.0.0.1:{place.server.port}{self.path}"
            with urllib.request.urlopen(address, data=body) as answer:
                told = answer.read()
            if "FORMAT+Parquet" in self.path:
                uploads.append(self.path)
                self.close_connection = len(uploads) == 1
                if self.close_connection:
                    return
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield place.url.replace(str(place.server.port), str(server.server_address[1])), uploads
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_rows_whose_upload_is_not_answered_are_not_sent_again(place):
    with (
        losing_an_answer(place) as (url, uploads),
        open_url(url, TableName.parse(TABLE)) as warehouse,
        pytest.raises(WarehouseError, match="cannot be reached, or does not answer"),
    ):
        warehouse.replace(new(ROWS))
    assert len(uploads) == 1
    publish(place, ROWS)
    assert ids(place) == ["a"]


def test_a_driver_that_sends_rows_twice_is_refused(place, monkeypatch):
    monkeypatch.setattr(clickhouse_session, "version", lambda _: "1.9.0")
    with pytest.raises(JobError, match="may send rows twice"):
        publish(place, ROWS)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("clickhouse://host:9000/db", "native protocol"),
        ("clickhouse://host/db?secur=1", "did you mean 'secure'"),
        ("clickhouse://host/a/b", "cannot be read"),
        ("clickhouse:///db", "cannot be read"),
        ("clickhouse://u:p@ss@host/db", "cannot be read"),
    ],
)
def test_a_miswritten_url_is_refused_without_repeating_it(url, problem):
    with pytest.raises(JobError, match=problem) as refused:
        open_url(url, TableName.parse(TABLE))
    assert "p@ss" not in str(refused.value)


def test_the_ledger_is_the_receipt(place):
    publish(place, ROWS)
    with opened(place, writes=False) as warehouse:
        (row,) = warehouse.read("ledger", {"partition": ["2026-11-23"]}).to_pylist()
    assert (row["model"], dict(row["rejects"])) == (RECEIPT.model, RECEIPT.rejects)
