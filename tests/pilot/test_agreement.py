"""Predictions in lower precision are held against fp32, each kind of column by its own measure."""

from __future__ import annotations

import pyarrow as pa
import pytest

from windrow.pilot.agreement import agreement


def labelled(labels, scores):
    return pa.table({"label": labels, "score": pa.array(scores, pa.float32())})


def test_equal_predictions_agree():
    table = labelled(["a", None], [0.9, None])
    assert agreement(table, table).refused == ""


def test_one_label_in_two_hundred_may_differ_and_two_may_not():
    fp32 = labelled(["a"] * 200, [0.51] * 200)
    one, two = (labelled(["b"] * flips + ["a"] * (200 - flips), [0.5] * 200) for flips in (1, 2))
    assert agreement(fp32, one).refused == ""
    assert "labels agree on 99.00 %" in agreement(fp32, two).refused


def test_probabilities_that_shift_are_refused_though_the_labels_stay():
    found = agreement(labelled(["a", "a"], [0.9, 0.8]), labelled(["a", "a"], [0.86, 0.8]))
    assert found.refused.startswith("probabilities shift by 0.0200")
    assert found.share == 1


def test_a_flipped_label_counts_with_the_probability_that_is_left_to_it():
    found = agreement(labelled(["a"] * 1000, [0.6] * 1000), labelled(["b"] + ["a"] * 999, [0.6] * 1000))
    assert found.shift == pytest.approx(0.2 / 1000, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "fp32", "same", "other"),
    [
        (pa.string(), "one two three four", "one two three four", "five six"),
        (pa.list_(pa.float32()), [1.0, 0.0], [2.0, 0.01], [0.6, 0.8]),
        (pa.list_(pa.struct([("start", pa.int32()), ("score", pa.float32())])),
         [{"start": 1, "score": 0.5}], [{"start": 1, "score": 0.6}], [{"start": 2, "score": 0.5}]),
    ],
)  # fmt: skip
def test_texts_vectors_and_lists_have_measures_of_their_own(kind, fp32, same, other):
    reference, good, bad = (pa.table({"value": pa.array([value], kind)}) for value in (fp32, same, other))
    assert agreement(reference, good).refused == ""
    assert agreement(reference, bad).refused


@pytest.mark.parametrize(
    ("fp32", "other", "share"),
    [
        (
            "这部电影很好看演员也很出色。" * 10,
            "这部电影很好看演员也很出色。" * 9 + "这部电影很难看演员也很出色。",
            139 / 140,
        ),
        ("the film is good " * 100, "the film is good " * 99 + "the film is bad ", 399 / 400),
    ],
    ids=["no blanks", "many equal words"],
)
def test_one_word_of_a_long_text_is_one_difference(fp32, other, share):
    found = agreement(pa.table({"translation": [fp32]}), pa.table({"translation": [other]}))
    assert found.share == pytest.approx(share)


def test_a_text_that_fails_in_one_alone_counts_as_a_difference():
    assert agreement(pa.table({"summary": ["a b"]}), pa.table({"summary": pa.array([None], pa.string())})).refused


def test_nothing_compared_is_no_reason_to_refuse():
    assert agreement(labelled([], []), labelled([], [])).refused == ""
