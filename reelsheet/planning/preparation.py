"""Before anything is spent: read the sheet, open ledger and destination, look at the pictures, draw the plan."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelsheet import messages, money
from reelsheet.errors import ConfigurationError, ManifestError, UsageError
from reelsheet.ledger import PAID, Attempt, Delivery, Ledger, RepayPermission, RunRecord, Sheet, State
from reelsheet.manifest import columns
from reelsheet.manifest import rows as manifest
from reelsheet.manifest import table as sheets
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning import plan
from reelsheet.planning.plan import Plan, RowGroup, Step
from reelsheet.provider.classification import usable_id
from reelsheet.provider.client import OUTPUTS_LIMIT, KeyCheck, KeyState, Provider
from reelsheet.results import earlier as carried
from reelsheet.run import run
from reelsheet.settings import Settings

if TYPE_CHECKING:
    from reelsheet.storage.destination import Destination

LAST_ADOPTED = 20  # attempts of one row that are looked for at a destination
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,32}")
Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass(slots=True)
class Preparation:
    """All that is known before the first cent. `close` gives the ledger back where no run took it."""

    options: Options
    settings: Settings
    manifest: Manifest
    ledger: Ledger
    destination: "Destination | None"
    plan: Plan
    identities: Mapping[int, str]
    key: KeyCheck = field(default_factory=KeyCheck)
    carried: int = 0  # attempts that this ledger learnt from the destination
    command: str = ""
    permissions: dict[str, int] = field(default_factory=dict)
    objects: frozenset[str] | None = None
    run: "run.Run | None" = None  # once it lives

    def close(self) -> None:
        self.ledger.close()

    @property
    def cap_cents(self) -> int:
        """--max-cost, else the plan's total: what the run may spend."""
        asked = self.options.max_cost_usd
        return self.plan.cost_cents if asked is None else money.cents(str(asked))


_handed: ContextVar[Preparation | None] = ContextVar("prepared", default=None)


@contextlib.contextmanager
def reuse_preparation(prepared: Preparation) -> Iterator[None]:
    """What the command line has prepared is not prepared again by the flow that it calls."""
    token = _handed.set(prepared)
    try:
        yield
    finally:
        _handed.reset(token)


def reused_preparation(options: Options) -> Preparation | None:
    """The preparation of the same options, where the caller has one."""
    prepared = _handed.get()
    return prepared if prepared is not None and prepared.options.for_flow() == options.for_flow() else None


async def prepare(
    options: Options,
    settings: Settings,
    *,
    progress: Progress | None = None,
    spending: bool = True,
) -> Preparation:
    """Read, check and plan. Spends nothing; raises ReelsheetError where a run makes no sense.

    `spending` False is `plan`: no key is needed and the destination is only read.
    """
    if spending and settings.api_key is None:
        raise ConfigurationError(
            "There is no API key: set VIBEDREAM_API_KEY in the environment or in .env. Nothing was spent."
        )
    from reelsheet.storage.errors import StorageError

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
    from reelsheet.storage.destination import open_destination

    if options.verb == "retry":
        options = await asyncio.to_thread(_resolve_results, options, ledger)
    key: asyncio.Task[KeyCheck] | None = None
    try:
        if spending and options.destination is None:
            raise UsageError("Where to? Name the destination with --to s3://bucket/prefix or --to FOLDER.")
        destination = None if options.destination is None else open_destination(options.destination)
        reading = asyncio.to_thread(_read, options, settings)
        reaching = asyncio.to_thread(_reach, ledger, destination, spending=spending)
        found, (learnt, objects, notes) = await asyncio.gather(reading, reaching)
        if options.name:
            from reelsheet.storage.object_names import Template

            Template.parse(options.name, found.columns, found.roles)
        identities = await asyncio.to_thread(_identities, found, settings)
        if options.verb == "retry" and destination is not None:
            learnt += await asyncio.to_thread(_take_over_file, ledger, options, destination)
            learnt += await asyncio.to_thread(_take_over_rows, ledger, found, identities, settings, destination)
        command = run.command_key(options, destination.address if destination else "")
        shared = ledger.shared_permissions(command) if _has_permission(options) else None
        histories = await asyncio.to_thread(ledger.histories, identities.values())
        asked = _permission(options, shared, found)
        drawn = plan.draw(
            found, identities, histories,
            destination=destination.address if destination else "", objects=objects,
            may_replace=asked, price_cents=settings.price_cents,
        )  # fmt: skip
        drawn = replace(drawn, notes=notes)
        plan.tell_apart(drawn.groups.values(), lambda group: run.object_key(options, found, group, 1, 0))
        if destination is not None and objects:
            await asyncio.to_thread(_adopt, drawn, ledger, destination, objects, options, asked)
        if options.verb == "retry":
            _never_pay_for_undelivered(drawn)
        key = _key_asked(settings, drawn) if spending else None
        if options.preflight:
            drawn = await _look(drawn, options, settings, progress)
        if options.limit is not None:
            plan.cut(drawn.groups.values(), options.limit)
        told = await key if key is not None else KeyCheck()
    finally:
        if key is not None and not key.done():
            key.cancel()
    permissions = {
        group.identity: group.history.latest.number
        for group in drawn.having(Step.SUBMIT)
        if group.history is not None and not group.history.is_free
    }
    return Preparation(
        options, settings, found, ledger, destination, drawn, identities, told, learnt, command, permissions, objects
    )


