"""What is PostgreSQL's own: its types, its locks, its privileges, and connections that break at the worst moment."""

from __future__ import annotations

import dataclasses
import datetime as dt
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pyarrow as pa
import pytest

from conftest import merged
from postgres_server import Server
from warehouses.places import PostgresPlace
from warehouses.relay import Relay
from warehouses.test_contract import NOW, TABLE, held, ids, new, publish
from windrow import Job, run
from windrow.errors import FencedError, JobError, SchemaError, WarehouseError
from windrow.history import explain_row
from windrow.postgres import Session
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName
from windrow.warehouses.postgres import PostgresWarehouse

ROWS = {"id": ["a", "b"], "label": ["x", "x"]}


@pytest.fixture
def place(tmp_path):
    return PostgresPlace(tmp_path)


@pytest.fixture
def ask(place):
    """Run a query in the place's database, or a statement that returns nothing."""

    def run_it(statement):
        if statement.split()[0] in ("SELECT", "WITH"):
            return place.server.rows(statement, place.database)
        return place.server.run(statement, place.database)

    return run_it


@pytest.fixture
def role(place, ask):
    """A user that may connect, and nothing else; its url too."""
    name = f"role_{place.database}"
    ask(f"CREATE ROLE {name} LOGIN")
    return name, place.server.at(place.database, name)


def plan(url, rows, table=TABLE):
    asked = new(rows)
    with open_url(url, TableName.parse(table), writes=False) as warehouse:
        return warehouse.plan(asked.table, asked.rejects)


def paused(replacement, reached, released):
    """Let the stream of rows stop after its first batch until it is released."""

    def start():
        reader = replacement.rows()

        def batches():
            yield reader.read_next_batch()
            reached.set()
            assert released.wait(60)
            yield from reader

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    return dataclasses.replace(replacement, rows=start)


def at_once(place, first, second, while_both=lambda: None):
    """Publish `first`, and `second` when the first is halfway; return their errors or receipts."""
    reached, released = threading.Event(), threading.Event()

    def work(replacement):
        with open_url(place.url, TableName.parse(TABLE)) as warehouse:
            try:
                return warehouse.replace(replacement)
            except WarehouseError as error:
                return error

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(work, paused(first, reached, released))
        assert reached.wait(60)
        other = pool.submit(work, second)
        try:
            while_both()
        finally:
            released.set()
        return one.result(), other.result()


def until(is_so):
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waits(ask):
    """Wait until a session waits for an advisory lock."""
    query = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
    until(lambda: ask(f"{query} (SELECT oid FROM pg_database WHERE datname = current_database())"))


def test_a_whole_run_is_published_explained_and_published_again(home, job_fields, place, ask):
    job = Job(**merged(job_fields, {"warehouse": {"url": place.url}}))
    first = run(job, "2026-11-23")
    again = run(job, "2026-11-23")
    assert (first.rows_published, again.rows_published, again.texts_scored) == (5, 5, 0)
    rows = ask("SELECT review_id, stars, label, windrow_run_id FROM analytics.review_sentiment ORDER BY 1")
    assert [(row[0], row[1]) for row in rows] == [("r0", 5), ("r1", 1), ("r2", 1), ("r3", 5), ("r4", 2)]
    assert {row[3] for row in rows} == {again.run_id}
    assert ask("SELECT count(*), sum((labels->>rows.label)::int) FROM analytics.windrow_runs, LATERAL jsonb_object_keys"
               "(labels) AS rows(label)")[0][1] == 10  # fmt: skip
    assert explain_row(job, ["r3"])["rows"][0]["windrow_run_id"] == again.run_id
    assert place.server.url.startswith("postgresql://windrow@")
    assert "windrow@" in first.warehouse


