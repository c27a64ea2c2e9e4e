"""What Prefect shows and passes on: names, tags, progress, artifacts and events. None of it may end a run.

No text of a sheet becomes markup, and no address keeps what signs it.
"""

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.runtime import flow_run

from reelsheet.errors import LedgerError
from reelsheet.money import dollars
from reelsheet.outcomes import RowResult, Status
from reelsheet.planning.plan import Step
from reelsheet.redaction import clean, clean_url
from reelsheet.results.table import Summary
from reelsheet.run.run import Run

if TYPE_CHECKING:
    from reelsheet.planning.preparation import Preparation

log = logging.getLogger("reelsheet")

FINISHED = "reelsheet.run.finished"
BUDGET_WARNING = "reelsheet.budget.warning"

NEAR = 0.8  # of a cap
LOOK_SECONDS = 5.0
WORTH_A_BAR = 20  # rows to do; fewer are over before anybody looks
SHOWN = 200  # failures in the table; results.csv has them all
CAMPAIGNS = 3  # tags, at most

_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>$:])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


# Names and tags


def run_name() -> str:
    """ "spring.csv → s3://clips/spring", from the flow run's own parameters."""
    told = flow_run.parameters
    source = short(str(told.get("manifest") or told.get("results") or "?"))
    to = told.get("destination")
    return f"{source} → {clean_url(str(to))}"[:200] if to else source


def shard_name() -> str:
    told = flow_run.parameters
    return f"{told.get('run_id')} shard {told.get('shard')}"


def short(address: str) -> str:
    """The last part of a path or address, without anything that signs it."""
    path = urlsplit(address).path if "://" in address else address
    return clean(unquote(PurePosixPath(path.rstrip("/")).name)) or clean(clean_url(address))


async def tag(run: Run) -> None:
    """Tags that a person filters by: the manifest, and the campaign where the sheet has one."""
    if run.flow_run_id is None:
        return
    wanted = [f"manifest:{short(run.manifest.source)}", *(f"campaign:{name}" for name in campaigns(run))]
    async with _quietly("tags"), get_client() as client:
        known = await client.read_flow_run(_id(run))
        await client.update_flow_run(_id(run), tags=sorted({*known.tags, *wanted}))


def campaigns(run: Run) -> list[str]:
    """The cells of a column called campaign, where they are few."""
    at = next((i for i, name in enumerate(run.manifest.columns) if name.strip().casefold() == "campaign"), None)
    if at is None:
        return []
    found = dict.fromkeys(clean(row.cells[at], limit=60) for row in run.manifest.rows if len(row.cells) > at)
    names = [name for name in found if name]
    return names if len(names) <= CAMPAIGNS else []


# While it runs


@contextlib.asynccontextmanager
async def progress(run: Run) -> AsyncIterator[None]:
    """A bar in Prefect's UI, and a warning event before a cap is reached."""
    todo = len(run.to_do())
    bar: UUID | None = None
    if todo >= WORTH_A_BAR:
        async with _quietly("progress"):
            bar = await acreate_progress_artifact(0.0, key=f"progress-{_key(run)}", description=_rows(run))
    caps = _Caps.of(run)
    watching = asyncio.create_task(_watch(run, bar, todo, caps))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await _look(run, bar, todo, caps)  # a run may be over before the first look


async def _watch(run: Run, bar: UUID | None, todo: int, caps: "_Caps") -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await _look(run, bar, todo, caps)


async def _look(run: Run, bar: UUID | None, todo: int, caps: "_Caps") -> None:
    await _show(run, bar, todo)
    with contextlib.suppress(LedgerError):
        await _warn(run, caps)


async def _show(run: Run, bar: UUID | None, todo: int) -> None:
    if bar is not None:
        async with _quietly("progress"):
            await aupdate_progress_artifact(bar, progress=round(100 * (1 - len(run.to_do()) / todo), 1))


