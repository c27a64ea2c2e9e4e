"""A sheet that has nothing to send, poll or copy: the results are written without a Prefect server."""

import asyncio
import csv
import json

import pytest

from reelsheet.cli import call, execute
from reelsheet.surroundings import prefect_setup


@pytest.fixture(autouse=True)
def no_configured_server(monkeypatch, tmp_path):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


@pytest.fixture
def no_prefect(monkeypatch):
    """Neither a server nor a flow may be started."""
    monkeypatch.setattr("flows.embedded_server.EmbeddedServer._spawn", None)
    monkeypatch.setattr(execute, "_flow", None)


def run(bench, capsys, *words, verb="run"):
    """Exit code and summary of the command."""
    target = (str(bench.folder / "sheet.csv"), "--to", str(bench.destination)) if verb == "run" else ()
    code = call([verb, *target, *words, "--yes", "--json"])
    shown = capsys.readouterr()
    assert shown.out, shown.err
    summary = json.loads(shown.out)
    assert summary == json.loads((bench.destination / "runs" / summary["run_id"] / "summary.json").read_text())
    assert (bench.destination / "runs" / summary["run_id"] / "gallery.html").exists()
    assert summary["exit_code"] == code
    return code, summary


def statuses(bench):
    with (bench.destination / "results.csv").open(newline="", encoding="utf-8") as file:
        return [row["status"] for row in csv.DictReader(file)]


def test_a_finished_sheet_again(bench, capsys, no_prefect):
    asyncio.run(bench.deliver(bench.sheet(["one", "two"])))
    code, summary = run(bench, capsys)
    assert (code, summary["succeeded"], summary["reused"], summary["cost_usd"]) == (0, 2, 2, 0.0)
    assert summary["flow_run_id"] is None
    assert statuses(bench) == ["succeeded", "succeeded"]
    assert len(bench.sandbox.charges()) == 2


def test_a_retry_of_a_finished_destination(bench, capsys, no_prefect):
    asyncio.run(bench.deliver(bench.sheet(["one"])))
    code, summary = run(bench, capsys, str(bench.destination), verb="retry")
    assert (code, summary["succeeded"]) == (0, 1)


def test_rows_that_failed_before_are_reported(bench, capsys, no_prefect):
    bench.sandbox.fault("submit", prompt="bad", fail="it did not work")
    asyncio.run(bench.deliver(bench.sheet(["good", "bad"])))
    code, summary = run(bench, capsys)
    assert (code, summary["succeeded"], summary["failed"]) == (1, 1, 1)


def test_a_lost_answer_is_reported_and_not_sent_again(bench, capsys, no_prefect):
    bench.sandbox.fault("submit", prompt="lost", close="after", charged=True)
    asyncio.run(bench.deliver(bench.sheet(["lost"])))
    code, summary = run(bench, capsys)
    assert (code, summary["unknown"], summary["at_risk_usd"]) == (1, 1, 0.54)
    assert len(bench.sandbox.charges()) == 1


def test_a_sheet_in_which_no_row_can_work(bench, capsys, no_prefect):
    (bench.folder / "sheet.csv").write_text("image,prompt\n,a\nftp://x/y.jpg,b\n")
    code, summary = run(bench, capsys)
    assert (code, summary["invalid"]) == (1, 2)


def test_a_server_that_was_started_for_rows_that_then_proved_useless_is_not_waited_for(bench, capsys, monkeypatch):
    """The ledger shows work; the pictures turn out not to be there."""
    started = []
    monkeypatch.setattr("flows.embedded_server.EmbeddedServer.start", lambda _: started.append(1))
    monkeypatch.setattr("flows.embedded_server.EmbeddedServer.ready", None)
    monkeypatch.setattr(execute, "_flow", lambda _verb: None)
    (bench.folder / "sheet.csv").write_text(f"image,prompt\n{bench.sandbox.pictures}/no-such-picture.jpg,a\n")
    code, summary = run(bench, capsys)
    assert (code, summary["invalid"], len(started)) == (1, 1, 1)


def test_a_configured_server_is_shown_the_run(bench, capsys, monkeypatch):
    asyncio.run(bench.deliver(bench.sheet(["one"])))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")

    async def flow(**parameters):
        raise LookupError(parameters["manifest"])

    monkeypatch.setattr(execute, "_flow", lambda _verb: flow)
    monkeypatch.setattr(prefect_setup, "server_in_time", list)  # it works
    assert call(["run", str(bench.folder / "sheet.csv"), "--to", str(bench.destination), "--yes"]) == 3
    assert "LookupError" in capsys.readouterr().err


def test_a_configured_server_that_does_not_work_is_a_warning(bench, capsys, monkeypatch):
    asyncio.run(bench.deliver(bench.sheet(["one"])))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")  # nor does what only a run with work needs
    monkeypatch.setenv("TZ", "Mars/Olympus")
    for name in ("NO_PROXY", "no_proxy"):  # the command adds this machine's names
        monkeypatch.setenv(name, "")
    assert call(["run", str(bench.folder / "sheet.csv"), "--to", str(bench.destination), "--yes"]) == 0
    said = capsys.readouterr().err
    assert "has nothing to do, and is not shown in Prefect" in said
    assert "Traceback" not in said
