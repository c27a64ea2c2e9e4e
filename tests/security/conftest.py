"""A complete run in this process, with ledger and all files, without Prefect."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reelsheet.options import Options
from reelsheet.outcomes import RowResult
from tests.stand_in.faulty_sandbox import FaultySandbox


@pytest.fixture(scope="session")
def key(sandbox_process: FaultySandbox) -> str:
    """The API key that must not appear anywhere."""
    return sandbox_process.key


@dataclass(slots=True)
class Elsewhere:
    """Another host, which records every request with headers and body, and answers 404."""

    address: str = ""
    heard: list[str] = field(default_factory=list)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """A host that must never get the key."""
    found = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8", "replace")
            found.heard.append(f"{self.requestline}\n{self.headers}{body}")
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - http.server's own names

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended: one result for one row, the summary, and the folder of its files."""

    results: list[RowResult]
    summary: dict[str, Any]
    folder: str


WholeRun = Callable[..., Awaitable[Finished]]


@pytest.fixture
def whole_run() -> WholeRun:
    """`await whole_run(manifest, destination, **options)`: prepare, spend, copy, write every file."""

    async def run(manifest: Path | str, destination: Path | str, **options: Any) -> Finished:
        import asyncio

        from reelsheet import settings
        from reelsheet.planning import preparation
        from reelsheet.run.start import start_run

        asked = Options(source=str(manifest), destination=str(destination), **options)
        prepared = await preparation.prepare(asked, settings.load())
        try:
            live = await start_run(prepared, flow_run_id=None)
            try:
                async with live.session():
                    await live.writer.begin(live.results())
                    async with asyncio.TaskGroup() as rows:
                        for group in live.to_do():
                            rows.create_task(_walk(live, group))
                return await _concluded(live)
            finally:
                live.close()
        finally:
            prepared.close()

    return run


async def _walk(live: Any, group: Any) -> None:
    from reelsheet.planning.plan import Step

    if group.step is Step.SUBMIT and not await live.admit(group):
        return
    if group.step in {Step.SUBMIT, Step.POLL}:
        await live.generate(group.identity)
    if group.step is Step.COPY:
        await live.store(group.identity)


async def _concluded(live: Any) -> Finished:
    from reelsheet.run.publish import publish

    published = await publish(live)
    folder = live.context.destination.uri(f"runs/{live.run_id}")
    return Finished(published.results, published.summary.as_json(), folder)
