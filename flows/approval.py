"""Above `approve_above_usd` a run waits for a person: approve, cut to an amount, or refuse. Nothing is spent before."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import Abort, FlowPauseTimeout
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.variables import Variable
from pydantic import Field, ValidationError

from flows.reporting import artifacts, states
from reelsheet import money
from reelsheet.options import Options
from reelsheet.planning.preparation import Preparation

log = logging.getLogger("reelsheet")

DEFAULT_HOURS = 12.0
HOURS_VARIABLE = "reelsheet_approval_hours"
SPARE_S = 600  # Prefect's own clean-up of pauses that nobody answered comes after ours
POLL_INTERVAL_S = 5
SERVER_ERROR = 500  # an HTTP status from here on says nothing about the request


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
                    answer = await _paused(form, int(limit_s) + SPARE_S, f"approval-{number}")
                except ValidationError:
                    continue
                if answer.decision != "cut" or answer.spend_at_most_usd is not None:
                    return answer
                plan = f"**To cut, give the amount as well.**\n\n{plan}" if number == 1 else plan
    except (TimeoutError, FlowPauseTimeout):
        pass
    return None


async def _paused(form: type[Approval], limit_s: int, key: str) -> Approval:
    """What a person answers. While Prefect's server is away, the answer is waited for all the same."""
    begun: int | None = None
    while True:
        try:
            begun = begun or await _times_begun()
            return await apause_flow_run(wait_for_input=form, timeout=limit_s, poll_interval=POLL_INTERVAL_S, key=key)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < SERVER_ERROR:
                raise
            log.warning(
                "Prefect's server does not answer (%s); the approval is still waited for.", type(error).__name__
            )
            await _until_answered(begun)


async def _until_answered(begun: int | None) -> None:
    """Until the server says that this run is paused no more. Asked again under the same key, it gives the answer.

    Raises Abort where the run was taken for lost meanwhile, as its heartbeats did not arrive: another process asks now.
    """
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        with suppress(httpx.HTTPError):
            async with get_client() as client:
                state = (await client.read_flow_run(UUID(flow_run.id))).state
            if (
                state is None
                or not (state.is_paused() or state.is_running())
                or (begun is not None and await _times_begun() > begun)
            ):
                raise Abort("Another process continues this run.")
            if not state.is_paused():
                return


async def _times_begun() -> int:
    """How many processes were started for this run. An answer counts as a start in `run_count`, but is not Pending."""
    async with get_client() as client:
        states = await client.read_flow_run_states(UUID(flow_run.id))
    return sum(state.name == "Pending" for state in states)


async def _hours() -> float:
    """How long to wait, from the Prefect variable `reelsheet_approval_hours`."""
    value = await Variable.aget(HOURS_VARIABLE, default=DEFAULT_HOURS)
    try:
        hours = float(str(value))
    except ValueError:
        return DEFAULT_HOURS
    return hours if 0 < hours < 24 * 30 else DEFAULT_HOURS
