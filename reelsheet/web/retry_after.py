"""Retry-After: how long the provider asks to be left alone."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 600.0  # seconds; a provider that asks for more is asked again after this much


def retry_after(headers: Mapping[str, str], *, now: Callable[[], datetime], cap: float = LONGEST) -> float | None:
    """Seconds to wait, at most `cap`; None where the header is missing, garbage or in the past.

    A date counts from the response's own Date, so that a wrong clock on either side does no harm; `now` (UTC-aware)
    stands in where there is none.
    """
    told = _header(headers, "retry-after")
    if not told:
        return None
    seconds = _number(told)
    if seconds is None:
        moment = _date(told)
        if moment is None:
            return None
        seconds = (moment - (_date(_header(headers, "date")) or now())).total_seconds()
    return min(seconds, cap) if seconds > 0 else None


def _header(headers: Mapping[str, str], name: str) -> str:
    found = headers.get(name)
    if found is None:  # a plain dict knows no case
        found = next((value for key, value in headers.items() if key.lower() == name), "")
    return found.strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
