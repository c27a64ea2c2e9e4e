"""The sandbox's processes with scripted faults: which request, what goes wrong, and whether it was charged all the same.

A layer around the stand-in's application answers `POST` and `DELETE /sandbox/faults`. A request that no rule fits
passes untouched. `faulty_sandbox.FaultySandbox` starts this file.
"""

import asyncio
import re
import socket
import struct
import sys
from base64 import b64decode
from collections import defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from reelsheet.money import quoted_cents
from reelsheet.sandbox.predictions import FAILURES, timestamp
from reelsheet.sandbox.provider import StandIn, json_object
from reelsheet.sandbox.serve import main

Place = Literal["submit", "poll", "asset"]
PLACES: dict[Place, re.Pattern[str]] = {
    "submit": re.compile(r"POST /api/v1/models/[^/]+/generate"),
    "poll": re.compile(r"GET /api/v1/predictions/([^/]+)"),
    "asset": re.compile(r"GET /assets/outputs/([^/]+)/[^/]+\.mp4"),
}


class Match(BaseModel):
    """Which requests are meant; everything given must fit, nothing given means every request."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | None = None  # a part of it
    image: str | None = None  # a part of its address
    id: str | None = None  # the prediction's, for polls and assets
    nth: int | list[int] | None = None  # only the n-th of those that fit, from 1, counted from when the rule was set


class Answer(BaseModel):
    """An answer in place of the normal one."""

    model_config = ConfigDict(extra="forbid")

    status: int = Field(200, ge=200, le=599)
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None  # text is sent as it is, anything else as JSON; None is an empty body
    base64: str | None = None  # the body as bytes


class Do(BaseModel):
    """What goes wrong. `answer` or the normal answer, altered by the fields below it, sent the way the rest says."""

    model_config = ConfigDict(extra="forbid")

    answer: Answer | None = None
    redirect: str | None = None  # answer 307 (or `answer.status`) with this Location
    headers: dict[str, str] = Field(default_factory=dict)  # laid over the answer's own
    patch: dict[str, Any] = Field(default_factory=dict)  # fields laid over the normal JSON answer
    drop: list[str] = Field(default_factory=list)  # fields taken out of it

    status: list[Any] | str | None = None  # poll: the statuses answered one after another, the last for ever
    outputs: Any = None  # poll: None, [], a number of clips, or a list, in which {assets} and {id} are filled in
    fail: str | None = None  # the prediction fails with this error
    cents: Any = None  # submit: what costCents says this time

    delay: float = Field(0, ge=0)  # seconds before anything is answered
    hang: bool = False  # read the request, never answer
    close: Literal["before", "after"] | None = None  # drop the connection before or after the body is read
    reset: Literal["before", "after"] | None = None  # the same with a TCP reset
    cut: int | None = Field(None, ge=0)  # send this many bytes of the body, then drop the connection
    framing: Literal["length", "none", "chunked"] = "length"  # how a cut or dripped body is announced
    declare: int | None = Field(None, ge=0)  # the Content-Length that is announced, whatever is sent
    drip: float | None = Field(None, gt=0)  # send the body at this many bytes a second

    def gives(self, name: str) -> bool:
        """True where the field was given, be it None."""
        return name in self.model_fields_set

    @property
    def replaces(self) -> bool:
        """The normal answer is not given: by default the provider has not accepted anything."""
        return bool(self.answer or self.redirect is not None or self.hang or self.close or self.reset)


class Rule(BaseModel):
    """One scripted fault. The first rule that fits and is not used up is applied."""

    model_config = ConfigDict(extra="forbid")

    at: Place
    match: Match = Field(default_factory=Match)
    times: int = Field(1, ge=-1)  # how often it is applied; -1 for ever
    do: Do = Field(default_factory=Do)
    charged: bool | None = None  # submit: a prediction is created and charged; by default where the answer is normal

    @model_validator(mode="after")
    def _scripts_last(self) -> "Rule":
        if "times" not in self.model_fields_set and (self.do.gives("status") or self.do.gives("outputs")):
            self.times = -1
        return self

    @property
    def early(self) -> bool:
        """It strikes before the body is read, so it cannot look at the body."""
        before = "before" in (self.do.close, self.do.reset)
        return before and self.at == "submit" and not (self.accepts or self.match.prompt or self.match.image)

    @property
    def accepts(self) -> bool:
        """Whether the provider creates and charges a prediction."""
        return not self.do.replaces if self.charged is None else self.charged


class Subject(NamedTuple):
    """What a request is about, as far as rules look at it."""

    prompt: str = ""
    image: str = ""
    id: str = ""


@dataclass(slots=True)
class Armed:
    """A rule with its counts."""

    rule: Rule
    seen: int = 0
    applied: int = 0
    steps: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))  # by prediction

    def take(self, subject: Subject) -> bool:
        """True where the rule is to be applied to this request, which counts as used."""
        match = self.rule.match
        if (
            (match.prompt is not None and match.prompt not in subject.prompt)
            or (match.image is not None and match.image not in subject.image)
            or (match.id is not None and match.id != subject.id)
        ):
            return False
        self.seen += 1
        if match.nth is not None and self.seen not in (match.nth if isinstance(match.nth, list) else [match.nth]):
            return False
        if self.rule.times != -1 and self.applied >= self.rule.times:
            return False
        self.applied += 1
        return True


class FaultLayer:
    """An ASGI application around the stand-in's own."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._rules: list[Armed] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = f"{scope.get('method')} {scope.get('path')}"
        if call == "DELETE /sandbox/faults":
            self._rules.clear()
            await Response(status_code=204)(scope, receive, send)
        elif call == "POST /sandbox/faults":
            await (await self._arm(Request(scope, receive)))(scope, receive, send)
        else:
            if call == "POST /sandbox/reset":
                self._rules.clear()
            for place, pattern in PLACES.items():
                fitting = pattern.fullmatch(call)
                if fitting and any(armed.rule.at == place for armed in self._rules):
                    await self._answer(place, "".join(fitting.groups()), Request(scope, receive), send)
                    return
            await self._stand_in.app(scope, receive, send)

    async def _arm(self, request: Request) -> Response:
        try:
            self._rules.append(Armed(Rule.model_validate(await request.json())))
        except ValidationError as error:
            return Response(str(error), 422)
        return Response(status_code=204)

    def _pick(self, place: Place, subject: Subject, *, early: bool = False) -> Armed | None:
        for armed in self._rules:
            if armed.rule.at == place and armed.rule.early == early and armed.take(subject):
                return armed
        return None

    async def _answer(self, place: Place, identifier: str, request: Request, send: Send) -> None:
        known = place == "asset" or self._stand_in.knows_key(request.headers)
        if place == "submit" and known:
            early = self._pick(place, Subject(), early=True)
            if early:
                await deliver(request, Response(), early.rule.do, send)
                return
        content = await request.body()
        body = json_object(content) if place == "submit" else {}
        prediction = self._stand_in.predictions.by_id.get(identifier)
        if place == "submit":
            subject = Subject(str((body or {}).get("prompt") or ""), str((body or {}).get("image") or ""))
        else:
            subject = Subject(prediction.prompt, prediction.image, identifier) if prediction else Subject(id=identifier)
        armed = self._pick(place, subject) if known and body is not None else None
        if armed is None:
            await self._stand_in.app(request.scope, _receives(content, request.receive), send)
            return
        do = armed.rule.do
        if place == "submit" and do.replaces and not armed.rule.accepts:
            self._stand_in.predictions.count_post(body)
            response = Response()
        else:
            response = await self._normal(request, content)
            if response.status_code == 200 and place != "asset":
                fields = orjson.loads(response.body)
                alter = self._submitted if place == "submit" else self._polled
                alter(fields, armed)
                fields = {name: value for name, value in (fields | do.patch).items() if name not in do.drop}
                response = Response(orjson.dumps(fields), 200, media_type="application/json")
        await deliver(request, replaced(response, do), do, send)

    async def _normal(self, request: Request, content: bytes) -> Response:
        """What the stand-in answers."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self._stand_in.app(request.scope, _receives(content, request.receive), collect)
        response = Response(b"".join(message.get("body", b"") for message in messages), messages[0]["status"])
        response.raw_headers = messages[0]["headers"]
        return response

    def _submitted(self, fields: dict[str, Any], armed: Armed) -> None:
        """Makes the new prediction what the rule says."""
        do, predictions = armed.rule.do, self._stand_in.predictions
        prediction = predictions.by_id[fields["id"]]
        if do.gives("cents"):
            fields["costCents"] = do.cents
            quoted = quoted_cents(do.cents)
            prediction.cents = prediction.cents if quoted is None else quoted
        if do.fail is not None:
            prediction.error = do.fail
        if not armed.rule.accepts:  # looks accepted, but nobody will ever know that id
            del predictions.by_id[prediction.id]
            running = predictions._in_flight.pop(prediction.id, None)
            if running:
                running.cancel()

    def _polled(self, fields: dict[str, Any], armed: Armed) -> None:
        """Makes the state of a prediction what the rule says."""
        do, identifier = armed.rule.do, fields["id"]
        prediction = self._stand_in.predictions.by_id[identifier]
        step = armed.steps[identifier]
        armed.steps[identifier] += 1
        if do.fail is not None:
            fields |= {"status": "failed", "error": do.fail}
        if do.gives("status"):
            statuses = do.status if isinstance(do.status, list) else [do.status]
            fields["status"] = statuses[min(step, len(statuses) - 1)]
        completed, failed = str(fields["status"]).casefold() in {"completed", "succeed"}, fields["status"] == "failed"
        fields["outputs"] = [self._stand_in.output_url(prediction)] if completed else None
        if completed and do.gives("outputs"):
            fields["outputs"] = self._outputs(prediction, do.outputs)
        fields["error"] = (fields["error"] or prediction.error or FAILURES[1]) if failed else None
        ended = timestamp(prediction.completed or prediction.due)
        fields["completedAt"] = ended if completed or failed else None

    def _outputs(self, prediction: Any, outputs: Any) -> Any:
        if isinstance(outputs, int) and not isinstance(outputs, bool):
            return [self._stand_in.output_url(prediction, number) for number in range(outputs)]
        if not isinstance(outputs, list):
            return outputs
        assets = f"{self._stand_in.assets}/assets"
        return [
            url.replace("{assets}", assets).replace("{id}", prediction.id) if isinstance(url, str) else url
            for url in outputs
        ]


def _receives(content: bytes, then: Receive) -> Receive:
    """A body that was read already, once more."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await then()

    return receive


