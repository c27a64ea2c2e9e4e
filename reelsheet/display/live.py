"""The run while it goes: a few lines that are drawn again and again, or plain lines where nothing can be drawn over."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reelsheet.display.tally import Stage, Tally
from reelsheet.display.terminal import OFTEN, about, is_live, length, safe, terminal
from reelsheet.money import dollars
from reelsheet.outcomes import Status
from reelsheet.redaction import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reelsheet.planning.preparation import Preparation
    from reelsheet.run.run import Run

RECENT: Final = 120.0  # seconds over which the rate is measured
PLAIN_PAUSES: Final = ((60.0, 10.0), (600.0, 30.0), (float("inf"), 60.0))  # up to this age, a line so often
SPARE: Final = 3  # columns left free, so that the terminal's own ^C does not begin another line
PLAIN_ERRORS: Final = 20  # that are told as they come; the results have all

_COLOURS: Final = {
    Status.SUCCEEDED: "green",
    Stage.GENERATING: "cyan",
    Stage.COPYING: "cyan",
    Stage.WAITING: "default",
    Status.FAILED: "red",
    Status.UNDELIVERED: "yellow",
    Status.UNKNOWN: "magenta",
    Status.SKIPPED: "dim",
    Status.INVALID: "red",
}
_WORDS: Final = {Status.SUCCEEDED: "delivered"}


async def watch(prepared: "Preparation") -> None:
    """Show the run from when it lives until this is cancelled; the last state of things stays to be read."""
    while prepared.run is None:  # noqa: ASYNC110 - a look now and then is all that the display is
        await asyncio.sleep(OFTEN)
    view = View(prepared.run)
    if is_live():
        await _drawn(view)
    else:
        await _told(view)


class View:
    """What is to be seen of a run: its tally, its pace, and what is left."""

    def __init__(self, run: "Run", clock: Callable[[], float] = time.monotonic) -> None:
        self.run = run
        self.tally = Tally(run.plan, run.run_id)
        self._clock = clock
        self._begun = self.tally.delivered
        self._ends: deque[tuple[float, int]] = deque([(clock(), self._begun)])

    def look(self) -> None:
        """Take in what has changed since the last look."""
        touched, self.run.touched = self.run.touched, set()
        self.tally.follow(touched)
        now, done = self._clock(), self.tally.delivered
        if now - self._ends[-1][0] >= 1.0 or len(self._ends) == 1:
            self._ends.append((now, done))
        while len(self._ends) > 2 and now - self._ends[0][0] > RECENT:
            self._ends.popleft()

    @property
    def seconds(self) -> float:
        return self._clock() - self.run.started

    @property
    def per_minute(self) -> float:
        """Rows delivered a minute, lately."""
        (since, then), (until, now) = self._ends[0], self._ends[-1]
        return 60 * (now - then) / (until - since) if until > since else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the last row, by the pace and the latencies found so far; None while they are not."""
        typical = self.run.polls.typical
        unfinished = self.tally.unfinished
        if not unfinished or self.run.stopping:
            return None
        told = None if typical is None else self.run.gate.pace.eta(self.tally.rows[Stage.WAITING], typical)
        if told is None and self.per_minute:  # other machines do the work
            return 60 * unfinished / self.per_minute
        return told

    def parts(self) -> list[tuple[str, str]]:
        """("312 delivered", "green") and so on, without what there is none of."""
        return [
            (f"{self.tally.rows[at]:,} {_WORDS.get(at, str(at))}", colour)  # type: ignore[call-overload]
            for at, colour in _COLOURS.items()
            if self.tally.rows[at]
        ]

    def money(self) -> str:
        """ "$168.48 spent · $0.54 at risk · cap $324.00"."""
        risk = f" · {dollars(self.tally.risk_cents)} at risk" if self.tally.risk_cents else ""
        cap = self.run.record.cap_cents
        return f"{dollars(self.tally.spent_cents)} spent{risk}" + (f" · cap {dollars(cap)}" if cap is not None else "")

    def pace(self) -> str:
        """ "58 of about 60 at once · 118 clips a minute · about 2 min left"."""
        seen = self.run.gate.pace.snapshot()
        in_flight = max(seen.in_flight, self.tally.rows[Stage.GENERATING])
        window = "" if seen.window == float("inf") or in_flight > seen.window else f" of about {seen.window:,.0f}"
        told = [f"{in_flight:,}{window} at once"]
        if self.per_minute:
            told.append(f"{self.per_minute:,.0f} a minute" if self.per_minute >= 1 else "less than one a minute")
        if self.run.stopping:
            told.append("nothing new is sent")
        elif seen.held >= 1:
            told.append(f"the provider asks to wait {length(seen.held)}")
        elif self.left is not None:
            told.append(f"{about(self.left)} left")
        told.append(f"{length(self.seconds)} so far")
        return " · ".join(told)


def drawing(view: View) -> "RenderableType":
    """The display as it is now; every line is cut where the terminal ends."""
    tally = view.tally
    done = tally.total - tally.unfinished
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    head = Table.grid(padding=(0, 1), expand=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True)
    head.add_row(
        ProgressBar(total=max(1, tally.total), completed=done, complete_style="green", finished_style="green"),
        f"{done:,} of {tally.total:,} rows",
    )
    table.add_row(head)
    table.add_row(Text(" · ").join(Text(words, style=colour) for words, colour in view.parts()))
    table.add_row(Text(view.pace()))
    table.add_row(Text(view.money()))
    for name, error in tally.errors:
        table.add_row(safe(f"✗ {name}: {error}", "red"))
    return Padding(table, (0, SPARE, 0, 0))


def line(view: View) -> str:
    """The same in one line, for a log."""
    return f"{', '.join(words for words, _ in view.parts())} · {view.money()} · {view.pace()}"


async def _drawn(view: View) -> None:
    view.look()
    with Live(drawing(view), console=terminal(), auto_refresh=False, transient=True) as live:
        try:
            while True:
                await asyncio.sleep(OFTEN)
                view.look()
                live.update(drawing(view), refresh=True)
        finally:
            view.look()
            live.update(drawing(view))


async def _told(view: View) -> None:
    """A line now and then, and each error once, up to some."""
    last, told, shown = "", 0.0, 0
    while True:
        await asyncio.sleep(1.0)
        view.look()
        tally = view.tally
        if tally.troubles > shown:
            new = list(tally.errors)[-min(tally.troubles - shown, len(tally.errors)) :]
            if shown < PLAIN_ERRORS:
                for name, error in new:
                    _say(f"{name}: {error}")
            shown = tally.troubles
        pause = next(pause for age, pause in PLAIN_PAUSES if view.seconds <= age)
        state = ", ".join(words for words, _ in view.parts())
        if state != last and view.seconds - told >= pause:
            _say(line(view))
            last, told = state, view.seconds


def _say(text: str) -> None:
    sys.stderr.write(f"reelsheet: {visible(text)}\n")
    sys.stderr.flush()