async def begin(prepared: Preparation, *, flow_run_id: str | None, run_id: str | None = None) -> run.Run:
    """Register the run and give it life. From here on money may move."""
    assert prepared.destination is not None  # noqa: S101 - `prepare` saw to it
    ledger = prepared.ledger
    await asyncio.to_thread(ledger.heartbeat)  # somebody may have looked at the plan for longer than a lease
    known = ledger.run_of_flow(flow_run_id) if flow_run_id else None
    record = await asyncio.to_thread(
        ledger.open_run,
        run_id=run_id or (known.run_id if known else run.new_run_id()),
        verb=prepared.options.verb,
        source=prepared.options.shown().source,
        destination=prepared.destination.address,
        command=prepared.command,
        flow_run_id=flow_run_id,
        options=asdict(prepared.options.shown())
        | {"base_url": prepared.settings.base_url, "model": prepared.settings.model},
        rows=len(prepared.manifest.rows),
        cap_cents=prepared.cap_cents,
        permissions=prepared.permissions,
        sheet=_sheet(prepared),
    )
    live = run.Run(
        record=record,
        plan=prepared.plan,
        options=prepared.options,
        settings=prepared.settings,
        ledger=ledger,
        destination=prepared.destination,
    )
    prepared.run = live
    if prepared.permissions or _has_permission(prepared.options):
        _narrow(prepared, ledger.permissions(record.run_id))
    if record.continues:
        live.remarks.append(
            f"This goes on with run {record.continues}, which was not finished: "
            "what it paid for again is not paid for once more."
        )
    if prepared.key.state is KeyState.REFUSED and prepared.plan.having(Step.SUBMIT, Step.POLL):
        live.stop(ErrorCode.AUTH, messages.key_refused(prepared.key.message))
    return live


def _sheet(prepared: Preparation) -> Sheet:
    rows = prepared.manifest.rows
    return Sheet(
        tuple(row.line for row in rows),
        tuple(row.name for row in rows),
        tuple(prepared.identities.get(row.position, "") for row in rows),
        {row.position: row.problems for row in rows if row.problems},
        {row.position: row.warnings for row in rows if row.warnings},
    )


def _narrow(prepared: Preparation, granted: Mapping[str, int]) -> None:
    """Take back what the run is not allowed to pay for again after all."""
    destination = prepared.destination.address if prepared.destination else ""
    for group in prepared.plan.groups.values():
        if group.step is Step.SUBMIT and group.history is not None and group.status is None:
            group.step = plan.step_of(
                group,
                destination,
                prepared.objects,
                lambda w: w.history is not None and granted.get(w.identity) == w.history.latest.number,
            )


