"""Both servers of the sandbox in one go: the provider's API (and its asset host) here, the simulated S3 beside it."""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn
from pydantic import ValidationError

from reelsheet.errors import ConfigurationError
from reelsheet.sandbox.behaviour import Behaviour
from reelsheet.sandbox.provider import DEFAULT_KEY, Options, create_app
from reelsheet.sandbox.wire import OpenProtocol

HOST: Final = "127.0.0.1"  # nothing here is meant for anybody else
BUCKET: Final = "reelsheet-demo"


@dataclass(frozen=True, slots=True)
class Serving:
    """Where to listen (0: a free port, with a state folder the one of last time) and what to keep."""

    options: Options = field(default_factory=Options)
    port: int = 0
    s3_port: int = 0
    assets_port: int = 0
    bucket: str = BUCKET
    mirror: Path | None = None  # a folder: S3's objects as plain files
    die_with_stdin: bool = False


def run(serving: Serving, announce: Callable[[dict[str, str]], None]) -> None:
    """Serve until SIGTERM, or SIGINT, a KeyboardInterrupt; `announce` gets the addresses when both servers answer."""
    asyncio.run(_serve(serving, announce))


async def _serve(serving: Serving, announce: Callable[[dict[str, str]], None]) -> None:
    ports = _Ports(serving.options.state)
    api, assets = ports.listen("api", serving.port), ports.listen("assets", serving.assets_port)
    storage, s3 = await _start_storage(serving, ports)
    origin, assets_origin = _origin(api), _origin(assets)
    ports.remember({"api": _port(api), "assets": _port(assets), "s3": int(s3.rpartition(":")[2])})
    config = uvicorn.Config(
        create_app(serving.options, origin=origin, assets=assets_origin),
        http=OpenProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        backlog=1024,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    watching = [asyncio.create_task(_end_with(server, storage))]
    if serving.die_with_stdin:
        threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    watching.append(asyncio.create_task(_announce(server, announce, _addresses(serving, origin, assets_origin, s3))))
    try:
        await server.serve(sockets=[api, assets])
    finally:
        for task in watching:
            task.cancel()
        if storage.stdin:
            storage.stdin.close()
        await storage.wait()


async def _start_storage(serving: Serving, ports: "_Ports") -> tuple[asyncio.subprocess.Process, str]:
    port = serving.s3_port or ports.last_time("s3")
    command = [sys.executable, "-m", "reelsheet.sandbox.storage", "--bucket", serving.bucket, "--port", str(port)]
    if serving.mirror:
        command += ["--mirror", str(serving.mirror)]
    storage = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    line = await storage.stdout.readline() if storage.stdout else b""
    if not line:
        raise ConfigurationError("The simulated S3 could not be started; its own words are above.")
    return storage, json.loads(line)["s3"]


def _addresses(serving: Serving, origin: str, assets: str, s3: str) -> dict[str, str]:
    return {
        "api": origin,
        "assets": f"{assets}/assets",
        "s3": s3,
        "key": serving.options.key,
        "bucket": serving.bucket,
        "books": f"{origin}/sandbox/books",
        "images": f"{origin}/pictures",
        "docs": f"{origin}/docs",
    }


async def _announce(server: uvicorn.Server, announce: Callable[[dict[str, str]], None], what: dict[str, str]) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    announce(what)


async def _end_with(server: uvicorn.Server, storage: asyncio.subprocess.Process) -> None:
    await storage.wait()
    server.should_exit = True


def _end_with_stdin(server: uvicorn.Server) -> None:
    """In a thread that keeps nobody waiting: reading stdin cannot be cancelled."""
    while os.read(0, 4096):
        pass
    server.should_exit = True


class _Ports:
    """The ports of last time, kept in the state folder: addresses are part of what a row is identified by."""

    def __init__(self, state: Path | None) -> None:
        self._path = state / "addresses.json" if state else None
        self._last: dict[str, int] = {}
        if self._path and self._path.exists():
            with contextlib.suppress(ValueError):
                self._last = json.loads(self._path.read_text())

    def last_time(self, name: str) -> int:
        """The port of last time if it is free now, else 0."""
        port = self._last.get(name, 0)
        try:
            _bound(port).close()
        except OSError:
            return 0
        return port

    def listen(self, name: str, port: int) -> socket.socket:
        """A listening socket; ConfigurationError where a given port is taken."""
        try:
            return _bound(port or self.last_time(name))
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} of this machine is taken ({error.strerror}); end what uses it or name another one."
            ) from error

    def remember(self, ports: dict[str, int]) -> None:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(ports))


def _bound(port: int) -> socket.socket:
    # Only a socket made with its protocol named hands TCP_NODELAY on: without, 45 ms a request.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError:
        listening.close()
        raise
    listening.set_inheritable(False)
    return listening


def _port(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


def _origin(listening: socket.socket) -> str:
    return f"http://{HOST}:{_port(listening)}"


def parse(arguments: list[str] | None = None) -> Serving:
    """The command line of `python -m reelsheet.sandbox`."""
    parser = argparse.ArgumentParser(prog="reelsheet sandbox", description=__doc__, usage=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help="of the API; 0 is a free one")
    parser.add_argument("--s3-port", type=int, default=0)
    parser.add_argument("--assets-port", type=int, default=0)
    parser.add_argument("--key", default=DEFAULT_KEY)
    parser.add_argument("--bucket", default=BUCKET)
    parser.add_argument("--state", type=Path, help="a folder: predictions and books outlive the process")
    parser.add_argument("--mirror", type=Path, help="a folder: S3's objects as plain files")
    parser.add_argument("--cache", type=Path, help="a folder for rendered clips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--die-with-stdin", action="store_true")
    for name, info in Behaviour.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=info.description)
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    try:
        behaviour = Behaviour.model_validate(
            {name: given[name] for name in Behaviour.model_fields if given[name] is not None}
        )
    except ValidationError as error:
        parser.error("; ".join(f"--{item['loc'][0]}: {item['msg']}".replace("_", "-") for item in error.errors()))
    options = Options(
        key=given["key"], state=given["state"], cache=given["cache"], seed=given["seed"], behaviour=behaviour
    )
    return Serving(
        options=options,
        port=given["port"],
        s3_port=given["s3_port"],
        assets_port=given["assets_port"],
        bucket=given["bucket"],
        mirror=given["mirror"],
        die_with_stdin=given["die_with_stdin"],
    )