@dataclass(slots=True)
class _Caps:
    """The caps that a run may reach, and which of them were told. `tight`: the plan did not fit from the start."""

    tight: bool
    told: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, run: Run) -> "_Caps":
        asked, cap = run.options.max_cost_usd is not None, run.record.cap_cents
        return cls(asked and bool(cap) and run.record.spent_cents + run.plan.cost_cents > (cap or 0))


async def _warn(run: Run, caps: _Caps) -> None:
    """One event for each cap that is nearly used up."""
    record = await run.in_ledger(run.ledger.run, run.run_id)
    if caps.tight and record is not None and record.cap_cents:
        _warn_once(run, caps, "run", record.spent_cents, record.cap_cents)
    daily = run.settings.daily_cap_cents
    if daily:
        days = await run.in_ledger(run.ledger.days, 1)
        if days:
            _warn_once(run, caps, "day", days[0].spent_cents, daily)


def _warn_once(run: Run, caps: _Caps, which: str, spent: int, cap: int) -> None:
    if which in caps.told or spent < NEAR * cap:
        return
    caps.told.add(which)
    log.warning("%s of the %s's cap of %s are used.", dollars(spent), which, dollars(cap))
    _emit(run, BUDGET_WARNING, {"cap": which, "spent_usd": spent / 100, "cap_usd": cap / 100})


# At the end


async def report(run: Run, found: Sequence[RowResult], summary: Summary) -> None:
    """What is worth a look after the run, and the event that other flows wait for."""
    async with _quietly("summary"):
        told = summary_markdown(run, summary)
        await acreate_markdown_artifact(told, key=f"results-{_key(run)}", description=_rows(run))
    missed = [(row, result) for row, result in zip(run.manifest.rows, found, strict=True) if _missed(result)]
    if missed:
        table = [
            {
                "row": clean(row.name, limit=80),
                "line": row.line,
                "status": str(result.status),
                "why": str(result.error_code or ""),
                "what to do": clean(result.error),
                "prediction": clean(result.prediction_id, limit=80),
            }
            for row, result in missed[:SHOWN]
        ]
        more = f"The first {SHOWN} of {len(missed)} rows" if len(missed) > SHOWN else "Rows"
        what = f"{more} that were not delivered; {plain(run.run_id)}"
        async with _quietly("failures"):
            await acreate_table_artifact(table, key=f"not-delivered-{_key(run)}", description=what)
    gallery = console_link(run)
    if gallery:
        async with _quietly("gallery"):
            await acreate_link_artifact(
                gallery, link_text="Gallery in the S3 console", key=f"gallery-{_key(run)}", description=_rows(run)
            )
    _emit(run, FINISHED, summary.as_json() | {"destination": clean_url(run.destination.address)})


def summary_markdown(run: Run, summary: Summary) -> str:
    """Counts, money and where things are, as a table."""
    files = run.files
    lines = [f"# {plain(short(run.manifest.source))}", "", "| | |", "|---|---|"]
    lines += [f"| {status} | {getattr(summary, status)} |" for status in Status if getattr(summary, status)]
    lines += [
        f"| rows | {summary.rows} |",
        f"| reused | {summary.reused} |",
        f"| **spent** | **{plain(dollars(summary.cost_cents))}** |",
        f"| at risk | {plain(dollars(summary.at_risk_cents))} |",
        f"| wasted | {plain(dollars(summary.wasted_cents))} |",
        f"| seconds | {summary.seconds:.0f} |",
        f"| run | {plain(run.run_id)} |",
    ]
    why = run.stop_error or run.over_budget
    if why:
        lines += ["", f"**Stopped early:** {plain(why)}"]
    if files is not None:
        lines += ["", f"Results: {code(files.fallback or files.results)}", "", f"Gallery: {code(files.gallery)}"]
    lines += [f"\n{plain(remark)}" for remark in dict.fromkeys(run.remarks)]
    return "\n".join(lines)


