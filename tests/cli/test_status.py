"""`status`: rows and money of a run that is running, finished or killed."""

import json

from reelsheet.cli import call
from reelsheet.ledger import Sheet

RUN = "20260115-120000-1f3a9c"


def test_without_any_run_status_says_so(ledger, capsys):
    assert call(["status"]) == 0
    assert "No runs yet" in capsys.readouterr().out
    assert call(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] is None


def test_status_tells_rows_and_money_of_a_running_run(ran, capsys):
    assert call(["status", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["run_id"], output["state"], output["alive"], output["rows"]) == (RUN, "running", True, 3)
    assert output["counts"] == {"succeeded": 1, "unknown": 1, "invalid": 1}
    assert (output["cost_usd"], output["reserved_usd"], output["at_risk_usd"], output["cap_usd"]) == (
        0.54,
        0.0,
        0.54,
        2.0,
    )
    assert [(day["cost_usd"], day["at_risk_usd"]) for day in output["days"]] == [(0.54, 0.54)]


def test_status_of_a_finished_run_counts_its_rows_as_they_are_now(ran, ledger, capsys):
    ledger.finish_run(RUN, exit_code=1, summary={"succeeded": 2, "failed": 0, "invalid": 1})
    assert call(["status", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["state"], output["exit_code"], output["counts"]) == (
        "finished",
        1,
        {"succeeded": 1, "unknown": 1, "invalid": 1},
    )


def test_status_of_a_killed_run_says_so_and_fits_the_screen(killed, capsys):
    assert call(["status", RUN[:10]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "killed" in lines[0]
    assert all(len(line) <= 80 for line in lines if not line.startswith(("  From", "  To")))
    assert not any("resolve" in line for line in lines[:-3])


def test_unknown_rows_are_named_with_the_command_that_settles_them(killed, ids, capsys):
    command = f"reelsheet resolve {ids[1][:8]} --id PREDICTION"
    for words in ([], [RUN]):
        assert call(["status", *words]) == 0
        *_, about, last = capsys.readouterr().out.splitlines()
        assert last.strip() == command
        assert "dress, line 3" in about
    assert call(["status", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["unknown_rows"]
    assert (row["command"], row["name"], row["line"], row["at_risk_usd"]) == (command, "dress", 3, 0.54)


def test_a_claim_that_a_dead_run_left_is_named_and_another_runs_row_only_without_a_run(
    killed, ledger, registers, expires, opened_again, capsys
):
    other, identity = opened_again(), "0" * 64
    registers(other, "20260116-120000-dead", destination="/d", rows=1, options={"base_url": "https://other.test"},
              sheet=Sheet((2,), ("lamp",), (identity,)))  # fmt: skip
    other.claim(identity, run_id="20260116-120000-dead", price_cents=54)
    expires(ledger, other)
    assert call(["status"]) == 0
    assert "VIBEDREAM_BASE_URL=https://other.test reelsheet resolve 00000000 --id" in capsys.readouterr().out
    assert call(["status", RUN]) == 0
    assert "lamp" not in capsys.readouterr().out


def test_a_run_that_is_not_there_is_a_sentence(ran, capsys):
    assert call(["status", "2031"]) == 2
    assert RUN in capsys.readouterr().err
    ran("20260115-120000-2b0000")
    assert call(["status", "20260115"]) == 2
    assert "several runs" in capsys.readouterr().err