def test_the_catalog_shows_good_types_comments_and_an_index(place, ask):
    rows = {
        "id": ["a"], "big": pa.array([2**64 - 1], pa.uint64()),
        "price": pa.array([Decimal("1.20")], pa.decimal128(9, 2)),
        "at": pa.array([NOW], pa.timestamp("us", tz="Europe/Berlin")), "raw": [b"\0"],
        "kind": pa.array(["x"]).dictionary_encode(), "vector": pa.array([[0.5]], pa.list_(pa.float32())),
        "doc": [{"a": [1]}], "half": pa.array([1.5]).cast(pa.float16()),
        "clock": pa.array([dt.time(6, 30)]), "nothing": pa.array([None]),
    }  # fmt: skip
    asked = new(rows)
    told = pa.schema(
        [asked.table.field(0).with_metadata({"comment": "It's a key."}), *list(asked.table)[1:]],
        metadata={"comment": "One row a review."},
    )
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        warehouse.replace(dataclasses.replace(asked, table=told))
    types = dict(
        ask(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'analytics.reviews'::regclass AND attnum > 0"
        )
    )
    assert {name: types[name] for name in rows} == {
        "id": "text", "big": "numeric(20,0)", "price": "numeric(9,2)", "at": "timestamp with time zone", "raw": "bytea",
        "kind": "text", "vector": "real[]", "doc": "jsonb", "half": "real", "clock": "time without time zone",
        "nothing": "text",
    }  # fmt: skip
    assert ask("SELECT big::text, at::text, doc->'a'->>0 FROM analytics.reviews") == [
        ("18446744073709551615", "2026-11-23 06:30:15.123456+00", "1")
    ]
    table = "'analytics.reviews'::regclass"
    assert ask(f"SELECT obj_description({table}), col_description({table}, 1)") == [
        ("One row a review.", "It's a key.")
    ]
    indexes = f"SELECT count(*) FROM pg_index WHERE indrelid = {table}"
    assert ask(indexes) == [(0,)]
    for partition in ("p2", "p2"):
        publish(place, rows, partition, "run-2")
        assert ask(indexes) == [(1,)]


def test_nul_becomes_the_replacement_character_in_texts_lists_keys_and_json(place, ask):
    rows = {
        "id": ["a\0", "b"],
        "words": ["x\0y", None],
        "tags": [["\0", "z"], None],
        "doc": [{"a": "p\0", "b": r"\u0000"}, None],
    }
    for run_id in ("run-1", "run-2"):
        publish(place, rows, "p\0", run_id, rejected=["r\0"], mode="upsert")
    columns = "id, words, tags[1], doc->>'a', doc->>'b', windrow_partition"
    assert ask(f"SELECT {columns} FROM analytics.reviews ORDER BY id") == [
        ("a\ufffd", "x\ufffdy", "\ufffd", "p\ufffd", r"\u0000", "p\ufffd"), ("b", None, None, None, None, "p\ufffd"),
    ]  # fmt: skip
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        assert warehouse.read("table", {"id": ["a\0"]}).num_rows == 1
        assert warehouse.forget(pa.table({"id": ["a\0", "r\0"]})) == {"table": 1, "rejects": 1}


def test_numbers_that_json_lacks_are_texts_in_it_and_floats_in_arrays(place, ask):
    odd = [float("nan"), float("inf"), float("-inf")]
    publish(place, {"id": ["a"], "vector": [odd], "doc": [[{"v": value, "w": "NaN, Infinity"} for value in odd]]})
    assert ask("SELECT vector::text, jsonb_path_query_array(doc, '$[*].v')::text FROM analytics.reviews") == [
        ("{NaN,Infinity,-Infinity}", '["NaN", "Infinity", "-Infinity"]')
    ]
    assert ask("SELECT DISTINCT d->>'w' FROM analytics.reviews, jsonb_array_elements(doc) AS d") == [("NaN, Infinity",)]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1_700_000_000_000_000_001], pa.timestamp("ns", tz="UTC")),
        pa.array([-(2**62)], pa.timestamp("us")),
        pa.array([2**62], pa.timestamp("s")),
        pa.array([2**31 - 1], pa.int32()).cast(pa.date32()),
    ],
)
def test_a_moment_that_postgresql_cannot_tell_is_refused_by_its_column(place, values):
    publish(place, {"id": ["a"], "moment": pa.nulls(1, values.type)}, run_id="run-1")
    with pytest.raises(SchemaError, match="moment"):
        publish(place, {"id": ["b"], "moment": values}, run_id="run-2")
    assert ids(place) == ["a"]


def test_whole_microseconds_in_nanoseconds_are_kept(place, ask):
    publish(place, {"id": ["a"], "at": pa.array([1_700_000_000_000_001_000], pa.timestamp("ns"))})
    assert ask("SELECT at::text FROM analytics.reviews") == [("2023-11-14 22:13:20.000001",)]


