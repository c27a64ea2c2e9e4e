"""Told when it is done: one short text to the addresses of REELSHEET_NOTIFY_URL, by Apprise.

What a cell or the provider said is text in it and nothing else: no markup, no mention, no hidden link. A notification
that cannot be sent is a warning in the log; it changes nothing about the run.
"""

import asyncio
import logging
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from reelsheet.money import dollars
from reelsheet.outcomes import RowResult, Status
from reelsheet.redaction import clean

if TYPE_CHECKING:
    from reelsheet.results.publication import Files
    from reelsheet.results.table import Summary
    from reelsheet.run.run import Run

log = logging.getLogger("reelsheet")

PATIENCE: Final = 10.0  # seconds, after which the run does not wait for it any longer
FIRST_FAILURES: Final = 3
_TROUBLE: Final = frozenset({Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN, Status.INVALID})
# Each stands for itself in plain text and for something else in Markdown, Slack's form, Discord's mentions or HTML.
_INERT: Final = str.maketrans(
    {"<": "‹", ">": "›", "`": "ʼ", "*": "∗", "[": "(", "]": ")", "@": "@\u2060", "|": "¦", "~": "∼", "&": "+"}  # noqa: RUF001 - the lookalikes are the point
)


async def tell(run: "Run", summary: "Summary", files: "Files") -> None:
    """Say how a run ended to whoever REELSHEET_NOTIFY_URL names. Never raises, takes at most PATIENCE."""
    address = run.settings.notify_url
    if address is None:
        return
    try:
        rows = [row.name for row in run.manifest.rows]
        title, body = message(
            summary,
            zip(rows, run.results(), strict=True),
            files,
            why=run.stop_error or run.over_budget,
            name=Path(run.manifest.source.split("?")[0]).name,
            secrets=() if run.settings.api_key is None else (run.settings.api_key.get_secret_value(),),
        )
        sent = await _within(PATIENCE, address.get_secret_value(), title, body, failed=summary.exit_code != 0)
    except Exception as error:  # noqa: BLE001 - whatever ails the messenger, the run is what it is
        log.warning("The notification could not be sent (%s); the run itself is not affected.", type(error).__name__)
        return
    if not sent:
        log.warning("The notification could not be sent; check REELSHEET_NOTIFY_URL. The run itself is not affected.")


def message(
    summary: "Summary",
    results: Iterable[tuple[str, RowResult]],
    files: "Files",
    *,
    why: str = "",
    name: str = "",
    secrets: Sequence[str] = (),
) -> tuple[str, str]:
    """Title and text, both plain, of each row's name and result. Holds no key, no signed link and no markup."""
    told = [f"{getattr(summary, status):,} {status}" for status in Status if getattr(summary, status)]
    named = plain(name, 60, secrets) or "reelsheet"
    title = f"{named}: {summary.succeeded:,} of {summary.rows:,} clips delivered"
    money = [f"{dollars(summary.cost_cents)} spent"]
    if summary.at_risk_cents:
        money.append(f"{dollars(summary.at_risk_cents)} at risk, perhaps charged without an answer")
    if summary.wasted_cents:
        money.append(f"{dollars(summary.wasted_cents)} of it for clips that failed")
    lines = [", ".join(told) or "no rows", "; ".join(money)]
    if why:
        lines.append(plain(why, secrets=secrets))
    lines += _failures([(row, result) for row, result in results if result.status in _TROUBLE], secrets)
    lines += _places(files)
    lines.append(f"Run {summary.run_id}")
    return title, "\n".join(lines)


def plain(text: str, limit: int = 200, secrets: Sequence[str] = ()) -> str:
    """One line of `text` that no service takes for anything but text."""
    return clean(text, secrets, limit=limit).translate(_INERT)


def services(addresses: str) -> list[str]:
    """The names of the services that `addresses` mean to Apprise; [] where it understands none."""
    return [str(service.service_name) for service in _apprise(addresses)]


def _failures(found: Sequence[tuple[str, RowResult]], secrets: Sequence[str]) -> list[str]:
    """The first few, in the order of the sheet, and how many more there are."""
    lines = [
        f"{plain(row, 60, secrets)} ({result.status}): {plain(result.error, secrets=secrets)}"
        for row, result in found[:FIRST_FAILURES]
    ]
    if len(found) > FIRST_FAILURES:
        lines.append(f"and {len(found) - FIRST_FAILURES:,} more rows that did not succeed")
    return lines


def _places(files: "Files") -> list[str]:
    if files.fallback:
        return [f"Results: {plain(files.fallback, 500)} (the destination did not take them)"]
    lines = [f"Gallery: {plain(files.gallery, 500)}"]
    if console := _console(files.gallery):
        lines.append(f"In a browser, signed in to AWS: {console}")
    return lines


def _console(uri: str) -> str:
    """Amazon's own page of an object, which asks who looks; "" for what is not in Amazon's S3."""
    import os

    if not uri.startswith("s3://") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        return ""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return f"https://console.aws.amazon.com/s3/object/{quote(bucket)}?prefix={quote(key)}"


async def _within(seconds: float, addresses: str, title: str, body: str, *, failed: bool) -> bool:
    """Send in a thread that nobody waits for beyond `seconds`, not even at the end of the program."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def answer(sent: bool) -> None:
        if not done.done():
            done.set_result(sent)

    def send() -> None:
        sent = False
        with suppress(Exception):  # said by `sent`
            sent = _send(addresses, title, body, failed=failed)
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(answer, sent)

    threading.Thread(target=send, daemon=True, name="notify").start()
    return await asyncio.wait_for(done, seconds)


def _send(addresses: str, title: str, body: str, *, failed: bool) -> bool:
    from apprise import NotifyFormat, NotifyType

    kind = NotifyType.WARNING if failed else NotifyType.SUCCESS
    return bool(_apprise(addresses).notify(body=body, title=title, notify_type=kind, body_format=NotifyFormat.TEXT))


def _apprise(addresses: str) -> Any:
    # Apprise logs addresses, which are themselves the permission to write to them.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    from apprise import Apprise, AppriseAsset

    services = Apprise(
        asset=AppriseAsset(app_id="reelsheet", app_desc="reelsheet", async_mode=False, secure_logging=True)
    )
    services.add(addresses)
    return services
