"""A deployment's run that this process cannot continue goes back to Prefect, and a worker that can completes it."""

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Abort
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Failed, Scheduled, State, Suspended

from flows import bad_workers, continuation
from flows.generate_videos import generate_videos
from reelsheet.errors import LedgerAway, WorkerError
from reelsheet.ledger import Ledger
from reelsheet.run import ledger_session, run, submission
from reelsheet.sandbox.process import SandboxProcess
from tests.stand_in.database_proxy import DatabaseProxy

ROWS = [f"night {n}" for n in range(4)]


@pytest.fixture
def proxy(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseProxy]:
    monkeypatch.setattr(ledger_session, "AWAY_LIMIT_S", 0.5)
    monkeypatch.setattr(ledger_session, "AWAY_PAUSE_S", 0.1)
    monkeypatch.setattr(run, "LAST_PAUSES_S", ())
    monkeypatch.setattr(submission, "COMMIT_PAUSES_S", (0.01, 0.01))
    with DatabaseProxy(postgresql_url) as proxy:
        monkeypatch.setenv("REELSHEET_LEDGER_URL", proxy.url)
        yield proxy


@pytest.fixture
async def night(prefect: None, sheet: Callable[..., str], destination: str) -> uuid.UUID:
    """A flow run of a deployment."""
    parameters = {"manifest": sheet(*ROWS), "destination": destination, "preflight": False, "concurrency": 1}
    async with get_client() as client:
        flow_id = await client.create_flow(generate_videos)
        deployment_id = await client.create_deployment(flow_id, name=uuid.uuid4().hex[:8], parameters=parameters)
        return (await client.create_flow_run_from_deployment(deployment_id)).id


async def taken_up(flow_run_id: uuid.UUID) -> State[Any]:
    """The flow run's state after this process has been its worker; it is due at once."""
    async with get_client() as client:
        await client.set_flow_run_state(flow_run_id, AwaitingRetry(scheduled_time=datetime.now(UTC)), force=True)
        flow_run = await client.read_flow_run(flow_run_id)
        with suppress(Abort):
            await run_flow(generate_videos, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")
        state = (await client.read_flow_run(flow_run_id)).state
    assert state is not None
    return state


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_run_is_put_back_by_whoever_cannot_continue_it_and_completed_by_whoever_can(
    night: uuid.UUID,
    proxy: DatabaseProxy,
    postgresql_url: str,
    sqlite_url: str,
    sandbox: SandboxProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(night))
    begun = asyncio.create_task(taken_up(night))
    while not sandbox.charges():
        await asyncio.sleep(0.02)
    proxy.cut()
    state = await begun
    assert (state.name, state.is_scheduled()) == ("AwaitingRetry", True)
    assert "does not answer" in str(state.message)

    state = await taken_up(night)  # the ledger is still away
    assert state.name == "AwaitingRetry"
    assert not bad_workers.is_blamed_by(await flow_run_of(night))
    proxy.restore()
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("UPDATE owners SET expires_at = 0")  # a real worker's process has ended

    paid = len(sandbox.charges())
    for name, value, said in [
        ("VIBEDREAM_API_KEY", "", "There is no API key"),
        ("REELSHEET_MODEL", "another", "another provider or model"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1", "127.0.0.1 cannot be reached"),
        ("REELSHEET_LEDGER_URL", sqlite_url, "knows no run"),
    ]:
        with monkeypatch.context() as worker:
            worker.setenv(name, value)
            worker.setattr("reelsheet.ledger.durability.check", lambda _url: None)
            state = await taken_up(night)
        assert state.name == "AwaitingRetry", (name, state)
        assert said in str(state.message), (name, state.message)
        assert os.uname().nodename in str(state.message)
        assert bad_workers.is_blamed_by(await flow_run_of(night))
    assert len(sandbox.charges()) == paid

    state = await taken_up(night)
    assert state.is_completed(), state.message
    assert Counter(charge["prompt"] for charge in sandbox.charges()) == dict.fromkeys(ROWS, 1)


async def flow_run_of(flow_run_id: uuid.UUID) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(flow_run_id)


@pytest.mark.parametrize(
    ("state", "tags", "is_blamed"),
    [
        (AwaitingRetry(message=bad_workers.put_back(WorkerError("There is no API key."))), [], True),
        (AwaitingRetry(message=bad_workers.put_back(LedgerAway("It does not answer."))), [], False),
        (AwaitingRetry(message=continuation.STOPPED), [], False),
        (Failed(name="NotStarted", message="no sheet"), [], False),
        (Failed(name="NotStarted", message="no key"), ["shard"], True),
        (Failed(name="Stopped"), ["shard"], False),
        (Scheduled(), [], False),
    ],
)
def test_a_worker_is_blamed_only_for_what_another_worker_could_do(
    state: State[Any], tags: list[str], is_blamed: bool
) -> None:
    flow_run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), state=state, tags=tags)
    assert bad_workers.is_blamed_by(flow_run) is is_blamed


async def test_a_run_that_was_put_back_again_and_again_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def many(_is_meant: object) -> int:
        return continuation.MAX_TROUBLES

    async def body(_signals: object) -> Any:
        raise continuation.PutBack(WorkerError("There is no API key."))

    monkeypatch.setattr(continuation, "_count", many)
    monkeypatch.setattr(continuation, "flow_run", SimpleNamespace(id=str(uuid.uuid4())))
    ended = await continuation.until_put_back(body)
    assert (ended.name, ended.message) == ("NotStarted", "There is no API key.")


async def test_a_suspended_run_is_not_scheduled_again_before_a_person_resumes_it(
    night: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(night))
    async with get_client() as client:
        await client.set_flow_run_state(night, Suspended(timeout_seconds=600), force=True)
    before = (await flow_run_of(night)).state
    with pytest.raises(Abort):
        await continuation._put_back(None)
    state = (await flow_run_of(night)).state
    assert state is not None
    assert before is not None
    assert (state.name, state.state_details.pause_timeout) == ("Suspended", before.state_details.pause_timeout)
    assert state.id != before.id, "the rule about heartbeats hears of it after the last of them"


@pytest.mark.parametrize(
    ("is_successor_alive", "exit_code", "is_left"),
    [(True, None, True), (False, None, False), (False, 0, True), (False, 1, False)],
)
async def test_a_run_that_was_taken_for_lost_is_ended_by_the_process_that_goes_on_with_it(
    sqlite_url: str,
    registers: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    is_successor_alive: bool,
    exit_code: int | None,
    is_left: bool,
) -> None:
    async def call(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def living(ledger: Ledger) -> Any:
        context = SimpleNamespace(ledger=ledger, record=registers(ledger, flow_run_id="flow"))
        return SimpleNamespace(run_id="r1", context=context, ledger_session=SimpleNamespace(call=call))

    with closing(Ledger.open(sqlite_url)) as first, closing(Ledger.open(sqlite_url)) as second:
        lost, successor = living(first), living(second)
        monkeypatch.setattr(first.lease, "is_dead", lambda *_: not is_successor_alive)
        if exit_code is not None:
            second.finish_run("r1", exit_code=exit_code, summary={})
        with pytest.raises(Abort) if is_left else nullcontext():
            await continuation.leave_to_successor(lost)
        await continuation.leave_to_successor(successor)
