"""Commands in simulated processes: everything is real but time, threads, the network and death.

The real planner, run and ledger go on one event loop whose clock jumps to the next event, so that a run of hours takes
as long as its computing. What others can see of a process (a write to the ledger, a request, a file) passes `reach`;
there a process can be killed, or the ledger or the disk can fail. A dead process reaches nothing any more, whatever its
`finally` blocks try. Between two such moments nothing of a process can be seen, so this is a kill at every await.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import secrets
import selectors
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import httpx
import pytest
from sqlalchemy import Connection, update

from reelsheet.errors import LedgerError, ReelsheetError
from reelsheet.ledger import database as database_module
from reelsheet.ledger import schema
from reelsheet.ledger.database import Database
from reelsheet.ledger.lease import Lease
from reelsheet.options import Options
from reelsheet.planning import preparation
from reelsheet.results.publication import ResultsWriter
from reelsheet.run import start
from reelsheet.run.context import RunContext
from reelsheet.run.publish import publish
from reelsheet.run.run import Run
from reelsheet.sandbox import predictions
from reelsheet.settings import Settings
from reelsheet.storage import folder_destination
from reelsheet.storage.folder_destination import FolderDestination, FolderUpload
from tests.faults.conftest import walk
from tests.hunt.provider import Provider

BEGINNING = datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp()
LONGEST_RUN_S = 6 * 3600.0  # on the simulated clock: what takes longer does not end
STAGES = ("ledger", "ledger written", "submit", "submitted", "poll", "asset", "file", "file written")


class Killed(BaseException):
    """Nothing in the product catches it."""


@dataclass(frozen=True)
class Trouble:
    """What happens to a process when it reaches `stage` for the nth time ("": any stage)."""

    kind: str  # "kill": seen at once; "unplug": noticed when its lease ends; "signal"; "no ledger"; "no disk"
    stage: str = ""
    nth: int = 1
    lasts: int = 1  # so many operations of a ledger or disk that is away

    def __repr__(self) -> str:
        lasts = f", lasts={self.lasts}" if self.lasts > 1 else ""
        return f"Trouble({self.kind!r}, {self.stage!r}, {self.nth}{lasts})"


@dataclass(eq=False)
class Process:
    """One command on one machine, whose clock is `skew_s` ahead."""

    world: "World"
    command: "Command"
    trouble: Trouble | None = None
    skew_s: float = 0.0
    sender: Any = None  # who is charged for what it sends
    alive: bool = True
    reached: int = 0
    owners: list[str] = field(default_factory=list)  # as the ledger knows it
    run: Run | None = None
    died: asyncio.Event = field(default_factory=asyncio.Event)

    def reach(self, stage: str) -> None:
        """Something that others can see is about to happen, or has just happened."""
        if not self.alive:
            raise Killed
        trouble = self.trouble
        if trouble is None or (trouble.stage and trouble.stage != stage):
            return
        self.reached += 1
        if trouble.kind in {"kill", "unplug"} and self.reached == trouble.nth:
            self.alive = False
            if trouble.kind == "kill":
                self.world.expire(self.owners)
            self.died.set()
            raise Killed
        if trouble.kind == "signal" and self.reached == trouble.nth and self.run is not None:
            self.run.stops.interrupt(signal.SIGTERM)
        if trouble.nth <= self.reached < trouble.nth + trouble.lasts:
            if trouble.kind == "no ledger" and stage == "ledger":
                raise LedgerError("The ledger does not answer.")
            if trouble.kind == "no disk" and stage == "file":
                raise OSError(28, "No space left on device")


_process: ContextVar[Process | None] = ContextVar("process", default=None)


def reach(stage: str) -> None:
    process = _process.get()
    if process is not None:
        process.reach(stage)


@dataclass(frozen=True)
class Command:
    """What a person types; equal commands are the same command."""

    verb: str
    source: str
    destination: str | None = None
    fresh: bool = False
    retry_unknown: bool = False
    limit: int | None = None
    max_cost_usd: float | None = None
    where: tuple[str, ...] = ()
    include_hidden: bool = False

    def __str__(self) -> str:
        switches = ("fresh", "retry_unknown", "include_hidden")
        flags = [f"--{name.replace('_', '-')}" for name in switches if getattr(self, name)]
        flags += [f"--limit {self.limit}"] if self.limit else []
        flags += [f"--max-cost {self.max_cost_usd}"] if self.max_cost_usd is not None else []
        flags += [f"--where {condition}" for condition in self.where]
        to = f"--to {Path(self.destination).name}" if self.destination else ""
        return " ".join(filter(None, (self.verb, Path(self.source).name, to, *flags)))


@dataclass
class Ended:
    """How a command ended. `exit_code` None: killed. `results` and `table` where it wrote any."""

    command: Command
    exit_code: int | None
    run_id: str = ""
    destination: str = ""
    results: Any = ()
    error: str = ""
    table: str = ""  # where its last table is


class Loop(asyncio.SelectorEventLoop):
    """Jumps to the next event. What would go to a thread happens at once; its result comes a moment later."""

    def __init__(self, moment: random.Random) -> None:
        self.now = 0.0
        self.moment = moment
        super().__init__(_Selector(self))
        self.owners: WeakKeyDictionary[asyncio.Task[Any], Process] = WeakKeyDictionary()
        self.set_task_factory(self._task)  # type: ignore[arg-type] # that of all loops
        self.set_exception_handler(lambda *_: None)  # the dead leave tasks behind

    def _task(self, _loop: object, coroutine: Any, *, context: Context | None = None) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=self, context=context)
        process = _process.get() if context is None else context.get(_process)
        if process is not None:
            self.owners[task] = process
        return task

    def time(self) -> float:
        return self.now

    def run_in_executor(self, _executor: object, function: Callable[..., Any], *arguments: Any) -> Any:
        future = self.create_future()
        outcome: Callable[[], None]
        try:
            outcome = partial(future.set_result, function(*arguments))
        except BaseException as error:  # noqa: BLE001 - as a thread would hand it on
            outcome = partial(future.set_exception, error)
        self.call_later(self.moment.random() * 0.02, lambda: future.done() or outcome())
        return future


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("Everything waits, and nothing will ever happen.")
        self._loop.now += max(0.0, timeout)
        return []


class World:
    """A folder, a ledger, a provider, and the time. `ledger_url` None: SQLite in the folder."""

    def __init__(self, folder: Path, provider: Provider, ledger_url: str, *, seed: int = 0) -> None:
        self.folder, self.provider, self.ledger_url = folder, provider, ledger_url
        self.moment = random.Random(seed)
        self.loop = Loop(self.moment)

    def close(self) -> None:
        self.provider.reset()
        self.loop.close()

    def wall(self) -> float:
        """The database server's clock."""
        return BEGINNING + self.loop.now

    def settings(self) -> Settings:
        return Settings(api_key=self.provider.key, base_url=self.provider.api, ledger_url=self.ledger_url)

    def expire(self, owners: list[str] | None = None) -> None:
        """Whoever looks sees that these processes (None: all) are gone."""
        token = _process.set(None)
        try:
            database = Database.open(self.ledger_url)
            with database.write() as connection:
                gone = update(schema.owners).values(expires_at=0.0, awake_until=0.0)
                connection.execute(gone if owners is None else gone.where(schema.owners.c.id.in_(owners)))
            database.close()
        finally:
            _process.reset(token)

    def __call__(
        self, *commands: Command, troubles: Sequence[Trouble | None] = (), skews_s: Sequence[float] = (),
        senders: Sequence[Any] = (),
    ) -> list[Ended]:  # fmt: skip
        """Run these commands, all at once, each to its end. What nobody foresaw is raised."""
        told = itertools.zip_longest(commands, troubles, skews_s, senders)
        processes = [Process(self, command, trouble, skew_s or 0.0, who) for command, trouble, skew_s, who in told]
        return self.loop.run_until_complete(self._all(processes))

    async def _all(self, processes: list[Process]) -> list[Ended]:
        async with asyncio.timeout(LONGEST_RUN_S):
            return list(await asyncio.gather(*map(self._end_of, processes)))

    async def _end_of(self, process: Process) -> Ended:
        context = copy_context()
        context.run(_process.set, process)
        body = self.loop.create_task(_execute(process), context=context)
        death = self.loop.create_task(process.died.wait())
        await asyncio.wait({body, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if process.alive:
            process.alive = False
            await self._bury(process)
            return body.result()
        await self._bury(process)
        run_id = process.run.run_id if process.run else ""
        place = process.run.context.destination.address if process.run else ""
        return Ended(process.command, None, run_id, place)

    async def _bury(self, process: Process) -> None:
        """End all that still goes on in a process that is gone."""
        while tasks := [t for t in asyncio.all_tasks() if self.loop.owners.get(t) is process]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)


async def _execute(process: Process) -> Ended:
    """Prepare, every row, publish: what the flows do."""
    command = process.command
    options = Options(
        verb=command.verb, source=command.source, destination=command.destination, fresh=command.fresh,
        retry_unknown=command.retry_unknown, limit=command.limit, max_cost_usd=command.max_cost_usd, preflight=False,
        where=command.where, include_hidden=command.include_hidden,
    )  # fmt: skip
    try:
        prepared = await preparation.prepare(options, process.world.settings())
        try:
            process.run = run = await start.start_run(prepared, flow_run_id=None)
            try:
                async with run.session():
                    await run.writer.begin(run.results())
                    await walk(run)
                published = await publish(run)
            finally:
                run.close()
        finally:
            prepared.close()
    except ReelsheetError as error:
        return Ended(command, error.exit_code, process.run.run_id if process.run else "", error=str(error))
    except Killed:
        return Ended(command, None)
    place, files = run.context.destination.address, published.files
    table = files.fallback or ("" if files.results in files.failed else files.results)
    return Ended(command, published.summary.exit_code, run.run_id, place, published.results, table=table)


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """While this holds, code in a simulated process meets simulated time, network and death; all other code does not."""
    with pytest.MonkeyPatch.context() as patch:
        engines = _Engines(database_module._engine)
        _time(patch)
        _effects(patch, engines)
        patch.setattr(logging.getLogger("reelsheet"), "disabled", True)
        for page in ("_gallery", "_workbook"):  # they say nothing of money, and take time
            patch.setattr(ResultsWriter, page, lambda *_: b"")
        patch.setattr(FolderDestination, "probe", lambda _: ())
        try:
            yield
        finally:
            engines.dispose()


def _time(patch: pytest.MonkeyPatch) -> None:
    wall, boottime, now = time.time, time.clock_gettime, Database.now

    def simulated_time() -> float:
        process = _process.get()
        return wall() if process is None else process.world.wall() + process.skew_s

    def simulated_boottime(clock: int) -> float:
        process = _process.get()
        return boottime(clock) if process is None else process.world.loop.now

    def database_now(self: Database, connection: Connection) -> float:
        process = _process.get()
        if process is None or self.is_sqlite:
            return now(self, connection)
        return process.world.wall()

    def run_id() -> str:
        moment = datetime.fromtimestamp(time.time(), UTC)
        process = _process.get()
        assert process is not None
        return f"{moment:%Y%m%d-%H%M%S}-{process.world.moment.randrange(16**6):06x}"

    def identifier() -> uuid.UUID:
        process = _process.get()
        return uuid4() if process is None else uuid.UUID(int=process.world.moment.getrandbits(128))

    uuid4, randbelow = uuid.uuid4, secrets.randbelow
    patch.setattr(uuid, "uuid4", identifier)
    patch.setattr(secrets, "randbelow", lambda limit: randbelow(limit) if _process.get() is None else limit // 2)
    patch.setattr(time, "time", simulated_time)
    patch.setattr(time, "clock_gettime", simulated_boottime)
    patch.setattr(Database, "now", database_now)
    patch.setattr(start, "new_run_id", run_id)
    patch.setattr(start, "RunContext", _on_the_loop)
    patch.setattr(predictions, "now", _provider_now)


def _provider_now() -> datetime:
    process = _process.get()
    return datetime.fromtimestamp(BEGINNING if process is None else process.world.wall(), UTC)


def _on_the_loop(*arguments: Any) -> RunContext:
    return RunContext(*arguments, clock=asyncio.get_running_loop().time)


class _Engines:
    """One for each address."""

    def __init__(self, make: Callable[[str | None], Any]) -> None:
        self._make = make
        self._made: dict[str | None, Any] = {}

    def __call__(self, url: str | None) -> Any:
        if url not in self._made:
            self._made[url] = self._make(url)
        return self._made[url]

    def dispose(self) -> None:
        for engine, _ in self._made.values():
            engine.dispose()


def _effects(patch: pytest.MonkeyPatch, engines: _Engines) -> None:
    lease, write, read, complete = Lease.__init__, Database.write, Database.read, FolderUpload.complete
    prepare = database_module._prepare_sqlite

    def new_lease(self: Lease, database: Database) -> None:
        lease(self, database)
        process = _process.get()
        if process is not None:
            process.owners.append(self.owner.id)

    @contextlib.contextmanager
    def writes(self: Database) -> Iterator[Connection]:
        reach("ledger")
        with write(self) as connection:
            yield connection
        reach("ledger written")

    @contextlib.contextmanager
    def reads(self: Database) -> Iterator[Connection]:
        reach("ledger")
        with read(self) as connection:
            yield connection

    def completes(self: FolderUpload, *more: Any) -> Any:
        with folder_destination.disk_errors("writing", self._path, self._root):
            reach("file")
        stored = complete(self, *more)
        reach("file written")
        return stored

    def prepare_quickly(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA synchronous=OFF")

    async def request(_transport: object, request: httpx.Request) -> httpx.Response:
        process = _process.get()
        assert process is not None
        return await process.world.provider.request(request, process.reach, process.world.moment, process.sender)

    patch.setattr(Lease, "__init__", new_lease)
    patch.setattr(Database, "write", writes)
    patch.setattr(Database, "read", reads)
    patch.setattr(FolderUpload, "complete", completes)
    patch.setattr(database_module, "_prepare_sqlite", prepare_quickly)
    patch.setattr(database_module, "_engine", engines)  # they remember statements, and connecting takes time
    patch.setattr(Database, "close", lambda _: None)
    patch.setattr(folder_destination.os, "fsync", lambda _: None)
    patch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", request)
