"""The pace of earlier predictions, from which the duration of a run is estimated."""

import time

import pytest

from reelsheet.ledger.pace_history import ObservedPace


def test_the_pace_of_a_ledger_without_predictions_is_not_known(ledger):
    assert ledger.observed_pace() is None


def test_the_pace_is_the_median_duration_and_the_most_predictions_that_overlapped_in_one_run(opens):
    first, second = opens("r1"), opens("r2")
    for process, identity, seconds in ((first, "a", 50), (first, "b", 60), (second, "c", 70)):
        process.ledger.record_completed(process.submitted(identity), time.time() + seconds)
    pace = first.ledger.observed_pace()
    assert pace.prediction_s == pytest.approx(60, abs=5)
    assert pace.most_in_flight == 2


def test_what_took_more_than_a_day_does_not_count(process):
    process.ledger.record_completed(process.submitted(), time.time() + 100_000)
    assert process.ledger.observed_pace() is None


def test_lower_concurrency_makes_the_estimate_longer():
    assert ObservedPace(60.0, 8).estimate_s(16) == 120.0
    assert ObservedPace(60.0, 8).estimate_s(16, concurrency=2) == 480.0
    assert ObservedPace(60.0, 8).estimate_s(0) == 0.0
