"""A run shared by several processes: who has which shard, one budget, and what the others learn."""

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.errors import ConfigurationError
from reelsheet.ledger import Claimed, OverBudget
from reelsheet.manifest.rows import Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.planning.preparation import Preparation, prepare
from reelsheet.run import shards
from reelsheet.run.start import start_run
from reelsheet.sandbox.process import SandboxProcess
from reelsheet.settings import Settings, load


@pytest.fixture
def settings(sandbox: SandboxProcess, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("REELSHEET_LEDGER_URL", postgresql_url)
    return load()


async def prepared(folder: Path, sandbox: SandboxProcess, settings: Settings, rows: int, **more: Any) -> Preparation:
    """A plan for `rows` new rows, delivered to a folder."""
    mark = uuid.uuid4().hex[:6]
    sheet = folder / f"{mark}.csv"
    lines = "".join(f"{sandbox.pictures}/morning-mug.jpg,{mark} {n}\n" for n in range(rows))
    sheet.write_text("image,prompt\n" + lines, encoding="utf-8")
    options = Options(source=str(sheet), destination=str(folder / mark), preflight=False, **more)
    return await prepare(options, settings)


async def done(shard: shards.Shard) -> None:
    """Every row of a shard, as the flow would do them."""
    run = shard.run
    async with run.session():
        for group in run.to_do():
            if group.step is Step.SUBMIT and not await run.admit(group):
                break
            await run.generate(group.identity)
            await run.store(group.identity)
    await run.refresh()
    await shard.leave()
    shard.close()


def groups(firsts: list[int]) -> list[RowGroup]:
    return [RowGroup(f"{n:064x}", Row(n, n + 2), [n]) for n in firsts]


@given(st.sets(st.integers(0, 400), min_size=1), st.integers(1, 50))
def test_ranges_tile_the_manifest_and_none_holds_more_than_a_shard(firsts: set[int], size: int) -> None:
    todo = groups(sorted(firsts))
    drawn = shards.ranges(todo, size, 401)
    assert [position for first, last in drawn for position in range(first, last + 1)] == list(range(401))
    inside = [shards.within(todo, first, last) for first, last in drawn]
    assert all(0 < len(part) <= size for part in inside)
    assert sum(len(part) for part in inside) == len(todo)


@given(st.lists(st.sampled_from([Step.SUBMIT, Step.POLL, Step.COPY]), max_size=60), st.integers(1, 20))
def test_parts_for_one_process_begin_with_what_is_paid_for(steps: list[Step], size: int) -> None:
    todo = [replace_step(group, step) for group, step in zip(groups(list(range(len(steps)))), steps, strict=True)]
    flat = [group for part in shards.chunks(todo, size) for group in part]
    assert len(flat) == len(todo)
    assert [group.step is Step.SUBMIT for group in flat] == sorted(group.step is Step.SUBMIT for group in todo)


def replace_step(group: RowGroup, step: Step) -> RowGroup:
    return replace(group, step=step)


async def test_a_shard_in_another_process_does_its_rows_and_the_run_takes_them_in(
    tmp_path: Path, sandbox: SandboxProcess, settings: Settings
) -> None:
    plan = await prepared(tmp_path, sandbox, settings, 7, shard_size=3)
    run = await start_run(plan, flow_run_id=None)
    laid = await shards.divide(run)
    assert [(one.number, one.first_position, one.last_position) for one in laid] == [(1, 0, 2), (2, 3, 5), (3, 6, 6)]
    for one in laid:
        await run.ledger_session.call(run.context.ledger.shards.begin_try, run.run_id, one.number)
        shard = await shards.attach(run.run_id, one.number, settings, flow_run_id=None)
        assert shard is not None
        await done(shard)
    await shards.take_in(run)
    await run.refresh()
    found = run.results()
    assert {one.status for one in found} == {Status.SUCCEEDED}
    assert sum(one.cost_cents for one in found) == 7 * 54
    assert run.stops.exit_code(found) == 0
    assert len(sandbox.charges()) == 7
    assert all(one.finished for one in run.context.ledger.shards.of_run(run.run_id))
    assert run.context.ledger.shards.stored_rows(run.run_id, 1) is None, "a finished shard's rows are not kept"
    run.close()
    plan.close()


async def test_a_shard_that_is_done_is_not_done_again(
    tmp_path: Path, sandbox: SandboxProcess, settings: Settings
) -> None:
    plan = await prepared(tmp_path, sandbox, settings, 2, shard_size=1)
    run = await start_run(plan, flow_run_id=None)
    await shards.divide(run)
    first = await shards.attach(run.run_id, 1, settings, flow_run_id=None)
    assert first is not None
    assert await shards.attach(run.run_id, 1, settings, flow_run_id=None) is None, "a living process has it"
    await done(first)
    assert await shards.attach(run.run_id, 1, settings, flow_run_id=None) is None, "it is finished"
    assert len(sandbox.charges()) == 1
    run.close()
    plan.close()


async def test_a_dead_owners_shard_is_taken_up_and_what_it_paid_for_is_only_polled(
    tmp_path: Path, sandbox: SandboxProcess, settings: Settings
) -> None:
    plan = await prepared(tmp_path, sandbox, settings, 2, shard_size=2)
    run = await start_run(plan, flow_run_id=None)
    await shards.divide(run)
    dying = await shards.attach(run.run_id, 1, settings, flow_run_id=None)
    assert dying is not None
    async with dying.run.session():
        for group in dying.run.to_do():
            assert await dying.run.admit(group)
            await dying.run.generate(group.identity)
    dying.close()  # gives the lease back, as running out of it would
    (seen,) = run.context.ledger.shards.of_run(run.run_id)
    assert (seen.alive, seen.finished) == (False, False)
    heir = await shards.attach(run.run_id, 1, settings, flow_run_id=None)
    assert heir is not None
    assert {group.step for group in heir.run.to_do()} == {Step.COPY}
    await done(heir)
    assert len(sandbox.charges()) == 2
    run.close()
    plan.close()


async def test_the_runs_cap_holds_over_all_its_processes(
    tmp_path: Path, sandbox: SandboxProcess, settings: Settings
) -> None:
    plan = await prepared(tmp_path, sandbox, settings, 6, shard_size=3, max_cost_usd=2.0)
    run = await start_run(plan, flow_run_id=None)
    await shards.divide(run)
    both = [await shards.attach(run.run_id, number, settings, flow_run_id=None) for number in (1, 2)]
    claims = [
        shard.run.context.ledger.claim(group.identity, run_id=run.run_id, price_cents=54)
        for shard in both
        if shard is not None
        for group in shard.run.to_do()
    ]
    assert [type(claim) for claim in claims] == [Claimed] * 3 + [OverBudget] * 3
    for shard in both:
        assert shard is not None
        shard.close()
    run.close()
    plan.close()


async def test_what_stops_one_process_stops_the_others_from_submitting(
    tmp_path: Path, sandbox: SandboxProcess, settings: Settings
) -> None:
    plan = await prepared(tmp_path, sandbox, settings, 2, shard_size=1)
    run = await start_run(plan, flow_run_id=None)
    await shards.divide(run)
    one, other = [await shards.attach(run.run_id, number, settings, flow_run_id=None) for number in (1, 2)]
    assert one is not None
    assert other is not None
    async with one.run.session():
        one.run.stops.stop(ErrorCode.AUTH, "The key is refused.")
    await one.leave()
    async with other.run.session():
        await other.run.stops.pause(0.1)
        while not other.run.stops.is_stopping:
            await asyncio.sleep(0.05)
    assert (other.run.stops.code, other.run.stops.error) == (ErrorCode.AUTH, "The key is refused.")
    for shard in (one, other):
        shard.close()
    await shards.divide(run)
    assert run.context.ledger.shards.stop_of(run.run_id) is None, "a run that begins anew is not stopped by its past"
    run.close()
    plan.close()


async def test_five_lost_answers_in_a_row_stop_the_run_whichever_processes_lost_them(
    tmp_path: Path, sandbox: SandboxProcess, settings: Settings
) -> None:
    sandbox.fault("submit", close="after", charged=False, times=100)
    plan = await prepared(tmp_path, sandbox, settings, 12, shard_size=4)
    run = await start_run(plan, flow_run_id=None)
    await shards.divide(run)
    attached = [await shards.attach(run.run_id, number, settings, flow_run_id=None) for number in (1, 2, 3)]
    for shard in attached:
        assert shard is not None
        async with shard.run.session():
            for group in shard.run.to_do()[:2]:
                if not await shard.run.admit(group):
                    break
                await shard.run.generate(group.identity)
            await asyncio.gather(*shard._publishing)
    assert attached[2] is not None
    assert attached[2].run.stops.code is ErrorCode.PROVIDER_DOWN
    assert sum(sandbox.activity()["posts"].values()) == 6
    for shard in attached:
        assert shard is not None
        shard.close()
    run.close()
    plan.close()


async def test_another_model_another_ledger_or_no_key_is_refused_with_a_sentence(
    tmp_path: Path, sandbox: SandboxProcess, settings: Settings
) -> None:
    plan = await prepared(tmp_path, sandbox, settings, 2, shard_size=1)
    run = await start_run(plan, flow_run_id=None)
    await shards.divide(run)
    with pytest.raises(ConfigurationError, match="same VIBEDREAM_BASE_URL and REELSHEET_MODEL"):
        await shards.attach(run.run_id, 1, settings.model_copy(update={"model": "other"}), flow_run_id=None)
    with pytest.raises(ConfigurationError, match="knows no run"):
        await shards.attach("20260101-000000-abcdef", 1, settings, flow_run_id=None)
    with pytest.raises(ConfigurationError, match="no API key"):
        await shards.attach(run.run_id, 1, settings.model_copy(update={"api_key": None}), flow_run_id=None)
    on_disk = settings.model_copy(update={"ledger_url": f"sqlite:///{tmp_path / 'ledger.db'}"})
    with pytest.raises(ConfigurationError, match="cannot share a SQLite ledger"):
        await shards.attach(run.run_id, 1, on_disk, flow_run_id=None)
    assert sandbox.charges() == []
    run.close()
    plan.close()
