"""The page's parts that need no Airflow: what they say of numbers, names and XComs."""

import doctest

import pytest

from windrow.airflow.page import drawing, facts, queries
from windrow.airflow.page.facts import Brief, Progress


@pytest.mark.parametrize("module", [drawing, facts, queries], ids=lambda module: module.__name__)
def test_examples_in_the_code_are_true(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert result.failed == 0


@pytest.mark.parametrize("value", [None, 7, "job", [], {}, {"job": "x"}, {"rows_in": 1}])
def test_what_is_no_receipt_in_brief_is_nothing(value):
    assert Brief.read(value) is None


def test_a_receipt_in_brief_is_read_with_mistrust():
    brief = Brief.read(
        {"job": "x" * 10**6, "rows_in": float("nan"), "labels": {"a": "many", "b": 2}, "checks": ["warn"]}
    )
    assert len(brief.job) == 300
    assert (brief.rows_in, brief.labels, brief.verdict, brief.cost) == (0.0, {"b": 2}, "warn", None)


@pytest.mark.parametrize("value", [None, "text", {}, {"total": "all"}])
def test_what_is_no_progress_is_nothing(value):
    assert Progress.read(value) is None


def test_names_of_tables_are_quoted_where_they_must_be():
    first = queries.statements('Sales."odd".reviews', "p", "r", has_labels=True)
    assert 'FROM "Sales"."""odd""".reviews' in first[0][1]
    assert first[-1][1].startswith('SELECT *\nFROM "Sales"."""odd""".windrow_runs')
