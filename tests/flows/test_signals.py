"""Who hears of a signal: whoever obeys at that moment, also where the signal came before."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from flows import signals
from flows.signals import StopSignals, stop_signals


@pytest.mark.parametrize("number", signals.STOP_SIGNALS)
async def test_a_signal_is_told_to_the_last_who_asked(number: signal.Signals) -> None:
    earlier: list[int] = []
    heard: asyncio.Queue[int] = asyncio.Queue()
    with stop_signals() as stop:
        stop.tell(earlier.append)
        stop.tell(heard.put_nowait)
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(heard.get(), 10) == number
    assert not earlier
    assert stop.number == number


async def test_a_signal_that_came_before_anybody_asked_is_told_to_the_first() -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()
    stop = StopSignals()
    stop.receive(signal.SIGTERM)
    stop.tell(heard.put_nowait)
    assert await asyncio.wait_for(heard.get(), 10) == signal.SIGTERM
    stop.close()


async def test_the_handlers_of_whoever_calls_us_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


WAITS = """
    import asyncio, signal
    from flows import signals
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    async def main():
        with signals.stop_signals() as stop:
            done = asyncio.Event()
            stop.tell(lambda number: done.set())
            print("waits", flush=True)
            await done.wait()
            print("obeyed", stop.number, flush=True)
            await asyncio.to_thread(input)
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGHUP, signal.SIGHUP), (signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)],
)
def test_the_end_of_a_terminal_may_be_told_twice(first: signal.Signals, second: signal.Signals) -> None:
    """By the system and by the shell, or by a session's manager."""
    with child(WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(first)
        assert process.stdout.readline() == f"obeyed {int(first)}\n"
        process.send_signal(second)
        process.communicate("go on\n", timeout=30)
    assert process.returncode == 0


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    with child(WAITS) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate("go on\n", timeout=30)
    assert said == f"obeyed {int(signal.SIGTERM)}\n"


def child(program: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


HOLDS_BACK = """
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    print("held back", flush=True)
    input()
    import asyncio
    from flows import signals
    signals.END_LIMIT_S = 0.5
    signals.receive_in_thread()
"""
OBEYS = """
    async def main():
        with signals.stop_signals() as stop:
            done = asyncio.Event()
            stop.tell(lambda number: done.set())
            await done.wait()
            print("obeyed", stop.number, flush=True)
    signals.END_LIMIT_S = 60
    asyncio.run(main())
"""
HANGS = """
    import time
    time.sleep(60)
"""


@pytest.mark.parametrize("number", signals.STOP_SIGNALS)
def test_a_job_obeys_a_signal_that_came_while_it_was_starting_and_however_often(number: signal.Signals) -> None:
    with child(HOLDS_BACK + OBEYS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held back\n"
        process.send_signal(number)
        process.send_signal(number)
        said, _ = process.communicate("go on\n", timeout=30)
    assert said == f"obeyed {int(number)}\n"
    assert process.returncode == 0


def test_a_job_that_hangs_ends_in_time_all_the_same() -> None:
    with child(HOLDS_BACK + HANGS) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        process.communicate("go on\n", timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


def test_everything_ends_before_those_who_sent_the_signal_lose_patience() -> None:
    from reelsheet.run import stop_control

    assert stop_control.ANSWER_GRACE_S == 40
    assert stop_control.ANSWER_GRACE_S + 10 < signals.END_LIMIT_S < 60