def plan_markdown(prepared: "Preparation") -> str:
    """What a person approves: rows, price, what it comes to, and what is odd."""
    plan = prepared.plan
    pay = len(plan.having(Step.SUBMIT))
    cap = min(plan.cost_cents, prepared.cap_cents)
    lines = [
        f"**{plain(short(plan.manifest.source))}** to {code(prepared.options.destination or '')}",
        "",
        f"{pay} clips at {plain(dollars(plan.price_cents))} each come to **{plain(dollars(plan.cost_cents))}**"
        + (f", capped at **{plain(dollars(cap))}**" if cap < plan.cost_cents else "")
        + ".",
        "",
        "| | |",
        "|---|---|",
        f"| rows | {len(plan.manifest.rows)} |",
        f"| to pay for | {pay} |",
        f"| paid for already | {len(plan.having(Step.POLL, Step.COPY, Step.DONE))} |",
        f"| left alone (unknown or failed before) | {len(plan.having(Step.REPORT))} |",
        f"| cannot work | {len(plan.invalid) + len(plan.having(Step.REFUSE))} |",
    ]
    lines += [f"\n{plain(note)}" for note in (*plan.manifest.warnings, *plan.notes)]
    return "\n".join(lines)


async def is_cancelling() -> bool:
    """True where somebody cancelled this flow run in Prefect."""
    async with _quietly("state"), get_client() as client:
        if flow_run.id is not None:
            known = await client.read_flow_run(UUID(flow_run.id))
            return known.state is not None and (known.state.is_cancelling() or known.state.is_cancelled())
    return False


# Small parts


def plain(text: str) -> str:
    """`text` as Markdown that shows it and nothing else: no link, no image, no markup."""
    one_line = _CONTROL.sub(" ", text).strip()
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;")
    return _MARKS.sub(r"\\\1", escaped)


def code(text: str) -> str:
    """An address to copy, without what signs it; never a link."""
    return f"`{_CONTROL.sub(' ', clean_url(text)).replace('`', '')}`"


def console_link(run: Run) -> str:
    """The gallery in Amazon's S3 console, for whoever may see the bucket; "" for other stores and folders."""
    gallery = run.files.gallery if run.files is not None else ""
    elsewhere = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not gallery.startswith("s3://") or elsewhere:
        return ""
    bucket, _, key = gallery.removeprefix("s3://").partition("/")
    return f"https://console.aws.amazon.com/s3/object/{quote(bucket)}?prefix={quote(key)}"


def _missed(result: RowResult) -> bool:
    return result.status is not Status.SUCCEEDED


def _key(run: Run) -> str:
    """An artifact key of the manifest: its versions are the runs."""
    slug = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(short(run.manifest.source)).stem.lower()).strip("-")
    return slug[:60] or "manifest"


def _rows(run: Run) -> str:
    return f"{plain(short(run.manifest.source))}, run {plain(run.run_id)}"


def _id(run: Run) -> UUID:
    return UUID(str(run.flow_run_id))


def _emit(run: Run, event: str, payload: dict[str, Any]) -> None:
    related = []
    if run.flow_run_id is not None:
        of = f"prefect.flow-run.{run.flow_run_id}"
        related.append({"prefect.resource.id": of, "prefect.resource.role": "flow-run"})
    try:
        emit_event(
            event=event,
            resource={
                "prefect.resource.id": f"reelsheet.run.{run.run_id}",
                "prefect.resource.name": short(run.manifest.source),
                "reelsheet.storage.destination": clean_url(run.destination.address),
            },
            related=related,
            payload=payload,
        )
    except Exception as error:  # noqa: BLE001 - an event that nobody hears costs nobody a clip
        log.info("The event %s was not sent (%s).", event, type(error).__name__)


@contextlib.asynccontextmanager
async def _quietly(what: str) -> AsyncIterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - shown in Prefect or not, the run goes on
        log.info("Prefect did not take the %s (%s).", what, type(error).__name__)
