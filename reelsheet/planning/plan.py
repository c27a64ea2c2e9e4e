"""What a run would do, identity by identity, before it spends anything: submit, poll, copy, reuse, report."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from reelsheet import messages
from reelsheet.images.preflight import ImageCheck
from reelsheet.ledger import VACANT, Attempt, Delivery, IdentityHistory, State
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.storage import object_names


class Step(StrEnum):
    """The next thing that brings a row closer to its clip."""

    SUBMIT = "submit"
    POLL = "poll"  # paid for already; the provider is or was working on it
    COPY = "copy"  # the provider has the clip, this destination does not
    DONE = "done"
    REPORT = "report"  # unknown, or failed by the provider: nothing without permission
    REFUSE = "refuse"  # the picture cannot work


OPEN = (Step.SUBMIT, Step.POLL, Step.COPY)


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What this run says of a row, beyond what the ledger says: status, code, and one sentence for people."""

    status: Status
    code: ErrorCode | None
    error: str


@dataclass(slots=True)
class RowGroup:
    """All rows of one identity, and the only place where their step and outcome are written.

    `positions` are in order, those of rows that are left out last; money stands on the first one. `row` is the first.
    """

    identity: str
    row: Row
    positions: list[int]
    history: IdentityHistory | None = None
    step: Step = Step.SUBMIT
    outcome: RowOutcome | None = None
    held: RowOutcome | None = None  # no row asks for just this any more: never submitted, but left like that
    name_width: int = object_names.WIDTH  # characters of the identity in its clip's name
    warnings: list[str] = field(default_factory=list)
    fingerprint: str | None = None  # of the picture, as the preflight saw it
    image_input: str = ""  # where the picture is, if it was a file and is uploaded
    links: tuple[str, ...] = ()  # of the finished clip's outputs
    admitted: bool = False  # by the pace: the next POST is this group's
    in_flight: bool = False  # counted as running by the pace
    estimate_s: float | None = None  # the provider's own

    @property
    def order(self) -> int:
        return self.positions[0]

    @property
    def status(self) -> Status | None:
        return self.outcome.status if self.outcome else None

    @property
    def error_code(self) -> ErrorCode | None:
        return self.outcome.code if self.outcome else None

    @property
    def error(self) -> str:
        return self.outcome.error if self.outcome else ""

    @property
    def left_out(self) -> ErrorCode | None:
        """Why no step is taken for any of the rows."""
        return self.row.left_out

    @property
    def is_chosen(self) -> bool:
        """Among the rows that this run takes a step for, where they need one."""
        return self.left_out is None and self.error_code is not ErrorCode.OVER_LIMIT

    @property
    def is_skipped(self) -> bool:
        """Left out, though there is something to do for it."""
        return self.left_out is not None and self.step in OPEN

    @property
    def latest(self) -> Attempt | None:
        """The attempt that counts, if there is one."""
        return self.history.latest if self.history else None

    def set_outcome(self, status: Status, code: ErrorCode | None, error: str) -> None:
        """What this run says of the rows; the step stays."""
        self.outcome = RowOutcome(status, code, error)

    def clear_outcome(self) -> None:
        """The rows are tried again."""
        self.outcome = None

    def advance(self, step: Step) -> None:
        """The rows have come to `step`; what was said of them before no longer holds."""
        self.step, self.outcome = step, None

    def leave(self, step: Step, status: Status, code: ErrorCode | None, error: str) -> None:
        """The rows end here in this run, at `step`."""
        self.step = step
        self.set_outcome(status, code, error)

    def replan(self, destination: str, objects: AbstractSet[str] | None, *, may_repay: bool = False) -> None:
        """Set the step anew from the history; see `next_step`. Rows that are left out only keep what they have."""
        may_repay = may_repay and self.left_out is None and self.held is None
        self.step = next_step(self.history, destination, objects, may_repay=may_repay)
        if self.left_out is not None and (refusal := self._refusal()) is not None:
            self.step, self.outcome = Step.REPORT, refusal
        elif self.left_out is not None:
            status = Status.SKIPPED if self.step is Step.SUBMIT else Status.UNDELIVERED
            outcome = RowOutcome(status, self.left_out, messages.left_out(self.left_out, status))
            self.outcome = outcome if self.step in OPEN else None
        elif self.held is not None:
            self.hold_back(self.held)

    def _refusal(self) -> RowOutcome | None:
        """What was said of rows that were refused at no cost, and could be asked for again."""
        latest, earlier = self.latest, self.row.earlier
        if self.step is not Step.SUBMIT:
            return None
        if latest is not None and latest.state == State.REFUSED and latest.error_code in set(ErrorCode):
            return RowOutcome(Status.FAILED, ErrorCode(latest.error_code), latest.error or "")
        if latest is None and earlier is not None and earlier.status == Status.FAILED:
            code = ErrorCode(earlier.error_code) if earlier.error_code in set(ErrorCode) else None
            return RowOutcome(Status.FAILED, code, earlier.error)
        return None

    def hold_back(self, outcome: RowOutcome) -> None:
        """From here on the rows are not submitted; where they would be, they end with `outcome`."""
        self.held = outcome
        if self.step is Step.SUBMIT and self.left_out is None:
            step = Step.REFUSE if outcome.status is Status.INVALID else Step.REPORT
            self.leave(step, outcome.status, outcome.code, outcome.error)

    def add_attempt(self, attempt: Attempt) -> None:
        """Put `attempt` into the history, in the place of the one with its number."""
        others = [a for a in self.history.attempts if a.number != attempt.number] if self.history else []
        deliveries = self.history.deliveries if self.history else ()
        self.history = IdentityHistory(tuple(sorted([*others, attempt], key=lambda a: a.number)), deliveries)

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Put the deliveries of one attempt to one destination into the history."""
        assert self.history is not None  # noqa: S101 - what is delivered was attempted
        new = {(delivery.attempt, delivery.destination) for delivery in deliveries}
        others = [one for one in self.history.deliveries if (one.attempt, one.destination) not in new]
        self.history = IdentityHistory(self.history.attempts, (*others, *deliveries))


@dataclass(frozen=True, slots=True)
class Plan:
    """The groups of all valid rows, in order of first rows, and what they cost. Money in cents."""

    manifest: Manifest
    groups: dict[str, RowGroup]
    price_cents: int
    image_checks: Mapping[str, ImageCheck] = field(default_factory=dict)  # by address
    notes: tuple[str, ...] = ()

    def at_step(self, *steps: Step) -> list[RowGroup]:
        """The groups at one of `steps` that the run chose."""
        return [group for group in self.groups.values() if group.step in steps and group.is_chosen]

    @property
    def cost_cents(self) -> int:
        """What it would pay at the expected price."""
        return len(self.at_step(Step.SUBMIT)) * self.price_cents

    @property
    def duplicates(self) -> int:
        """Rows that are delivered with another row of the same sheet."""
        return sum(len(group.positions) - 1 for group in self.groups.values() if not group.is_skipped)

    @property
    def cannot_run(self) -> int:
        """Rows that were chosen and can never become a clip as they are."""
        return len(self.invalid) + sum(len(group.positions) for group in self.at_step(Step.REFUSE))

    @property
    def invalid(self) -> list[Row]:
        return [row for row in self.manifest.rows if row.problems and row.left_out is None]

    @property
    def chosen_rows(self) -> int:
        """Rows that are not left out."""
        return sum(1 for row in self.manifest.rows if row.left_out is None)

    @property
    def left_out_rows(self) -> Counter[ErrorCode]:
        """By reason, rows that are left out and have no clip, nor a verdict, of an earlier run."""
        rows = Counter(row.left_out for row in self.manifest.rows if row.problems and row.left_out is not None)
        for group in self.groups.values():
            if group.is_skipped and group.left_out is not None:
                rows[group.left_out] += len(group.positions)
        return rows

    @property
    def left_out_cents(self) -> Counter[ErrorCode]:
        """By reason, what the rows that are left out would cost at the expected price."""
        cents: Counter[ErrorCode] = Counter()
        for group in self.groups.values():
            if group.is_skipped and group.left_out is not None and group.step is Step.SUBMIT:
                cents[group.left_out] += self.price_cents
        return cents


def make_plan(
    manifest: Manifest,
    identities: Mapping[int, str],
    histories: Mapping[str, IdentityHistory],
    *,
    destination: str,
    objects: AbstractSet[str] | None,
    may_repay: Callable[[RowGroup], bool],
    price_cents: int,
) -> Plan:
    """`identities`: position → identity of each valid row; `objects`: keys at the destination (None: not listed)."""
    groups: dict[str, RowGroup] = {}
    for row in sorted(manifest.rows, key=lambda row: row.left_out is not None):
        identity = identities.get(row.position)
        if identity is None:
            continue
        if identity in groups:
            groups[identity].positions.append(row.position)
        else:
            groups[identity] = RowGroup(identity, row, [row.position], histories.get(identity))
    for group in groups.values():
        group.replan(destination, objects, may_repay=may_repay(group))
    return Plan(manifest, groups, price_cents)


def next_step(
    history: IdentityHistory | None, destination: str, objects: AbstractSet[str] | None, *, may_repay: bool
) -> Step:
    """The cheapest step that an identity needs next at `destination` ("": stored anywhere will do).

    `objects`: keys at the destination (None: the ledger is believed); `may_repay`: the latest attempt may be replaced.
    """
    if history is None or history.latest.state in VACANT or may_repay:
        return Step.SUBMIT
    match history.latest.state:
        case State.CLAIMED | State.SUBMITTED:
            return Step.POLL  # a living run is submitting it, or the id is known: never paid for again
        case State.COMPLETED:
            if not destination:
                return Step.DONE if history.deliveries else Step.COPY
            return Step.DONE if are_stored(history.delivered(destination), objects) else Step.COPY
        case _:
            return Step.REPORT


def are_stored(deliveries: Sequence[Delivery], objects: AbstractSet[str] | None) -> bool:
    """Every output was delivered, and its object is still in the listing."""
    return bool(deliveries) and (objects is None or all(delivery.key in objects for delivery in deliveries))


def lengthen_shared_names(groups: Iterable[RowGroup], name_of: Callable[[RowGroup], str]) -> int:
    """Put more of the identity into names that two groups would otherwise share; how many groups that concerns."""
    by_start: dict[str, list[RowGroup]] = {}
    for group in groups:
        by_start.setdefault(group.identity[: object_names.WIDTH], []).append(group)
    alike = [group for same_start in by_start.values() if len(same_start) > 1 for group in same_start]
    shared = object_names.check_collisions((group.identity, name_of(group)) for group in alike)
    for group in alike:
        if group.identity in shared:
            group.name_width = object_names.WIDE
    return len(shared)


def longest_untried(groups: Iterable[RowGroup], last_tries: Mapping[str, int]) -> list[RowGroup]:
    """In the order in which --limit takes them: never tried, in row order; then the longest untried.

    `last_tries`: identity → number of its last try in the ledger's order, claims aside.
    """

    def last_try(group: RowGroup) -> int:
        claims = (attempt.sequence for attempt in group.history.attempts) if group.history else ()
        return max(last_tries.get(group.identity, 0), *claims, 0)

    return sorted(groups, key=lambda group: (last_try(group), group.order))


def apply_limit(groups: Iterable[RowGroup], limit: int) -> None:
    """Leave only the first `limit` that need a step; the others are skipped and say so."""
    error = f"Not attempted: --limit {limit} was reached; run again to go on."
    open_groups = [group for group in groups if group.step in OPEN and group.is_chosen]
    for group in open_groups[limit:]:
        group.set_outcome(Status.SKIPPED, ErrorCode.OVER_LIMIT, error)


def object_key(options: Options, manifest: Manifest, group: RowGroup, attempt: int, output: int) -> str:
    """The key of a clip below its destination, the same in every run."""
    if options.name:
        template = object_names.Template.parse(options.name, manifest.columns, manifest.roles)
        cells = dict(zip(manifest.columns, manifest.table.loc[group.row.position], strict=True))
        name = template.render(cells, identity=group.identity, attempt=attempt, output=output, width=group.name_width)
    else:
        row = group.row
        name = object_names.default_name(row.id, row.prompt, group.identity, attempt, output, width=group.name_width)
    return f"videos/{name}.mp4"
