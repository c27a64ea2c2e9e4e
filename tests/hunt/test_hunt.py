"""The hunt for the next money fault."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.hunt.simulation import simulated


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_order_of_events_costs_more_than_people_permitted(hunt):
    quick = settings(
        max_examples=25, stateful_step_count=12, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    with simulated():
        run_state_machine_as_test(hunt, settings=quick)
