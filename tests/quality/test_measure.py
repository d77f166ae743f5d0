"""What is measured of predictions, and for which tasks."""

from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pytest

from windrow.errors import JobError
from windrow.quality import Gates
from windrow.quality.measure import Measures, check_gates, measured

CLASSES = pa.schema([("label", pa.string()), ("score", pa.float32())])
SUMMARIES = pa.schema([("summary", pa.string())])
ENTITIES = pa.schema([("entities", pa.list_(pa.struct([("text", pa.string())])))])
ALL = Gates(
    confidence={"min_mean": 0.5, "low": 0.6}, length={"max_mean": 9}, empty_outputs={"max_share": 0}
)  # fmt: skip
BLANK = Gates(length={"max_mean": 9}, empty_outputs={"max_share": 0})


def measure(gates, schema, *columns):
    """Measure three rows of two texts, and one row whose text is a reject."""
    found = pa.table(
        {
            "windrow_hash": [b"1", b"2", b"3"],
            **{f.name: pa.array([*values, None], f.type) for f, values in zip(schema, columns, strict=True)},
            "windrow_tokens": pa.array([10, 40, 99], pa.int32()),
            "windrow_reason": pa.array([None, None, "model_error"], pa.string()),
        }
    )
    rows = pa.table({"windrow_hash": [b"1", b"2", b"2", b"3"]})
    with duckdb.connect() as con:
        con.register("rows", rows)
        con.register("found", found)
        return measured(con, gates, schema)


def test_scores_and_tokens_are_averaged_over_published_rows():
    found = measure(ALL, CLASSES, ["a", "b"], [0.9, 0.5])
    assert found.mean_score == pytest.approx((0.9 + 0.5 + 0.5) / 3)
    assert found.low_share == pytest.approx(2 / 3)
    assert (found.mean_length, found.empty) == (30.0, 0)


def test_texts_are_measured_in_characters_and_blank_ones_counted():
    found = measure(BLANK, SUMMARIES, ["größer", "  "])
    assert (found.mean_length, found.empty) == (pytest.approx((6 + 2 + 2) / 3), 2)


def test_an_empty_list_is_an_empty_output():
    assert measure(BLANK, ENTITIES, [[{"text": "Ann"}], []]).empty == 2


def test_nothing_is_measured_unless_asked():
    assert measure(Gates(), CLASSES, ["a", "b"], [0.9, 0.5]) == Measures()


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        (Gates(label_drift={}), "quality.label_drift needs a column 'label'"),
        (Gates(confidence={"min_mean": 0.5}), "quality.confidence needs a column 'score'"),
    ],
)
def test_a_gate_over_a_column_that_the_task_lacks_is_refused(gates, words):
    check_gates(gates, SimpleNamespace(name="sentiment", columns=CLASSES))
    with pytest.raises(JobError, match=words):
        check_gates(gates, SimpleNamespace(name="summarise", columns=SUMMARIES))