# The parts


def _read(options: Options, settings: Settings) -> Manifest:
    return manifest.read(
        options.source,
        sheet=options.sheet,
        image_column=options.image_column,
        prompt_column=options.prompt_column,
        id_column=options.id_column,
        allow_private=settings.allow_private_hosts,
    )


def _reach(
    ledger: Ledger, destination: "Destination | None", *, spending: bool
) -> tuple[int, frozenset[str] | None, tuple[str, ...]]:
    """Probe the destination, learn what it carries, list its clips."""
    ledger.expire_dead_claims()  # a claim of a dead run is unknown, and may take the id that the destination knows
    if destination is None:
        return 0, None, ()
    notes: tuple[str, ...] = ()
    if spending:
        notes = destination.probe()
        destination.sweep()
    learnt = carried.import_from_destination(ledger, destination)
    return learnt, frozenset(destination.listing("videos/")), notes


def _identities(found: Manifest, settings: Settings) -> dict[int, str]:
    return {row.position: identity_of(row, settings) for row in found.rows if not row.problems}


def _key_asked(settings: Settings, drawn: Plan) -> asyncio.Task[KeyCheck] | None:
    """Is the key any good? A finished sheet asks the provider nothing, not even that."""
    return asyncio.create_task(_check_key(settings)) if drawn.having(Step.SUBMIT, Step.POLL) else None


async def _check_key(settings: Settings) -> KeyCheck:
    async with Provider(settings, connections=1) as provider:
        return await provider.check_key()


def _has_permission(options: Options) -> bool:
    return options.fresh or options.retry_unknown or options.verb == "retry"


def _permission(options: Options, shared: RepayPermission | None, found: Manifest) -> Callable[[RowGroup], bool]:
    """Which paid attempts these options allow to replace; `shared`: what an unfinished run of this command may."""

    def may_replace(group: RowGroup) -> bool:
        if group.history is None:
            return False
        latest = group.history.latest
        if shared is not None and group.identity in shared.grants:
            return shared.grants[group.identity] == latest.number and latest.state != State.CLAIMED
        if shared is not None and any(attempt.run_id in shared.runs for attempt in group.history.attempts):
            return False  # what it paid for itself is not paid for again
        if latest.state == State.UNKNOWN:
            return options.retry_unknown
        if latest.state in PAID and options.fresh:
            return True
        if options.verb != "retry":
            return False
        return latest.state == State.FAILED or any(_is_redo(found.rows[at], latest) for at in group.positions)

    return may_replace


def _is_redo(row: Row, latest: Attempt) -> bool:
    """A person asks for another clip in place of this very one."""
    return (
        row.earlier is not None
        and row.earlier.review.strip().casefold() == "redo"
        and row.earlier.attempt == latest.number
        and row.earlier.identity == latest.identity
        and latest.state == State.COMPLETED
    )


def _never_pay_for_undelivered(drawn: Plan) -> None:
    """A clip that was paid for, by what the results say, though no prediction id is known: nobody pays for it here."""
    for group in drawn.having(Step.SUBMIT):
        earlier = group.row.earlier
        if group.history is not None or earlier is None or earlier.identity != group.identity:
            continue
        if earlier.status in {Status.UNDELIVERED, Status.SUCCEEDED}:
            group.step = Step.REPORT
            group.set_outcome(Status.UNDELIVERED, ErrorCode.LOST, messages.paid_without_id())


