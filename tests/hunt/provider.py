"""The sandbox's provider without sockets: it keeps its books, and requests to it can be lost on either way."""

import asyncio
import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from reelsheet.sandbox.configuration import Configuration
from reelsheet.sandbox.predictions import Prediction
from reelsheet.sandbox.provider import StandIn
from tests.stand_in.sandbox_faults import Armed, FaultLayer, Rule

LATENCY_S = 5.0
SENT = "http11.send_request_headers.started"  # the event of httpx's transport right before the first byte leaves

_sender: ContextVar[Any] = ContextVar("sender", default=None)


@dataclass
class Charge:
    """One accepted submission, as the provider's books have it."""

    id: str
    text: str
    cents: int
    failed: bool
    sender: Any  # as `request` was told


class Provider:
    """`lost`: what happens to the next submissions, one word each: "before", "after" or "" (see `request`)."""

    key = "vdk-4f9cQ7Zb1mXw8rTn2LpK6sYd3HgJ5vEa"
    api, assets = "http://127.0.0.1:1", "http://127.0.0.1:2"

    def __init__(self, folder: Path) -> None:
        configuration = Configuration(key=self.key, clips="tiny", clip_bytes=1, latency=LATENCY_S, cache=folder)
        self._stand_in = StandIn(configuration, api=self.api, assets=self.assets)
        self._faults = FaultLayer(self._stand_in)
        self._transport = httpx.ASGITransport(self._faults)  # type: ignore[arg-type] # an application all the same
        self.lost: list[str] = []
        self._senders: dict[str, Any] = {}
        self._accept = self._stand_in.predictions.accept
        self._stand_in.predictions.accept = self._note_sender  # type: ignore[method-assign]

    def _note_sender(self, *arguments: Any) -> Prediction:
        prediction = self._accept(*arguments)
        self._senders[prediction.id] = _sender.get()
        return prediction

    def reset(self) -> None:
        self._stand_in.predictions.clear()
        self.behave()

    def behave(self) -> None:
        """No more faults."""
        self._faults._rules.clear()
        self.lost.clear()

    def fault(self, at: str, *, times: int, prompt: str | None = None, **do: Any) -> None:
        """As `FaultySandbox.fault`."""
        rule = Rule.model_validate({"at": at, "match": {"prompt": prompt}, "do": do, "times": times})
        self._faults._rules.append(Armed(rule))

    @property
    def is_well(self) -> bool:
        rules = self._faults._rules
        return not self.lost and not any(armed.rule.times == -1 or armed.applied < armed.rule.times for armed in rules)

    def charges(self) -> list[Charge]:
        """In the order of their acceptance."""
        return [
            Charge(p.id, p.prompt, p.cents, p.error is not None, self._senders.get(p.id))
            for p in self._stand_in.predictions.by_id.values()
        ]

    async def request(
        self, request: httpx.Request, reach: Callable[[str], None], moment: random.Random, sender: Any
    ) -> httpx.Response:
        """The answer to a request, some simulated time later."""
        is_post = request.method == "POST"
        is_asset = request.url.port == 2
        reach("submit" if is_post else "asset" if is_asset else "poll")
        await asyncio.sleep(moment.random() * 0.2)
        lost = self.lost.pop(0) if is_post and self.lost else ""
        if lost == "before":
            raise httpx.ConnectError("no route", request=request)
        if is_post:
            await request.extensions["trace"](SENT, {"request": SimpleNamespace(method=b"POST")})
            await asyncio.sleep(moment.random() * 0.2)
        _sender.set(sender)
        response = await self._transport.handle_async_request(request)
        await asyncio.sleep(moment.random() * 0.2)
        if lost == "after":
            raise httpx.ReadError("reset", request=request)
        if is_post:
            reach("submitted")
        return response
