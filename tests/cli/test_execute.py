"""A flow that Prefect does not bring to its end: the command does."""

import asyncio
from types import FunctionType, SimpleNamespace

import pytest

from reelsheet.cli import execute
from reelsheet.cli.interrupts import interrupts
from reelsheet.errors import ConfigurationError
from reelsheet.options import Options


@pytest.fixture
def handover(monkeypatch):
    """A run whose results are written by `publish`; limits are fractions of a second."""
    monkeypatch.setattr(execute, "CHECK_S", 0.01)
    for name in ("PUBLISH_GRACE_S", "PREFECT_GRACE_S", "PREFECT_LIMIT_S"):
        monkeypatch.setattr(execute, name, 0.05)
    monkeypatch.setattr("reelsheet.run.stop_control.ANSWER_GRACE_S", 0.05)
    monkeypatch.setattr(interrupts, "leaves_tasks", False)

    async def publish(run):
        run.monitor.summary = "written without Prefect"

    monkeypatch.setattr("reelsheet.run.publish.publish", publish)
    run = SimpleNamespace(stops=SimpleNamespace(signal=None), monitor=SimpleNamespace(summary=None))
    return SimpleNamespace(run=run)


async def ends(flow, handover):
    return await asyncio.wait_for(execute._end_in_time(flow, handover), 30)


async def hang():
    await asyncio.Event().wait()


async def test_a_flow_that_ends_is_waited_for(handover):
    async def flow():
        await asyncio.sleep(0.3)
        return "state"

    assert await ends(flow(), handover) == "state"
    assert not interrupts.leaves_tasks


async def test_its_error_is_the_commands(handover):
    async def flow():
        raise LookupError

    with pytest.raises(LookupError):
        await ends(flow(), handover)


@pytest.mark.parametrize("signal", [None, 2])
async def test_once_the_results_are_written_prefect_has_some_time_to_record_it(handover, signal, capsys):
    handover.run.stops.signal, handover.run.monitor.summary = signal, "written"
    assert await ends(hang(), handover) is None
    assert handover.run.monitor.summary == "written"
    assert interrupts.leaves_tasks
    assert "Prefect's server does not answer" in capsys.readouterr().err


async def test_after_a_signal_the_results_are_written_without_prefect(handover):
    handover.run.stops.signal = 15
    assert await ends(hang(), handover) is None
    assert handover.run.monitor.summary == "written without Prefect"


async def test_without_a_signal_rows_have_all_the_time_they_need(handover):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(execute._end_in_time(hang(), handover), 0.5)
    assert handover.run.monitor.summary is None


@pytest.mark.parametrize(("exit_code", "signal", "number"), [(0, 2, 2), (1, 15, 15), (130, 2, None), (0, None, None)])
def test_a_signal_while_the_last_files_of_a_finished_run_are_written_ends_the_command(
    monkeypatch, exit_code, signal, number
):
    monkeypatch.setattr(interrupts, "leaves_tasks", False)
    monkeypatch.setattr(interrupts, "number", None)
    summary, stops = SimpleNamespace(exit_code=exit_code), SimpleNamespace(signal=signal)
    execute._heed_late_signal(SimpleNamespace(summary=summary, stops=stops))
    assert (interrupts.number, interrupts.leaves_tasks) == (number, number is not None)


def calls_inner() -> None:
    inner()  # noqa: F821 - a global of its copies


def nonsense() -> None:
    raise ValueError("No class found for 'nonsense'")


@pytest.mark.parametrize(
    ("modules", "error"),
    [
        (["prefect.flow_engine", "prefect.results"], ConfigurationError),
        (["prefect.flow_engine", "flows.generate_videos", "prefect.client"], ValueError),
        (["pandas"], ValueError),
    ],
)
async def test_only_what_prefect_raises_before_it_calls_the_flow_is_a_matter_of_its_settings(
    monkeypatch, modules, error
):
    fails = nonsense
    for module in reversed(modules):
        fails = FunctionType(calls_inner.__code__, {"__name__": module, "inner": fails})

    class Flow:
        async def __call__(self, **_: object) -> None:
            fails()

    monkeypatch.setattr(interrupts, "is_finished", interrupts.is_finished)
    ledger = SimpleNamespace(observed_pace=lambda **_: None)
    prepared = SimpleNamespace(
        options=Options(source="sheet.csv"), ledger=ledger, settings=SimpleNamespace(is_play_money=True)
    )
    with pytest.raises(error, match="No class found for 'nonsense'") as raised:
        await execute._run_flow(prepared, Flow())
    if error is ConfigurationError:
        assert "PREFECT_" in str(raised.value)
        assert "Nothing was spent" in str(raised.value)