def test_sliced_and_null_parts_of_a_stream_arrive_in_their_rows(place):
    whole = pa.table({
        "id": [str(number) for number in range(100)],
        "tags": [[str(number), "\0"] if number % 3 else None for number in range(100)],
        "kind": pa.array([None if number % 7 == 0 else str(number % 5) for number in range(100)]).dictionary_encode(),
        "price": pa.array([Decimal(number) if number % 4 else None for number in range(100)], pa.decimal128(20, 3)),
        "doc": [{"n": number} if number % 2 else None for number in range(100)],
    })  # fmt: skip
    publish(place, whole.slice(13, 61))
    found = sorted(place.rows("reviews").to_pylist(), key=lambda row: int(row["id"]))
    for got, wanted in zip(found, whole.slice(13, 61).to_pylist(), strict=True):
        wanted["tags"] = wanted["tags"] and [wanted["tags"][0], "\ufffd"]
        assert {name: got[name] for name in wanted} == wanted


def test_a_map_and_a_column_of_many_shapes_are_read_back(place, ask):
    counts = pa.array([[("x", 1)], [("y", 2), ("z", 3)]], pa.map_(pa.string(), pa.int64()))
    publish(place, {"id": ["a", "b"], "counts": counts, "doc": [{"n": 1}, {"n": 2}]})
    ask("""UPDATE analytics.reviews SET doc = '[1, "x"]' WHERE id = 'b'""")
    with open_url(place.url, TableName.parse(TABLE), writes=False) as warehouse:
        rows = warehouse.read("table", {}, ["id", "counts", "doc"]).sort_by("id").to_pylist()
    assert [row["counts"] for row in rows] == [[("x", 1)], [("y", 2), ("z", 3)]]
    assert [row["doc"] for row in rows] == ['{"n": 1}', '[1, "x"]']


def test_two_runs_of_one_partition_follow_each_other(place, ask):
    publish(place, ROWS, run_id="run-0")
    later = new({"id": ["c", "d", "e"], "label": ["z"] * 3}, run_id="run-2")
    first, second = at_once(place, new(merged(ROWS, {"id": ["a", "c"]}), run_id="run-1"), later, lambda: waits(ask))
    assert (first.run_id, second.run_id) == ("run-1", "run-2")
    assert ids(place) == ["c", "d", "e"]


def test_a_zombie_that_waits_for_its_successor_changes_nothing(place, ask):
    publish(place, ROWS, run_id="run-0")
    zombie = new({"id": ["old"], "label": ["old"]}, run_id="run-1")
    later, error = at_once(
        place, new({"id": ["x", "y", "z"], "label": ["z"] * 3}, run_id="run-2"), zombie, lambda: waits(ask)
    )
    assert later.run_id == "run-2"
    assert isinstance(error, FencedError)
    assert ids(place) == ["x", "y", "z"]
    assert sorted(place.rows("windrow_runs")["run_id"].to_pylist()) == ["run-0", "run-2"]


def test_one_run_published_by_two_processes_is_there_once(place, ask):
    publish(place, ROWS, run_id="run-0")
    same = {"id": ["c", "d", "e"], "label": ["z"] * 3}
    at_once(place, new(same, run_id="run-1"), new(same, run_id="run-1"), lambda: waits(ask))
    assert ids(place) == ["c", "d", "e"]
    assert sorted(place.rows("windrow_runs")["run_id"].to_pylist()) == ["run-0", "run-1"]


def test_other_partitions_do_not_wait(place):
    publish(place, ROWS, "p0", "run-0")
    rows = {"id": ["c", "d", "e"], "label": ["z"] * 3}
    at_once(
        place,
        new(rows, "p1", "run-1"),
        new(rows, "p2", "run-2"),
        lambda: until(lambda: "p2" in place.rows("reviews")["windrow_partition"].to_pylist()),
    )
    assert sorted(place.rows("reviews")["windrow_partition"].to_pylist()) == ["p0", "p0", *["p1"] * 3, *["p2"] * 3]


def test_upserts_of_two_partitions_at_once_leave_a_key_once(place, ask):
    publish(place, ROWS, "p0", "run-0", mode="upsert")
    one = new({"id": ["k", "l", "m"], "label": ["1"] * 3}, "p1", "run-1", mode="upsert")
    other = new({"id": ["k", "a"], "label": ["2"] * 2}, "p2", "run-2", mode="upsert")
    at_once(place, one, other, lambda: waits(ask))
    assert held(place) == {"a": ("2", "p2"), "b": ("x", "p0"), "k": ("2", "p2"), "l": ("1", "p1"), "m": ("1", "p1")}


