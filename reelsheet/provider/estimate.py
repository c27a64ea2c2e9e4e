"""The provider's estimate of how long a prediction takes."""

import re

DAY_S = 86400.0

_NUMBER = re.compile(r"(\d+(?:[.,]\d+)?)\s*([a-z]*)")
_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0}
_UNITS |= {"hr": 3600.0, "hour": 3600.0}


def estimate_seconds(text: object) -> float | None:
    """The provider's `estimatedTime` in seconds: "5 seconds", "1-2 minutes" (the longer), "1m 30s", "PT30S", 30.

    None for anything else, and for what is no time between nothing and a day.
    """
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        return None
    seconds = _seconds(text) if isinstance(text, str) else float(text)
    return seconds if seconds is not None and 0 < seconds < DAY_S else None


def _seconds(text: str) -> float | None:
    parts = _NUMBER.findall(text.strip().lower().removeprefix("pt")[:80])
    total, seen = 0.0, None
    for number, word in parts:
        unit = word.rstrip("s") if len(word) > 1 and word != "ms" else word
        if unit and unit not in _UNITS:
            return None
        value = float(number.replace(",", "."))
        if not unit:  # "1-2 minutes", "30": the unit comes later, or never
            seen = value
            continue
        total, seen = total + value * _UNITS[unit], None
    if not parts:
        return None
    return total + (seen or 0.0)
