"""Both servers of the sandbox: the provider's API and its asset host in this process, the simulated S3 beside it."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvicorn

from reelsheet.errors import ConfigurationError, ReelsheetError
from reelsheet.sandbox.configuration import Configuration
from reelsheet.sandbox.provider import StandIn

HOST: Final = "127.0.0.1"  # nothing here is meant for anybody else
HOW_TO_TRY: Final = """\
The sandbox is running; Ctrl-C ends it. In another terminal:

export VIBEDREAM_BASE_URL={api} VIBEDREAM_API_KEY={key} REELSHEET_ALLOW_PRIVATE_HOSTS=1
export AWS_ENDPOINT_URL_S3={s3} AWS_DEFAULT_REGION=us-east-1
export AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox
{command} run {api}/manifest.csv --to s3://{bucket}/first

What it was asked for, and what it charged: {activity}
The API's reference: {docs}
"""

Wrap = Callable[[StandIn], Any]  # → an ASGI application


def main(options: str, wrap: Wrap = lambda stand_in: stand_in.app) -> int:
    """Serve until SIGTERM or SIGINT, as the JSON `options` say; the exit code, with a sentence on stderr for 2.

    `wrap` may put an application of its own around the stand-in's.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # once the server has come to its end, or before it has begun
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        asyncio.run(_serve(Configuration.model_validate_json(options), wrap))
    except ReelsheetError as error:
        sys.stderr.write(f"reelsheet: {error}\n")
        return error.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


async def _serve(configuration: Configuration, wrap: Wrap) -> None:
    saved = _Saved(configuration.state)
    api, assets = _listen(configuration.port, saved.port), _listen(configuration.assets_port)
    stand_in = StandIn(configuration, api=_origin(api), assets=_origin(assets))
    if saved.predictions:
        stand_in.predictions.restore(saved.predictions)
    saved.port = api.getsockname()[1]
    saved.write(stand_in.predictions.save())
    storage, s3 = await _start_storage(configuration)
    server = uvicorn.Server(
        uvicorn.Config(
            wrap(stand_in),
            ws="none",
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=1024,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )
    if configuration.ends_with_stdin:
        threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    _announce(_addresses(stand_in, s3))
    try:
        await server.serve(sockets=[api, assets])
    finally:
        saved.write(stand_in.predictions.save())
        stand_in.clips.close()
        if storage.stdin:
            storage.stdin.close()
        await storage.wait()


async def _start_storage(configuration: Configuration) -> tuple[asyncio.subprocess.Process, str]:
    """The process, and the simulated S3's address."""
    storage = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "reelsheet.sandbox.storage", str(configuration.s3_port), configuration.bucket),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    line = await storage.stdout.readline() if storage.stdout else b""
    if not line:
        raise ConfigurationError("The simulated S3 could not be started; its own words are above.")
    return storage, json.loads(line)["s3"]


def _addresses(stand_in: StandIn, s3: str) -> dict[str, str]:
    return {
        "api": stand_in.api,
        "assets": f"{stand_in.assets}/assets",
        "s3": s3,
        "key": stand_in.configuration.key,
        "bucket": stand_in.configuration.bucket,
        "activity": f"{stand_in.api}/sandbox/activity",
        "pictures": f"{stand_in.api}/pictures",
        "docs": f"{stand_in.api}/docs",
    }


def _announce(addresses: dict[str, str]) -> None:
    """What to type for whoever sits at a terminal; one JSON line for a program. Both servers take connections now."""
    if sys.stdout.isatty():
        command = shlex.quote(str(Path(sys.executable).with_name("reelsheet")))  # the other terminal has its own PATH
        sys.stdout.write(HOW_TO_TRY.format(**addresses, command=command))
    else:
        sys.stdout.write(json.dumps(addresses) + "\n")
    sys.stdout.flush()


def _end_with_stdin(server: uvicorn.Server) -> None:
    """In a thread that keeps nobody waiting: reading stdin cannot be cancelled."""
    while os.read(0, 4096):
        pass
    server.should_exit = True


class _Saved:
    """What the last sandbox with the same state folder left: addresses are part of what identifies a row."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "sandbox.json" if folder else None
        self.port = 0
        self.predictions = b""
        if self._path and self._path.exists():
            with contextlib.suppress(ValueError):  # torn by a kill
                content = json.loads(self._path.read_bytes())
                self.port, self.predictions = content["port"], json.dumps(content["predictions"]).encode()

    def write(self, predictions: bytes) -> None:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(b'{"port": %d, "predictions": %b}' % (self.port, predictions))


def _listen(port: int, preferred: int = 0) -> socket.socket:
    """A listening socket: on `port`, or on the preferred or any free one. ConfigurationError where `port` is taken."""
    # Only a socket made with its protocol named hands TCP_NODELAY on: without, 45 ms a request.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port or preferred))
    except OSError as error:
        listening.close()
        if not port and preferred:
            return _listen(0)
        raise ConfigurationError(
            f"Port {port} of this machine is taken ({error.strerror}); end what uses it or name another one."
        ) from error
    listening.listen(1024)  # who connects from now on is served as soon as the server runs
    return listening


def _origin(listening: socket.socket) -> str:
    return f"http://{HOST}:{listening.getsockname()[1]}"
