"""Draws docs/images/pacing-*.svg and prints the figures of docs/pacing.md, all from the simulation.

`python -m benchmarks.pacing_traces`, or with `--table` for the figures alone.
"""

import argparse
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.pacing_simulation import (
    Client,
    FixedWindow,
    Places,
    Provider,
    TokenBucket,
    constant,
    greedy,
    log_normal,
    simulate,
    whole_seconds,
)

IMAGES = Path(__file__).parents[1] / "docs" / "images"

Points = Sequence[tuple[float, float]]
Latency = Callable[[random.Random], float]

# --- drawing --------------------------------------------------------------------------------------------------------

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57606a }
  .title { font-size: 14px; font-weight: 600; fill: #1f2328 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .a { stroke: #0969da } .b { stroke: #bc4c00 } .c { stroke: #8250df } .d { stroke: #6e7781 } .e { stroke: #1a7f37 }
  .fa { fill: #0969da } .fb { fill: #bc4c00 } .fc { fill: #8250df } .fd { fill: #6e7781 } .fe { fill: #1a7f37 }
  .line { fill: none; stroke-width: 1.6; stroke-linejoin: round }
  .thin { stroke-width: 1; stroke-dasharray: 5 4 }
  .area { stroke: none; opacity: .16 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 } .title { fill: #f0f6fc } .grid { stroke: #30363d }
    .a { stroke: #58a6ff } .b { stroke: #f0883e } .c { stroke: #bc8cff } .d { stroke: #8b949e } .e { stroke: #3fb950 }
    .fa { fill: #58a6ff } .fb { fill: #f0883e } .fc { fill: #bc8cff } .fd { fill: #8b949e } .fe { fill: #3fb950 }
  }
"""


@dataclass
class Chart:
    """One drawing: axes from zero, lines, areas, marks and a legend."""

    title: str
    x_label: str
    y_label: str
    x_most: float
    y_most: float
    width: int = 760
    height: int = 280
    _body: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str]] = field(default_factory=list)

    LEFT, RIGHT, TOP, BOTTOM = 46, 14, 58, 40

    def line(self, points: Points, colour: str, name: str = "", *, dashed: bool = False) -> None:
        """A line from point to point."""
        path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        self._body.append(f'<polyline class="line {colour}{" thin" if dashed else ""}" points="{path}"/>')
        self._name(name, colour)

    def area(self, points: Points, colour: str) -> None:
        """What lies below a line."""
        path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        first, last = self._x(points[0][0]), self._x(points[-1][0])
        zero = self._y(0)
        self._body.append(f'<polygon class="area f{colour}" points="{first:.1f},{zero} {path} {last:.1f},{zero}"/>')

    def ticks(self, at: Iterable[float], colour: str, name: str = "") -> None:
        """Short marks on the bottom."""
        low = self._y(0)
        self._body += [
            f'<line class="{colour}" x1="{self._x(x):.1f}" x2="{self._x(x):.1f}" y1="{low}" y2="{low - 9}"/>'
            for x in at
        ]
        self._name(name, colour)

    def dots(self, points: Points, colour: str, name: str = "") -> None:
        """A dot at each point."""
        self._body += [
            f'<circle class="f{colour}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="4"/>' for x, y in points
        ]
        self._name(name, colour)

    def text(self) -> str:
        """The SVG."""
        low, right = self._y(0), self.width - self.RIGHT
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img">',
            f"<title>{escape(self.title)}</title><style>{STYLE}</style>",
            f'<text class="title" x="{self.LEFT}" y="20">{escape(self.title)}</text>',
        ]
        x = self.LEFT
        for name, colour in self._legend:
            parts.append(f'<rect class="f{colour}" x="{x}" y="34" width="14" height="3" rx="1.5"/>')
            parts.append(f'<text x="{x + 19}" y="40">{escape(name)}</text>')
            x += 34 + round(6.4 * len(name))
        for y in _round_steps(self.y_most):
            at = self._y(y)
            parts.append(f'<line class="grid" x1="{self.LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text x="{self.LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
        parts += [
            f'<text x="{self._x(tick):.1f}" y="{low + 17}" text-anchor="middle">{tick:g}</text>'
            for tick in _round_steps(self.x_most, 8)
        ]
        parts.append(f'<text x="{right}" y="{self.height - 6}" text-anchor="end">{escape(self.x_label)}</text>')
        parts.append(f'<text x="6" y="{self.height - 6}">{escape(self.y_label)}</text>')
        return "\n".join([*parts, *self._body, "</svg>", ""])

    def _name(self, name: str, colour: str) -> None:
        if name:
            self._legend.append((name, colour))

    def _x(self, value: float) -> float:
        return self.LEFT + (self.width - self.LEFT - self.RIGHT) * min(value, self.x_most) / self.x_most

    def _y(self, value: float) -> float:
        return (
            self.height - self.BOTTOM - (self.height - self.TOP - self.BOTTOM) * min(value, self.y_most) / self.y_most
        )


def _round_steps(most: float, count: int = 5) -> list[float]:
    step = next(s for s in (m * 10**e for e in range(-3, 6) for m in (1, 2, 2.5, 5)) if most / s <= count)
    return [round(n * step, 6) for n in range(int(most / step + 1e-9) + 1)]


def _steps(trace: Sequence[tuple[float, int]], until: float, width: float = 0.0) -> list[tuple[float, float]]:
    """A trace as a line of steps; with `width`, the mean over so many seconds."""
    if width:
        return [(n * width + width / 2, _mean(trace, n * width, (n + 1) * width)) for n in range(int(until / width))]
    points, before = [(0.0, 0.0)], 0
    for at, count in trace:
        if at > until:
            break
        points += [(at, float(before)), (at, float(count))]
        before = count
    return [*points, (until, float(before))]


def _mean(trace: Sequence[tuple[float, int]], since: float, until: float) -> float:
    area, running, at = 0.0, 0, since
    for moment, count in trace:
        if moment >= until:
            break
        if moment > since:
            area += running * (moment - at)
            at = moment
        running = count
    return (area + running * (until - at)) / (until - since)


# --- the drawings ---------------------------------------------------------------------------------------------------


def found() -> Chart:
    """Thirty places that nobody has told of."""
    provider = Provider(Places(30, None), constant(3))
    client = Client(450)
    simulate(provider, client)
    chart = Chart("450 rows of 3 s, 30 places, nobody knows", "seconds", "in flight", 48, 36)
    running = _steps(provider.trace, 48, 0.1)
    chart.area(running, "a")
    chart.line(running, "a", "in flight at the provider")
    chart.line([(0, 30), (48, 30)], "d", "places", dashed=True)
    chart.ticks((at for at, _ in provider.refusals), "b", "refusals")
    return chart


def followed() -> Chart:
    """A limit that rises and falls."""

    def places(now: float) -> float:
        return 30 if now < 40 else 60 if now < 80 else 15 if now < 120 else 30

    provider = Provider(Places(places), log_normal(3, 0.25))
    client = Client(2500)
    simulate(provider, client, until=150)
    chart = Chart("The limit doubles, falls to a quarter, doubles", "seconds", "in flight", 150, 70)
    running = _steps(provider.trace, 150, 0.5)
    chart.area(running, "a")
    chart.line(running, "a", "in flight at the provider")
    chart.line(
        [(0, 30), (40, 30), (40, 60), (80, 60), (80, 15), (120, 15), (120, 30), (150, 30)], "d", "places", dashed=True
    )
    chart.ticks((at for at, _ in provider.refusals), "b", "refusals")
    return chart


def by_the_minute() -> Chart:
    """Limits on submissions instead of places."""
    chart = Chart("60 submissions a minute, clips of 60 s", "seconds", "accepted", 300, 360)
    for limit, colour, name in (
        (TokenBucket(60), "a", "burst 1, Retry-After"),
        (TokenBucket(60, burst=10, told=False), "e", "burst 10, no Retry-After"),
        (FixedWindow(60), "c", "60 in each minute, Retry-After"),
    ):
        provider = Provider(limit, log_normal(60, 0.25))
        client = Client(400)
        simulate(provider, client, until=300)
        chart.line([(0.0, 0.0), *((at, n + 1.0) for n, at in enumerate(client.accepted_at))], colour, name)
        chart.ticks((at for at, _ in provider.refusals), colour)
    chart.line([(0, 0), (300, 300)], "d", "one a second", dashed=True)
    return chart


def shared() -> Chart:
    """Three processes on one account."""
    provider = Provider(Places(60), log_normal(3, 0.25), seed=3)
    clients = [Client(3000, starts=start, seed=21 + n) for n, start in enumerate((0, 30, 60))]
    simulate(provider, *clients, until=180)
    chart = Chart("Three processes with one ledger on one account of 60 places", "seconds", "in flight", 180, 70)
    for client, colour, name in zip(clients, "ace", ("from the start", "30 s later", "60 s later"), strict=True):
        known = [(at, count) for at, count, _ in client.windows]
        chart.line([(client.starts, 0.0), *_steps(known, 180, 1.0)[int(client.starts) :]], colour, name)
    chart.line(_steps(provider.trace, 180, 1.0), "d", "together", dashed=True)
    return chart


# --- the table ------------------------------------------------------------------------------------------------------


def _jittered(sigma: float, *, places: int, rows: int = 600, **more: object) -> tuple[Provider, Client]:
    provider = Provider(Places(places), log_normal(5, sigma) if sigma else constant(5))
    client = Client(rows, **more)  # type: ignore[arg-type] # named as Client names them
    simulate(provider, client)
    return provider, client


def table() -> str:
    """The figures of docs/pacing.md, as Markdown."""
    rows = [
        "| limit | latency | knows | time / greedy | refusals a row | polls | seen after (median) |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(limit: str, latency: str, knows: str, places: int, make: Callable[[int], tuple[Provider, Client]]) -> None:
        runs = [make(seed) for seed in range(1, 5)]
        mean = statistics.mean
        rows.append(
            f"| {limit} | {latency} | {knows} "
            f"| {mean(c.seconds / greedy(p.latencies, places) for p, c in runs):.2f} "
            f"| {mean(c.refusals / c.rows for _, c in runs):.2f} "
            f"| {mean(c.polls / c.rows for _, c in runs):.1f} "
            f"| {mean(statistics.median(c.lateness) for _, c in runs):.2f} s |"
        )

    def run(
        places: int, latency: Latency, count: int, told: float | None = 0.0, **more: object
    ) -> Callable[[int], tuple[Provider, Client]]:
        def make(seed: int) -> tuple[Provider, Client]:
            provider = Provider(Places(places, told), latency, seed=seed)
            client = Client(count, seed=50 + seed, **more)  # type: ignore[arg-type] # named as Client names them
            simulate(provider, client)
            return provider, client

        return make

    row("30 places", "3 s", "nothing", 30, run(30, constant(3), 450))
    row("30 places, Retry-After", "3 s", "nothing", 30, run(30, constant(3), 450, None))
    row("60 places", "5 s", "`--concurrency 60`", 60, run(60, constant(5), 600, ceiling=60))
    row("60 places", "5 s", "nothing", 60, run(60, constant(5), 600))
    for sigma in (0.25, 0.5):
        name = f"5 s, sigma {sigma}"
        row("60 places", name, "nothing", 60, run(60, log_normal(5, sigma), 600))
        row("60 places", name, "estimates", 60, run(60, log_normal(5, sigma), 600, estimate=whole_seconds))
        row(
            "60 places, Retry-After",
            name,
            "estimates",
            60,
            run(60, log_normal(5, sigma), 600, None, estimate=whole_seconds),
        )
        row("60 places", name, "`--concurrency 60`", 60, run(60, log_normal(5, sigma), 600, ceiling=60))
        row("60 places", name, "both", 60, run(60, log_normal(5, sigma), 600, ceiling=60, estimate=whole_seconds))
    return "\n".join(rows)


def main() -> None:
    """See the top."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--table", action="store_true", help="print the table, draw nothing")
    if not arguments.parse_args().table:
        IMAGES.mkdir(parents=True, exist_ok=True)
        for draw in (found, followed, by_the_minute, shared):
            path = IMAGES / f"pacing-{draw.__name__.replace('_', '-')}.svg"
            path.write_text(draw().text(), encoding="utf-8")
            print(path)
    print(table())


if __name__ == "__main__":
    main()
