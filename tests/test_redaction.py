"""`source.redact`: what it finds, and that nothing of it reaches a file or a table."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from windrow import Job, run
from windrow.errors import JobError
from windrow.job import Source
from windrow.load import load
from windrow.sources.redaction import PATTERNS, Redaction

EVERYTHING = tuple(PATTERNS)
IDENTIFIERS = [
    "Kumar",
    "Mason",
    "7/14/2008",
    "July thirty",
    "1985",
    "555-867-5309",
    "ann@example.org",
    "123-45-6789",
    "0098123",
]
TEXT = (
    "Doctor: Dr. Kumar saw you on 7/14/2008, and Mister John Mason on July thirty first, two thousand eight? "
    "Patient: Yes, since 1985. Call 555-867-5309 or ann@example.org; my number is 123-45-6789, chart MRN0098123."
)


def redacted(text, *names):
    return Redaction(Source(path="x", text="t", key="k", redact=names or EVERYTHING)).text(text)


def test_names_dates_and_numbers_are_taken_out_and_the_rest_is_left():
    assert redacted(TEXT) == (
        "Doctor: [NAME] saw you on [DATE], and [NAME] on [DATE]? "
        "Patient: Yes, since [DATE]. Call [PHONE] or [EMAIL]; my number is [NUMBER], chart [NUMBER]."
    )


@pytest.mark.parametrize(
    "text",
    [
        "Doctor: May I look at your knee?",
        "The patient is a 76-year-old woman with a blood pressure of 140/90.",
        "She takes 81 mg of aspirin two times a day and 1,500 mg of calcium.",
        "The doctor said it may be one of three things.",
    ],
)
def test_what_is_no_identifier_is_left(text):
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on May third", "on [DATE]"),
        ("in May, 2004", "in [DATE]"),
        ("on the 3rd of June 1999", "on the [DATE]"),
        ("seen 06/30/04", "seen [DATE]"),
        ("in nineteen eighty five", "in [DATE]"),
        ("Miss Sherry came", "[NAME] came"),
        ("Nurse O'Neil and Prof. A. Lee", "[NAME] and [NAME]"),
        ("+1 (555) 867-5309", "[PHONE]"),
    ],
)
def test_identifiers_are_found_as_people_write_them(text, expected):
    assert redacted(text) == expected


def test_only_what_is_named_is_taken_out():
    assert redacted("Dr. Kumar, 1985", "dates") == "Dr. Kumar, [DATE]"


def test_patterns_of_ones_own_are_replaced_by_their_label():
    source = Source(path="x", text="t", key="k", redact={"WARD": r"\bward \d+\b"})
    assert Redaction(source).text("in ward 12") == "in [WARD]"


def told(reader):
    """All texts of a file of the store."""
    if reader.suffix == ".parquet":
        return str(parquet.read_table(reader).to_pylist())
    if reader.suffix == ".arrow":
        return str(pa.ipc.open_file(reader).read_all().to_pylist())
    return reader.read_text(encoding="utf-8")


@pytest.fixture
def notes(tmp_path, job_fields):
    """A job over a CSV file with identifiers in its text, in a kept column, and in a line that is no row."""
    file = tmp_path / "notes.csv"
    file.write_text(
        f'id,dialogue,note\n1,"{TEXT}","Seen by Dr. Kumar on 7/14/2008."\n2,good film,\n3,"{TEXT}",x,too,many\n',
        encoding="utf-8",
    )
    source = {"path": str(file), "text": "dialogue", "key": "id", "keep": ["note"], "redact": list(EVERYTHING)}
    return Job(**{**job_fields, "source": source})


def test_no_identifier_is_in_any_file_of_the_store_after_load(notes):
    load(notes, "all")
    files = [file for file in Path(notes.store_url).rglob("*") if file.is_file()]
    assert {".parquet", ".arrow", ".json"} <= {file.suffix for file in files}
    whole = "".join(told(file) for file in files)
    assert "[NAME] saw you on [DATE]" in whole
    assert [name for name in IDENTIFIERS if name in whole] == []


def test_no_identifier_is_in_the_warehouse_after_a_run(notes):
    receipt = run(notes)
    assert (receipt.rows_published, receipt.rejects) == (2, {"malformed_row": 1})
    with duckdb.connect(notes.warehouse.url.removeprefix("duckdb:///"), read_only=True) as con:
        tables = ["review_sentiment", "review_sentiment__rejects", "windrow_runs"]
        whole = str([con.execute(f"FROM analytics.{table}").fetchall() for table in tables])
    assert "Seen by [NAME] on [DATE]." in whole
    assert [name for name in IDENTIFIERS if name in whole] == []


def test_texts_that_differ_only_in_what_is_taken_out_are_scored_once(tmp_path, job_fields):
    file = tmp_path / "notes.parquet"
    parquet.write_table(pa.table({"id": [1, 2], "body": ["Dr. Kumar is good", "Dr. Mason is good"]}), file)
    source = {"path": str(file), "text": "body", "key": "id", "redact": ["names"]}
    assert run(Job(**{**job_fields, "source": source})).texts_scored == 1


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_type_of_text_keeps_its_type(kind):
    batch = pa.record_batch({"t": pa.array(["Dr. Kumar", None]).cast(kind), "k": [1, 2]})
    found = Redaction(Source(path="x", text="t", key="k", redact="names")).batch(batch)
    assert found.schema == batch.schema
    assert found.column("t").to_pylist() == ["[NAME]", None]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.binary()])
def test_a_column_that_cannot_be_searched_is_refused(kind):
    batch = pa.record_batch({"t": ["x"], "n": pa.array([[] if pa.types.is_list(kind) else b"x"], kind), "k": [1]})
    redaction = Redaction(Source(path="x", text="t", key="k", keep="n", redact="names"))
    with pytest.raises(JobError, match=r"Column 'n' has type .*\n.*leave it out"):
        redaction.batch(batch)


def test_unknown_names_and_broken_patterns_are_explained():
    with pytest.raises(JobError, match="knows no 'name'; did you mean 'names'"):
        redacted("x", "name")
    source = Source(path="x", text="t", key="k", redact={"X": "(?<=a)b"})
    with pytest.raises(JobError, match="pattern of 'X' is not valid"):
        Redaction(source).text("ab")