def _adopt(
    drawn: Plan,
    ledger: Ledger,
    destination: "Destination",
    objects: frozenset[str],
    options: Options,
    may_replace: Callable[[RowGroup], bool],
) -> None:
    """Objects that carry a row's identity are its clips, whatever this ledger knows."""
    for group in drawn.having(Step.SUBMIT, Step.COPY):
        if group.history is None:
            numbers = range(1, LAST_ADOPTED + 1)
        elif group.step is Step.COPY:
            numbers = range(group.history.latest.number, group.history.latest.number + 1)
        else:
            continue
        found = [one for number in numbers if (one := _adopted(drawn, group, number, destination, objects, options))]
        if found:
            ledger.import_attempts(found, destination.address, {})
            group.history = ledger.history(group.identity)
            group.step = plan.step_of(group, destination.address, objects, may_replace)


def _adopted(
    drawn: Plan, group: RowGroup, number: int, destination: "Destination", objects: frozenset[str], options: Options
) -> tuple[Attempt, list[Delivery]] | None:
    """An attempt and its deliveries as the stored clip itself tells them; None where there is none of that number."""
    keys = []
    for output in range(OUTPUTS_LIMIT):
        key = run.object_key(options, drawn.manifest, group, number, output)
        if key not in objects:
            break
        keys.append(key)
    stored = [one for key in keys if (one := destination.stat(key)) is not None]
    if not stored or len(stored) != len(keys):
        return None
    told = stored[0].metadata
    proof = {"identity": group.identity, "attempt": str(number), "prediction-id": told.get("prediction-id")}
    if any(one.metadata.get(name) != value for one in stored for name, value in proof.items()):
        return None
    prediction = usable_id(proof["prediction-id"])
    if not prediction or (group.history is not None and group.history.latest.prediction_id != prediction):
        return None
    price = told.get("cost-cents", "")
    cents = int(price) if re.fullmatch(r"\d{1,7}", price) else drawn.price_cents
    moment = stored[0].modified.timestamp() if stored[0].modified else time.time()
    attempt = Attempt(
        id=0, identity=group.identity, number=number, state=State.COMPLETED, owner=None,
        run_id=told.get("run-id", "")[:64], day=time.strftime("%Y-%m-%d", time.gmtime(moment)), price_cents=cents,
        quoted_cents=cents, prediction_id=prediction, claimed_at=moment, submitted_at=moment,
        completed_at=moment, imported=True,
    )  # fmt: skip
    deliveries = [
        Delivery(
            number, destination.address, output, len(keys), key, one.size_bytes, one.metadata.get("sha256", "")[:64],
            None, None, None,
        )
        for output, (key, one) in enumerate(zip(keys, stored, strict=True))
    ]  # fmt: skip
    return attempt, deliveries


async def _look(drawn: Plan, options: Options, settings: Settings, progress: Progress | None) -> Plan:
    """Look at the pictures of rows to be paid for, and of reused ones, where they may have changed since."""
    from reelsheet.images import preflight

    paying = drawn.having(Step.SUBMIT)
    if options.limit is not None:
        paying = paying[: 2 * options.limit + 50]
    reused = [
        group
        for group in drawn.having(Step.DONE, Step.COPY, Step.POLL)
        if group.history is not None and group.history.latest.fingerprint
    ]
    looks = await preflight.look(
        [group.row.image for group in (*paying, *reused)],
        allow_private=settings.allow_private_hosts,
        on_progress=None if progress is None else lambda done, of: progress("pictures", done, of),
    )
    for group in paying:
        seen = looks[group.row.image]
        group.warnings.extend(seen.warnings)
        group.fingerprint = seen.fingerprint or None
        if seen.verdict == "refused":
            group.step = Step.REFUSE
            label = columns.label(drawn.manifest.columns, drawn.manifest.roles["image"])
            group.set_outcome(Status.INVALID, seen.code, f"Column {label}: {seen.error}")
    for group in reused:
        seen = looks[group.row.image]
        paid = group.history.latest.fingerprint if group.history else None
        if seen.fingerprint and paid and seen.fingerprint != paid:
            group.warnings.append(
                "The picture at this address has changed since the clip was paid for; "
                "--fresh, or another number in a take column, pays for a new one."
            )
    return replace(drawn, looks=looks)


# What `retry` is given


