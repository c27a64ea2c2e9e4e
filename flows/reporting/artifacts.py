"""What Prefect shows of a plan and of a finished run. No text of a sheet becomes markup; none of it may end a run."""

import os
from collections.abc import Sequence
from urllib.parse import quote

from prefect.artifacts import acreate_link_artifact, acreate_markdown_artifact, acreate_table_artifact

from flows.reporting.names import artifact_key, code, description, never_raising, plain, short
from reelsheet.manifest.rows import Row
from reelsheet.money import dollars
from reelsheet.outcomes import RowResult, Status
from reelsheet.planning.plan import Step
from reelsheet.planning.preparation import Preparation
from reelsheet.results import notification
from reelsheet.results.table import Summary
from reelsheet.run.publish import Published
from reelsheet.run.run import RunMonitor

MAX_TABLE_ROWS = 200  # results.csv has them all


async def create(monitor: RunMonitor, published: Published) -> None:
    """A summary, a table of rows that were not delivered, a link to the gallery."""
    context = monitor.context
    key, about = artifact_key(context), description(context)
    async with never_raising("summary"):
        markdown = summary_markdown(monitor, published.summary)
        await acreate_markdown_artifact(markdown, key=f"results-{key}", description=about)
    pairs = zip(context.manifest.rows, published.results, strict=True)
    missed = [(row, result) for row, result in pairs if result.status is not Status.SUCCEEDED]
    if missed:
        some = f"The first {MAX_TABLE_ROWS} of {len(missed)} rows" if len(missed) > MAX_TABLE_ROWS else "Rows"
        what = f"{some} that were not delivered; {plain(context.run_id)}"
        async with never_raising("failures"):
            await acreate_table_artifact(_table(missed), key=f"not-delivered-{key}", description=what)
    gallery = console_link(published.files.gallery)
    if gallery:
        async with never_raising("gallery"):
            text = "Gallery in the S3 console"
            await acreate_link_artifact(gallery, link_text=text, key=f"gallery-{key}", description=about)


def summary_markdown(monitor: RunMonitor, summary: Summary) -> str:
    """Counts, money and where things are, as a table."""
    files, context = monitor.files, monitor.context
    lines = [f"# {plain(short(context.manifest.source))}", "", "| | |", "|---|---|"]
    lines += [f"| {status} | {getattr(summary, status)} |" for status in Status if getattr(summary, status)]
    lines += [
        f"| rows | {summary.rows} |",
        f"| reused | {summary.reused} |",
        f"| **spent** | **{plain(dollars(summary.cost_cents))}** |",
        f"| at risk | {plain(dollars(summary.at_risk_cents))} |",
        f"| wasted | {plain(dollars(summary.wasted_cents))} |",
        f"| seconds | {summary.seconds:.0f} |",
        f"| run | {plain(context.run_id)} |",
    ]
    if monitor.stops.message:
        lines += ["", f"**Stopped early:** {plain(monitor.stops.message)}"]
    if files is not None:
        lines += ["", f"Results: {code(files.fallback or files.results)}", "", f"Gallery: {code(files.gallery)}"]
    lines += [f"\n{plain(remark)}" for remark in dict.fromkeys(monitor.remarks)]
    return "\n".join(lines)


def plan_markdown(preparation: Preparation) -> str:
    """What a person approves: rows, price, the total, and what is odd."""
    plan = preparation.plan
    count = len(plan.at_step(Step.SUBMIT))
    cap_cents = min(plan.cost_cents, preparation.cap_cents)
    lines = [
        f"**{plain(short(plan.manifest.source))}** to {code(preparation.options.destination or '')}",
        "",
        f"{count} clips at {plain(dollars(plan.price_cents))} each come to **{plain(dollars(plan.cost_cents))}**"
        + (f", capped at **{plain(dollars(cap_cents))}**" if cap_cents < plan.cost_cents else "")
        + ".",
        "",
        "| | |",
        "|---|---|",
        f"| rows | {len(plan.manifest.rows)} |",
        f"| to pay for | {count} |",
        f"| paid for already | {len(plan.at_step(Step.POLL, Step.COPY, Step.DONE))} |",
        f"| left alone (unknown or failed before) | {len(plan.at_step(Step.REPORT))} |",
        f"| cannot work | {len(plan.invalid) + len(plan.at_step(Step.REFUSE))} |",
    ]
    lines += [f"\n{plain(note)}" for note in (*plan.manifest.warnings, *plan.notes)]
    return "\n".join(lines)


def console_link(gallery: str) -> str:
    """The gallery in Amazon's S3 console, for whoever may see the bucket; "" for other stores and folders."""
    has_endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not gallery.startswith("s3://") or has_endpoint:
        return ""
    bucket, _, key = gallery.removeprefix("s3://").partition("/")
    return f"https://console.aws.amazon.com/s3/object/{quote(bucket)}?prefix={quote(key)}"


def _table(missed: Sequence[tuple[Row, RowResult]]) -> list[dict[str, object]]:
    """Prefect shows each text in it as Markdown on one of its pages, and as it stands on the other."""
    return [
        {
            "row": notification.plain(row.name, 80),
            "line": row.line,
            "status": str(result.status),
            "why": str(result.error_code or ""),
            "what to do": notification.plain(result.error, 300),
            "prediction": notification.plain(result.prediction_id, 80),
        }
        for row, result in missed[:MAX_TABLE_ROWS]
    ]
