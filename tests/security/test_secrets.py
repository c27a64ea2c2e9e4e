"""A whole run, and then a search through everything that it left behind, for the key and for signatures."""

import base64
import csv
import functools
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest

from reelsheet.outcomes import RESULT_COLUMNS
from reelsheet.run import polling
from reelsheet.storage import clip_copy

SIGNATURE = "5iGn4tUrE0fAPr1vatePicture"
HOOK = "H00kThatMayWriteToOurChannel"
SIGNED = (
    f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F{SIGNATURE}&X-Amz-Expires=900"
    f"&X-Amz-SignedHeaders=host&X-Amz-Security-Token={SIGNATURE}&X-Amz-Signature={SIGNATURE}"
)


def forms(secret: str) -> list[bytes]:
    """How a secret may be written: as it is, percent-encoded, in base64, in UTF-16."""
    plain = secret.encode()
    return [plain, quote(secret, safe="").encode(), base64.b64encode(plain)[:-4], secret.encode("utf-16-le")]


def assert_nowhere(secret: str, places: dict[str, bytes]) -> None:
    for name, content in places.items():
        for form in forms(secret):
            at = content.find(form)
            assert at < 0, f"{name} holds a secret: …{content[max(0, at - 200) : at + 60]!r}"


def unpacked(name: str, content: bytes) -> dict[str, bytes]:
    """A file, and what is inside it where it is an archive."""
    if not content.startswith(b"PK\x03\x04"):
        return {name: content}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {f"{name}/{entry}": archive.read(entry) for entry in archive.namelist()}


