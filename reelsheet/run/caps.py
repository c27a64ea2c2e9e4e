"""What the caps of the run and of the day still pay for, before anything is claimed.

The ledger decides at each claim. This only spares work, such as an upload, for clips that it would refuse.
"""

import asyncio
from typing import Final

from reelsheet import messages
from reelsheet.errors import LedgerError
from reelsheet.ledger import OverBudget
from reelsheet.run.context import RunContext
from reelsheet.run.in_flight import InFlight
from reelsheet.run.ledger_session import LedgerSession
from reelsheet.run.price_watch import PriceWatch
from reelsheet.run.stop_control import StopControl

LOOK_S: Final = 0.2  # between two looks, while submissions on their way may yet give money back


class Caps:
    """The caps of one run."""

    def __init__(
        self,
        context: RunContext,
        *,
        session: LedgerSession,
        stops: StopControl,
        in_flight: InFlight,
        prices: PriceWatch,
    ) -> None:
        self._context, self._session, self._stops = context, session, stops
        self._in_flight, self._prices = in_flight, prices
        self._waiting: set[str] = set()  # identities in `has_room`
        self._in_turn = asyncio.Lock()

    async def clips_left(self) -> int | None:
        """How many clips still fit under the tighter cap; None: no cap ends them. Raises LedgerError."""
        return (await self._left())[0]

    async def has_room(self, identity: str = "") -> bool:
        """Whether one more clip fits beside those that are being submitted; where none ever will, the run stops.

        `identity`: whose clip it is. False also where the run has stopped for another reason.
        """
        self._waiting.add(identity)
        try:
            async with self._in_turn:
                return await self._has_room()
        except LedgerError as error:
            self._session.fail(error)
        finally:
            self._waiting.discard(identity)
        return False

    async def _has_room(self) -> bool:
        while not self._stops.is_stopping:
            unsent = self._in_flight.count_unsent(besides=self._waiting)  # first: who leaves meanwhile counts twice
            clips, over = await self._left()
            if clips is None or clips > unsent:
                return True
            if over is not None and not clips and not unsent and not self._in_flight:
                self._stops.stop_over_budget(messages.over_budget(over.which, over.cap_cents, self._prices.price_cents))
            else:
                await asyncio.sleep(LOOK_S)
        return False

    async def _left(self) -> tuple[int | None, OverBudget | None]:
        """The clips that fit, and the cap that ends them."""
        ledger, settings = self._context.ledger, self._context.settings
        record = await self._session.call(ledger.run, self._context.run_id)
        caps = []
        if record is not None and record.cap_cents is not None:
            caps.append((record.cap_cents - record.spent_cents, OverBudget("run", record.cap_cents)))
        if settings.daily_cap_cents is not None:
            today = await self._session.call(ledger.today, is_play_money=settings.is_play_money)
            caps.append((settings.daily_cap_cents - today.spent_cents, OverBudget("day", settings.daily_cap_cents)))
        if not caps:
            return None, None
        left_cents, over = min(caps, key=lambda cap: cap[0])
        return max(0, left_cents // self._prices.price_cents), over
