"""The short form of `scripts/kill-runs`: the real command is killed with SIGKILL, and the books are compared."""

import pytest

from tests.hunt import kills


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_command_that_is_repeated_pays_for_no_row_twice(sqlite_url, postgresql_url, tmp_path):
    campaign = kills.campaign(3, [sqlite_url, postgresql_url], tmp_path, seed=11)
    assert campaign.faults == []
    assert sum(tally.kills for tally in campaign.tallies.values()) >= 3
    assert sum(tally.double for tally in campaign.tallies.values()) == 0
