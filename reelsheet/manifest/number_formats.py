"""Numbers of an .xlsx as text: what a cell's number format makes of the digits that the file holds."""

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Final

_WHOLE: Final = re.compile(r"-?[0-9]{1,40}")


class NumberFormats:
    """What a number's format says of its text: a date, a duration, or digits with zeros in front."""

    def __init__(self, formats: list[tuple[int, str]], *, epoch_1904: bool) -> None:
        self._formats = formats
        self._epoch_1904 = epoch_1904
        self._writers: dict[str, Callable[[str], str]] = {"": _plain}

    def number(self, value: str, style: str) -> str:
        """`value` as it stands in the XML, `style` an index into the formats."""
        writer = self._writers.get(style)
        if writer is None:
            writer = self._writers[style] = self._writer(style)
        return writer(value)

    def _writer(self, style: str) -> Callable[[str], str]:
        index = int(style) if style.isdecimal() else -1
        number, code = self._formats[index] if 0 <= index < len(self._formats) else (0, "")
        if number == 0:
            return _plain
        # openpyxl is slow to import, and only numbers with a format of their own need it
        from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format, is_timedelta_format

        code = code or BUILTIN_FORMATS.get(number, "")
        if is_date_format(code):
            duration = bool(is_timedelta_format(code))
            return lambda value: self._moment(value, duration=duration)
        if len(code) > 1 and not code.strip("0"):
            return lambda value: _plain(value).zfill(len(code))
        return _plain

    def _moment(self, value: str, *, duration: bool) -> str:
        from openpyxl.utils.datetime import MAC_EPOCH, WINDOWS_EPOCH, from_excel

        try:
            moment = from_excel(float(value), MAC_EPOCH if self._epoch_1904 else WINDOWS_EPOCH, timedelta=duration)
        except (ValueError, OverflowError):
            return _plain(value)
        if isinstance(moment, datetime):
            return str(moment.date()) if moment.time() == time() else moment.isoformat(timespec="seconds")
        if isinstance(moment, date | time | timedelta):
            return str(moment).partition(".")[0]
        return _plain(value)


def _plain(value: str) -> str:
    """A number as its text: whole ones with every digit, others with 15 as in Excel, so that 0.1 + 0.2 is 0.3."""
    value = value.strip()
    if _WHOLE.fullmatch(value):
        return str(int(value))
    try:
        number = float(value)
    except ValueError:
        return value
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return f"{number:.15g}"
