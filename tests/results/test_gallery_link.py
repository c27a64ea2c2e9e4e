"""The link to a gallery in S3: it opens in a browser, plays, and says when it ends."""

import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from reelsheet.cli import call
from reelsheet.ledger import Delivery, Sheet
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import parse
from reelsheet.results import gallery_link
from reelsheet.settings import Settings
from reelsheet.storage.destination import open_destination
from reelsheet.storage.stored_object import Link

RUN = "20260115-120000-1f3a9c"
SHEET = b"sku,image\r\nmug,https://shop.test/mug.jpg\r\n"
OPTIONS = {"base_url": "https://api.vibedream.ai", "model": "i2v-pro"}
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def finished(bucket, sqlite_url, registers, monkeypatch):
    """A finished run with one clip in S3; its destination's address."""
    from reelsheet.ledger import Ledger

    monkeypatch.setenv("REELSHEET_LEDGER_URL", sqlite_url)
    address = f"s3://{bucket}/spring"
    place = open_destination(address)
    identity = identity_of(parse(SHEET, "m.csv").rows[0], Settings())
    place.write("videos/mug.mp4", b"clip", "video/mp4")
    place.write(f"runs/{RUN}/manifest.csv", SHEET, "text/csv")
    ledger = Ledger.open(sqlite_url)
    sheet = Sheet((2,), ("mug",), (identity,))
    registers(ledger, RUN, destination=address, options=OPTIONS, rows=1, sheet=sheet)
    attempt = ledger.claim(identity, run_id=RUN, price_cents=54).attempt
    attempt = ledger.record_completed(ledger.record_id(attempt, "pred", 54), None)
    ledger.record_deliveries(attempt, [Delivery(1, address, 0, 1, "videos/mug.mp4", 4, "ab", 640, 360, 5.0)])
    ledger.finish_run(RUN, exit_code=0, summary={})
    ledger.close()
    return address


def test_the_link_opens_the_page_and_the_page_plays_its_clips(finished, capsys):
    assert call(["report", RUN]) == 0
    printed = capsys.readouterr().out
    (link,) = re.findall(r"^Link +(http\S+)$", printed, re.MULTILINE)
    assert "whoever has this link sees every clip" in printed
    page = httpx.get(link)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    (row,) = json.loads(re.search(r'id="data">(.*?)</script>', page.text, re.DOTALL)[1])["rows"]
    clip = httpx.get(row["v"])
    assert (clip.content, clip.headers["content-type"]) == (b"clip", "video/mp4")


def test_status_signs_a_link_of_its_own_and_none_before_there_is_a_gallery(finished, capsys):
    assert call(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gallery_url"] is None
    call(["report", RUN])
    capsys.readouterr()
    assert call(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert httpx.get(status["gallery_url"]).status_code == 200
    ends = datetime.fromisoformat(status["gallery_url_ends_at"])
    assert timedelta(days=6) < ends - datetime.now(UTC) <= timedelta(days=7)
    assert call(["status"]) == 0
    assert f"works until {ends:%Y-%m-%d %H:%M} UTC" in capsys.readouterr().out


def test_credentials_that_end_sooner_end_the_link(finished, monkeypatch, capsys):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-of-a-role-that-ends-within-hours")
    assert call(["report", RUN]) == 0
    printed = capsys.readouterr().out
    assert "a-token-of-a-role-that-ends-within-hours" in printed  # without it, the link would open nothing
    ends = datetime.strptime(re.search(r"works until (.+) UTC", printed)[1], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert ends - datetime.now(UTC) <= timedelta(hours=12)


def test_a_link_to_an_old_page_ends_when_the_pages_own_links_do(bucket):
    place = open_destination(f"s3://{bucket}/spring")
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    place.write(gallery_link.key_of_gallery(RUN), b"<p>", "text/html", gallery_link.page_metadata(soon))
    link = gallery_link.sign_again(place, RUN)
    assert link.ends_at == soon
    assert "makes new ones" in gallery_link.about(link, soon + timedelta(minutes=1), RUN)


def test_a_folder_has_no_link(tmp_path):
    place = open_destination(str(tmp_path))
    place.write(gallery_link.key_of_gallery(RUN), b"<p>", "text/html")
    assert gallery_link.sign(place, RUN, None) is None
    assert gallery_link.sign_again(place, RUN) is None


def test_a_link_without_an_end_promises_none():
    assert "until" not in gallery_link.about(Link("https://x.test"), NOW, RUN)
