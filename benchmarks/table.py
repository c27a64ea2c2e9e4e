"""Figures beside their goals, as one table of text."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line. `goal` is the most that `value` should be (None: only told); `digits` after the point."""

    what: str
    value: float
    goal: float | None = None
    digits: int = 2
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        return "yes" if self.value <= self.goal else "NO"


def lines(figures: Iterable[Figure]) -> list[str]:
    """A Markdown table."""
    rows = [("what", "goal", "here", "met", "note")]
    for one in figures:
        goal = "" if one.goal is None else f"≤ {one.goal:g}"
        rows.append((one.what, goal, f"{one.value:.{one.digits}f}", one.verdict, one.note))
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    told = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    told.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return told
