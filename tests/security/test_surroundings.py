"""What stands around a run: terminals that obey, proxies that listen, processes that need no key."""

import csv
import json
import os
import unicodedata

import pytest

from reelsheet import cli
from reelsheet.provider.client import Provider
from reelsheet.provider.prediction import Phase
from reelsheet.settings import Settings

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b2J\x07\x08\x7f"
BIDI = "\u202egpj.exe\u202c\u200b\u2066"
HOSTILE = f"a{ESCAPES}b{BIDI}c"


def assert_harmless(text: str) -> None:
    for line in text.split("\n"):
        found = [character for character in line if unicodedata.category(character) in {"Cc", "Cf", "Cs"}]
        assert not found, f"{found!r} in {line!r}"


@pytest.fixture
def hostile_sheet(tmp_path):
    """Signs that a terminal obeys in the file's name, in every column's name and in every cell."""
    path = tmp_path / f"sheet{ESCAPES.replace('/', '')}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt", "id", "take", f"note{HOSTILE}"])
        writer.writerow(["https://shop.test/a.jpg", f"rise{BIDI}", f"mug{BIDI}", "1", HOSTILE])
        writer.writerow([f"https://shop.test/{HOSTILE}.jpg", HOSTILE, HOSTILE, HOSTILE, HOSTILE])
        writer.writerow([f"ftp://{HOSTILE}", "x", "y", HOSTILE, ""])
        writer.writerow(["https://shop.test/b.jpg", "x" * 3000 + HOSTILE, f"{BIDI}", "2", ""])
    return path


@pytest.mark.parametrize(
    "more", [(), ("--json",), ("--name", "{id}"), ("--image-column", HOSTILE), ("--sheet", HOSTILE)]
)
def test_nothing_that_a_terminal_obeys_comes_out_of_a_plan(hostile_sheet, capsys, sandbox, more):
    cli.call(["plan", str(hostile_sheet), "--no-preflight", *more])
    said = capsys.readouterr()
    assert said.out or said.err
    assert_harmless(said.err)
    if "--json" in more:
        json.loads(said.out)
        assert said.out.isascii()  # for programs: control characters are escaped
    assert_harmless(said.out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", f"nowhere{HOSTILE}.csv"],
        ["plan", f"s3://{HOSTILE}/x.csv"],
        ["plan", f"https://{HOSTILE}/x.csv"],
        ["run", "x.csv", "--to", HOSTILE],
        ["run", "x.csv", "--to", f"s3://{HOSTILE}", "--yes"],
        ["retry", HOSTILE, "--yes"],
        ["resolve", HOSTILE, "--abandon"],
        ["status", HOSTILE],
        ["report", HOSTILE],
        [HOSTILE],
        ["plan", f"--{HOSTILE}"],
        ["run", "x.csv", "--max-cost", HOSTILE],
        ["run", "x.csv", "--limit", HOSTILE],
    ],
)
def test_nothing_that_a_terminal_obeys_comes_back_from_an_argument(arguments, capsys, sandbox, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.call(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("reelsheet: ")
    assert_harmless(said.err + said.out)


async def test_over_http_no_proxy_is_told_the_key(sandbox, elsewhere, monkeypatch):
    """Plain http is for this machine only; a proxy would read the key."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, elsewhere.address)
    async with Provider(Settings(api_key=sandbox.key, base_url=sandbox.api)) as provider:
        assert (await provider.poll("0")).phase is Phase.MISSING
    assert elsewhere.heard == []


@pytest.mark.parametrize("before", ["", "internal.test, 10.0.0.0/8", "*"])
def test_a_proxy_is_not_asked_for_this_machine(before, monkeypatch, capsys):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", before)
    cli.call(["plan", "nowhere.csv"])
    direct = os.environ["no_proxy"].split(",")
    assert direct == ["*"] or {"127.0.0.1", "localhost", *filter(None, before.split(", "))} <= set(direct)
    assert capsys.readouterr().err


def test_the_embedded_server_s_process_is_given_no_keys(monkeypatch):
    from flows import embedded_server

    for name in ("VIBEDREAM_API_KEY", "AWS_SECRET_ACCESS_KEY", "REELSHEET_NOTIFY_URL", "PREFECT_HOME"):
        monkeypatch.setenv(name, "x")
    assert "PREFECT_HOME" in embedded_server._without_keys()
    assert not any(name.startswith(("VIBEDREAM", "AWS_", "REELSHEET")) for name in embedded_server._without_keys())
