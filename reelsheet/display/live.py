"""A run in progress: a few lines that are drawn over again, or plain lines where nothing can be drawn over."""

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.constrain import Constrain
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reelsheet.display.redrawn import Redrawn, window
from reelsheet.display.tally import Tally
from reelsheet.display.terminal import safe, terminal
from reelsheet.display.waiting import REDRAW_S, Waiting, is_live
from reelsheet.ledger.pace_history import ObservedPace
from reelsheet.money import dollars
from reelsheet.outcomes import Status
from reelsheet.redaction import visible
from reelsheet.run.row_status import Stage
from reelsheet.run.run import RunMonitor
from reelsheet.run.start import Handover
from reelsheet.words import about, counted, length

if TYPE_CHECKING:
    from rich.console import RenderableType

RATE_WINDOW_S: Final = 120.0  # over which the rate is measured
BAR_COLUMNS: Final = 80  # at most, so that few resized windows break the line of the bar anew
PLAIN_INTERVALS_S: Final = ((60.0, 10.0), (600.0, 30.0), (float("inf"), 60.0))  # up to this age, a line so often
PLAIN_ERRORS: Final = 20  # that are printed as they come; the results have all

_COLOURS: Final[dict[Stage | Status, str]] = {
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
_WORDS: Final[dict[Stage | Status, str]] = {Status.SUCCEEDED: "delivered"}


async def watch(handover: Handover, expected: ObservedPace | None = None) -> None:
    """Show the run from its start until this is cancelled. `expected` is the pace of earlier runs."""
    with Waiting("Starting the run"):
        while handover.run is None:  # noqa: ASYNC110 - the display looks now and then, and that is all
            await asyncio.sleep(REDRAW_S)
    view = View(handover.run.monitor, expected)
    if is_live():
        await _draw(view)
    else:
        await _print(view)


class _Sample(NamedTuple):
    at: float
    delivered: int


class View:
    """What is shown of a run: its tally, its pace, and what is left.

    `expected` is the pace of earlier runs, which the plan used. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        monitor: RunMonitor,
        expected: ObservedPace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.monitor = monitor
        self.tally = Tally(monitor.context.plan, monitor.context.run_id)
        self._expected = expected
        self._clock = clock
        self._delivered_before = self._delivered = self.tally.delivered
        self._delivered_at = clock()  # the latest
        self._steady: _Sample | None = None  # when a generation was over
        self._most_in_flight = 0
        self._samples: deque[_Sample] = deque([_Sample(clock(), self.tally.delivered)])

    def update(self) -> None:
        """Take in what has changed since the last update."""
        self.tally.update(self.monitor.take_touched())
        now = self._clock()
        self._most_in_flight = max(self._most_in_flight, self.monitor.gate.pace.in_flight)
        if self.tally.delivered != self._delivered:
            self._delivered, self._delivered_at = self.tally.delivered, now
        if self._steady is None and self._is_generation_over:
            self._steady = _Sample(now, self.tally.delivered)
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
        """Until the last row; None while nothing is known of it.

        Until a generation of clips is over, by what the plan expected; then by what was seen.
        """
        pace, schedule, expected = self.monitor.gate.pace, self.monitor.schedule, self._expected
        unfinished, waiting = self.tally.unfinished, self.tally.clips[Stage.WAITING]
        if not unfinished or self.monitor.stops.is_stopping:
            return None
        if not pace.in_flight and not schedule.finished:  # nothing is sent yet, or other machines do the work
            if self.per_minute and self._delivered_here >= self.tally.rows[Stage.GENERATING]:
                return 60 * unfinished / self.per_minute
            left_s = expected.estimate_s(self._delivered_here + unfinished) - self.seconds if expected else 0.0
            return left_s if left_s > 0 else None
        is_over = self._is_generation_over
        if expected is not None and not is_over:
            running = schedule.seconds_left(expected.prediction_s)
            return pace.seconds_left(waiting, running, expected.prediction_s, most=expected.most_in_flight)
        if schedule.typical is None or (waiting and not is_over and pace.window == math.inf):
            return None
        running = schedule.seconds_left()
        turn_s = self._turn_s  # a machine that needs long for a row does not fill the places that there are
        most = self._most_in_flight if turn_s else math.inf
        return pace.seconds_left(waiting, running, schedule.typical, turn_s=turn_s, most=most)

    @property
    def _turn_s(self) -> float:
        """Seconds from one row to the next in one place, with all that this machine needs in between; 0 if not known.

        Known by a generation after the first.
        """
        rows = 0 if self._steady is None else self.tally.delivered - self._steady.delivered
        if self._steady is None or rows < self._most_in_flight:
            return 0.0
        return (self._delivered_at - self._steady.at) * self._most_in_flight / rows

    @property
    def _is_generation_over(self) -> bool:
        return self.monitor.schedule.finished >= max(1, self.monitor.gate.pace.in_flight)

    @property
    def _delivered_here(self) -> int:
        return self.tally.delivered - self._delivered_before

    def parts(self) -> list[tuple[str, str]]:
        """("312 delivered", "green") and so on, without what there is none of."""
        return [(self._part(place), colour) for place, colour in _COLOURS.items() if self.tally.rows[place]]

    def _part(self, place: Stage | Status) -> str:
        """ "8 generating (7 clips)", where two of the rows share a clip."""
        rows, clips = self.tally.rows[place], self.tally.clips[place]
        shared = f" ({counted(clips, 'clip')})" if isinstance(place, Stage) and clips != rows else ""
        return f"{rows:,} {_WORDS.get(place, str(place))}{shared}"

    def money(self) -> str:
        """ "$168.48 spent · $0.54 at risk · cap $324.00"."""
        risk = f" · {dollars(self.tally.risk_cents)} at risk" if self.tally.risk_cents else ""
        cap = self.monitor.context.record.cap_cents
        return f"{dollars(self.tally.spent_cents)} spent{risk}" + (f" · cap {dollars(cap)}" if cap is not None else "")

    def uploads(self) -> str:
        """ "120 of 1,000 pictures uploaded"; "" when there is nothing left to upload."""
        done, total = self.monitor.uploads
        return f"{done:,} of {counted(total, 'picture')} uploaded" if done < total else ""

    def pace(self) -> str:
        """ "58 of about 60 at once · 118 clips a minute · about 2 min left"."""
        pace = self.monitor.gate.pace.snapshot()
        in_flight = max(pace.in_flight, self.tally.clips[Stage.GENERATING])
        window = "" if pace.window == float("inf") or in_flight > pace.window else f" of about {pace.window:,.0f}"
        parts = [f"{in_flight:,}{window} at once"]
        if self.per_minute:
            parts.append(f"{self.per_minute:,.0f} a minute" if self.per_minute >= 1 else "less than one a minute")
        if self.monitor.stops.is_stopping:
            parts.append("nothing new is sent")
        elif pace.held >= 1 and (self.seconds_left is None or in_flight < pace.window):  # it keeps a place empty
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
    table.add_row(Constrain(head, BAR_COLUMNS))
    table.add_row(Text(" · ").join(Text(words, style=colour) for words, colour in view.parts()))
    table.add_row(Text(view.pace()))
    table.add_row(Text(view.money()))
    if view.uploads():
        table.add_row(Text(view.uploads()))
    for error in tally.errors:
        table.add_row(safe(f"✗ {error.row}: {error.error}", "red"))
    return table


def line(view: View) -> str:
    """The same in one line, for a log."""
    uploads = f" · {view.uploads()}" if view.uploads() else ""
    return f"{', '.join(words for words, _ in view.parts())} · {view.money()} · {view.pace()}{uploads}"


async def _draw(view: View) -> None:
    with Redrawn() as drawn:
        while True:
            view.update()
            drawn.draw(lines(view, window(sys.stderr).columns))
            await asyncio.sleep(REDRAW_S)


def lines(view: View, columns: int) -> list[str]:
    """The drawing as text with colours; no line is longer than `columns`."""
    console = terminal()
    with console.capture() as held:
        console.print(drawing(view), width=columns)
    return [line.rstrip() for line in held.get().splitlines()]


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
        state = ", ".join([*(words for words, _ in view.parts()), view.uploads()])
        if state != last_state and view.seconds - last_at >= interval_s:
            _print_line(line(view))
            last_state, last_at = state, view.seconds


def _print_line(text: str) -> None:
    sys.stderr.write(f"reelsheet: {visible(text)}\n")
    sys.stderr.flush()
