"""Runs in processes of their own. They are forked from one that has imported everything, which saves a second each."""

import asyncio
import importlib
import inspect
import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from reelsheet.results import gallery, workbook  # noqa: F401 - once, before the forks
from reelsheet.sandbox.process import SandboxProcess
from reelsheet.storage import clip_copy, destination  # noqa: F401 - the same
from tests.faults.conftest import Bench, shorten_waits

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])
ADDRESSES = ("api", "s3", "assets", "pictures", "key", "bucket")  # of a `SandboxProcess`


class Stage(NamedTuple):
    """Where a run is killed: before or after the nth call of a function, which `owner` (module or class) holds."""

    owner: str
    function: str
    when: str
    nth: int = 1


@dataclass
class Child:
    """A run in a process of its own; its rows are (status, cents, reused, prediction id, error)."""

    process: BaseProcess
    answer: Path

    async def end(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        await asyncio.to_thread(self.process.join, 120)
        assert self.process.exitcode is not None, "it did not end"
        return self.process.exitcode

    async def rows(self) -> list[list[Any]]:
        code = await self.end()
        text = self.answer.read_text(encoding="utf-8")
        assert code == 0, text
        return list(json.loads(text))


def start(bench: Bench, sheet: Path | str, stage: Stage | None = None, **options: Any) -> Child:
    """Begin `bench.deliver(sheet, **options)` elsewhere, with this process's environment."""
    number = len(list(bench.folder.glob("child-*")))
    answer = bench.folder / f"child-{number}"
    answer.touch()
    addresses = {name: getattr(bench.sandbox, name) for name in ADDRESSES}
    told = (dict(os.environ), addresses, bench.folder, str(sheet), options, stage, answer)
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # for the process that the others are forked from
    process = FORKS.Process(target=deliver, args=told, daemon=True)
    try:
        process.start()
    finally:
        del os.environ["PYTHONPATH"]
    return Child(process, answer)


def deliver(
    environment: Mapping[str, str],
    addresses: dict[str, str],
    folder: Path,
    sheet: str,
    options: dict[str, Any],
    stage: Stage | None,
    answer: Path,
) -> None:
    """What happens in the child."""
    os.environ.clear()
    os.environ.update(environment)
    if stage:
        arm(stage)
    shorten_waits(setattr)
    sandbox = SandboxProcess()
    for name, address in addresses.items():
        setattr(sandbox, name, address)
    try:
        done = asyncio.run(Bench(sandbox, folder).deliver(sheet, **options))
    except BaseException:
        answer.write_text(traceback.format_exc(), encoding="utf-8")
        raise
    rows = [[str(r.status), r.cost_cents, r.reused, r.prediction_id, r.error] for r in done.results]
    answer.write_text(json.dumps(rows), encoding="utf-8")


def arm(stage: Stage) -> None:
    """This process kills itself at that stage."""
    try:
        owner: Any = importlib.import_module(stage.owner)
    except ModuleNotFoundError:
        module, _, name = stage.owner.rpartition(".")
        owner = getattr(importlib.import_module(module), name)
    inner: Callable[..., Any] = getattr(owner, stage.function)
    calls = 0

    def reached(when: str) -> None:
        nonlocal calls
        calls += when == "before"
        if when == stage.when and calls == stage.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    async def asynchronous(*args: Any, **more: Any) -> Any:
        reached("before")
        found = await inner(*args, **more)
        reached("after")
        return found

    def synchronous(*args: Any, **more: Any) -> Any:
        reached("before")
        found = inner(*args, **more)
        reached("after")
        return found

    setattr(owner, stage.function, asynchronous if inspect.iscoroutinefunction(inner) else synchronous)