def test_rejects_without_a_key_are_replaced_by_those_that_come(place):
    for run_id, partition in (("run-1", "p1"), ("run-2", "p2")):
        publish(place, ROWS, partition, run_id, rejected=pa.array([None, "r"]).to_pylist(), mode="upsert")
    rejects = place.rows("reviews__rejects").to_pylist()
    assert sorted((row["id"] or "", row["windrow_partition"]) for row in rejects) == [("", "p2"), ("r", "p2")]


def test_many_first_runs_at_once_make_the_tables_once(place):
    def work(number):
        publish(place, {"id": [str(number)], "label": ["x"]}, f"p{number}", f"run-{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert ids(place) == [str(number) for number in range(6)]


def test_who_waits_too_long_for_a_partition_is_told_so(place):
    publish(place, ROWS, run_id="run-0")
    reached, released = threading.Event(), threading.Event()
    holder = paused(new({"id": ["c", "d", "e"], "label": ["z"] * 3}, run_id="run-1"), reached, released)
    with ThreadPoolExecutor(1) as pool, open_url(place.url, TableName.parse(TABLE)) as warehouse:
        one = pool.submit(warehouse.replace, holder)
        assert reached.wait(60)
        with (
            PostgresWarehouse(place.url, TableName.parse(TABLE), lock_wait_s=0.2) as other,
            pytest.raises(WarehouseError, match="Another session holds") as raised,
        ):
            other.replace(new(ROWS, run_id="run-2"))
        released.set()
        one.result()
    assert raised.value.retryable
    assert ids(place) == ["c", "d", "e"]


def test_a_reader_sees_the_old_rows_or_the_new_ones(place):
    publish(place, {"id": [str(number) for number in range(500)], "label": ["run-0"] * 500}, run_id="run-0")
    seen, stop = set(), threading.Event()

    def look():
        with Session(place.url, reads=True) as session:
            while not stop.is_set():
                query = "SELECT count(*), min(label), max(label) FROM analytics.reviews"
                with session.transaction():
                    seen.add(session.rows(query)[0])

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(look)
        until(lambda: seen)
        for number in (1, 2, 3):
            rows = 500 + number
            publish(
                place, {"id": [str(n) for n in range(rows)], "label": [f"run-{number}"] * rows}, run_id=f"run-{number}"
            )
        stop.set()
        reader.result()
    assert (500, "run-0", "run-0") in seen
    assert seen <= {(500 + number, f"run-{number}", f"run-{number}") for number in range(4)}


def test_a_session_cut_in_the_middle_changes_nothing(place):
    publish(place, ROWS, run_id="run-0")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {} AND application_name = 'windrow'"
    fine = new({"id": ["c", "d", "e"], "label": ["z"] * 3}, run_id="run-1")
    broken = breaking(fine, lambda: place.server.rows(cut.format(f"'{place.database}'")))
    with (
        open_url(place.url, TableName.parse(TABLE)) as warehouse,
        pytest.raises(WarehouseError, match="broke off") as raised,
    ):
        warehouse.replace(broken)
    assert raised.value.retryable
    assert ids(place) == ["a", "b"]
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        warehouse.replace(fine)
    assert ids(place) == ["c", "d", "e"]


def test_a_server_killed_in_the_middle_comes_back_with_the_old_rows(tmp_path):
    server = Server()
    try:
        place = PostgresPlace(tmp_path)
        place.server, place.database = server, server.database()
        place.url = server.at(place.database)
        publish(place, ROWS, run_id="run-0")
        fine = new({"id": ["c", "d", "e"], "label": ["z"] * 3}, run_id="run-1")
        with open_url(place.url, TableName.parse(TABLE)) as warehouse, pytest.raises(WarehouseError) as raised:
            warehouse.replace(breaking(fine, server.kill))
        assert raised.value.retryable
        server.start()
        assert ids(place) == ["a", "b"]
        with open_url(place.url, TableName.parse(TABLE)) as warehouse:
            warehouse.replace(fine)
        assert ids(place) == ["c", "d", "e"]
    finally:
        server.remove()


@pytest.mark.parametrize("answers", [True, False])
def test_a_connection_cut_at_commit_is_looked_into(place, tmp_path, answers):
    publish(place, ROWS, run_id="run-0")
    later = new({"id": ["c"], "label": ["z"]}, run_id="run-1")
    with (
        Relay(place.server.folder, forwards_commit=answers) as relay,
        open_url(place.server.at(place.database, folder=relay.folder), TableName.parse(TABLE)) as warehouse,
    ):
        if answers:
            assert warehouse.replace(later).run_id == "run-1"
        else:
            with pytest.raises(WarehouseError, match="not committed"):
                warehouse.replace(later)
        assert relay.cuts == 1
    assert ids(place) == (["c"] if answers else ["a", "b"])
    assert place.rows("windrow_runs").num_rows == (2 if answers else 1)


def test_an_outcome_that_nobody_can_tell_is_called_unknown(place):
    publish(place, ROWS, run_id="run-0")
    later = new({"id": ["c"], "label": ["z"]}, run_id="run-1")
    with Relay(place.server.folder, forwards_commit=True, closes=True) as relay:
        url = place.server.at(place.database, folder=relay.folder)
        with (
            open_url(url, TableName.parse(TABLE)) as warehouse,
            pytest.raises(WarehouseError, match="is unknown"),
        ):
            warehouse.replace(later)
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        warehouse.replace(later)
    assert ids(place) == ["c"]


def test_a_wrong_password_fails_at_once_and_is_not_shown(place):
    url = place.server.at(place.database, "checked:wr0ng")
    with pytest.raises(JobError, match="authentication failed") as raised:
        plan(url, ROWS)
    assert "wr0ng" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["postgresql://ann:s3/cret@host/db", "postgresql://ann:s3@cret@host/db", "postgresql://h/db?s3cret=1"]
)
def test_a_url_that_cannot_be_read_is_not_repeated(url):
    with pytest.raises(JobError, match="cannot be read") as raised:
        plan(url, ROWS)
    assert not any(part in str(raised.value) for part in ("s3", "cret"))


