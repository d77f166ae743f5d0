"""Sources that are missing, broken or odd: refused with exit 2 and nothing written, or their bad rows rejected."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

GOOD = b"review_id,body,stars\nr0,good film,5\nr1,bad phone,1\n"


@pytest.fixture
def source(tmp_path, write_job):
    """Write a file and return a job that reads it."""

    def write(name, content, **changes):
        path = tmp_path / name
        path.write_bytes(content)
        return write_job(source={"path": str(path), **changes})

    return write


@pytest.fixture
def untouched(tmp_path):
    """Check that nothing was published: there is no warehouse, and no scratch is left in the store."""

    def check():
        assert not (tmp_path / "warehouse.duckdb").exists()
        assert not list((tmp_path / "store").glob("tmp/*"))

    return check


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "boddy"}, ["Column 'boddy' is not in the source", "did you mean 'body'", "review_id, body, stars"]),
        ({"key": ["review_id", "day"]}, ["Column 'day' is not in the source"]),
        ({"keep": ["product"]}, ["Column 'product' is not in the source"]),
        ({"text": "stars"}, ["Text column 'stars' has type int8, not text"]),
    ],
)
def test_a_column_that_is_missing_or_of_the_wrong_type_is_named(call, refused, write_job, untouched, changes, words):
    refused(call("run", write_job(source=changes)), 2, *words)
    untouched()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("reviws.parquet", ["does not exist", "did you mean 'reviews.parquet'"]),
        ("day-*.parquet", ["No file matches", "day-*.parquet"]),
        (".", ["is a folder", "*.parquet"]),
        ("no/such/folder/x.csv", ["does not exist"]),
        ("nosuch://bucket/x.csv", ["nosuch"]),
        ("windrow://revews/2026-01-01.parquet", ["no bundled sample 'revews'"]),
    ],
)
def test_a_file_or_glob_that_finds_nothing_is_refused(call, refused, write_job, untouched, path, words):
    refused(call("run", write_job(source={"path": path})), 2, *words)
    untouched()


def _parquet(tmp_path):
    path = tmp_path / "whole.parquet"
    parquet.write_table(pa.table({"review_id": [str(i) for i in range(50_000)], "body": ["good"] * 50_000}), path)
    return path.read_bytes()


@pytest.mark.parametrize("cut", [0, 4, 3000, -1000, -8, None])
def test_a_broken_parquet_file_is_refused(call, refused, source, untouched, tmp_path, cut):
    whole = _parquet(tmp_path)
    content = b"PAR1" + b"\0" * 5000 + whole[-5000:] if cut is None else whole[:cut]
    refused(call("run", source("broken.parquet", content, keep=None)), 2, "broken.parquet", "cannot be read")
    untouched()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.txt", b"review_id,body,stars\n", ["'.txt'", ".parquet"]),
        ("x.csv.gz", GOOD, ["Not a gzipped file"]),
        ("x.csv.gz", gzip.compress(GOOD * 5000)[:-9], ["ended before"]),
        ("x.csv", GOOD.decode().encode("utf-16"), ["header", "not UTF-8"]),
        ("x.csv", GOOD + b'r2,"never closed,3\nr3,good,4\n', ["quote that is never closed", "line 4"]),
        ("x.csv", b"review_id,body,stars,body\nr0,a,1,b\n", ["'body' occurs 2 times"]),
        ("x.csv", GOOD + b"r2,good,5\n" * 500_000 + b"r3,good,x\n", ["conversion error", "source.types"]),
        ("x.jsonl", b'[{"review_id": "r0", "body": "good", "stars": 1}]', ["is not JSON Lines"]),
        ("x.jsonl", b"body\ngood\n", ["is not JSON Lines"]),
        (
            "x.jsonl",
            b'{"review_id": "r0", "body": "a", "stars": 1}\n{"review_id": "r1", "body": "b", "stars": "x"}',
            ["stars"],
        ),
        ("x.arrow", b"", ["x.arrow"]),
        ("x.arrow", b"ARROW1\0\0 and nothing more", ["x.arrow"]),
    ],
)
def test_a_file_that_is_not_what_its_ending_says_is_refused(call, refused, source, untouched, name, content, words):
    refused(call("run", source(name, content)), 2, *words)
    untouched()


def test_an_unknown_type_in_source_types_is_refused(call, refused, source):
    job = source("x.csv", GOOD, types={"stars": "integr"})
    refused(call("run", job), 2, "'integr' is no type")


def test_ragged_lines_of_a_csv_are_rejects_with_their_line(published, source, tables):
    ragged = b"r2,one,two,three\nr3\nr4,lovely plot,3\n"
    receipt = published(source("ragged.csv", GOOD + ragged))
    assert receipt["rejects"] == {"malformed_row": 2}
    assert tables("SELECT review_id FROM {t} ORDER BY 1") == [("r0",), ("r1",), ("r4",)]
    rows = tables("SELECT review_id, detail FROM {r} ORDER BY detail")
    assert [key for key, _ in rows] == [None, None]
    assert "line 4: 4 fields, expected 3: r2,one,two,three" in rows[0][1]
    assert "line 5: 1 fields, expected 3: r3" in rows[1][1]


def test_malformed_lines_of_json_lines_are_rejects_with_their_line(published, source, tables):
    lines = [
        b'{"review_id": "r0", "body": "good", "stars": 1}',
        b'{"review_id": "r1", "body": "bad", "stars": 1',
        b"",
        b'["r2", "bad", 1]',
        b'{"review_id": "r3", "body": 5, "stars": 1}',
        b'{"review_id": "r4", "stars": 2}',
    ]
    receipt = published(source("mixed.jsonl", b"\n".join(lines)))
    assert receipt["rejects"] == {"malformed_row": 3, "null_text": 1}
    details = [detail for (detail,) in tables("SELECT detail FROM {r} WHERE reason = 'malformed_row' ORDER BY 1")]
    assert ["line 2: it is not JSON" in details[0], "line 4: it is not a JSON object" in details[1]] == [True, True]
    assert "line 5: body is not text" in details[2]


def test_duplicate_keys_keep_the_first_row_and_reject_the_later_ones(published, source, tables):
    rows = b"r1,awful,2\nr0,,3\nr1,slow,3\n,no key,4\n"
    receipt = published(source("twice.csv", GOOD + rows, types={"review_id": "string"}))
    assert receipt["rejects"] == {"duplicate_key": 2, "empty_text": 1}
    assert tables("SELECT review_id, stars FROM {t} ORDER BY 1") == [("", 4), ("r0", 5), ("r1", 1)]
    assert tables("SELECT detail FROM {r} WHERE reason = 'duplicate_key' ORDER BY 1") == [
        ("row 3 repeats the key of row 2",),
        ("row 5 repeats the key of row 2",),
    ]


def test_a_key_whose_first_row_is_rejected_is_published_from_its_next(published, source, tables):
    receipt = published(source("next.csv", b"review_id,body,stars\nr0,,1\nr0,good,2\n"))
    assert receipt["rejects"] == {"empty_text": 1}
    assert tables("SELECT review_id, stars FROM {t}") == [("r0", 2)]


def test_null_keys_are_rejects_and_keys_of_two_columns_are_compared_together(tmp_path, write_job, published, tables):
    path = tmp_path / "keys.parquet"
    columns = {"shop": ["a", "a", "b", None, "a", "a"], "number": [1, 2, 1, 1, None, 1], "body": ["good"] * 6}
    parquet.write_table(pa.table(columns), path)
    receipt = published(write_job(source={"path": str(path), "key": ["shop", "number"], "keep": None}))
    assert receipt["rejects"] == {"null_key": 2, "duplicate_key": 1}
    assert tables("SELECT shop, number FROM {t} ORDER BY ALL") == [("a", 1), ("a", 2), ("b", 1)]


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl", "blank.csv", "header.csv", "rows.parquet", "rows.arrow"])
def test_an_empty_partition_is_published_as_empty(call, published, source, tables, write_job, tmp_path, name):
    assert call("run", write_job()).returncode == 0
    schema = pa.schema([("review_id", pa.string()), ("body", pa.string()), ("stars", pa.int8())])
    sink = pa.BufferOutputStream()
    if name == "rows.parquet":
        parquet.write_table(schema.empty_table(), sink)
    elif name == "rows.arrow":
        ipc.new_file(sink, schema).close()
    else:
        sink.write({"blank.csv": b"\n\n \n", "header.csv": b"review_id,body,stars\n"}.get(name, b""))
    receipt = published(source(name, sink.getvalue().to_pybytes()))
    assert (receipt["rows_in"], receipt["rows_published"], receipt["texts_distinct"]) == (0, 0, 0)
    assert tables("SELECT count(*) FROM {t}") == [(0,)]
    assert tables("SELECT count(*), min(rows_in) FROM {l}") == [(2, 0)]
    assert tables("SELECT data_type FROM information_schema.columns WHERE column_name = 'stars'") == [("TINYINT",)]


def test_a_first_partition_that_is_empty_leaves_types_open_for_the_next(published, source, tables, write_job):
    assert published(source("empty.csv", b""), "--partition", "a")["rows_in"] == 0
    assert published(write_job(), "--partition", "b")["rows_published"] == 5
    assert tables("SELECT typeof(stars), count(*) FROM {t} GROUP BY 1") == [("TINYINT", 5)]


@pytest.mark.parametrize("name", ["label", "Score", "windrow_tokens", "windrow_mine"])
def test_a_kept_column_named_like_one_of_ours_names_the_rename(call, refused, tmp_path, write_job, untouched, name):
    path = tmp_path / "clash.parquet"
    parquet.write_table(pa.table({"id": [1], "body": ["good"], name: ["x"]}), path)
    job = write_job(source={"path": str(path), "key": "id", "keep": [name]})
    refused(call("run", job), 2, f"Column {name!r} in source.keep", f"rename {name!r} in the source")
    untouched()


@pytest.mark.parametrize("name", ["reason", "Detail", "rejected_at"])
def test_a_key_named_like_a_column_of_the_rejects_is_refused(call, refused, tmp_path, write_job, untouched, name):
    path = tmp_path / "clash.parquet"
    parquet.write_table(pa.table({name: [1], "body": ["good"]}), path)
    refused(call("run", write_job(source={"path": str(path), "key": name, "keep": None})), 2, f"rename {name!r}")
    untouched()


def test_kept_columns_named_like_those_of_the_rejects_are_carried(published, tables, tmp_path, write_job):
    path = tmp_path / "kept.parquet"
    parquet.write_table(pa.table({"id": [1, 2], "body": ["good", None], "reason": ["x", "y"], "detail": [3, 4]}), path)
    job = write_job(source={"path": str(path), "key": "id", "keep": ["reason", "detail"]})
    assert published(job)["rejects"] == {"null_text": 1}
    assert tables("SELECT id, reason, detail FROM {t}") == [(1, "x", 3)]
    assert tables("SELECT id, reason FROM {r}") == [(2, "null_text")]


def test_columns_that_differ_only_by_case_are_refused(call, refused, tmp_path, write_job, untouched):
    path = tmp_path / "case.parquet"
    parquet.write_table(pa.table({"id": [1], "body": ["good"], "Stars": [1], "stars": [2]}), path)
    job = write_job(source={"path": str(path), "key": "id", "keep": ["Stars", "stars"]})
    refused(call("run", job), 2, "'Stars'", "'stars'", "case")
    untouched()


@pytest.mark.parametrize(
    "name", ['odd "name"', "{braces}", "select", "naïve 文", "a.b", "it's", "%(x)s", "two\nlines", " "]
)
def test_odd_column_names_are_carried_as_they_are(published, tables, tmp_path, write_job, call, name):
    path = tmp_path / "odd.parquet"
    key = f"key {name}"
    parquet.write_table(pa.table({key: ["k1", "k2"], name: [7, 8], f"text {name}": ["good", None]}), path)
    job = write_job(source={"path": str(path), "key": key, "keep": [name], "text": f"text {name}"})
    assert published(job)["rejects"] == {"null_text": 1}
    quoted = name.replace('"', '""').replace("{", "{{").replace("}", "}}")
    assert tables(f'SELECT "key {quoted}", "{quoted}" FROM {{t}}') == [("k1", 7)]
    assert call("explain", job, "--key", "k1", "--json").returncode == 0


@pytest.mark.parametrize(
    "partition", ["2026-11-23", "a/b", "..", 'O\'Neil "x"', "ünï 文 🙂", "x" * 300, "%2F", " ", "*?[", "a\nb"]
)
def test_any_partition_name_is_published_and_replaced_as_it_is(published, tables, write_job, partition):
    for _ in range(2):
        receipt = published(write_job(), "--partition", partition)
        assert receipt["partition"] == partition
    assert tables("SELECT DISTINCT windrow_partition FROM {t}") == [(partition,)]
    assert tables("SELECT count(*) FROM {t}") == [(5,)]


@pytest.mark.parametrize("partition", ["a/b", "..", "*", "a\\b"])
def test_a_partition_cannot_lead_a_path_elsewhere(call, refused, write_job, tmp_path, partition):
    job = write_job(source={"path": f"{tmp_path}/{{partition}}/reviews.parquet"})
    refused(call("run", job, "--partition", partition), 2, "cannot stand in a path")


def test_a_partition_that_is_no_unicode_is_refused(call, refused, write_job):
    refused(call("run", write_job(), "--partition", "caf\udce9"), 2, "artition", "UTF-8")


def test_a_run_limited_to_some_rows_reads_no_more(published, write_job, tables):
    receipt = published(write_job(), "--limit", "3")
    assert (receipt["rows_in"], receipt["rows_published"]) == (3, 3)
    assert tables("SELECT review_id FROM {t} ORDER BY 1") == [("r0",), ("r1",), ("r2",)]
