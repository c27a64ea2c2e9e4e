"""A results table that programs saved again is no order, whatever they did to it."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelsheet.ledger import PAID as PAID_STATES
from reelsheet.ledger import State
from reelsheet.outcomes import Status
from reelsheet.planning.plan import Step
from tests.planning import programs
from tests.planning.desk import paying

SHEET = """sku,image,prompt,take,enable prompt expansion,notes
007,https://cdn.shop.example/p/1.png,"slow push in\r\nthen hold",,yes,a
008,https://cdn.shop.example/p/2.png,湯気がゆっくり立ちのぼる,2,no,"b
c"
NA,https://cdn.shop.example/p/3.png,=orbit left,,,
,https://cdn.shop.example/p/größe.png, café “slow” ... ,1,,1.5
012,https://cdn.shop.example/p/5.png,,,,2026-01-15
013,https://cdn.shop.example/p/6.png,NA,3,yes,
014,https://drive.google.com/file/d/1AbcdefGHIJKLMNOPQRSTUVWX/view?usp=sharing,żółw 🎉 - idzie,,,TRUE
"""
STATUSES = [
    Status.SUCCEEDED, Status.UNDELIVERED, Status.UNKNOWN, Status.SUCCEEDED, Status.SUCCEEDED, Status.UNKNOWN,
    Status.SUCCEEDED,
]  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from(["run", "retry"]))
def test_no_row_is_paid_for_a_second_time(desk, seed, verb):
    if not desk.destination.exists():
        desk.table = desk.ran(SHEET, STATUSES)
    saved = programs.damaged(desk.table, seed)
    plan = desk.plan(saved.content(), verb, name=saved.name)
    assert paying(plan) == [], saved.done
    assert len(plan.manifest.rows) == len(STATUSES)
    assert plan.cost_cents == 0


@pytest.mark.parametrize("change", programs.PROGRAMS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_rows_keep_their_standing_through_each_of_them(desk, change, form):
    table = programs.opened(desk.ran(SHEET, STATUSES))
    change(table, random.Random(7))
    table.form = form
    for verb in ("run", "retry"):
        plan = desk.plan(table.content(), verb, name=table.name)
        assert paying(plan) == []
        states = [group.latest.state if group.latest else None for group in plan.groups.values()]
        assert states.count(State.UNKNOWN) == 2
        assert sum(state in PAID_STATES for state in states) == 5
        assert not plan.at_step(Step.REFUSE)
