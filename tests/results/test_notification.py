"""The notification at the end of a run, over a real webhook on this machine."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.results import notification
from reelsheet.results.publication import Files
from reelsheet.results.table import Summary, summarise
from reelsheet.storage.stored_object import Link

# Apprise still looks for a module that Python 3.13 dropped.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

KEY = "vd-3f9a8c7b6d5e4f3a2b1c"
FILES = Files("s3://clips/runs/R", "s3://clips/runs/R/results.csv", "s3://clips/runs/R/gallery.html")
AT = datetime(2026, 1, 15, 12, tzinfo=UTC)


class Webhook:
    """Keeps what is posted to it; `hold` makes it hang."""

    def __init__(self) -> None:
        self.got: list[dict] = []
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.hold.wait(20)
                outer.got.append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://127.0.0.1:{self.server.server_port}/hooks/{KEY}"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    thread = threading.Thread(target=hook.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield hook
    hook.hold.set()
    hook.server.shutdown()
    hook.server.server_close()
    thread.join()


def summary_of(results: list[RowResult]) -> Summary:
    return summarise(
        results, run_id="20260115-120000-abcdef", started_at=AT, finished_at=AT, seconds=5, flow_run_id=None, exit_code=1
    )  # fmt: skip


def manifest_of(results: list[RowResult], names=None, source="https://sheets.example.com/spring.csv?token=abc"):
    names = names or [f"SKU-{n}" for n in range(len(results))]
    rows = tuple(Row(n, n + 2, id=name) for n, name in enumerate(names))
    return Manifest(source, text_frame(["image"], [[""]] * len(rows)), rows, {"image": 0})


async def send(address: str | None, results: list[RowResult]) -> None:
    url = None if address is None else SecretStr(address)
    await notification.send(url, manifest_of(results), results, summary_of(results), FILES, secrets=(KEY,))


def message(results: list[RowResult], files=FILES, **more) -> tuple[str, str]:
    return notification.message(manifest_of(results), results, summary_of(results), files, **more)


def failed(error: str) -> RowResult:
    return RowResult(Status.FAILED, error, ErrorCode.MODERATED, cost_cents=54)


async def test_a_webhook_gets_counts_cost_gallery_and_first_failures(webhook):
    results = [RowResult(Status.SUCCEEDED, cost_cents=54), *(failed(f"Flagged {n}.") for n in range(5))]
    await send(webhook.address, results)
    (got,) = webhook.got
    assert got["title"] == "spring.csv: 1 of 6 clips delivered"
    lines = got["message"].splitlines()
    assert lines[0] == "1 succeeded, 5 failed"
    assert lines[1] == "$3.24 spent; $2.70 of it for clips that failed"
    assert lines[2:6] == [
        "SKU-1 (failed): Flagged 0.",
        "SKU-2 (failed): Flagged 1.",
        "SKU-3 (failed): Flagged 2.",
        "and 2 more rows that did not succeed",
    ]
    assert "Gallery: s3://clips/runs/R/gallery.html" in lines


async def test_nothing_is_sent_where_no_address_is_set():
    await send(None, [RowResult(Status.SUCCEEDED)])


async def test_a_refused_notification_is_a_warning_without_the_address(caplog):
    with caplog.at_level(logging.DEBUG):
        await send(f"json://127.0.0.1:9/{KEY}", [RowResult(Status.SUCCEEDED)])
    assert "could not be sent" in caplog.text
    assert KEY not in caplog.text


async def test_an_address_that_means_nothing_is_a_warning(caplog):
    with caplog.at_level(logging.DEBUG):
        await send(f"nonsense://{KEY}", [RowResult(Status.SUCCEEDED)])
    assert "could not be sent" in caplog.text
    assert KEY not in caplog.text


async def test_a_webhook_that_hangs_is_not_waited_for(webhook, caplog, monkeypatch):
    monkeypatch.setattr(notification, "TIMEOUT_S", 0.2)
    webhook.hold.clear()
    await asyncio.wait_for(send(webhook.address, [RowResult(Status.SUCCEEDED)]), 10)
    assert "could not be sent" in caplog.text
    webhook.hold.set()
    for _ in range(100):  # the messenger's thread ends by itself
        if not any(thread.name == "notify" for thread in threading.enumerate()):
            break
        await asyncio.sleep(0.05)


def test_no_signed_link_no_key_and_no_markup_is_sent():
    signed = "https://a.example.com/p?X-Amz-Signature=aaaa"
    evil = f"<!channel> @everyone [free](https://evil.example.com) **x** `y` {signed} {KEY}"
    results = [failed(evil)]
    manifest = manifest_of(results, ["<b>@here</b>"])
    _, body = notification.message(
        manifest, results, summary_of(results), FILES, stopped_because=f"api_key={KEY}", secrets=(KEY,)
    )
    assert "Signature=aaaa" not in body
    assert KEY not in body
    for mark in ("<!channel>", "@everyone", "@here", "](", "**", "`", "<b>"):
        assert mark not in body


@given(st.text(), st.text())
def test_whatever_a_cell_holds_is_one_line_of_text(name, error):
    results = [failed(error)]
    title, body = notification.message(manifest_of(results, [name], name), results, summary_of(results), FILES)
    assert "\n" not in title
    assert not set("<>`*[]|~&") & set(title + body)
    assert len(body.splitlines()) <= 8


def test_in_amazons_s3_the_gallery_has_a_page_that_asks_who_looks(monkeypatch):
    _, body = message([RowResult(Status.SUCCEEDED)])
    assert "https://console.aws.amazon.com/s3/object/clips?prefix=runs/R/gallery.html" in body
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
    _, body = message([RowResult(Status.SUCCEEDED)])
    assert "console" not in body


def test_the_link_that_opens_the_gallery_comes_early_complete_and_with_its_end():
    url = "https://clips.s3.amazonaws.com/runs/R/gallery.html?X-Amz-Security-Token=a%2Fb&X-Amz-Signature=c_d*e"
    files = replace(FILES, link=Link(url, AT + timedelta(hours=12)))
    _, body = message([failed("Flagged."), RowResult(Status.SUCCEEDED)], files)
    lines = body.splitlines()
    assert lines[2:4] == [
        f"Gallery: {url}",
        "(works until 2026-01-16 00:00 UTC; whoever has this link sees every clip)",
    ]
    assert "It is stored at: s3://clips/runs/R/gallery.html" in lines


def test_results_that_stayed_on_this_machine_are_named_with_their_path():
    _, body = message([RowResult(Status.SUCCEEDED)], Files("f", "r", "g", "/home/me/results.csv"))
    assert "Results: /home/me/results.csv" in body
    assert "Gallery" not in body


def test_services_are_named_and_nothing_of_their_address():
    assert notification.services(f"json://127.0.0.1/{KEY}") == ["JSON"]
    assert notification.services("what?") == []


@pytest.mark.parametrize(
    ("addresses", "are_understood"),
    [("json://h/x", True), ("json://h/x, jsons://g/y", True), ("what?", False), ("json://h/x, slack://T1", False)],
)
def test_each_address_must_be_understood(addresses, are_understood):
    assert (list(notification.problems(SecretStr(addresses))) == []) is are_understood
