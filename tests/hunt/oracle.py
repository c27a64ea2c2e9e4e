"""What the provider may charge, worked out from what people asked for, and whether everything written down is true.

It knows nothing of grants, permits or attempts: only of orders (a prompt that stood in a sheet), of wishes (a command
that may pay again, as long as it is not finished), and of the provider's books.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from sqlalchemy import select

from reelsheet.ledger import schema
from reelsheet.ledger.database import Database
from tests.hunt.provider import Charge, Provider
from tests.hunt.sheets import HELD, Line, is_chosen, order_of, read_results
from tests.hunt.simulation import Command, Ended

PRICE = 54
FINISHED = (0, 1)
LEFT_OUT = ("not_chosen", "hidden")  # rows that a run did not have to do with
MAYBE = ("claimed", "unknown")  # states of an attempt that may have been charged


@dataclass
class Wish:
    """A command from its first start until one of its runs is finished."""

    command: Command
    permitted: set[str] = field(default_factory=set)  # orders that it may replace once
    is_finished: bool = False
    starts: list["Start"] = field(default_factory=list)

    def is_like(self, other: "Wish") -> bool:
        """The same command, for the same rows or for others."""
        return replace(self.command, where=(), include_hidden=False) == replace(
            other.command, where=(), include_hidden=False
        )


@dataclass(eq=False)
class Start:
    """One start of a command: what its process sends is charged to it."""

    wish: Wish
    command: Command
    lines: list[Line]
    chosen: set[str] = field(default_factory=set)  # orders, and what their lines were paid as
    asked: set[str] | None = None  # those of them that it surely asks to pay for; None: this is not known


class Oracle:
    """Told of every command before (`begins`) and after it (`ended`)."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.wishes: list[Wish] = []
        self.ordered: set[str] = set()
        self.extra: Counter[str] = Counter()  # charges beyond the first that a person permitted
        self.redone: set[tuple[str, str]] = set()  # predictions whose replacement was asked for, and as which order
        self.answered: set[str] = set()  # charges whose id a ledger has, or had
        self.forgiven: set[str] = set()  # charges that a person called none, or that went down with a ledger
        self.abandoned_charges: set[str] = set()  # those of them that a person called none
        self.names: dict[str, str] = {}  # identity → order
        self.told: defaultdict[str, Counter[str]] = defaultdict(Counter)  # destination → order → charges, by its tables
        self.lost: dict[str, int] = {}  # order → charges that the ledger knew before it was lost

    # What people ask for

    def begins(self, command: Command, lines: Sequence[Line]) -> Start:
        """A person gives `command` for a sheet of `lines`."""
        wish = self._wish_of(command)
        books = self.books()
        tables = self.told[command.destination or command.source]
        for order in [order for order, charges in self.lost.items() if tables[order] < charges]:
            self.extra[order] += 1
            del self.lost[order]
        start = Start(wish, command, list(lines))
        for line in lines:
            if is_chosen(line, command.where, include_hidden=command.include_hidden):
                self._hear(start, line, books)
        is_plain = command.limit is None and not any(line.paid_text for line in lines)
        if is_plain and command.fresh:
            start.asked = set(start.chosen)
        wish.starts.append(start)
        return start

    def _hear(self, start: Start, line: Line, books: Mapping[str, list[Charge]]) -> None:
        """One line that the command chose."""
        wish, order, paid = start.wish, order_of(line.text), order_of(line.paid_text)
        start.chosen |= {order, paid} - {""}
        if line.redo and line.prediction and self._latest(books[paid]) == line.prediction:
            if (line.prediction, order) not in self.redone:
                self.redone.add((line.prediction, order))
                self.extra[order] += order == paid
            if not line.is_damaged:
                self.ordered.add(order)
        # Whether the old text was charged does not matter to the new one, and a new ledger knows only a table's attempts.
        is_latest = line.status == "unknown" or self._latest(books[paid]) in self.forgiven
        if line.redo and order != paid and is_latest and not line.is_damaged:
            self.ordered.add(order)
        if self._is_order(start, line, order, paid):
            self.ordered.add(order)
        for target in {order, paid} - {""}:
            if target in wish.permitted or any(self._is_shared(wish, charge) for charge in books[target]):
                continue
            if self._may_replace(start.command, books[target]):
                wish.permitted.add(target)
                self.extra[target] += 1

    def _is_shared(self, wish: Wish, charge: Charge) -> bool:
        """What a wish has paid for while it is not finished is not paid for again for other conditions."""
        other: Wish = charge.sender.wish
        return other is wish or (other.is_like(wish) and not other.is_finished)

    def _finish(self, start: Start) -> None:
        """With a wish, others end whose rows its last run went on with, though they had chosen them otherwise."""
        start.wish.is_finished = True
        there = {order_of(text) for line in start.lines for text in (line.text, line.paid_text)}
        for wish in self.wishes:
            if wish.is_like(start.wish):
                for other in wish.starts:
                    is_covered = other.asked is not None and other.asked & there <= start.chosen
                    wish.is_finished |= is_covered or (other.asked is None and bool(other.chosen & start.chosen))

    def _wish_of(self, command: Command) -> Wish:
        key = replace(command, limit=None, max_cost_usd=None)
        for wish in reversed(self.wishes):
            if wish.command == key and not wish.is_finished:
                return wish
        self.wishes.append(Wish(key))
        return self.wishes[-1]

    def _is_order(self, start: Start, line: Line, order: str, paid: str) -> bool:
        """Whether a line asks for what it reads now, be it for the first time.

        Of rows that failed with one identity, those are copies whose original still reads as it did. Without such a
        row, each may be a corrected one: two rows of a sheet may have been equal from the start.
        """
        if not paid:
            return True
        if line.is_damaged:
            return False
        if order == paid or line.status not in HELD:
            is_original = [order_of(other.text) == paid == order_of(other.paid_text) for other in start.lines]
            return not (line.is_copy and any(is_original))
        return start.command.fresh

    def _may_replace(self, command: Command, charges: Sequence[Charge]) -> bool:
        if not charges:
            return False
        last = charges[-1]
        if last.id not in self.answered:
            return command.retry_unknown
        if command.retry_unknown and any(charge.id not in self.answered for charge in charges):
            return True
        return command.fresh or (command.verb == "retry" and last.failed)

    def _latest(self, charges: Sequence[Charge]) -> str:
        return next((charge.id for charge in reversed(charges) if charge.id in self.answered), "")

    def resolved(self, prediction: str) -> None:
        self.answered.add(prediction)

    def abandoned(self, order: str) -> None:
        """A person says that what has no answer was never charged. If it was, the next run may pay once more."""
        lost = {charge.id for charge in self.books()[order]} - self.answered - self.abandoned_charges
        self.abandoned_charges |= lost
        self.forgiven |= lost
        self.extra[order] += bool(lost)

    def ledger_lost(self) -> None:
        """A new one learns from the tables of a destination, as far as they go. The wishes are lost as well."""
        books = self.books()
        self.lost = {order: len(charges) for order, charges in books.items()}
        self.forgiven |= {charge.id for charges in books.values() for charge in charges}
        for wish in self.wishes:
            wish.is_finished = True
        self.wishes.clear()

    # What is true

    def books(self) -> defaultdict[str, list[Charge]]:
        """order → its charges, in order."""
        books: defaultdict[str, list[Charge]] = defaultdict(list)
        for charge in self._provider.charges():
            books[order_of(charge.text)].append(charge)
        return books

    def check_charges(self) -> None:
        for order, charges in self.books().items():
            assert order in self.ordered, f"{order!r} was paid for, and nobody ordered it"
            allowed = 1 + self.extra[order]
            assert len(charges) <= allowed, f"{order!r} was charged {len(charges)} times, {allowed} were permitted"

    def check_ledger(self, database: Database) -> None:
        """Every charge is in the ledger: with its id, or as money at risk. Nothing is in it that was not charged."""
        with database.read() as connection:
            attempts = connection.execute(select(schema.attempts)).all()
        self.answered |= {attempt.prediction_id for attempt in attempts if attempt.prediction_id}
        known: defaultdict[str, set[str]] = defaultdict(set)
        risks: Counter[str] = Counter()
        for attempt in attempts:
            order = self.names.get(attempt.identity)
            if order is None:
                continue  # no table has named it yet
            if attempt.prediction_id:
                known[order].add(attempt.prediction_id)
            risks[order] += attempt.state in MAYBE
        for order, charges in self.books().items():
            ids = {charge.id for charge in charges}
            wrong = known[order] - ids
            assert not wrong, f"the ledger has predictions for {order!r} that are not its own: {wrong}"
            if order not in self.names.values():
                continue
            lacking = ids - known[order] - self.forgiven
            assert len(lacking) <= risks[order], f"{order!r}: {len(lacking)} charges are not in the ledger"

    def may_be_charged(self, database: Database) -> set[str]:
        """Orders that are unknown to the ledger; only --retry-unknown or a person comes to them."""
        a = schema.attempts.c
        with database.read() as connection:
            return {
                self.names[identity]
                for identity in connection.execute(select(a.identity).where(a.state.in_(MAYBE))).scalars()
                if identity in self.names
            }

    def ended(self, start: Start, ended: Ended, recorded_exit: int | None, *, alone: bool) -> None:
        """After a command: what it left behind. `recorded_exit` is the ledger's; `alone`: nothing ran beside it."""
        lines, command = start.lines, start.command
        if ended.exit_code in FINISHED or recorded_exit in FINISHED:
            self._finish(start)
        sent = [charge for charge in self._provider.charges() if charge.sender is start]
        assert command.limit is None or len(sent) <= command.limit, f"--limit {command.limit}, {len(sent)} charges"
        spent, cap = sum(charge.cents for charge in sent), command.max_cost_usd
        assert cap is None or spent <= round(cap * 100), f"--max-cost {cap}, {spent} cents charged"
        if not ended.table:
            self._name_unfinished(ended, lines)
            return
        header, rows = read_results(Path(ended.table))
        assert len(rows) == len(lines), f"{len(lines)} rows went in, {len(rows)} came out"
        assert header[:3] == ["sku", "image", "prompt"]
        for number, (row, line) in enumerate(zip(rows, lines, strict=True)):
            assert row["prompt"] == line.text, f"row {number} reads {row['prompt']!r} in the results"
            self._name(row, line)
        is_part = bool(command.where) or any(line.is_left_out or line.is_hidden for line in lines)
        self._check_exit_code(ended, is_part=is_part)
        self._check_money(ended, rows, alone=alone)
        books = self.books()
        for row in rows if ended.table.startswith(ended.destination) else ():
            order = self.names.get(row["identity"])
            if order is not None and row["error_code"] not in LEFT_OUT:  # another run may have paid for it meanwhile
                self.told[ended.destination][order] = len(books[order])

    def _name_unfinished(self, ended: Ended, lines: Sequence[Line]) -> None:
        """Learn them from the table that a killed run leaves: afterwards, people may change its rows."""
        table = Path(ended.destination, "runs", ended.run_id, "results.csv")
        if ended.run_id and table.exists():
            for row, line in zip(read_results(table)[1], lines, strict=True):
                self._name(row, line)

    def _name(self, row: dict[str, str], line: Line) -> None:
        """Learn which order an identity stands for, from rows where nobody changed anything."""
        order = order_of(line.text)
        if not row["identity"] or (line.paid_text and order_of(line.paid_text) != order):
            return
        known = self.names.setdefault(row["identity"], order)
        assert known == order, f"{known!r} and {order!r} have one identity"

    def _check_exit_code(self, ended: Ended, *, is_part: bool) -> None:
        results = [result for result in ended.results if str(result.error_code or "") not in LEFT_OUT]
        statuses = Counter(str(result.status) for result in results)
        codes = {str(result.error_code or "") for result in results if str(result.status) == "skipped"}
        left = codes - {"over_limit"}
        if is_part and ended.exit_code in FINISHED:  # rows that were not chosen do not count
            assert not left, f"exit {ended.exit_code}, though rows were left: {left}"
            return
        match ended.exit_code:
            case 0:
                assert not left, f"exit 0, though rows were left: {left}"
                assert set(statuses) <= {"succeeded", "skipped"}, f"exit 0 with {dict(statuses)}"
            case 1:
                assert not left, f"exit 1 says that every row was tried, but some were left: {left}"
                assert set(statuses) - {"succeeded"}, "exit 1, though every row succeeded"
            case 4:
                assert "over_budget" in {str(r.error_code or "") for r in ended.results} or statuses["unknown"]
            case 3 | 143:
                pass
            case _:
                raise AssertionError(f"exit code {ended.exit_code}")

    def _check_money(self, ended: Ended, rows: list[dict[str, str]], *, alone: bool) -> None:
        books = self.books()
        totals: defaultdict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 3)
        for row in rows:
            if row["identity"] in self.names:
                cells = (Decimal(row[name]) * 100 for name in ("cost_usd", "total_cost_usd", "at_risk_usd"))
                totals[self.names[row["identity"]]] = [
                    a + b for a, b in zip(totals[self.names[row["identity"]]], cells, strict=True)
                ]
        for order, (_, total, risk) in totals.items():
            charged = sum(charge.cents for charge in books[order])
            owed = sum(charge.cents for charge in books[order] if charge.id not in self.forgiven)
            assert total <= charged, f"{order!r} costs {total} cents in the table, {charged} in the books"
            assert not alone or total + risk >= owed, (
                f"{order!r} costs {total} cents and {risk} at risk, {owed} in the books"
            )
        for row in rows:
            if row["status"] == "succeeded" and row["identity"] in self.names:
                order = self.names[row["identity"]]
                ids = {charge.id for charge in books[order]}
                assert row["prediction_id"] in ids, f"the clip of {order!r} is another one's"
                assert row["video_uri"], f"{order!r} succeeded, but where is its clip?"
                clip = Path(row["video_uri"]).read_bytes()
                found = [charge.id for charge in self._provider.charges() if charge.id.encode() in clip]
                assert found == [row["prediction_id"]], f"{order!r} is {row['prediction_id']}, its clip is {found}"
