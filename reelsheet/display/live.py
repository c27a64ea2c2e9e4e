"""A run in progress: a few lines that are drawn over again, or plain lines where nothing can be drawn over."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reelsheet.display.tally import Tally
from reelsheet.display.terminal import REDRAW_S, about, is_live, length, safe, terminal
from reelsheet.money import dollars
from reelsheet.outcomes import Status
from reelsheet.redaction import visible
from reelsheet.run.row_status import Stage
from reelsheet.run.run import RunMonitor
from reelsheet.run.start import Handover

if TYPE_CHECKING:
    from rich.console import RenderableType

RATE_WINDOW_S: Final = 120.0  # over which the rate is measured
PLAIN_INTERVALS_S: Final = ((60.0, 10.0), (600.0, 30.0), (float("inf"), 60.0))  # up to this age, a line so often
SPARE_COLUMNS: Final = 3  # left free, so that the terminal's own ^C does not begin another line
PLAIN_ERRORS: Final = 20  # that are printed as they come; the results have all

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


async def watch(handover: Handover) -> None:
    """Show the run from its start until this is cancelled."""
    while handover.run is None:  # noqa: ASYNC110 - the display looks now and then, and that is all
        await asyncio.sleep(REDRAW_S)
    view = View(handover.run.monitor)
    if is_live():
        await _draw(view)
    else:
        await _print(view)


class _Sample(NamedTuple):
    at: float
    delivered: int


class View:
    """What is shown of a run: its tally, its pace, and what is left. `clock` gives monotonic seconds."""

    def __init__(self, monitor: RunMonitor, clock: Callable[[], float] = time.monotonic) -> None:
        self.monitor = monitor
        self.tally = Tally(monitor.context.plan, monitor.context.run_id)
        self._clock = clock
        self._samples: deque[_Sample] = deque([_Sample(clock(), self.tally.delivered)])

    def update(self) -> None:
        """Take in what has changed since the last update."""
        self.tally.update(self.monitor.take_touched())
        now = self._clock()
        if now - self._samples[-1].at >= 1.0 or len(self._samples) == 1:
            self._samples.append(_Sample(now, self.tally.delivered))
        while len(self._samples) > 2 and now - self._samples[0].at > RATE_WINDOW_S:
            self._samples.popleft()

    @property
    def seconds(self) -> float:
        return self._clock() - self.monitor.started_at

    @property
    def per_minute(self) -> float:
        """Rows delivered a minute, lately."""
        first, last = self._samples[0], self._samples[-1]
        return 60 * (last.delivered - first.delivered) / (last.at - first.at) if last.at > first.at else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until the last row, by the pace and the latencies found so far; None while they are not known."""
        typical_s = self.monitor.schedule.typical
        unfinished = self.tally.unfinished
        if not unfinished or self.monitor.stops.is_stopping:
            return None
        waiting = self.tally.rows[Stage.WAITING]
        left_s = None if typical_s is None else self.monitor.gate.pace.eta(waiting, typical_s)
        if left_s is None and self.per_minute:  # other machines do the work
            return 60 * unfinished / self.per_minute
        return left_s

    def parts(self) -> list[tuple[str, str]]:
        """("312 delivered", "green") and so on, without what there is none of."""
        return [
            (f"{self.tally.rows[place]:,} {_WORDS.get(place, str(place))}", colour)  # type: ignore[call-overload]
            for place, colour in _COLOURS.items()
            if self.tally.rows[place]
        ]

    def money(self) -> str:
        """ "$168.48 spent · $0.54 at risk · cap $324.00"."""
        risk = f" · {dollars(self.tally.risk_cents)} at risk" if self.tally.risk_cents else ""
        cap = self.monitor.context.record.cap_cents
        return f"{dollars(self.tally.spent_cents)} spent{risk}" + (f" · cap {dollars(cap)}" if cap is not None else "")

    def pace(self) -> str:
        """ "58 of about 60 at once · 118 clips a minute · about 2 min left"."""
        pace = self.monitor.gate.pace.snapshot()
        in_flight = max(pace.in_flight, self.tally.rows[Stage.GENERATING])
        window = "" if pace.window == float("inf") or in_flight > pace.window else f" of about {pace.window:,.0f}"
        parts = [f"{in_flight:,}{window} at once"]
        if self.per_minute:
            parts.append(f"{self.per_minute:,.0f} a minute" if self.per_minute >= 1 else "less than one a minute")
        if self.monitor.stops.is_stopping:
            parts.append("nothing new is sent")
        elif pace.held >= 1:
            parts.append(f"the provider asks to wait {length(pace.held)}")
        elif self.seconds_left is not None:
            parts.append(f"{about(self.seconds_left)} left")
        parts.append(f"{length(self.seconds)} so far")
        return " · ".join(parts)


def drawing(view: View) -> "RenderableType":
    """The display as of now; every line is cut where the terminal ends."""
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
    for error in tally.errors:
        table.add_row(safe(f"✗ {error.row}: {error.error}", "red"))
    return Padding(table, (0, SPARE_COLUMNS, 0, 0))


def line(view: View) -> str:
    """The same in one line, for a log."""
    return f"{', '.join(words for words, _ in view.parts())} · {view.money()} · {view.pace()}"


async def _draw(view: View) -> None:
    view.update()
    with Live(drawing(view), console=terminal(), auto_refresh=False, transient=True) as live:
        try:
            while True:
                await asyncio.sleep(REDRAW_S)
                view.update()
                live.update(drawing(view), refresh=True)
        finally:
            view.update()
            live.update(drawing(view))


async def _print(view: View) -> None:
    """A line now and then, and each error once, up to some."""
    last_state, last_at, shown = "", 0.0, 0
    while True:
        await asyncio.sleep(1.0)
        view.update()
        tally = view.tally
        if tally.troubles > shown:
            new = list(tally.errors)[-min(tally.troubles - shown, len(tally.errors)) :]
            if shown < PLAIN_ERRORS:
                for error in new:
                    _print_line(f"{error.row}: {error.error}")
            shown = tally.troubles
        interval_s = next(interval for age, interval in PLAIN_INTERVALS_S if view.seconds <= age)
        state = ", ".join(words for words, _ in view.parts())
        if state != last_state and view.seconds - last_at >= interval_s:
            _print_line(line(view))
            last_state, last_at = state, view.seconds


def _print_line(text: str) -> None:
    sys.stderr.write(f"reelsheet: {visible(text)}\n")
    sys.stderr.flush()
