"""Before anything is spent: read the sheet, open ledger and destination, check the pictures, make the plan."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from reelsheet import messages, money
from reelsheet.errors import ConfigurationError, ManifestError, UsageError
from reelsheet.images import preflight
from reelsheet.ledger import Ledger, RepayRequest, UnfinishedRun
from reelsheet.ledger.grants import continued
from reelsheet.manifest import columns, rows
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import Manifest
from reelsheet.options import Options
from reelsheet.outcomes import Status
from reelsheet.planning import edits, near_duplicates, permissions, pictures, retry_source
from reelsheet.planning.adoption import adopt_clips
from reelsheet.planning.choice import choose
from reelsheet.planning.fleeting import warn_of_paid_rows
from reelsheet.planning.paid_cells import PaidCellsReader
from reelsheet.planning.plan import (
    OPEN,
    Plan,
    RowGroup,
    Step,
    apply_limit,
    lengthen_shared_names,
    longest_untried,
    make_plan,
    object_key,
)
from reelsheet.provider.client import KeyCheck, Provider
from reelsheet.redaction import clean_url
from reelsheet.results import earlier, notification
from reelsheet.results.publication import demand_writable
from reelsheet.settings import Settings
from reelsheet.storage import bucket_or_folder
from reelsheet.storage.destination import Destination, open_destination, tidy
from reelsheet.storage.errors import StorageError
from reelsheet.storage.object_names import Template
from reelsheet.surroundings import machine
from reelsheet.surroundings.problems import demand
from reelsheet.surroundings.work import demand_for_work

SHORTEST_KEY: Final = 16  # characters; a shorter one, as of a sandbox, may be a word of the sheet
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
    requests: dict[str, RepayRequest] = field(default_factory=dict)  # by identity, of rows that may be paid for
    continues: UnfinishedRun | None = None  # the run of the same command that this one goes on with
    objects: frozenset[str] | None = None  # keys of clips at the destination

    def close(self) -> None:
        self.ledger.close()

    @property
    def cap_cents(self) -> int:
        """--max-cost, else the plan's total: what the run may spend."""
        max_cost_usd = self.options.max_cost_usd
        return self.plan.cost_cents if max_cost_usd is None else money.cents(str(max_cost_usd))

    @property
    def day_left_cents(self) -> int | None:
        """What is left of the day's cap; None where there is none."""
        day_cap_cents = self.settings.daily_cap_cents
        if day_cap_cents is None:
            return None
        return max(0, day_cap_cents - self.ledger.today(is_play_money=self.settings.is_play_money).spent_cents)

    @property
    def affordable(self) -> int:
        """How many of the clips to be paid for fit under the tighter of the two caps at the expected price."""
        pay, price_cents = len(self.plan.at_step(Step.SUBMIT)), self.plan.price_cents
        if not pay:
            return 0
        left_cents = [cents for cents in (self.cap_cents, self.day_left_cents) if cents is not None]
        return min(pay, min(left_cents) // price_cents)

    @property
    def has_work(self) -> bool:
        """Something is to be polled or copied, or can be paid for."""
        return bool(self.affordable or self.plan.at_step(Step.POLL, Step.COPY))


async def prepare(
    options: Options,
    settings: Settings,
    *,
    progress: Progress | None = None,
    on_work: Callable[[], None] = lambda: None,
    spending: bool = True,
) -> Preparation:
    """Read, check and plan. Spends nothing; raises ReelsheetError where a run makes no sense.

    `on_work` is called as soon as the ledger shows that there is something to send, poll or copy.
    `spending` False is `plan`: no key is needed and the destination is only read.
    """
    if spending and settings.api_key is None:
        raise ConfigurationError(messages.NO_KEY)
    if spending:
        demand(machine.limits(), machine.threads())
    if settings.ledger_url is None:
        await asyncio.to_thread(lambda: demand(machine.state_folder()))
    if spending and options.results:
        await asyncio.to_thread(demand_writable, options.results)
    ledger = await asyncio.to_thread(Ledger.open, settings.ledger_url)
    try:
        return await _prepare(options, settings, ledger, progress, on_work, spending=spending)
    except StorageError as error:
        ledger.close()
        raise ConfigurationError(f"{error} Nothing was spent.") from error
    except BaseException:
        ledger.close()
        raise


async def _prepare(
    options: Options,
    settings: Settings,
    ledger: Ledger,
    progress: Progress | None,
    on_work: Callable[[], None],
    *,
    spending: bool,
) -> Preparation:
    bucket_or_folder.refuse_doubtful(options.destination or "")
    given = retry_source.RetrySource(options)
    if options.verb == "retry":
        given = await asyncio.to_thread(retry_source.resolve, options, ledger, settings)
        options = given.options
    if spending and options.destination is None:
        raise UsageError("Where to? Name the destination with --to s3://bucket/prefix or --to FOLDER.")
    destination = None if options.destination is None else open_destination(options.destination)
    manifest, (objects, destination_notes) = await asyncio.gather(
        asyncio.to_thread(_read, given, settings, ledger),
        asyncio.to_thread(_reach, ledger, destination, spending=spending),
    )
    manifest = await asyncio.to_thread(edits.demand_prompts, manifest, options, ledger)
    if options.name:
        Template.parse(options.name, manifest.columns, manifest.roles)
    reader = PaidCellsReader(options, settings, ledger, destination)
    sheet = options.source if given.table is None else given.table.name
    settled = await pictures.settle(manifest, reader, progress, sheet=sheet)
    options, manifest = settled.options, settled.manifest
    identities = await asyncio.to_thread(
        lambda: {row.position: identity_of(row, settings) for row in manifest.rows if not row.problems}
    )
    command = permissions.command_key(options, destination.address if destination else "", manifest.tab)
    manifest, choice_notes = await asyncio.to_thread(
        choose, manifest, identities, options=options, command=command, ledger=ledger, destination=destination
    )
    if any(row.earlier is not None for row in manifest.rows):
        await asyncio.to_thread(retry_source.import_table, ledger, options, settings, destination, given.table)
    resolved = await asyncio.to_thread(edits.resolve, manifest, identities, reader)
    manifest, identities = resolved.manifest, resolved.identities
    histories = await asyncio.to_thread(ledger.histories, identities.values())
    # Read after the histories: whatever run made an attempt in them is among these, or is finished.
    unfinished = [] if options.new_run else await asyncio.to_thread(ledger.unfinished_runs, command)
    may_repay = permissions.from_options(options, unfinished, manifest, held=resolved.held)
    plan = make_plan(
        manifest, identities, histories,
        destination=destination.address if destination else "", objects=objects,
        may_repay=may_repay, price_cents=settings.price_cents,
    )  # fmt: skip
    plan = replace(plan, notes=(*given.notes, *choice_notes, *resolved.notes, *destination_notes))
    lengthen_shared_names(plan.groups.values(), lambda group: object_key(options, manifest, group, 1, 0))
    if destination is not None and objects:
        await asyncio.to_thread(adopt_clips, plan, ledger, destination, objects, options, may_repay)
    permissions.hold_back_undelivered(plan, options)
    for identity, outcome in resolved.held.items():
        plan.groups[identity].hold_back(outcome)
    permissions.answer_redo_left_out(plan)
    notes = await asyncio.to_thread(warn_of_paid_rows, plan, reader)
    await asyncio.to_thread(pictures.check, plan, destination, settings)
    plan = replace(plan, notes=(*plan.notes, *notes), image_checks=settled.checks)
    prepared = Preparation(
        options, settings, manifest, ledger, destination, plan, identities, command=command, objects=objects
    )
    await _check(prepared, progress, on_work, spending=spending)
    prepared.requests = permissions.requests_of(prepared.plan, options)
    prepared.continues = continued(prepared.requests, permissions.asks_of(options), unfinished, options.where)
    return prepared


async def _check(
    prepared: Preparation, progress: Progress | None, on_work: Callable[[], None], *, spending: bool
) -> None:
    """Try what the work needs, the key and the pictures; apply --limit. Raises UnusableSurroundings."""
    plan, options, settings, ledger = prepared.plan, prepared.options, prepared.settings, prepared.ledger
    if await asyncio.to_thread(lambda: prepared.has_work):
        on_work()
        if spending:
            await asyncio.to_thread(_try_surroundings, options, settings, plan)
    groups = list(plan.groups.values())
    if options.limit is not None:
        last_tries = await asyncio.to_thread(ledger.last_tries, [one.identity for one in plan.at_step(*OPEN)])
        groups = longest_untried(groups, last_tries)
    prepared.key, plan = await asyncio.gather(
        _check_key(settings, plan, spending=spending), _check_images(plan, groups, options, settings, progress)
    )
    if options.limit is not None:
        apply_limit(groups, options.limit)

    def notes() -> tuple[str, ...]:
        uploads = pictures.notes(plan, prepared.destination, options, prepared.affordable)
        return (*_cap_notes(prepared), *plan.notes, *uploads, *near_duplicates.notes(plan))

    prepared.plan = plan
    prepared.plan = replace(plan, notes=await asyncio.to_thread(notes))


def _cap_notes(prepared: Preparation) -> tuple[str, ...]:
    """A cap that pays for nothing was hardly meant."""
    cap_cents, price_cents = prepared.cap_cents, prepared.plan.price_cents
    if prepared.options.max_cost_usd is None or not prepared.plan.at_step(Step.SUBMIT) or cap_cents >= price_cents:
        return ()
    return (messages.cap_below_price(money.dollars(cap_cents), money.dollars(price_cents)),)


def _read(given: retry_source.RetrySource, settings: Settings, ledger: Ledger) -> Manifest:
    options = given.options
    more: dict[str, Any] = {
        "image_column": options.image_column,
        "prompt": options.prompt,
        "prompt_column": options.prompt_column,
        "id_column": options.id_column,
        "include_hidden": options.include_hidden,
        "allow_private": settings.allow_private_hosts,
    }
    if given.table is not None:
        manifest = rows.parse(given.table.content, given.table.name, **more)
    else:
        manifest = rows.read(options.source, sheet=options.sheet, encoding=options.encoding, **more)
    _refuse_key(manifest, settings)
    return replace(manifest, first_title=retry_source.first_title(manifest, ledger))


def _refuse_key(manifest: Manifest, settings: Settings) -> None:
    """The results carry the sheet's cells on, also where the sheet is `.env` by mistake or by somebody's design."""
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    if len(key) < SHORTEST_KEY:
        return
    lines = zip((1, *(row.line for row in manifest.rows)), (manifest.columns, *manifest.records()), strict=True)
    for line, cells in lines:
        if any(key in cell for cell in cells):
            raise ManifestError(
                f"Line {line} of {clean_url(manifest.source)} holds the API key, and a sheet's cells are copied into"
                " the results; take it out. Nothing was spent."
            )


def _reach(
    ledger: Ledger, destination: Destination | None, *, spending: bool
) -> tuple[frozenset[str] | None, tuple[str, ...]]:
    """Probe the destination, import what its tables say; the keys of its clips, and what the plan says of it."""
    ledger.expire_dead_claims()  # a claim of a dead run is unknown, and may take the id that the destination knows
    if destination is None:
        return None, ()
    notes: tuple[str, ...] = ()
    if spending:
        notes = destination.probe()
        tidy(destination)
    earlier.import_from_destination(ledger, destination)
    return frozenset(destination.listing("videos/")), notes


def _try_surroundings(options: Options, settings: Settings, plan: Plan) -> None:
    demand(notification.problems(settings.notify_url))
    at_once = min(len(plan.at_step(*OPEN)), options.concurrency or options.limit or sys.maxsize)
    demand_for_work(settings, at_once=at_once, asks_provider=bool(plan.at_step(Step.SUBMIT, Step.POLL)))


async def _check_key(settings: Settings, plan: Plan, *, spending: bool) -> KeyCheck:
    """Is the key accepted? A finished sheet asks the provider nothing, not even that."""
    if not spending or not plan.at_step(Step.SUBMIT, Step.POLL):
        return KeyCheck()
    async with Provider(settings, connections=1) as provider:
        return await provider.check_key()


async def _check_images(
    plan: Plan, groups: Sequence[RowGroup], options: Options, settings: Settings, progress: Progress | None
) -> Plan:
    """Check the pictures of rows to be paid for, and of reused ones, where they may have changed since.

    `groups`: in the order in which --limit takes them.
    """
    if not options.preflight:
        return plan
    paying = [group for group in groups if group.step is Step.SUBMIT and group.is_chosen]
    if options.limit is not None:
        paying = paying[: 2 * options.limit + 50]
    reused = [
        group
        for group in plan.at_step(Step.DONE, Step.COPY, Step.POLL)
        if _paid_fingerprint(group) and group.held is None
    ]
    checks = dict(plan.image_checks)  # of files, which are checked
    checks |= await preflight.check_images(
        [group.row.image for group in (*paying, *reused) if group.row.image not in checks],
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
