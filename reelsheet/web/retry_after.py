"""Retry-After: how long a server asks to be left alone."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_S = 600.0  # a server that asks for more is asked again after this much


def retry_after(headers: Mapping[str, str], *, now: Callable[[], datetime], cap_s: float = LONGEST_S) -> float | None:
    """Seconds to wait, at most `cap_s`; None where the header is missing, garbage or in the past.

    A date counts from the response's own Date, so that a wrong clock on either side does no harm; `now` (UTC-aware)
    stands in where there is none.
    """
    value = _header(headers, "retry-after")
    if not value:
        return None
    seconds = _number(value)
    if seconds is None:
        moment = _date(value)
        if moment is None:
            return None
        seconds = (moment - (_date(_header(headers, "date")) or now())).total_seconds()
    return min(seconds, cap_s) if seconds > 0 else None


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "").strip()  # a dict knows no case


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
