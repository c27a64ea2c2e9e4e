"""While a run goes: a bar in Prefect's UI, and a warning before a cap is reached. None of it may end a run."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from flows.reporting import events
from flows.reporting.names import artifact_key, description, never_raising
from reelsheet.errors import LedgerError
from reelsheet.money import dollars
from reelsheet.planning.plan import OPEN
from reelsheet.run.context import RunContext
from reelsheet.run.run import RunMonitor

log = logging.getLogger("reelsheet")

NEAR_CAP = 0.8  # of a cap
INTERVAL_S = 5.0
MIN_ROWS_FOR_BAR = 20  # rows to do; fewer are over before anybody looks


@contextlib.asynccontextmanager
async def shown(monitor: RunMonitor) -> AsyncIterator[None]:
    """Keep bar and warnings up to date until the end."""
    progress = await _Progress.of(monitor)
    updating = asyncio.create_task(progress.keep())
    try:
        yield
    finally:
        updating.cancel()
        await asyncio.gather(updating, return_exceptions=True)
        await progress.update()  # a run may be over before the first update


@dataclass(slots=True)
class _Progress:
    context: RunContext
    to_do: int  # groups at the start
    bar: UUID | None
    may_reach_cap: bool  # the plan did not fit under --max-cost from the start
    warned: set[str] = field(default_factory=set)  # caps

    @classmethod
    async def of(cls, monitor: RunMonitor) -> "_Progress":
        context = monitor.context
        to_do = len(context.plan.at_step(*OPEN))
        bar: UUID | None = None
        if to_do >= MIN_ROWS_FOR_BAR:
            async with never_raising("progress"):
                key = f"progress-{artifact_key(context)}"
                bar = await acreate_progress_artifact(0.0, key=key, description=description(context))
        cap_cents = context.record.cap_cents if context.options.max_cost_usd is not None else None
        total_cents = context.record.spent_cents + context.plan.cost_cents
        return cls(context, to_do, bar, bool(cap_cents) and total_cents > (cap_cents or 0))

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.update()

    async def update(self) -> None:
        if self.bar is not None:
            left = len(self.context.plan.at_step(*OPEN))
            async with never_raising("progress"):
                await aupdate_progress_artifact(self.bar, progress=round(100 * (1 - left / self.to_do), 1))
        with contextlib.suppress(LedgerError):
            await asyncio.to_thread(self._warn)

    def _warn(self) -> None:
        """One event for each cap that is nearly used up."""
        ledger = self.context.ledger
        record = ledger.run(self.context.run_id)
        if self.may_reach_cap and record is not None and record.cap_cents:
            self._warn_once("run", record.spent_cents, record.cap_cents)
        settings = self.context.settings
        if settings.daily_cap_cents:
            today = ledger.today(is_play_money=settings.is_play_money)
            self._warn_once("day", today.spent_cents, settings.daily_cap_cents)

    def _warn_once(self, cap: str, spent: int, cap_cents: int) -> None:
        if cap in self.warned or spent < NEAR_CAP * cap_cents:
            return
        self.warned.add(cap)
        log.warning("%s of the %s's cap of %s are used.", dollars(spent), cap, dollars(cap_cents))
        events.budget_warning(self.context, cap, spent, cap_cents)
