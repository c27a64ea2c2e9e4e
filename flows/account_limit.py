"""An account-wide limit for predictions in flight, where somebody has set one as a Prefect global concurrency limit.

The pace finds by itself what the account allows; this is for accounts that others use as well. Without the limit
nothing is asked per row. Where Prefect does not answer, rows go on: the limit is a courtesy, not the budget.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException

from reelsheet.run.stop_control import StopControl

log = logging.getLogger("reelsheet")

NAME = "reelsheet-predictions"
LEASE_S = 300.0  # a killed worker's places are free again after so long
RENEW_INTERVAL_S = 100.0
LONGEST_WAIT_S = 2.0
LOCKED = 423


class AccountLimit:
    """`take` waits for a place. One per process; leases are renewed together."""

    def __init__(self, client: PrefectClient | None) -> None:
        self._client = client
        self._leases: set[UUID] = set()
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator["AccountLimit"]:
        """The limit that is set on the server; one that lets everything pass where there is none."""
        async with contextlib.AsyncExitStack() as open_client:
            limit = cls(None)
            with contextlib.suppress(ObjectNotFound, httpx.HTTPError, PrefectException, OSError):
                client = await open_client.enter_async_context(get_client())
                known = await client.read_global_concurrency_limit_by_name(NAME)
                limit = cls(client if known.active else None)
            try:
                yield limit
            finally:
                await limit.close()

    async def take(self, stops: StopControl) -> UUID | None:
        """Wait for a place, no longer than the run submits. Its lease, for `release`; None where nothing limits."""
        while self._client is not None and not stops.is_stopping:
            try:
                answer = await self._client.increment_concurrency_slots_with_lease(
                    names=[NAME], slots=1, mode="concurrency", lease_duration=LEASE_S
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code != LOCKED:
                    break
                await asyncio.sleep(random.uniform(0.25, LONGEST_WAIT_S))  # noqa: S311 - spreads the requests
                continue
            except httpx.HTTPError as error:
                log.warning("The limit %s cannot be asked (%s); going on without it.", NAME, type(error).__name__)
                break
            lease = UUID(answer.json()["lease_id"])
            self._leases.add(lease)
            if self._renewing is None:
                self._renewing = asyncio.create_task(self._renew(self._client))
            return lease
        return None

    async def release(self, lease: UUID | None) -> None:
        if lease in self._leases and lease is not None and self._client is not None:
            self._leases.discard(lease)
            with contextlib.suppress(httpx.HTTPError, ObjectNotFound):  # it expires by itself
                await self._client.release_concurrency_slots_with_lease(lease)

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        for lease in list(self._leases):
            await self.release(lease)

    async def _renew(self, client: PrefectClient) -> None:
        while True:
            await asyncio.sleep(RENEW_INTERVAL_S)
            for lease in list(self._leases):
                with contextlib.suppress(httpx.HTTPError, ObjectNotFound):
                    await client.renew_concurrency_lease(lease, LEASE_S)
