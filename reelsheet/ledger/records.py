"""What the ledger takes and gives: attempts, deliveries, histories, runs, and the answers to a claim.

Money in cents, times in seconds since 1970 UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from reelsheet.ledger.schema import PAID, VACANT, State

BY_HAND = "by hand"  # the owner of an attempt that a person settled


class Money(NamedTuple):
    """The three counters that runs and days have, and that each attempt's money stands in one of."""

    confirmed_cents: int = 0
    reserved_cents: int = 0
    at_risk_cents: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One paid, or maybe paid, try at an identity: the columns of its table, in order. `number` counts from 1."""

    id: int
    identity: str
    number: int
    state: State
    owner: str | None
    run_id: str
    day: str
    price_cents: int
    quoted_cents: int | None = None
    prediction_id: str | None = None
    error_code: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    claimed_at: float = 0.0
    submitted_at: float | None = None
    completed_at: float | None = None
    imported: bool = False
    sequence: int = 0  # of its claim, in the ledger's own order
    is_play_money: bool = False  # claimed at a loopback API address

    @property
    def is_settled_by_hand(self) -> bool:
        """A person said what became of it, with `resolve`, and may be wrong."""
        return self.owner == BY_HAND

    @property
    def money(self) -> Money:
        return money_of(self.state, self.price_cents, self.quoted_cents)

    @property
    def paid_cents(self) -> int:
        """What is confirmed for it."""
        return self.money.confirmed_cents

    @property
    def risk_cents(self) -> int:
        """What may have been charged without an answer, or is about to be."""
        return self.money.at_risk_cents + self.money.reserved_cents


def money_of(state: State, price_cents: int, quoted_cents: int | None) -> Money:
    """Where an attempt's money stands: in exactly one of the three counters, or in none."""
    return Money(
        confirmed_cents=(price_cents if quoted_cents is None else quoted_cents) if state in PAID else 0,
        reserved_cents=price_cents if state == State.CLAIMED else 0,
        at_risk_cents=price_cents if state == State.UNKNOWN else 0,
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """One output of one attempt, completely stored under one destination."""

    attempt: int  # its number
    destination: str
    output: int
    outputs: int
    key: str
    bytes: int
    sha256: str
    width: int | None
    height: int | None
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class IdentityHistory:
    """Everything that the ledger knows of one identity. `attempts` in order of their numbers, never empty."""

    attempts: tuple[Attempt, ...]
    deliveries: tuple[Delivery, ...] = ()

    @property
    def latest(self) -> Attempt:
        """The last attempt that counts: one that was refused or abandoned leaves the one before it in force."""
        return counting(self.attempts) or self.attempts[-1]

    @property
    def is_free(self) -> bool:
        """Nothing was ever paid for it, or may have been."""
        return self.latest.state in VACANT

    @property
    def total_cents(self) -> int:
        return sum(attempt.paid_cents for attempt in self.attempts)

    @property
    def risk_cents(self) -> int:
        return sum(attempt.risk_cents for attempt in self.attempts)

    def run_cents(self, run_id: str) -> int:
        return sum(attempt.paid_cents for attempt in self.attempts if attempt.run_id == run_id)

    def delivered(self, destination: str, number: int | None = None) -> tuple[Delivery, ...]:
        """All outputs of an attempt (the latest) at a destination, in order; () unless every one is there."""
        number = self.latest.number if number is None else number
        outputs = sorted(
            (d for d in self.deliveries if d.destination == destination and d.attempt == number),
            key=lambda d: d.output,
        )
        return tuple(outputs) if outputs and len(outputs) == outputs[0].outputs else ()

    def elsewhere(self, destination: str) -> tuple[tuple[Delivery, ...], ...]:
        """The latest attempt's complete deliveries under other destinations."""
        others = dict.fromkeys(d.destination for d in self.deliveries if d.destination != destination)
        return tuple(outputs for other in others if (outputs := self.delivered(other)))


class ImportedAttempt(NamedTuple):
    """An attempt as a destination tells of it, with its deliveries."""

    attempt: Attempt
    deliveries: Sequence[Delivery] = ()


def counting(attempts: tuple[Attempt, ...] | list[Attempt]) -> Attempt | None:
    """The last of `attempts` that was paid for, or may be; None where there is none."""
    return next((attempt for attempt in reversed(attempts) if attempt.state not in VACANT), None)


@dataclass(frozen=True, slots=True)
class Claimed:
    """Go on: the price is reserved. The POST may leave while `leave_by` (awake_and_asleep) is not past."""

    attempt: Attempt
    leave_by: float


@dataclass(frozen=True, slots=True)
class Known:
    """No claim is needed or allowed: this is how the identity stands."""

    history: IdentityHistory


@dataclass(frozen=True, slots=True)
class Wait:
    """A living run is submitting it: ask again soon."""


@dataclass(frozen=True, slots=True)
class OverBudget:
    """The cap that would be passed: `which` is "run" or "day"."""

    which: str
    cap_cents: int


@dataclass(frozen=True, slots=True)
class Note:
    """What a run reports of a row beyond its attempts; an empty status withdraws an earlier note."""

    position: int
    status: str
    error_code: str | None
    error: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """Which rows a run has: of each record its line, its name for people, and its identity ("" where it is invalid).

    `problems` and `warnings`, by position, are what was said of a row when it was read; `left_out`, the error codes of
    rows that were not to be run. `wanted` are the positions of groups that needed a step when the run began; None where
    that was not recorded. `prompts` are those that a template made, by position. `pictures`, by position, are the
    fields of pictures that are files; `problem_codes`, the error codes of `problems`. `title` is the sheet's own name,
    also where the run read a results table of it.
    """

    lines: tuple[int, ...]
    names: tuple[str, ...]
    identities: tuple[str, ...]
    problems: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    warnings: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[int, str] = field(default_factory=dict)
    wanted: tuple[int, ...] | None = None
    prompts: Mapping[int, str] = field(default_factory=dict)
    pictures: Mapping[int, Sequence[Any]] = field(default_factory=dict)
    problem_codes: Mapping[int, str] = field(default_factory=dict)
    title: str = ""


class Ask(StrEnum):
    """A reason to pay again for what was paid for, or may have been."""

    FRESH = "fresh"  # --fresh: whatever was paid for
    UNKNOWN = "unknown"  # --retry-unknown: a submission without an answer
    FAILED = "failed"  # retry: a prediction that the provider failed
    REDO = "redo"  # a person's word in the sheet, of one attempt


@dataclass(frozen=True, slots=True)
class RepayRequest:
    """What a run asks for of one identity: to replace this attempt for any of these reasons; () and 0: nothing."""

    replaces: int = 0
    asks: frozenset[Ask] = frozenset()


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission for one run to pay again for one attempt, by its number; 0 permits nothing.

    A grant of 0 says that the row had nothing to replace when its run began, which holds for the command repeated.
    """

    replaces: int = 0
    ask: Ask | None = None

    def allows(self, attempt: Attempt) -> bool:
        """Whether this very attempt may be replaced. Once its answer is known, an unknown one is unknown no more."""
        if self.ask is Ask.UNKNOWN and attempt.state != State.UNKNOWN:
            return False
        return attempt.number == self.replaces and attempt.state != State.CLAIMED


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run whose wish is not over, for the same command repeated."""

    run_id: str
    started_at: float
    exit_code: int | None
    alive: bool
    is_latest: bool  # of its command, with the same `where`
    asks: frozenset[Ask]
    grants: Mapping[str, Grant]  # by identity
    spent_cents: int  # paid, reserved and at risk
    where: frozenset[str] = frozenset()  # the conditions of --where, as they were written


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the ledger keeps it. `alive`: its process lives and has not finished it."""

    run_id: str
    verb: str
    source: str
    destination: str
    flow_run_id: str | None
    options: dict[str, Any]
    rows: int
    cap_cents: int | None
    confirmed_cents: int
    reserved_cents: int
    at_risk_cents: int
    started_at: float
    finished_at: float | None
    exit_code: int | None
    owner: str
    summary: dict[str, Any] | None = None
    continues: str | None = None  # the unfinished run of the same command that this one goes on with
    alive: bool = field(default=False, compare=False)

    @property
    def spent_cents(self) -> int:
        """Confirmed, reserved and at risk together: what the run's cap is held against."""
        return self.confirmed_cents + self.reserved_cents + self.at_risk_cents


@dataclass(frozen=True, slots=True)
class DayTotal:
    """The money of one UTC day (YYYY-MM-DD) over all runs of a ledger; a sandbox's play money has days of its own."""

    day: str
    confirmed_cents: int = 0
    reserved_cents: int = 0
    at_risk_cents: int = 0
    is_play_money: bool = False

    @property
    def spent_cents(self) -> int:
        """All three together: what the day's cap is held against."""
        return self.confirmed_cents + self.reserved_cents + self.at_risk_cents


class AttemptMoney(NamedTuple):
    """The money of one attempt, and which run committed it, on which UTC day (YYYY-MM-DD)."""

    run_id: str
    identity: str
    day: str
    is_play_money: bool
    confirmed_cents: int
    reserved_cents: int
    at_risk_cents: int


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """How much a ledger holds. `attempts`: paid, or may have been paid; of these `unknown` have no answer."""

    runs: int
    attempts: int
    unknown: int
