"""What a run would do, row by row, before it spends anything: pay, poll, copy, reuse, report."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from reelsheet.ledger import VACANT, Delivery, Standing, State
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.storage import object_names

if TYPE_CHECKING:
    from reelsheet.images.preflight import Look


class Step(StrEnum):
    """The next thing that brings a row nearer to its clip."""

    PAY = "pay"
    POLL = "poll"  # paid for already, the provider is or was at it
    COPY = "copy"  # the provider has it, this destination has not
    DONE = "done"
    REPORT = "report"  # unknown, or failed by the provider: nothing without permission
    REFUSE = "refuse"  # the picture cannot work


@dataclass(slots=True)
class Work:
    """All rows of one identity. `positions` in order; the first one carries the money."""

    identity: str
    row: Row
    positions: list[int]
    step: Step = Step.PAY
    standing: Standing | None = None
    width: int = object_names.WIDTH  # characters of the identity in its clip's name
    status: Status | None = None  # set when there is something to say beyond the standing
    error_code: ErrorCode | None = None
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    fingerprint: str | None = None
    links: tuple[str, ...] = ()
    claimed: bool = False  # admitted by the pace; the next POST is its
    in_flight: bool = False  # counted as running by the pace
    estimate: float | None = None  # the provider's own, in seconds

    @property
    def order(self) -> int:
        return self.positions[0]

    def say(self, status: Status, code: ErrorCode | None, error: str) -> None:
        """What becomes of the rows, with one sentence for people."""
        self.status, self.error_code, self.error = status, code, error


@dataclass(frozen=True, slots=True)
class Plan:
    """Every valid row's work in order of first rows, and what it comes to. Money in cents."""

    manifest: Manifest
    works: dict[str, Work]
    price_cents: int
    looks: Mapping[str, "Look"] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def having(self, *steps: Step) -> list[Work]:
        return [work for work in self.works.values() if work.step in steps and work.error_code != ErrorCode.OVER_LIMIT]

    @property
    def cost_cents(self) -> int:
        """What it would pay at the expected price."""
        return len(self.having(Step.PAY)) * self.price_cents

    @property
    def duplicates(self) -> int:
        """Rows that are delivered with an earlier row of the same sheet."""
        return sum(len(work.positions) - 1 for work in self.works.values())

    @property
    def invalid(self) -> list[Row]:
        return [row for row in self.manifest.rows if row.problems]


def draw(
    manifest: Manifest,
    identities: Mapping[int, str],
    standings: Mapping[str, Standing],
    *,
    destination: str,
    objects: AbstractSet[str] | None,
    may_replace: Callable[[Work], bool],
    price_cents: int,
    limit: int | None = None,
) -> Plan:
    """`identities`: position → identity of each valid row; `objects`: keys at the destination (None: not asked)."""
    works: dict[str, Work] = {}
    for row in manifest.rows:
        identity = identities.get(row.position)
        if identity is None:
            continue
        work = works.get(identity)
        if work is None:
            works[identity] = Work(identity, row, [row.position], standing=standings.get(identity))
        else:
            work.positions.append(row.position)
    for work in works.values():
        work.step = step_of(work, destination, objects, may_replace)
    if limit is not None:
        cut(works.values(), limit)
    return Plan(manifest, works, price_cents)


def step_of(
    work: Work, destination: str, objects: AbstractSet[str] | None, may_replace: Callable[[Work], bool]
) -> Step:
    """The cheapest next step of one identity as it stands."""
    standing = work.standing
    if standing is None or standing.latest.state in VACANT:
        return Step.PAY
    if may_replace(work):
        return Step.PAY
    match standing.latest.state:
        case State.CLAIMED | State.SUBMITTED:
            return Step.POLL  # a living run is at it, or the id is known: never paid for again
        case State.COMPLETED:
            if not destination:  # a plan without a destination: stored anywhere will do
                return Step.DONE if standing.deliveries else Step.COPY
            return Step.DONE if is_there(standing.delivered(destination), objects) else Step.COPY
        case _:
            return Step.REPORT


def is_there(found: Sequence[Delivery], objects: AbstractSet[str] | None) -> bool:
    """Every output was stored, and its object is still in the listing."""
    return bool(found) and (objects is None or all(one.key in objects for one in found))


def tell_apart(works: Iterable[Work], name_of: Callable[[Work], str]) -> int:
    """Put more of the identity into names that two works would otherwise share; how many works that concerns."""
    alike: dict[str, list[Work]] = {}
    for work in works:
        alike.setdefault(work.identity[: object_names.WIDTH], []).append(work)
    suspects = [work for group in alike.values() if len(group) > 1 for work in group]
    shared = object_names.check_collisions((work.identity, name_of(work)) for work in suspects)
    for work in suspects:
        if work.identity in shared:
            work.width = object_names.WIDE
    return len(shared)


def cut(works: Iterable[Work], limit: int) -> None:
    """Leave only the first `limit` that need work; the others are skipped and say so."""
    left = limit
    for work in works:
        if work.step in {Step.PAY, Step.POLL, Step.COPY}:
            if left > 0:
                left -= 1
            else:
                work.say(
                    Status.SKIPPED,
                    ErrorCode.OVER_LIMIT,
                    f"Not attempted: --limit {limit} was reached; run again to go on.",
                )
