"""Several real processes on one ledger: caps and claims hold between them, and the death of one loses nothing."""

import json
import signal
import subprocess
import sys
import textwrap

import pytest

from reelsheet.ledger import Known, Ledger, OverBudget, State, Wait

CLAIMS = """
    import json, sys
    from reelsheet.ledger import Claimed, Ledger
    ledger = Ledger.open(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:  # alive until the others are done: their claims must not expire
        told = json.loads(line)
        won = 0
        for n in range(8):
            answer = ledger.claim(
                told["prefix"] + str(n), run_id=told["run"], price_cents=54, daily_cap_cents=told["cap"]
            )
            won += isinstance(answer, Claimed)
        print(won, flush=True)
"""
HOLDS = """
    import sys, time
    from reelsheet.ledger import Ledger
    ledger = Ledger.open(sys.argv[1])
    ledger.claim(sys.argv[2], run_id="r1", price_cents=54)
    print("claimed", flush=True)
    time.sleep(120)
"""
NO_ROOM = """
    import resource, sys
    from pathlib import Path
    from reelsheet.errors import LedgerError
    from reelsheet.ledger import Ledger
    url, path = sys.argv[1:]
    ledger = Ledger.open(url)
    size = Path(path + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, 4096), resource.RLIM_INFINITY))
    try:
        for n in range(100):
            ledger.claim(f"row{n}", run_id="r1", price_cents=54)
            print(n, flush=True)
    except LedgerError as error:
        print(f"refused: {error}", flush=True)
"""


class Child:
    """A process of ours; what it prints is read line by line."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        return self.process.stdout.readline().strip()

    def tell(self, **told: object) -> None:
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def child():
    """Starts children, and ends them."""
    children: list[Child] = []

    def start(program: str, *arguments: str) -> Child:
        children.append(Child(program, *arguments))
        return children[-1]

    yield start
    for one in children:
        one.end()


def test_between_three_processes_caps_hold_exactly_and_a_row_is_claimed_once(
    ledger, ledger_url, registers, child, adds_up
):
    children = [child(CLAIMS, ledger_url) for _ in range(3)]
    assert [one.line() for one in children] == ["ready"] * 3
    cap = 10 * 54 + 53

    def race(*told: dict[str, object]) -> int:
        for one, each in zip(children, told, strict=True):
            one.tell(**each)
        return sum(int(one.line()) for one in children)

    # one run, its cap
    registers(ledger, "one", cap_cents=cap)
    assert race(*[{"run": "one", "prefix": f"one-{n}-", "cap": None} for n in range(3)]) == 10
    # three runs, the day's cap, in which the ten count already
    for n in range(3):
        registers(ledger, f"r{n}")
    assert race(*[{"run": f"r{n}", "prefix": f"day-{n}-", "cap": 540 + cap} for n in range(3)]) == 10
    # three runs of the same rows
    assert race(*[{"run": f"r{n}", "prefix": "same-", "cap": None} for n in range(3)]) == 8
    assert ledger.run("one").reserved_cents == 540
    assert sum(day.reserved_cents for day in ledger.days()) == 28 * 54
    adds_up(ledger)


def test_a_killed_process_leaves_its_claim_unknown_at_once_and_nobody_pays_again(
    opened, ledger_url, registers, child, adds_up
):
    mine = opened()
    registers(mine)
    holder = child(HOLDS, ledger_url, "a")
    assert holder.line() == "claimed"
    assert isinstance(mine.claim("a", run_id="r1", price_cents=54), Wait)
    holder.process.send_signal(signal.SIGKILL)
    holder.process.wait()
    assert mine.expire_dead_claims() == 1
    answer = mine.claim("a", run_id="r1", price_cents=54)
    assert isinstance(answer, Known)
    assert answer.history.latest.state == State.UNKNOWN
    assert mine.run("r1").at_risk_cents == 54
    adds_up(mine)


def test_a_disk_without_room_stops_claims_and_the_ledger_stays_consistent(sqlite_url, registers, child):
    ledger = Ledger.open(sqlite_url)
    registers(ledger, cap_cents=54 * 90)
    full = child(NO_ROOM, sqlite_url, sqlite_url.removeprefix("sqlite:///"))
    told = full.process.communicate()[0].splitlines()
    assert told[-1].startswith("refused: The ledger at ")
    assert "nothing more is sent" in told[-1]
    claimed = len(told) - 1
    assert ledger.run("r1").reserved_cents + ledger.run("r1").at_risk_cents == claimed * 54
    ledger.expire_dead_claims()
    assert ledger.run("r1").at_risk_cents == claimed * 54
    assert not isinstance(ledger.claim("later", run_id="r1", price_cents=54), OverBudget)
    ledger.close()
