"""Counts, lists and lengths of time as people read them."""

from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """ "1 row", "1,200 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: Sequence[str], most: int) -> str:
    """ "a, b and 3 more": no more than the first `most` of them."""
    return ", ".join(words[:most]) + (f" and {len(words) - most:,} more" if len(words) > most else "")


def length(seconds: float) -> str:
    """134 → "2 min 14 s", 5 → "5 s", 9000 → "2 h 30 min"."""
    total = max(0, round(seconds))
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def about(seconds: float) -> str:
    """A length that does not claim to be exact: 134 → "about 2 min"."""
    if seconds < 55:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 90 * 60:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {length(600 * round(seconds / 600))}".removesuffix(" 0 min")
