"""Rows that may have been charged without an answer, each with the command that settles it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from reelsheet.ledger import Ledger
from reelsheet.manifest.identity import is_of_api
from reelsheet.money import dollars
from reelsheet.redaction import clean

SHORTEST: Final = 8  # digits of an identity that name a row


@dataclass(frozen=True, slots=True)
class UnsettledRow:
    """`digits` name it among all unknown rows; `api` is the API address that it was sent to, where that is another."""

    identity: str
    digits: str
    name: str
    line: int | None
    run_id: str
    price_cents: int
    claimed_at: float
    api: str = ""

    @property
    def command(self) -> str:
        """As it can be pasted, but for the prediction's id."""
        setting = f"VIBEDREAM_BASE_URL={self.api} " if self.api else ""
        return f"{setting}reelsheet resolve {self.digits} --id PREDICTION"

    @property
    def description(self) -> str:
        line = f", line {self.line}" if self.line is not None else ""
        sent = f"{datetime.fromtimestamp(self.claimed_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.name}{line}, sent {sent}, {dollars(self.price_cents)}"


def unsettled_rows(ledger: Ledger, api: str, among: Iterable[str] | None = None) -> list[UnsettledRow]:
    """In the order in which they were sent; `among`: only these identities. `api`: the API address in use."""
    unknown = ledger.unknown_attempts()
    wanted = unknown if among is None else {identity: unknown[identity] for identity in among if identity in unknown}
    rows = []
    names: dict[str, dict[str, tuple[str, int]]] = {}
    for identity, attempt in sorted(wanted.items(), key=lambda item: (item[1].sequence, item[1].id)):
        if attempt.run_id not in names:
            names[attempt.run_id] = _names(ledger, attempt.run_id)
        name, line = names[attempt.run_id].get(identity, (f"row {identity[:SHORTEST]}", None))
        elsewhere = "" if is_of_api(identity, api) else _api_of(ledger, attempt.run_id)
        rows.append(
            UnsettledRow(
                identity, _digits(identity, unknown), clean(name, limit=40), line, attempt.run_id,
                attempt.price_cents, attempt.claimed_at, elsewhere,
            )
        )  # fmt: skip
    return rows


def _names(ledger: Ledger, run_id: str) -> dict[str, tuple[str, int]]:
    sheet = ledger.sheet(run_id)
    if sheet is None:
        return {}
    rows = zip(sheet.identities, sheet.names, sheet.lines, strict=True)
    return {identity: (name, line) for identity, name, line in reversed(list(rows))}  # the first one has the money


def _api_of(ledger: Ledger, run_id: str) -> str:
    record = ledger.run(run_id)
    return str(record.options.get("base_url") or "") if record is not None else ""


def _digits(identity: str, others: Iterable[str]) -> str:
    """The beginning of `identity` that no other one has."""
    length = SHORTEST
    while any(other != identity and other.startswith(identity[:length]) for other in others):
        length += 1
    return identity[:length]