def files_below(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found |= unpacked(str(path.relative_to(folder)), path.read_bytes())
    return found


def objects_in(bucket: str) -> dict[str, bytes]:
    """Every object of a bucket, and every object's headers and metadata."""
    client = boto3.client("s3")
    found: dict[str, bytes] = {}
    for item in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
        answer = client.get_object(Bucket=bucket, Key=item["Key"])
        found |= unpacked(item["Key"], answer["Body"].read())
        told = {name: value for name, value in answer.items() if name not in {"Body", "ResponseMetadata"}}
        found[f"{item['Key']} (metadata)"] = repr(told).encode()
    return found


def without_input(name: str, content: bytes, inputs: set[str]) -> bytes:
    """What we added to a file that carries the sheet's own cells."""
    if name.endswith(("results.csv", "failed.csv")):
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
        return repr([row[-len(RESULT_COLUMNS) :] for row in rows]).encode()
    if name.endswith("manifest.csv"):
        return b""
    if name.endswith(("gallery.html", ".xml", ".rels")):
        # the cells stand there as JSON or XML text
        text = content.decode()
        for cell in sorted(inputs, key=len, reverse=True):
            for written in (cell, json.dumps(cell)[1:-1].replace("&", "\\u0026"), cell.replace("&", "&amp;")):
                text = text.replace(written, "")
        return text.encode()
    return content


@pytest.fixture
def odd_sheet(sandbox, elsewhere, key, tmp_path):
    """Signed addresses in every column, and a provider that quotes whatever it knows."""
    picture = f"{sandbox.pictures}/morning-mug.jpg?{SIGNED}"
    quoting = {"error": {"message": f"key {key} may not fetch {picture}"}, "echo": {"authorization": f"Bearer {key}"}}
    rows = {
        "whole": picture,
        "refused": picture,
        "refused in text": picture,
        "server error": picture,
        "redirected": picture,
        "failed": picture,
        "odd link": picture,
        "link to elsewhere": picture,
        "key as id": picture,
        "no picture": f"{sandbox.pictures}/nothing.jpg?{SIGNED}",
        "other host": f"{elsewhere.address}/a.jpg?{SIGNED}",
        "wrong scheme": f"ftp://files.test/a.jpg?{SIGNED}",
        "with a password": f"https://user:{SIGNATURE}@files.test/a.jpg",
    }
    sandbox.fault("submit", prompt="refused", answer={"status": 422, "body": quoting})
    sandbox.fault("submit", prompt="refused in text", answer={"status": 400, "body": f"{' ' * 3900}bad key {key}!"})
    sandbox.fault("submit", prompt="server error", answer={"status": 500, "body": f"<title>{'x' * 180} {key}</title>"})
    sandbox.fault("submit", prompt="redirected", redirect=f"{elsewhere.address}/?api_key={key}&image={quote(picture)}")
    sandbox.fault("submit", prompt="key as id", patch={"id": key})
    sandbox.fault("poll", prompt="failed", times=-1, fail=f"Bearer {key} was refused for {picture}")
    sandbox.fault("poll", prompt="odd link", times=-1, outputs=[f"{elsewhere.address}/{key}/a.mp4?{SIGNED}"])
    sandbox.fault("asset", prompt="link to elsewhere", times=-1, redirect=f"{elsewhere.address}/b.mp4?{SIGNED}")
    path = tmp_path / "sheet.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "prompt", "take", "note"])
        for number, (name, image) in enumerate(rows.items(), 1):
            writer.writerow([f"{name} https://x.test/?{SIGNED}", image, name, number, f"see {picture}"])
    inputs = {cell for record in csv.reader(path.read_text().splitlines()) for cell in record if SIGNATURE in cell}
    return path, inputs


@pytest.fixture
def impatient(monkeypatch):
    """What can never be fetched is given up soon, so that the deadline can be long enough for a busy machine."""

    async def at_once(_seconds: float) -> None:
        return

    monkeypatch.setattr(polling, "OUTPUT_TRIES", 2)
    monkeypatch.setattr(clip_copy, "copy", functools.partial(clip_copy.copy, attempts=2, sleep=at_once))


async def test_nothing_that_a_run_leaves_holds_the_key_or_a_signature(
    odd_sheet, impatient, sandbox, elsewhere, key, whole_run, caplog, tmp_path, monkeypatch
):
    """The sheet's own cells are carried through as they are; nothing else repeats them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path, inputs = odd_sheet
    boto3.client("s3").create_bucket(Bucket="secrets")
    with caplog.at_level(logging.DEBUG):
        finished = await whole_run(path, "s3://secrets/spring", deadline_seconds=60)
    by_name = {result.status for result in finished.results}
    assert {"succeeded", "failed", "undelivered", "unknown", "invalid"} <= by_name

    stored = objects_in("secrets")
    assert any("gallery.html" in name for name in stored)
    assert any("sharedStrings" in name or "sheet1" in name for name in stored)
    logs = "\n".join(f"{record.name} {record.getMessage()}" for record in caplog.records)
    kept = {
        **files_below(tmp_path / "state"),
        "log": logs.encode(),
        "summary": json.dumps(finished.summary).encode(),
        "elsewhere": "\n".join(elsewhere.heard).encode(),
    }
    assert "ledger.db" in "".join(kept)
    assert_nowhere(key, kept | stored)
    del kept["elsewhere"]  # it was asked for a picture and a clip with the signatures that lead there
    assert_nowhere(SIGNATURE, kept)
    assert_nowhere(SIGNATURE, {name: without_input(name, content, inputs) for name, content in stored.items()})
    assert not sandbox.activity()["downloads_with_key"]
    assert not re.search("authorization", "\n".join(elsewhere.heard), re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_that_a_command_leaves_holds_a_secret_at_debug_level(
    odd_sheet, sandbox, elsewhere, key, prefect_home, tmp_path
):
    """The true command: its output, Prefect's database and server log, the ledger, the bucket, the notification."""
    path, inputs = odd_sheet
    client = boto3.client("s3")
    client.create_bucket(Bucket="debug")
    client.upload_file(str(path), "debug", "in/sheet.csv")
    state = tmp_path / "state"
    hook = elsewhere.address.replace("http://", "json://") + f"/{HOOK}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")} | {
        "HOME": str(tmp_path / "home"),
        "XDG_STATE_HOME": str(state),
        "PREFECT_HOME": str(shutil.copytree(prefect_home, tmp_path / "prefect")),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
        "PREFECT_LOGGING_SERVER_LEVEL": "DEBUG",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "DEBUG",
        "PREFECT_DEBUG_MODE": "1",
        "REELSHEET_NOTIFY_URL": hook,
    }
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from reelsheet.cli import main; main()", "run"),
            *(f"{sandbox.s3}/debug/in/sheet.csv?{SIGNED}", "--to", "s3://debug/out"),
            *("--yes", "--json", "--deadline", "3", "--results", str(tmp_path / "again" / "results.csv")),
        ],
        capture_output=True,
        env=environment,
        cwd=tmp_path,
        timeout=380,
        check=False,
    )
    said = [line for line in done.stderr.decode().splitlines() if line.startswith("reelsheet:")]
    assert done.returncode in {1, 3}, said
    client.delete_object(Bucket="debug", Key="in/sheet.csv")
    left = {name: content for name, content in files_below(tmp_path).items() if name != "sheet.csv"}
    assert any(name.endswith("prefect.db") for name in left)
    assert any(name.endswith("ledger.db") for name in left)
    stored = objects_in("debug")
    kept = left | stored | {"stdout": done.stdout, "stderr": done.stderr}
    heard = "\n".join(elsewhere.heard).encode()
    assert HOOK.encode() in heard  # it was notified
    assert_nowhere(key, kept | {"elsewhere": heard})
    assert_nowhere(HOOK, kept)
    assert_nowhere(SIGNATURE, {name: without_input(name, content, inputs) for name, content in kept.items()})


