"""What a run would do, row by row, before it spends anything: pay, poll, copy, reuse, report."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from reelsheet.ledger import VACANT, Delivery, IdentityHistory, State
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.storage import object_names

if TYPE_CHECKING:
    from reelsheet.images.preflight import ImageCheck


class Step(StrEnum):
    """The next thing that brings a row nearer to its clip."""

    SUBMIT = "pay"
    POLL = "poll"  # paid for already, the provider is or was at it
    COPY = "copy"  # the provider has it, this destination has not
    DONE = "done"
    REPORT = "report"  # unknown, or failed by the provider: nothing without permission
    REFUSE = "refuse"  # the picture cannot work


@dataclass(slots=True)
class RowGroup:
    """All rows of one identity. `positions` in order; the first one carries the money."""

    identity: str
    row: Row
    positions: list[int]
    step: Step = Step.SUBMIT
    history: IdentityHistory | None = None
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

    def set_outcome(self, status: Status, code: ErrorCode | None, error: str) -> None:
        """What becomes of the rows, with one sentence for people."""
        self.status, self.error_code, self.error = status, code, error


@dataclass(frozen=True, slots=True)
class Plan:
    """Every valid row's work in order of first rows, and what it comes to. Money in cents."""

    manifest: Manifest
    groups: dict[str, RowGroup]
    price_cents: int
    looks: Mapping[str, "ImageCheck"] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def having(self, *steps: Step) -> list[RowGroup]:
        return [
            group for group in self.groups.values() if group.step in steps and group.error_code != ErrorCode.OVER_LIMIT
        ]

    @property
    def cost_cents(self) -> int:
        """What it would pay at the expected price."""
        return len(self.having(Step.SUBMIT)) * self.price_cents

    @property
    def duplicates(self) -> int:
        """Rows that are delivered with an earlier row of the same sheet."""
        return sum(len(group.positions) - 1 for group in self.groups.values())

    @property
    def invalid(self) -> list[Row]:
        return [row for row in self.manifest.rows if row.problems]


def draw(
    manifest: Manifest,
    identities: Mapping[int, str],
    histories: Mapping[str, IdentityHistory],
    *,
    destination: str,
    objects: AbstractSet[str] | None,
    may_replace: Callable[[RowGroup], bool],
    price_cents: int,
    limit: int | None = None,
) -> Plan:
    """`identities`: position → identity of each valid row; `objects`: keys at the destination (None: not asked)."""
    groups: dict[str, RowGroup] = {}
    for row in manifest.rows:
        identity = identities.get(row.position)
        if identity is None:
            continue
        group = groups.get(identity)
        if group is None:
            groups[identity] = RowGroup(identity, row, [row.position], history=histories.get(identity))
        else:
            group.positions.append(row.position)
    for group in groups.values():
        group.step = step_of(group, destination, objects, may_replace)
    if limit is not None:
        cut(groups.values(), limit)
    return Plan(manifest, groups, price_cents)


def step_of(
    group: RowGroup, destination: str, objects: AbstractSet[str] | None, may_replace: Callable[[RowGroup], bool]
) -> Step:
    """The cheapest next step of one identity as it stands."""
    history = group.history
    if history is None or history.latest.state in VACANT:
        return Step.SUBMIT
    if may_replace(group):
        return Step.SUBMIT
    match history.latest.state:
        case State.CLAIMED | State.SUBMITTED:
            return Step.POLL  # a living run is at it, or the id is known: never paid for again
        case State.COMPLETED:
            if not destination:  # a plan without a destination: stored anywhere will do
                return Step.DONE if history.deliveries else Step.COPY
            return Step.DONE if is_there(history.delivered(destination), objects) else Step.COPY
        case _:
            return Step.REPORT


def is_there(found: Sequence[Delivery], objects: AbstractSet[str] | None) -> bool:
    """Every output was stored, and its object is still in the listing."""
    return bool(found) and (objects is None or all(one.key in objects for one in found))


def tell_apart(groups: Iterable[RowGroup], name_of: Callable[[RowGroup], str]) -> int:
    """Put more of the identity into names that two works would otherwise share; how many works that concerns."""
    alike: dict[str, list[RowGroup]] = {}
    for group in groups:
        alike.setdefault(group.identity[: object_names.WIDTH], []).append(group)
    suspects = [group for same in alike.values() if len(same) > 1 for group in same]
    shared = object_names.check_collisions((group.identity, name_of(group)) for group in suspects)
    for group in suspects:
        if group.identity in shared:
            group.width = object_names.WIDE
    return len(shared)


def cut(groups: Iterable[RowGroup], limit: int) -> None:
    """Leave only the first `limit` that need work; the others are skipped and say so."""
    left = limit
    for group in groups:
        if group.step in {Step.SUBMIT, Step.POLL, Step.COPY}:
            if left > 0:
                left -= 1
            else:
                group.set_outcome(
                    Status.SKIPPED,
                    ErrorCode.OVER_LIMIT,
                    f"Not attempted: --limit {limit} was reached; run again to go on.",
                )