def test_a_server_that_does_not_answer_is_not_waited_for():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"postgresql+psycopg2://ann:s3cret@127.0.0.1:{deaf.getsockname()[1]}/db?connect_timeout=2"
        with pytest.raises(WarehouseError, match="cannot be reached") as raised:
            plan(url, ROWS)
    assert raised.value.retryable
    assert "s3cret" not in str(raised.value)


def test_a_role_without_rights_is_told_which_to_ask_for_before_scoring(place, ask, role):
    name, url = role
    with pytest.raises(JobError, match="lacks a privilege") as raised:
        plan(url, ROWS)
    assert f'GRANT CREATE ON DATABASE "{place.database}" TO "{name}"' in raised.value.fix
    ask("CREATE SCHEMA analytics")
    for privilege in ("USAGE", "CREATE"):
        with pytest.raises(JobError) as raised:
            plan(url, ROWS)
        assert f'GRANT {privilege} ON SCHEMA "analytics"' in raised.value.fix
        ask(f'GRANT {privilege} ON SCHEMA analytics TO "{name}"')
    with open_url(url, TableName.parse(TABLE)) as warehouse:
        warehouse.replace(new(ROWS))
    assert ids(place) == ["a", "b"]


def test_a_role_may_publish_into_tables_that_another_made(place, ask, role):
    name, url = role
    publish(place, ROWS, run_id="run-0")
    ask(f"GRANT USAGE ON SCHEMA analytics TO {name}")
    with pytest.raises(JobError) as raised:
        plan(url, ROWS)
    assert "GRANT SELECT, INSERT, DELETE" in raised.value.fix
    ask(f"GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA analytics TO {name}")
    for mode in ("replace", "upsert"):
        with open_url(url, TableName.parse(TABLE)) as warehouse:
            warehouse.replace(new({"id": ["c"], "label": ["z"]}, run_id=f"run-{mode}", mode=mode))
    assert ids(place) == ["c"]
    with pytest.raises(JobError, match="belongs to another user") as raised:
        plan(url, {**ROWS, "stars": [1, 2]})
    assert 'ADD COLUMN "stars" bigint' in raised.value.fix


