"""The notification at the end of a run: one short text to the addresses of REELSHEET_NOTIFY_URL, sent by Apprise.

What a cell or the provider said is plain text in it: no markup, no mention, no hidden link. A notification that cannot
be sent is a warning in the log; the run itself is not affected.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pydantic import SecretStr

from reelsheet.manifest.rows import Manifest
from reelsheet.money import dollars
from reelsheet.outcomes import RowResult, Status
from reelsheet.redaction import clean
from reelsheet.results import gallery_link
from reelsheet.results.table import Summary
from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.problems import Problem

if TYPE_CHECKING:
    from reelsheet.results.publication import Files

log = logging.getLogger("reelsheet")

TIMEOUT_S: Final = 10.0  # after which the run does not wait for it any longer
NAMED_FAILURES: Final = 3
_TROUBLE: Final = frozenset({Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN, Status.INVALID})
# Each is plain text by itself and something else in Markdown, in Slack's markup, in Discord's mentions or in HTML.
_INERT: Final = str.maketrans(
    {"<": "‹", ">": "›", "`": "ʼ", "*": "∗", "[": "(", "]": ")", "@": "@\u2060", "|": "¦", "~": "∼", "&": "+"}  # noqa: RUF001 - the lookalikes are the point
)


async def send(
    notify_url: SecretStr | None,
    manifest: Manifest,
    results: Sequence[RowResult],
    summary: Summary,
    files: "Files",
    *,
    stopped_because: str = "",
    secrets: Sequence[str] = (),
) -> None:
    """Tell REELSHEET_NOTIFY_URL, if it is set, how a run ended. Never raises; takes at most TIMEOUT_S."""
    if notify_url is None:
        return
    try:
        title, body = message(manifest, results, summary, files, stopped_because=stopped_because, secrets=secrets)
        sent = await _send_in_thread(notify_url.get_secret_value(), title, body, failed=summary.exit_code != 0)
    except Exception as error:  # noqa: BLE001 - whatever the service does, the run is what it is
        log.warning("The notification could not be sent (%s); the run itself is not affected.", type(error).__name__)
        return
    if not sent:
        log.warning("The notification could not be sent; check REELSHEET_NOTIFY_URL. The run itself is not affected.")


def message(
    manifest: Manifest,
    results: Sequence[RowResult],
    summary: Summary,
    files: "Files",
    *,
    stopped_because: str = "",
    secrets: Sequence[str] = (),
) -> tuple[str, str]:
    """Title and body, both plain text, without a key or markup. `results[i]` belongs to `rows[i]`.

    The only signed link in it is the gallery's own. It comes early: services cut, or divide, what is too long.
    """
    name = plain(manifest.title, 60, secrets) or "reelsheet"
    title = f"{name}: {summary.succeeded:,} of {summary.rows:,} clips delivered"
    counts = [f"{getattr(summary, status):,} {status}" for status in Status if getattr(summary, status)]
    money = [f"{dollars(summary.cost_cents)} spent"]
    if summary.at_risk_cents:
        money.append(f"{dollars(summary.at_risk_cents)} at risk: it may have been charged, but no answer came")
    if summary.wasted_cents:
        money.append(f"{dollars(summary.wasted_cents)} of it for clips that failed")
    lines = [", ".join(counts) or "no rows", "; ".join(money)]
    if files.link is not None:
        now = summary.finished_at or datetime.now(UTC)
        lines += [f"Gallery: {files.link.url}", f"({gallery_link.about(files.link, now, summary.run_id)})"]
    if stopped_because:
        lines.append(plain(stopped_because, secrets=secrets))
    troubles = [pair for pair in zip(manifest.rows, results, strict=True) if pair[1].status in _TROUBLE]
    lines += [
        f"{plain(row.name, 60, secrets)} ({result.status}): {plain(result.error, secrets=secrets)}"
        for row, result in troubles[:NAMED_FAILURES]
    ]
    if len(troubles) > NAMED_FAILURES:
        lines.append(f"and {len(troubles) - NAMED_FAILURES:,} more rows that did not succeed")
    return title, "\n".join([*lines, *_addresses(files), f"Run {summary.run_id}"])


def plain(text: str, limit: int = 200, secrets: Sequence[str] = ()) -> str:
    """One line of `text` that no service takes for anything but text."""
    return clean(text, secrets, limit=limit).translate(_INERT)


def services(addresses: str) -> list[str]:
    """The names of the services that Apprise finds in `addresses`; [] where it understands none."""
    return [str(service.service_name) for service in _apprise(addresses)[0]]


def problems(notify_url: SecretStr | None) -> Iterator[Problem]:
    """Whether Apprise understands each address; none is shown, since whoever has it may write to it."""
    if notify_url is not None and not _apprise(notify_url.get_secret_value())[1]:
        yield wrong.NOTIFICATION()


def _addresses(files: "Files") -> list[str]:
    if files.fallback:
        return [f"Results: {plain(files.fallback, 500)} (they could not be written to the destination)"]
    lines = [f"{'Gallery' if files.link is None else 'It is stored at'}: {plain(files.gallery, 500)}"]
    if console := _console_page(files.gallery):
        lines.append(f"In a browser, signed in to AWS: {console}")
    return lines


def _console_page(uri: str) -> str:
    """The AWS console's page of an object, which asks for a sign-in; "" for what is not in Amazon's own S3."""
    if not uri.startswith("s3://") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        return ""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return f"https://console.aws.amazon.com/s3/object/{quote(bucket)}?prefix={quote(key)}"


async def _send_in_thread(addresses: str, title: str, body: str, *, failed: bool) -> bool:
    """True when sent. The thread is not waited for after TIMEOUT_S, not even at the end of the program."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def finish(sent: bool) -> None:
        if not done.done():
            done.set_result(sent)

    def send_now() -> None:
        sent = False
        with suppress(Exception):  # `sent` stays False
            sent = _send(addresses, title, body, failed=failed)
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(finish, sent)

    threading.Thread(target=send_now, daemon=True, name="notify").start()
    return await asyncio.wait_for(done, TIMEOUT_S)


def _send(addresses: str, title: str, body: str, *, failed: bool) -> bool:
    from apprise import NotifyFormat, NotifyType

    kind = NotifyType.WARNING if failed else NotifyType.SUCCESS
    services, _ = _apprise(addresses)
    return bool(services.notify(body=body, title=title, notify_type=kind, body_format=NotifyFormat.TEXT))


def _apprise(addresses: str) -> tuple[Any, bool]:
    """What sends to the addresses that are understood, and whether those are all."""
    # Apprise logs addresses, and whoever has such an address may write to it.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    from apprise import Apprise, AppriseAsset, OverflowMode

    services = Apprise(
        asset=AppriseAsset(app_id="reelsheet", app_desc="reelsheet", async_mode=False, secure_logging=True)
    )
    are_all = bool(services.add(addresses))
    for service in services:
        if service.overflow_mode == OverflowMode.UPSTREAM:  # the address asks for nothing else
            service.overflow_mode = OverflowMode.SPLIT  # a service refuses what is too long; it is divided at lines
    return services, are_all
