"""A provider that answers anything at all: each row ends in a sentence, none in a crash, and memory stays bounded."""

import base64
import csv
import ctypes
import functools
import gc
import json
import zlib
from pathlib import Path

import pytest

from reelsheet.outcomes import Status
from reelsheet.provider import client
from reelsheet.run import polling, submission
from reelsheet.storage import clip_copy
from reelsheet.web import guarded_http

MEGABYTE = 2**20
DEEP = '{"id":' + "[" * 100_000
HEADERS = {f"x-flood-{n}": "a" * 4000 for n in range(60)}


def packed(megabytes: int) -> str:
    """That many megabytes of spaces in gzip, in base64: a thousandth of their size."""
    packer = zlib.compressobj(9, wbits=31)
    piece = b" " * MEGABYTE
    return base64.b64encode(b"".join(packer.compress(piece) for _ in range(megabytes)) + packer.flush()).decode()


BOMB = {"status": 200, "headers": {"content-encoding": "gzip"}, "base64": packed(200)}
LARGE = "x" * (50 * MEGABYTE)


def lying(kind: bytes, size: int, content: bytes = b"") -> bytes:
    return size.to_bytes(4) + kind + content


FTYP = lying(b"ftyp", 16, b"isom\0\0\0\0")
UNTRUE_FILMS = {
    "film of 4 GB": FTYP + lying(b"mdat", 2**32 - 1, b"x" * 1000),
    "film of 16 EB": FTYP + lying(b"mdat", 1, (2**64 - 1).to_bytes(8) + b"x" * 1000),
    "film without pictures": FTYP + lying(b"moov", 8) + lying(b"mdat", 12, b"xxxx"),
    "film with an index of 1 GB": FTYP + lying(b"moov", 2**30, b"x" * 1000),
    "film of boxes": FTYP + lying(b"free", 8) * 200_000,
    "film in itself": FTYP + lying(b"moov", 8 * 20_001, lying(b"trak", 0) + b"\0\0\0\x08trak" * 19_999),
    "film that is a page": b"<!doctype html><title>Sign in</title>" + b" " * 1000,
    "film of nothing": b"",
}

# name of the row → what is done to its submission; all of these may have been charged
SUBMISSIONS = {
    "500 of 50 MB": {"answer": {"status": 500, "body": LARGE}},
    "200 of 50 MB": {"answer": {"status": 200, "body": LARGE}},
    "200 deep": {"answer": {"status": 200, "body": DEEP}},
    "200 deep and whole": {"answer": {"status": 200, "body": DEEP + "]" * 100_000 + "}"}},
    "200 bomb": {"answer": BOMB},
    "200 not packed at all": {"headers": {"content-encoding": "gzip"}},
    "200 in an unknown packing": {"headers": {"content-encoding": "br"}},
    "200 page": {"answer": {"status": 200, "headers": {"content-type": "text/html"}, "body": "<title>Portal</title>"}},
    "redirect": {"redirect": "/api/v1/models/i2v-pro/generate"},
    "flood of headers": {"headers": HEADERS},
    "drip": {"drip": 1},
    "too short": {"declare": 10},
    "id with a path": {"patch": {"id": "../../x"}},
    "id of dots": {"patch": {"id": ".."}},
    "id of 300": {"patch": {"id": "a" * 300}},
    "id that is a number": {"patch": {"id": 7}},
    "id that is a list": {"patch": {"id": ["a"]}},
    "id with a new line": {"patch": {"id": "a\nb"}},
    "id of nothing": {"patch": {"id": None}},
}
CUT_BUT_READABLE = {"too long": {"declare": 10_000}}  # its id came whole: it is polled
REFUSALS = {
    "400 of 50 MB": {"answer": {"status": 400, "body": LARGE}},
    "400 deep": {"answer": {"status": 400, "body": DEEP}},
    "400 bomb": {"answer": BOMB | {"status": 400}},
    "400 with escapes": {"answer": {"status": 400, "body": "\x1b]0;owned\x07\x1b[2J=cmd|' /C calc'!A0\r\n<script>"}},
}
# what the polls say, for ever; the clip is paid for
POLLS = {
    "poll of 50 MB": {"answer": {"status": 200, "body": LARGE}},
    "poll deep": {"answer": {"status": 200, "body": DEEP}},
    "poll bomb": {"answer": BOMB},
    "poll redirect": {"redirect": "/api/v1/predictions/x"},
    "poll flood": {"headers": HEADERS},
    "poll drip": {"drip": 1},
    "poll with another id": {"patch": {"id": "somebody-else"}},
    "poll with deep status": {"patch": {"status": json.loads("[" * 200 + "]" * 200)}},
    "poll with odd links": {"outputs": [1, None, {}, "", "http://[::1", "x" * 10_000]},
    "poll with a script": {"outputs": ["javascript:alert(1)"]},
    "poll with a file": {"outputs": ["file:///etc/passwd"]},
    "poll with a password": {"outputs": ["http://u:p@127.0.0.1:1/"]},
    "poll with metadata": {"outputs": ["http://169.254.169.254/latest/meta-data/"]},
    "poll with one output that is text": {"outputs": "gopher://x"},
    "poll of no page": {"answer": {"status": 200, "body": '"completed"'}},
}
ODD_BUT_GOOD = {
    "1000 outputs": {"outputs": 1000},
    "times before the calendar": {
        "patch": {"createdAt": "0001-01-01T00:00:00+23:00", "completedAt": "9999-12-31T23:59:59-23:00"}
    },
    "times that are none": {"patch": {"createdAt": {"a": 1}, "completedAt": -1}},
    "spelled otherwise": {"patch": {"status": " Completed "}},
}
ASSETS = {
    **{
        name: {"answer": {"status": 200, "base64": base64.b64encode(film).decode()}}
        for name, film in UNTRUE_FILMS.items()
    },
    "asset bomb": {"answer": BOMB},
    "asset drip": {"drip": 1, "framing": "chunked"},
    "asset redirects to itself": {"redirect": "?again"},
    "asset redirects to a file": {"redirect": "file:///etc/passwd"},
    "asset redirects to metadata": {"redirect": "http://169.254.169.254/x"},
    "asset flood": {"headers": HEADERS},
    "asset too short": {"declare": 100},
    "asset too long": {"declare": 10**9},
    "asset of 3 GB": {"declare": 3 * 10**9},
    "asset in 206": {"answer": {"status": 206, "body": "part"}},
    "asset of 50 MB of text": {"answer": {"status": 200, "headers": {"content-type": "text/plain"}, "body": LARGE}},
}
EXPECTED = {
    **dict.fromkeys(SUBMISSIONS, Status.UNKNOWN),
    **dict.fromkeys(REFUSALS, Status.FAILED),
    **dict.fromkeys(POLLS, Status.UNDELIVERED),
    **dict.fromkeys(CUT_BUT_READABLE | ODD_BUT_GOOD, Status.SUCCEEDED),
    **dict.fromkeys(ASSETS, Status.UNDELIVERED),
    "plain": Status.SUCCEEDED,
}


