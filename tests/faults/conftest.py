"""A complete run in this process, without Prefect: the steps of the flows, against the sandbox."""

import asyncio
import csv
import io
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reelsheet import settings
from reelsheet.options import Options
from reelsheet.outcomes import RowResult
from reelsheet.pacing.poll_schedule import Watch
from reelsheet.planning import preparation
from reelsheet.planning.plan import Step
from reelsheet.results.table import Summary
from reelsheet.run import ledger_session
from reelsheet.run.publish import publish
from reelsheet.run.run import Run
from reelsheet.run.start import start_run
from reelsheet.run.stop_control import StopControl
from reelsheet.sandbox.process import SandboxProcess

HASTE = 0.02  # waits between polls and repeats are this much of the real ones


@dataclass
class Done:
    """How a run ended, and what is at its destination."""

    results: list[RowResult]
    summary: Summary
    exit_code: int
    run: Run
    destination: Path

    def table(self) -> list[dict[str, str]]:
        content = (self.destination / "results.csv").read_text(encoding="utf-8")
        return list(csv.DictReader(io.StringIO(content, newline="")))

    def statuses(self) -> list[str]:
        return [str(result.status) for result in self.results]

    def codes(self) -> list[str]:
        return [str(result.error_code or "") for result in self.results]


@dataclass
class Bench:
    """One sheet, one ledger, one destination, one sandbox."""

    sandbox: SandboxProcess
    folder: Path
    prompts: list[str] = field(default_factory=list)

    @property
    def destination(self) -> Path:
        return self.folder / "dest"

    def sheet(self, prompts: Iterable[str], *, name: str = "sheet.csv") -> Path:
        path = self.folder / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sku", "image", "prompt"])
            for n, prompt in enumerate(prompts):
                writer.writerow([f"row-{n}", f"{self.sandbox.pictures}/perfume-dusk.jpg", prompt])
        return path

    async def deliver(
        self,
        source: Path | str,
        *,
        verb: str = "run",
        meanwhile: Callable[[Run], Awaitable[None]] | None = None,
        flow_run_id: str | None = None,
        **options: Any,
    ) -> Done:
        """Prepare, process every row, publish: what flows.lifecycle does, with the tasks' bodies called directly."""
        options.setdefault("destination", str(self.destination) if verb == "run" else None)
        options.setdefault("preflight", False)
        prepared = await preparation.prepare(
            Options(verb=verb, source=str(source), **options), settings.load(), spending=True
        )
        try:
            run = await start_run(prepared, flow_run_id=flow_run_id)
            try:
                async with run.session():
                    await run.writer.begin(run.results())
                    beside = asyncio.create_task(meanwhile(run)) if meanwhile else None
                    await walk(run)
                    if beside is not None:
                        await beside
                return await conclude(run, Path(prepared.destination.address))
            finally:
                run.close()
        finally:
            prepared.close()

    def charged(self) -> Counter[str]:
        """How often each prompt was charged."""
        return Counter(charge["prompt"] for charge in self.sandbox.charges())

    def posted(self) -> Counter[str]:
        return Counter(self.sandbox.activity()["posts"])


async def walk(run: Run) -> None:
    async def row(group: Any) -> None:
        if group.step in {Step.SUBMIT, Step.POLL}:
            await run.generate(group.identity)
        if group.step is Step.COPY:
            await run.store(group.identity)

    todo = run.to_do()
    async with asyncio.TaskGroup() as rows:
        for group in todo:
            if group.step is not Step.SUBMIT:
                rows.create_task(row(group))
        for group in todo:
            if group.step is Step.SUBMIT:
                if not await run.admit(group):
                    break
                rows.create_task(row(group))


async def conclude(run: Run, destination: Path) -> Done:
    published = await publish(run)
    summary = published.summary
    return Done(published.results, summary, summary.exit_code, run, destination)


def shorten_waits(set_attribute: Callable[[Any, str, Any], None]) -> None:
    """Make the waits between polls and repeats fifty times shorter; a ledger that is away is not waited for."""
    set_attribute(ledger_session, "AWAY_LIMIT_S", 0.0)
    pause, sleep = StopControl.pause, Watch._sleep

    async def hastily(self: StopControl, seconds: float) -> None:
        await pause(self, seconds * HASTE)

    async def briefly(self: Watch, key: str, age: float, seconds: float) -> None:
        await sleep(self, key, age, seconds * HASTE)

    set_attribute(StopControl, "pause", hastily)
    set_attribute(Watch, "_sleep", briefly)


@pytest.fixture
def bench(
    sandbox: SandboxProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    """A sandbox with empty books and a new folder; waits are shortened, nothing else is.

    The oracle of every test: no row is charged more often than a person allowed (the `charges` marker, else once).
    """
    shorten_waits(monkeypatch.setattr)
    made = Bench(sandbox, tmp_path)
    yield made
    allowed = request.node.get_closest_marker("charges")
    most = allowed.args[0] if allowed else 1
    twice = {prompt: count for prompt, count in made.charged().items() if count > most}
    assert not twice, f"charged more than {most} time(s): {twice}"


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of this machine that refuses connections; it is held, so that nobody else begins to listen on it."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
