"""Money: integer cents inside, dollars with two places outside; a cap is never widened, a quote never shortened."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reelsheet.errors import UsageError
from reelsheet.money import QUOTE_LIMIT_CENTS, cents, dollars, quoted_cents, usd

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (5, "0.05"), (54, "0.54"), (100, "1.00"), (123456, "1234.56"), (-54, "-0.54")]
)
def test_cents_are_shown_with_two_places(amount, text):
    assert usd(amount) == text


@pytest.mark.parametrize(("amount", "text"), [(0, "$0.00"), (54, "$0.54"), (123456, "$1,234.56")])
def test_people_see_dollars_and_thousands(amount, text):
    assert dollars(amount) == text


@pytest.mark.parametrize(
    ("amount", "found"),
    [
        ("1.08", 108),
        (" 12.50 ", 1250),
        ("$1,234.56", 123456),
        (0, 0),
        (0.1, 10),
        (10, 1000),
        ("0.999", 99),
        (".5", 50),
        ("5.", 500),
        ("1,000", 100_000),
        ("10000000", 1_000_000_000),
    ],
)
def test_an_amount_is_whole_cents_and_a_fraction_is_not_spent(amount, found):
    assert cents(amount) == found


@pytest.mark.parametrize(
    "amount",
    [
        "",
        "ten",
        "-1",
        "-0.01",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "10000000.01",
        "1_0",
        "1..2",
        "1,50",
        "1,5,0",
        "1.000,50",
        "0x10",
        ".",
    ],
)
def test_what_is_no_amount_is_refused_by_name(amount):
    with pytest.raises(UsageError) as wrong:
        cents(amount)
    assert str(wrong.value) == f"{amount!r} is not an amount in US dollars; write it like 12.50."


@given(st.integers(0, 10**9))
def test_cents_become_dollars_and_come_back(amount):
    assert cents(usd(amount)) == amount
    assert cents(dollars(amount)) == amount
    assert usd(-amount) == (f"-{usd(amount)}" if amount else "0.00")


@given(st.text(max_size=30) | st.floats() | st.integers() | st.decimals())
def test_an_amount_is_cents_that_never_exceed_it_or_an_error(amount):
    try:
        found = cents(amount)
    except UsageError:
        return
    assert 0 <= found <= 1_000_000_000
    if not isinstance(amount, str):
        assert found <= Decimal(str(amount)) * 100 < found + 1


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (54, 54),
        (54.0, 54),
        (54.000001, 55),
        ("54", 54),
        (" 54.2 ", 55),
        (0, 0),
        (0.4, 1),
        (1_000_000.5, 1_000_001),
        (1_000_000_000, 1_000_000_000),
        (1_000_000_000.5, 1_000_000_000),
        (1e300, 1_000_000_000),
        (10**25, 1_000_000_000),
        (-(10**25), None),
        (-1, None),
        (-0.5, None),
        (True, None),
        (False, None),
        (None, None),
        ([54], None),
        ({"cents": 54}, None),
        ("", None),
        ("free", None),
        (float("nan"), None),
        (float("inf"), None),
        ("1e400", None),
        ("9" * 5000, None),
        ("2000000000", None),
    ],
)
def test_a_quote_is_whole_cents_and_a_fraction_counts(said, found):
    assert quoted_cents(said) == found


@given(JSON)
@example("0.0000000000000000000000000001")
def test_a_quote_is_in_bounds_and_never_less_than_was_said_or_nothing(value):
    found = quoted_cents(value)
    if found is None:
        return
    assert isinstance(found, int)
    assert 0 <= found <= QUOTE_LIMIT_CENTS
    assert found == QUOTE_LIMIT_CENTS or found >= Decimal(str(value).strip()) > found - 1
