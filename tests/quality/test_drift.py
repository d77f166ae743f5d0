"""How far apart two distributions of labels are: against scipy, against worked examples, and as properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from windrow.quality.drift import chi_square, psi

LABELS = "abcdef"
COUNTS = st.dictionaries(st.sampled_from(LABELS), st.integers(0, 5_000))
FULL = st.fixed_dictionaries({label: st.integers(200, 5_000) for label in LABELS})


def test_the_index_is_that_of_the_formula():
    now, before = {"a": 10, "b": 20, "c": 70}, {"a": 200, "b": 300, "c": 500}
    expected = -0.1 * math.log(0.1 / 0.2) - 0.1 * math.log(0.2 / 0.3) + 0.2 * math.log(0.7 / 0.5)
    assert psi(now, before) == pytest.approx(expected)


def test_a_label_that_one_side_lacks_counts_half_a_row():
    assert psi({"a": 100}, {"a": 90, "b": 10}) == pytest.approx(
        0.1 * math.log(1 / 0.9) + (0.005 - 0.1) * math.log(0.005 / 0.1)
    )


@given(COUNTS, COUNTS)
def test_the_index_is_never_negative_and_the_same_both_ways(now, before):
    assert psi(now, before) >= 0
    assert psi(now, before) == pytest.approx(psi(before, now))


@given(FULL, st.integers(2, 50))
def test_equal_shares_have_no_drift_however_many_rows(counts, times):
    more = {label: rows * times for label, rows in counts.items()}
    assert psi(counts, more) == pytest.approx(0, abs=1e-9)
    test = chi_square(counts, more)
    assert (test.statistic, test.p_value) == (pytest.approx(0, abs=1e-6), pytest.approx(1))


@given(FULL, FULL)
def test_chi_square_is_that_of_scipy(now, before):
    expected = chi2_contingency([[now[label] for label in LABELS], [before[label] for label in LABELS]], False)
    test = chi_square(now, before)
    assert test.statistic == pytest.approx(expected.statistic)
    assert test.degrees_of_freedom == expected.dof
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)


@given(COUNTS, COUNTS)
def test_every_pair_of_samples_has_a_test(now, before):
    test = chi_square(now, before)
    assert test.statistic >= 0
    assert 0 <= test.p_value <= 1
    assert 0 <= test.cramers_v <= 1 + 1e-9
    assert test.degrees_of_freedom < len(LABELS)


def test_the_critical_values_of_the_tables_are_met():
    for degrees, critical in {1: 3.841, 2: 5.991, 5: 11.070}.items():
        labels = range(degrees + 1)
        even = dict.fromkeys(map(str, labels), 1_000)
        size = math.sqrt(critical * 1_000)  # moves the statistic of 2,000 rows a label near the critical value
        moved = {**even, "0": 1_000 + round(size), "1": 1_000 - round(size)}
        test = chi_square(moved, even)
        assert test.degrees_of_freedom == degrees
        assert (test.p_value < 0.05) == (test.statistic > critical)


def test_rare_labels_are_tested_together():
    now = {"a": 500, "b": 495, "x": 2, "y": 3}
    before = {"a": 500, "b": 497, "z": 3}
    expected = chi2_contingency([[500, 495, 5], [500, 497, 3]], False)
    test = chi_square(now, before)
    assert (test.degrees_of_freedom, test.statistic) == (expected.dof, pytest.approx(expected.statistic))


@given(st.integers(20, 500), st.integers(20, 50_000), st.integers(1, 40))
def test_rows_of_another_label_alone_are_never_taken_for_chance(rows, rows_before, labels):
    before = {f"b{number}": rows_before // labels + 1 for number in range(labels)}
    assert chi_square({"a": rows}, before).p_value < 1e-3
    assert psi({"a": rows}, before) > 1


def test_two_rows_a_side_say_nothing():
    assert chi_square({"a": 2}, {"b": 2}).p_value == 1.0
    assert chi_square({}, {"b": 2}).p_value == 1.0
    assert psi({}, {"b": 2}) == 0.0
