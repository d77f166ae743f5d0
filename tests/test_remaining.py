"""When a lane will be done, predicted from what it has done."""

from datetime import UTC, datetime, timedelta

import pytest

from windrow.remaining import Forecast

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def forecast(*seconds):
    """A forecast whose shards end at these seconds; its clock is at the last end it was told."""
    told = [0.0]
    times = iter([0.0, *seconds])

    def clock():
        told[0] = next(times)
        return told[0]

    return Forecast(clock, lambda: NOON + timedelta(seconds=told[0]))


def test_the_first_shard_pays_for_loading_and_is_left_out_afterwards():
    ends = forecast(100, 110, 120)
    assert ends(1000, 4000).seconds == pytest.approx(300)
    assert ends(2000, 4000).seconds == pytest.approx(20)
    third = ends(3000, 4000)
    assert third.seconds == pytest.approx(10)
    assert third.finish == NOON + timedelta(seconds=130)


def test_the_interval_holds_the_prediction_and_narrows_as_shards_agree():
    ends = forecast(*range(10, 110, 10))
    told = [ends(done, 2000) for done in range(100, 1100, 100)]
    assert all(one.low_s < one.seconds < one.high_s for one in told)
    widths = [(one.high_s - one.low_s) / one.seconds for one in told]
    assert widths[-1] < widths[0]
    assert widths[-1] == pytest.approx(0.2)


def test_shards_that_disagree_keep_the_interval_wide():
    steady, uneven = forecast(10, 20, 30, 40, 50), forecast(10, 12, 40, 42, 70)
    for done in range(100, 600, 100):
        one, other = steady(done, 1000), uneven(done, 1000)
    assert other.high_s - other.low_s > 2 * (one.high_s - one.low_s)


def test_what_is_done_takes_no_more_time():
    assert forecast(10)(500, 500).seconds == 0


def test_two_shards_that_end_at_one_tick_of_the_clock_are_no_error():
    ends = forecast(10, 10)
    ends(100, 300)
    assert ends(200, 300).seconds == pytest.approx(0, abs=1e-6)


def test_the_remaining_time_is_told_in_one_line():
    ends = forecast(10, 20)
    ends(1000, 61000)
    assert str(ends(2000, 61000)) == (
        "2,000 of 61,000 texts, 100/s, about 9.8 min left (3.9 min to 16 min), done at 12:10 UTC"
    )


def test_lateness_is_told_against_a_deadline():
    remaining = forecast(10)(100, 200)
    assert remaining.lateness(NOON) == timedelta(seconds=20)
    assert remaining.lateness(NOON + timedelta(minutes=1)) == timedelta(seconds=-40)