async def test_a_run_whose_key_is_refused_does_not_quote_it(sandbox, key, whole_run, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    told = {"detail": [{"msg": f"Key {key} was revoked. Header was: Authorization: Bearer {key}"}]}
    sandbox.fault("submit", times=-1, answer={"status": 401, "body": told})
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"image,prompt\n{sandbox.pictures}/morning-mug.jpg,steam\n")
    with caplog.at_level(logging.DEBUG):
        finished = await whole_run(sheet, tmp_path / "out")
    assert finished.summary["exit_code"] == 3
    assert "was revoked" in finished.results[0].error
    logs = "\n".join(record.getMessage() for record in caplog.records)
    assert_nowhere(key, files_below(tmp_path) | {"log": logs.encode()})


def test_settings_and_their_errors_do_not_show_the_key(key, monkeypatch):
    from reelsheet import settings
    from reelsheet.errors import ConfigurationError

    monkeypatch.setenv("VIBEDREAM_API_KEY", key)
    monkeypatch.setenv("REELSHEET_NOTIFY_URL", f"slack://{HOOK}")
    told = settings.load()
    assert_nowhere(key, {"repr": f"{told!r} {told} {told.model_dump()}".encode()})
    assert_nowhere(HOOK, {"repr": f"{told!r} {told} {told.model_dump()}".encode()})
    monkeypatch.setenv("VIBEDREAM_BASE_URL", f"http://{key}@example.com")
    monkeypatch.setenv("REELSHEET_LEDGER_URL", f"postgresql://u:{key}@127.0.0.1:1/x")
    with pytest.raises(ConfigurationError) as wrong:
        settings.load()
    assert key not in str(wrong.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:{key}@127.0.0.1:1/x",
        "postgresql://u:{key}@[::bad/x",
        "postgresql://u:{key}@127.0.0.1:port/x",
        "postgresql://127.0.0.1:1/x?password={key}",
        "mysql://u:{key}@127.0.0.1/x",
        "sqlite://{key}",
        "{key}",
    ],
)
def test_a_ledger_that_cannot_be_opened_does_not_show_its_password(key, address):
    from reelsheet.errors import LedgerError
    from reelsheet.ledger import Ledger

    with pytest.raises(LedgerError) as wrong:
        Ledger.open(address.format(key=key))
    chain, error = "", wrong.value
    while error is not None:  # what a traceback would show
        chain += str(error)
        error = error.__cause__
    assert key not in str(wrong.value)
