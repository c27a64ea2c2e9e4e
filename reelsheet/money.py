"""Money is integer US cents inside and `Decimal` dollars with two places at the edges."""

import re
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from reelsheet.errors import UsageError

# A comma divides thousands and nothing else: "1,50" must not become a cap of $150.
_WRITTEN: Final = re.compile(r"\$?(?:\d+|\d{1,3}(?:,\d{3})+|(?=\.\d))(?:\.\d*)?", re.ASCII)

QUOTE_LIMIT_CENTS: Final = 1_000_000_000


@lru_cache(maxsize=4096)  # large tables repeat few amounts
def usd(cents: int) -> str:
    """54 → "0.54", as the results and the summary show it."""
    return f"{cents // 100}.{cents % 100:02d}" if cents >= 0 else f"-{usd(-cents)}"


def dollars(cents: int) -> str:
    """123456 → "$1,234.56", for people."""
    return f"${Decimal(cents) / 100:,.2f}"


def cents(amount: str | float | Decimal) -> int:
    """ "1.08" → 108. A fraction of a cent is rounded down, so that a cap is never widened.

    Raises UsageError where it is not a finite amount of zero or more.
    """
    text = str(amount).strip()
    try:
        fits = not isinstance(amount, str) or _WRITTEN.fullmatch(text)
        value = Decimal(text.removeprefix("$").replace(",", "") if fits else "nan")
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or value < 0 or value > 10_000_000:
        raise UsageError(f"{amount!r} is not an amount in US dollars; write it like 12.50.")
    return int(value * 100)


def quoted_cents(value: object) -> int | None:
    """The provider's `costCents` as whole cents (a fraction rounds up); None where it is no price.

    A number above QUOTE_LIMIT_CENTS counts as that, which no database column overflows at.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value).strip())
    except (InvalidOperation, ValueError):  # the second one: Python prints no number of thousands of digits
        return None
    if not amount.is_finite() or amount < 0 or (isinstance(value, str) and amount > QUOTE_LIMIT_CENTS):
        return None
    return int(min(amount, Decimal(QUOTE_LIMIT_CENTS)).to_integral_value(rounding=ROUND_CEILING))