def replaced(response: Response, do: Do) -> Response:
    """The rule's own answer where it has one, and its headers over either."""
    if do.answer:
        body = do.answer.body
        if do.answer.base64 is not None:
            content, kind = b64decode(do.answer.base64), "application/octet-stream"
        elif body is None:
            content, kind = b"", None
        elif isinstance(body, str):
            content, kind = body.encode(), "text/plain; charset=utf-8"
        else:
            content, kind = orjson.dumps(body), "application/json"
        response = Response(content, do.answer.status, dict(do.answer.headers))
        if kind and "content-type" not in response.headers:
            response.headers["content-type"] = kind
    if do.redirect is not None:
        status = do.answer.status if do.answer and do.answer.status // 100 == 3 else 307
        response = Response(response.body if do.answer else b"", status, {"Location": do.redirect})
    response.headers.update(do.headers)
    return response


# Answers below HTTP: dropped, reset, cut, dripped or lying about their length


async def deliver(request: Request, response: Response, do: Do, send: Send) -> None:
    """Send `response` the way `do` says."""
    await asyncio.sleep(do.delay)
    is_plain = do.cut is None and do.declare is None and do.drip is None and do.framing == "length"
    if is_plain and not (do.reset or do.close or do.hang):
        await response(request.scope, request.receive, send)
        return
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]  # of uvicorn's RequestResponseCycle
    if do.reset:
        # A linger of zero seconds makes the kernel answer with RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif do.close:
        transport.close()
    elif not do.hang:
        await write(transport, response, do)
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def write(transport: asyncio.Transport, response: Response, do: Do) -> None:
    """Past uvicorn, straight to the connection, which is closed behind it."""
    complete = bytes(response.body)
    body = complete if do.cut is None else complete[: do.cut]
    transport.write(head(response, len(complete) if do.declare is None else do.declare, do.framing))
    step = len(body) if do.drip is None else max(1, int(do.drip / 20))
    for start in range(0, len(body), step or 1):
        if transport.is_closing():
            return
        piece = body[start : start + step]
        transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if do.framing == "chunked" else piece)
        if do.drip is not None:
            await asyncio.sleep(len(piece) / do.drip)
    if do.framing == "chunked" and do.cut is None:
        transport.write(b"0\r\n\r\n")
    transport.close()


def head(response: Response, length: int, framing: str) -> bytes:
    """Status line and headers."""
    try:
        phrase = HTTPStatus(response.status_code).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {response.status_code} {phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers if name != b"content-length"]
    if framing == "length":
        lines.append(b"content-length: %d" % length)
    if framing == "chunked":
        lines.append(b"transfer-encoding: chunked")
    lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], FaultLayer))
