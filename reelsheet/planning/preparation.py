"""Before anything is spent: read the sheet, open ledger and destination, check the pictures, make the plan."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from reelsheet import messages, money
from reelsheet.errors import ConfigurationError, UsageError
from reelsheet.images import preflight
from reelsheet.ledger import Ledger
from reelsheet.manifest import columns, rows
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import Manifest
from reelsheet.options import Options
from reelsheet.outcomes import Status
from reelsheet.planning import permissions, retry_source
from reelsheet.planning.adoption import adopt_clips
from reelsheet.planning.plan import Plan, RowGroup, Step, apply_limit, lengthen_shared_names, make_plan, object_key
from reelsheet.provider.client import KeyCheck, Provider
from reelsheet.results import earlier
from reelsheet.settings import Settings
from reelsheet.storage.destination import Destination, open_destination
from reelsheet.storage.errors import StorageError
from reelsheet.storage.object_names import Template

Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass(slots=True)
class Preparation:
    """All that is known before the first cent. `close` closes the ledger."""

    options: Options
    settings: Settings
    manifest: Manifest
    ledger: Ledger
    destination: Destination | None
    plan: Plan
    identities: Mapping[int, str]  # position → identity of each valid row
    key: KeyCheck = field(default_factory=KeyCheck)
    command: str = ""
    grants: dict[str, int] = field(default_factory=dict)  # identity → the attempt that this run wants to replace
    objects: frozenset[str] | None = None  # keys of clips at the destination

    def close(self) -> None:
        self.ledger.close()

    @property
    def cap_cents(self) -> int:
        """--max-cost, else the plan's total: what the run may spend."""
        max_cost = self.options.max_cost_usd
        return self.plan.cost_cents if max_cost is None else money.cents(str(max_cost))


@dataclass(frozen=True, slots=True)
class _Reached:
    """What the destination holds and says."""

    objects: frozenset[str] | None = None
    notes: tuple[str, ...] = ()


async def prepare(
    options: Options, settings: Settings, *, progress: Progress | None = None, spending: bool = True
) -> Preparation:
    """Read, check and plan. Spends nothing; raises ReelsheetError where a run makes no sense.

    `spending` False is `plan`: no key is needed and the destination is only read.
    """
    if spending and settings.api_key is None:
        raise ConfigurationError(messages.NO_KEY)
    ledger = await asyncio.to_thread(Ledger.open, settings.ledger_url)
    try:
        return await _prepare(options, settings, ledger, progress, spending=spending)
    except StorageError as error:
        ledger.close()
        raise ConfigurationError(f"{error} Nothing was spent.") from error
    except BaseException:
        ledger.close()
        raise


async def _prepare(
    options: Options, settings: Settings, ledger: Ledger, progress: Progress | None, *, spending: bool
) -> Preparation:
    if options.verb == "retry":
        options = await asyncio.to_thread(retry_source.resolve, options, ledger, settings)
    if spending and options.destination is None:
        raise UsageError("Where to? Name the destination with --to s3://bucket/prefix or --to FOLDER.")
    destination = None if options.destination is None else open_destination(options.destination)
    manifest, reached = await asyncio.gather(
        asyncio.to_thread(_read, options, settings), asyncio.to_thread(_reach, ledger, destination, spending=spending)
    )
    if options.name:
        Template.parse(options.name, manifest.columns, manifest.roles)
    identities = await asyncio.to_thread(_identities, manifest, settings)
    if options.verb == "retry" and destination is not None:
        await asyncio.to_thread(retry_source.import_table, ledger, options, settings, destination)
    command = permissions.command_key(options, destination.address if destination else "")
    shared = ledger.shared_permissions(command) if permissions.asks_to_repay(options) else None
    may_repay = permissions.from_options(options, shared, manifest)
    plan = make_plan(
        manifest, identities, await asyncio.to_thread(ledger.histories, identities.values()),
        destination=destination.address if destination else "", objects=reached.objects,
        may_repay=may_repay, price_cents=settings.price_cents,
    )  # fmt: skip
    plan = replace(plan, notes=reached.notes)
    lengthen_shared_names(plan.groups.values(), lambda group: object_key(options, manifest, group, 1, 0))
    if destination is not None and reached.objects:
        await asyncio.to_thread(adopt_clips, plan, ledger, destination, reached.objects, options, may_repay)
    if options.verb == "retry":
        permissions.hold_back_undelivered(plan)
    key, plan = await asyncio.gather(
        _check_key(settings, plan, spending=spending), _check_images(plan, options, settings, progress)
    )
    if options.limit is not None:
        apply_limit(plan.groups.values(), options.limit)
    return Preparation(
        options, settings, manifest, ledger, destination, plan, identities, key, command,
        permissions.wanted_grants(plan), reached.objects,
    )  # fmt: skip


def _read(options: Options, settings: Settings) -> Manifest:
    return rows.read(
        options.source,
        sheet=options.sheet,
        image_column=options.image_column,
        prompt_column=options.prompt_column,
        id_column=options.id_column,
        allow_private=settings.allow_private_hosts,
    )


def _reach(ledger: Ledger, destination: Destination | None, *, spending: bool) -> _Reached:
    """Probe the destination, import what its tables say, list its clips."""
    ledger.expire_dead_claims()  # a claim of a dead run is unknown, and may take the id that the destination knows
    if destination is None:
        return _Reached()
    notes: tuple[str, ...] = ()
    if spending:
        notes = destination.probe()
        destination.sweep()
    earlier.import_from_destination(ledger, destination)
    return _Reached(frozenset(destination.listing("videos/")), notes)


def _identities(manifest: Manifest, settings: Settings) -> dict[int, str]:
    return {row.position: identity_of(row, settings) for row in manifest.rows if not row.problems}


async def _check_key(settings: Settings, plan: Plan, *, spending: bool) -> KeyCheck:
    """Is the key accepted? A finished sheet asks the provider nothing, not even that."""
    if not spending or not plan.at_step(Step.SUBMIT, Step.POLL):
        return KeyCheck()
    async with Provider(settings, connections=1) as provider:
        return await provider.check_key()


async def _check_images(plan: Plan, options: Options, settings: Settings, progress: Progress | None) -> Plan:
    """Check the pictures of rows to be paid for, and of reused ones, where they may have changed since."""
    if not options.preflight:
        return plan
    paying = plan.at_step(Step.SUBMIT)
    if options.limit is not None:
        paying = paying[: 2 * options.limit + 50]
    reused = [group for group in plan.at_step(Step.DONE, Step.COPY, Step.POLL) if _paid_fingerprint(group)]
    checks = await preflight.check_images(
        [group.row.image for group in (*paying, *reused)],
        allow_private=settings.allow_private_hosts,
        on_progress=None if progress is None else lambda done, of: progress("pictures", done, of),
    )
    for group in paying:
        check = checks[group.row.image]
        group.warnings.extend(check.warnings)
        group.fingerprint = check.fingerprint or None
        if check.is_refused:
            label = columns.label(plan.manifest.columns, plan.manifest.roles["image"])
            group.leave(Step.REFUSE, Status.INVALID, check.code, f"Column {label}: {check.error}")
    for group in reused:
        fingerprint = checks[group.row.image].fingerprint
        if fingerprint and fingerprint != _paid_fingerprint(group):
            group.warnings.append(
                "The picture at this address has changed since the clip was paid for; "
                "--fresh, or another number in a take column, pays for a new one."
            )
    return replace(plan, image_checks=checks)


def _paid_fingerprint(group: RowGroup) -> str | None:
    """Of the picture as it was when the clip was paid for."""
    return group.latest.fingerprint if group.latest else None