def _resolve_results(options: Options, ledger: Ledger) -> Options:
    """A results file, a run or a destination → the table to read and where its clips belong."""
    from reelsheet.storage.destination import open_destination

    source = options.source.rstrip("/")
    record: RunRecord | None = ledger.run(source) if RUN_ID.fullmatch(source) else None
    if record is not None:
        return _as_recorded(options, record)
    if RUN_ID.fullmatch(source):
        raise UsageError(f"The ledger knows no run {source}; name its destination or its results file instead.")
    is_file = source.lower().endswith((".csv", ".xlsx", ".tsv", ".txt"))
    if not is_file:
        table = open_destination(source)
        if table.read("results.csv") is None:
            raise ManifestError(f"There is no results.csv under {source}; name a results file, a run or a destination.")
        return replace(options, source=table.uri("results.csv"), destination=options.destination or table.address)
    if options.destination is not None:
        return options
    return replace(options, destination=_home_of(source, ledger))


def _as_recorded(options: Options, record: RunRecord) -> Options:
    from reelsheet.storage.destination import open_destination

    destination = open_destination(record.destination)
    recorded: dict[str, Any] = {
        name: record.options.get(name)
        for name in ("image_column", "prompt_column", "id_column", "name")
        if getattr(options, name) is None
    }
    return replace(
        options,
        source=destination.uri(f"runs/{record.run_id}/results.csv"),
        destination=options.destination or record.destination,
        **recorded,
    )


def _home_of(source: str, ledger: Ledger) -> str:
    """The destination that a results file belongs to: the folder it lies in, or what its run says."""
    from reelsheet.storage.destination import open_destination

    parts = source.split("/")
    if len(parts) > 3 and parts[-3] == "runs":  # runs/RUN/results.csv
        return "/".join(parts[:-3])
    content = _content(source)
    runs = _runs_in(content, source) if content is not None else []
    for run_id in runs:
        record = ledger.run(run_id)
        if record is not None:
            return record.destination
    parent = "/".join(parts[:-1]) or "."
    home = open_destination(parent)
    if any(home.read(f"runs/{run_id}/manifest.csv") is not None for run_id in runs[:1]):
        return home.address
    raise UsageError(f"It cannot be told where the clips of {source} belong; say it with --to.")


def _runs_in(content: bytes, source: str) -> list[str]:
    """The runs that a results file names, in whatever form a spreadsheet saved it; none where it is none."""
    try:
        table = sheets.read(
            content, source, sheet=None, accepts=lambda header: bool(columns.result_block(header)), page=False
        )
    except ManifestError:
        return []
    at = columns.result_block(table.header).get("run_id")
    found = (cells[at].strip() for _, cells in table.records if at is not None and at < len(cells))
    return [run_id for run_id in dict.fromkeys(found) if RUN_ID.fullmatch(run_id)]


def _content(source: str) -> bytes | None:
    from reelsheet.storage.destination import open_destination

    if source.startswith("s3://"):
        parent, _, name = source.rpartition("/")
        return open_destination(parent).read(name)
    try:
        return Path(source).expanduser().read_bytes()
    except OSError:
        return None


def _take_over_rows(
    ledger: Ledger, found: Manifest, identities: Mapping[int, str], settings: Settings, destination: "Destination"
) -> int:
    """What the rows themselves say of attempts that nobody else tells of: an earlier workbook, say."""
    known = ledger.histories(identities.values())
    told = {
        identity: row.earlier
        for row in reversed(found.rows)  # the first row of an identity counts
        if (identity := identities.get(row.position)) is not None
        and identity not in known
        and row.earlier is not None
        and row.earlier.identity == identity
    }
    attempts = (carried.attempt_of(identity, earlier, settings.price_cents) for identity, earlier in told.items())
    return ledger.import_attempts([(one, ()) for one in attempts if one is not None], destination.address, {})


def _take_over_file(ledger: Ledger, options: Options, destination: "Destination") -> int:
    content = _content(options.source)
    return 0 if content is None else carried.take_over_rows(ledger, content, destination)
