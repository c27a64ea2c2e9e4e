"""Answers below HTTP: dropped, reset, cut, dripped or lying about their length."""

import asyncio
import socket
import struct
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from reelsheet.sandbox.faults import Do

EXTENSION = "reelsheet.transport"


class OpenProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """uvicorn's protocol, with the connection's transport within the application's reach."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        app: ASGIApp = self.app  # type: ignore[has-type]  # the base is chosen at run time

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[EXTENSION] = transport
            await app(scope, receive, send)

        self.app = with_transport


async def deliver(request: Request, response: Response, do: Do) -> Response:
    """Send `response` the way `do` says; what comes back is for the framework to send, if anything is left to."""
    if do.delay:
        await asyncio.sleep(do.delay)
    if do.hang:
        return _Silence()
    if do.close or do.reset:
        _drop(request, reset=do.reset is not None)
        return _Silence()
    if do.cut is None and do.declare is None and do.drip is None and do.framing == "length":
        return response
    await _write(request, response, do)
    return _Silence()


class _Silence(Response):
    """No answer (any more): the application only waits until the connection is gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - Starlette's signature
        while (await receive())["type"] != "http.disconnect":
            pass


def _transport(request: Request) -> asyncio.Transport:
    transport: Any = request.scope.get("extensions", {}).get(EXTENSION)
    if transport is None:
        raise RuntimeError("This fault needs the sandbox's own server (reelsheet.sandbox.serve).")
    return transport  # type: ignore[no-any-return]


def _drop(request: Request, *, reset: bool) -> None:
    transport = _transport(request)
    if not reset:
        transport.close()
        return
    # A linger of zero seconds makes the kernel answer with RST instead of FIN.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _write(request: Request, response: Response, do: Do) -> None:
    transport = _transport(request)
    whole = bytes(response.body)
    body = whole if do.cut is None else whole[: do.cut]
    transport.write(_head(response, len(whole) if do.declare is None else do.declare, do.framing))
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


def _head(response: Response, length: int, framing: str) -> bytes:
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