@pytest.mark.parametrize(
    ("made", "word"),
    [("VIEW analytics.reviews AS SELECT 1 AS id", "a view"),
     ("MATERIALIZED VIEW analytics.reviews AS SELECT 1 AS id", "a materialized view"),
     ("SEQUENCE analytics.reviews", "no table")],
)  # fmt: skip
def test_what_is_no_table_is_not_written_into(place, ask, made, word):
    ask("CREATE SCHEMA analytics")
    ask(f"CREATE {made}")
    with pytest.raises(SchemaError, match=f"'reviews' is {word}"):
        plan(place.url, ROWS)


@pytest.mark.parametrize("table", [f"analytics.{'t' * 64}", f"analytics.{'t' * 55}", f"{'é' * 32}.reviews"])
def test_a_name_that_postgresql_would_cut_is_refused(place, table):
    with pytest.raises(SchemaError, match="PostgreSQL keeps 63"):
        plan(place.url, ROWS, table)


@pytest.mark.parametrize("column", ["c" * 64, "ctid"])
def test_a_column_that_postgresql_cannot_name_is_refused(place, column):
    with pytest.raises(SchemaError, match=column):
        plan(place.url, {"id": ["a"], column: ["x"]})


def test_names_are_found_whatever_their_case(place):
    publish(place, {"id": ["a"], "Label": ["x"]}, run_id="run-1")
    with open_url(place.url, TableName.parse("Analytics.REVIEWS")) as warehouse:
        warehouse.replace(new({"id": ["b"], "label": ["y"]}, run_id="run-2"))
    assert place.rows("reviews").select(["id", "Label"]).to_pylist() == [{"id": "b", "Label": "y"}]


def test_a_column_that_is_in_a_view_is_not_widened_and_nothing_changes(place, ask):
    publish(place, {"id": ["a"], "stars": pa.array([1], pa.int16())}, "p1", "run-1")
    ask("CREATE VIEW analytics.best AS SELECT stars FROM analytics.reviews")
    with pytest.raises(SchemaError, match="used by a view"):
        publish(place, {"id": ["b"], "stars": pa.array([2**40])}, "p2", "run-2")
    assert ids(place) == ["a"]


def test_a_column_that_another_has_changed_is_refused_and_never_reinterpreted(place, ask):
    publish(place, {"id": ["a"], "stars": [5]}, run_id="run-1")
    ask("ALTER TABLE analytics.reviews ALTER COLUMN stars TYPE double precision")
    with pytest.raises(SchemaError, match="'stars' of table 'reviews' is double precision"):
        publish(place, {"id": ["a"], "stars": [5]}, run_id="run-2")
    assert place.rows("reviews")["stars"].to_pylist() == [5.0]


def test_a_column_that_was_always_empty_takes_any_type(place, ask):
    publish(place, {"id": ["a"], "stars": pa.array([None])}, "p1", "run-1")
    publish(place, {"id": ["b"], "stars": [5]}, "p2", "run-2")
    publish(place, {"id": ["c"], "stars": pa.array([None])}, "p3", "run-3")
    assert ask("SELECT id, stars FROM analytics.reviews ORDER BY id") == [("a", None), ("b", 5), ("c", None)]


def test_a_database_in_another_encoding_holds_the_same_texts(place):
    name = f"{place.database}_latin"
    place.server.run(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0")
    place.database, place.url = name, place.server.at(name)
    publish(place, {"id": ["naïve"], "label": ["é"]}, run_id="run-1")
    assert place.server.rows("SELECT length(id), length(label) FROM analytics.reviews", name) == [(5, 1)]
    with pytest.raises(SchemaError, match="no equivalent"):
        publish(place, {"id": ["日本"], "label": ["é"]}, run_id="run-2")


def test_a_table_that_refuses_a_row_says_why(place, ask):
    publish(place, ROWS, run_id="run-1")
    ask("ALTER TABLE analytics.reviews ADD CONSTRAINT known CHECK (label <> 'z')")
    with pytest.raises(SchemaError, match="known"):
        publish(place, {"id": ["c"], "label": ["z"]}, run_id="run-2")
    assert ids(place) == ["a", "b"]


def breaking(replacement, breaks):
    """Call `breaks` after the first batch of rows."""

    def start():
        reader = replacement.rows()

        def batches():
            yield reader.read_next_batch()
            breaks()
            yield from reader

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    return dataclasses.replace(replacement, rows=start)
