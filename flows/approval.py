"""Above `approve_above_usd` a run waits for a person: approve, cut to an amount, or refuse. Nothing is spent before."""

import asyncio
from dataclasses import replace
from typing import Annotated, Literal

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.variables import Variable
from pydantic import Field, ValidationError

from flows.reporting import artifacts, states
from reelsheet import money
from reelsheet.options import Options
from reelsheet.planning.preparation import Preparation

DEFAULT_HOURS = 12.0
HOURS_VARIABLE = "reelsheet_approval_hours"
SPARE_S = 600  # Prefect's own clean-up of pauses that nobody answered comes after ours
POLL_INTERVAL_S = 5


class Approval(RunInput):
    """What a person answers in Prefect's UI."""

    decision: Annotated[
        Literal["approve", "cut", "refuse"],
        Field(description="approve: spend up to the plan's total; cut: at most the amount below; refuse: nothing."),
    ]
    spend_at_most_usd: Annotated[
        float | None, Field(ge=0, le=1_000_000, description="For `cut`: the most to spend, in US dollars.")
    ] = None


async def ask(preparation: Preparation) -> Options | states.Outcome:
    """The options to go on with, capped at what was agreed to; or the final state of a run that was not approved."""
    threshold_usd = preparation.options.approve_above_usd
    cents = min(preparation.plan.cost_cents, preparation.cap_cents)
    if threshold_usd is None or cents <= money.cents(threshold_usd) or _was_approved(preparation):
        return preparation.options
    plan = artifacts.plan_markdown(preparation)
    preparation.close()  # nobody should wait for a lease that is not needed meanwhile
    hours = await _hours()
    answer = await _answer(plan, hours)
    if answer is None:
        return states.not_approved(
            f"Nobody approved spending {money.dollars(cents)} within {hours:g} hours; nothing was spent. "
            "Start it again, or raise approve_above_usd."
        )
    if answer.decision == "refuse":
        return states.refused(f"A person refused to spend {money.dollars(cents)}; nothing was spent.")
    approved = cents if answer.decision == "approve" else min(cents, money.cents(answer.spend_at_most_usd or 0))
    return replace(preparation.options, max_cost_usd=approved / 100)


def _was_approved(preparation: Preparation) -> bool:
    """The same flow run, continued after a crash: its cap is in the ledger."""
    return flow_run.id is not None and preparation.ledger.run_of_flow(flow_run.id) is not None


async def _answer(plan: str, hours: float) -> Approval | None:
    """What a person answers; asked again where the answer makes no sense. None: nobody answered."""
    limit_s = hours * 3600
    try:
        async with asyncio.timeout(limit_s):
            for number in range(1, 100):
                form = Approval.with_initial_data(description=plan)
                try:
                    answer: Approval = await apause_flow_run(
                        wait_for_input=form, timeout=int(limit_s) + SPARE_S, poll_interval=POLL_INTERVAL_S,
                        key=f"approval-{number}",
                    )  # fmt: skip
                except ValidationError:
                    continue
                if answer.decision != "cut" or answer.spend_at_most_usd is not None:
                    return answer
                plan = f"**To cut, give the amount as well.**\n\n{plan}" if number == 1 else plan
    except (TimeoutError, FlowPauseTimeout):
        pass
    return None


async def _hours() -> float:
    """How long to wait, from the Prefect variable `reelsheet_approval_hours`."""
    value = await Variable.aget(HOURS_VARIABLE, default=DEFAULT_HOURS)
    try:
        hours = float(str(value))
    except ValueError:
        return DEFAULT_HOURS
    return hours if 0 < hours < 24 * 30 else DEFAULT_HOURS