def peak_kilobytes(*, anew: bool = False) -> int:
    """The most memory that this process has held since it was last asked `anew`; Linux knows."""
    if anew:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what earlier tests gave back must not hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


@pytest.fixture
def impatient(monkeypatch):
    """The same code with short patience: nothing here may depend on half an hour."""

    async def at_once(_seconds: float) -> None:
        return

    monkeypatch.setenv("REELSHEET_SUBMIT_TIMEOUT", "2")
    monkeypatch.setattr(client, "CONNECT_TIMEOUT_S", 0.5)
    monkeypatch.setattr(client, "POLL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(guarded_http, "RATE_WINDOW_S", 0.5)
    monkeypatch.setattr(submission, "NO_ANSWER_STREAK", 1000)
    monkeypatch.setattr(polling, "OUTPUT_TRIES", 2)
    monkeypatch.setattr(clip_copy, "copy", functools.partial(clip_copy.copy, attempts=2, deadline_s=5, sleep=at_once))


@pytest.fixture
def hostile(sandbox, tmp_path):
    """A sheet whose rows each have a misfortune of their own."""
    for place, faults in (
        ("submit", SUBMISSIONS | CUT_BUT_READABLE),
        ("submit", REFUSALS),
        ("poll", POLLS | ODD_BUT_GOOD),
        ("asset", ASSETS),
    ):
        for name, what in faults.items():
            sandbox.fault(place, prompt=f"({name})", times=-1, **what)
    path = tmp_path / "sheet.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt"])
        writer.writerows([f"{sandbox.pictures}/morning-mug.jpg", f"({name})"] for name in EXPECTED)
    return path


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_whatever_the_provider_answers_each_row_ends_in_a_sentence(
    hostile, impatient, sandbox, whole_run, tmp_path
):
    before = peak_kilobytes(anew=True)
    finished = await whole_run(hostile, tmp_path / "out", deadline_seconds=8, concurrency=24, preflight=False)
    grown = (peak_kilobytes() - before) / 1024
    found = dict(zip(EXPECTED, finished.results, strict=True))

    assert {name: result.status for name, result in found.items()} == EXPECTED
    for name, result in found.items():
        if result.status is not Status.SUCCEEDED:
            assert result.error.endswith((".", "…")), name
            assert result.error.isprintable(), name
            assert len(result.error) < 900, name
            assert result.error_code, name
            assert "Traceback" not in result.error, name
            assert "Error(" not in result.error, name
    assert "984 more outputs" in " ".join(found["1000 outputs"].warnings)
    assert len(found["1000 outputs"].more_video_uris) == 15
    assert grown < 120, f"{grown:.0f} MB more at its peak"

    # every charge is known to a row: paid, or at risk
    charged = sum(charge["cents"] for charge in sandbox.activity()["charges"])
    assert charged <= sum(result.total_cost_cents + result.at_risk_cents for result in finished.results)
    # nothing is stored but whole clips and the run's files
    stored = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert stored <= {".mp4", ".csv", ".xlsx", ".json", ".html"}
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "sheet.csv"}
