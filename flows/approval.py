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

HOURS = 12.0
HOURS_VARIABLE = "reelsheet_approval_hours"
SPARE_SECONDS = 600  # Prefect's own clean-up of pauses that nobody answered comes after ours
LOOK_SECONDS = 5


class Approval(RunInput):
    """What a person answers in Prefect's UI."""

    decision: Annotated[
        Literal["approve", "cut", "refuse"],
        Field(description="approve: spend up to the plan's total; cut: at most the amount below; refuse: nothing."),
    ]
    spend_at_most_usd: Annotated[
        float | None, Field(ge=0, le=1_000_000, description="For `cut`: the most to spend, in US dollars.")
    ] = None


async def ask(prepared: Preparation) -> Options | states.Outcome:
    """The options to go on with, its cap at what was agreed to; or the state of a run that was not."""
    threshold = prepared.options.approve_above_usd
    cents = min(prepared.plan.cost_cents, prepared.cap_cents)
    if threshold is None or cents <= money.cents(threshold) or _agreed_before(prepared):
        return prepared.options
    plan = artifacts.plan_markdown(prepared)
    prepared.close()  # nobody should wait for a lease that we do not need meanwhile
    hours = await _hours()
    answer = await _answer(plan, hours)
    if answer is None:
        return states.not_approved(
            f"Nobody approved spending {money.dollars(cents)} within {hours:g} hours; nothing was spent. "
            "Start it again, or raise approve_above_usd."
        )
    if answer.decision == "refuse":
        return states.refused(f"A person refused to spend {money.dollars(cents)}; nothing was spent.")
    agreed = cents if answer.decision == "approve" else min(cents, money.cents(answer.spend_at_most_usd or 0))
    return replace(prepared.options, max_cost_usd=agreed / 100)


def _agreed_before(prepared: Preparation) -> bool:
    """The same flow run, continued after a crash: its cap is in the books."""
    return flow_run.id is not None and prepared.ledger.run_of_flow(flow_run.id) is not None


async def _answer(plan: str, hours: float) -> Approval | None:
    """What a person says; asked anew where it cannot be meant. None: nobody said anything."""
    seconds = hours * 3600
    try:
        async with asyncio.timeout(seconds):
            for again in range(1, 100):
                asked = Approval.with_initial_data(description=plan)
                try:
                    answer: Approval = await apause_flow_run(
                        wait_for_input=asked, timeout=int(seconds) + SPARE_SECONDS, poll_interval=LOOK_SECONDS,
                        key=f"approval-{again}",
                    )  # fmt: skip
                except ValidationError:
                    continue
                if answer.decision != "cut" or answer.spend_at_most_usd is not None:
                    return answer
                plan = f"**To cut, give the amount as well.**\n\n{plan}" if again == 1 else plan
    except (TimeoutError, FlowPauseTimeout):
        pass
    return None


async def _hours() -> float:
    """How long to wait, from the Prefect variable `reelsheet_approval_hours`."""
    told = await Variable.aget(HOURS_VARIABLE, default=HOURS)
    try:
        hours = float(str(told))
    except ValueError:
        return HOURS
    return hours if 0 < hours < 24 * 30 else HOURS
