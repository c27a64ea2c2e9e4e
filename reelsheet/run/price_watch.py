"""The price to reserve for the next submission, as the provider's quotes show it."""

from collections import deque

from reelsheet import messages

QUOTES = 8  # of the latest quotes the highest is reserved
EXCESS = 10  # times the expected price: a quote above that is not followed but stops submitting


class PriceWatch:
    """`price_cents` starts at the expected price and follows the quotes."""

    def __init__(self, expected_cents: int) -> None:
        self.expected_cents = self.price_cents = expected_cents
        self._quotes: deque[int] = deque(maxlen=QUOTES)
        self._remarked = False

    def observe(self, quoted_cents: int | None) -> str:
        """Take in one quote; a remark for people the first time that the price differs, else "".

        A clip for nothing says nothing of the next one: with a price of zero no cap would hold.
        """
        if not quoted_cents:
            return ""
        self._quotes.append(quoted_cents)
        price_cents = max(self._quotes)
        if price_cents == self.price_cents:
            return ""
        remark = "" if self._remarked else messages.other_price(self.price_cents, quoted_cents)
        self._remarked, self.price_cents = True, price_cents
        return remark

    def is_excessive(self, quoted_cents: int | None) -> bool:
        """Far above what was expected: a person must look at it before more is bought."""
        return (quoted_cents or 0) > EXCESS * self.expected_cents
