"""`resolve`: which row is meant, and what settles it."""

import json

import pytest

from reelsheet.cli import call
from reelsheet.ledger import Sheet

RUN = "20260115-120000-1f3a9c"


@pytest.mark.parametrize("flags", [[], ["--id", "pred-x", "--abandon"]])
def test_resolve_wants_either_an_id_or_abandon(ran, capsys, flags):
    assert call(["resolve", "dress", *flags]) == 2
    assert "--id PREDICTION, or --abandon" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["identity", "beginning", "upper", "name", "line", "row"])
def test_a_row_is_named_by_identity_name_or_line(ran, ledger, ids, capsys, way):
    later = ran("20260116-120000-aaaaaa")
    row = {
        "identity": ids[1], "beginning": ids[1][:8], "upper": ids[1][:12].upper(), "name": "Dress",
        "line": f"{later}:3", "row": "row 3",
    }[way]  # fmt: skip
    assert call(["resolve", row, "--id", "pred-dress", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["identity"], output["state"], output["attempt"]) == (ids[1], "submitted", 1)
    assert (output["total_cost_usd"], output["at_risk_usd"]) == (0.54, 0.0)
    assert "at no cost" in output["next"]
    assert ledger.history(ids[1]).latest.prediction_id == "pred-dress"


def test_an_abandoned_row_is_at_risk_no_more(ran, ledger, ids, capsys):
    assert call(["resolve", "dress", "--abandon"]) == 0
    assert "never charged" in capsys.readouterr().out
    assert ledger.run(RUN).at_risk_cents == 0
    assert ledger.history(ids[1]).is_free


@pytest.mark.parametrize("wrong", ["", "../etc", "a b", "x" * 201, "-"])
def test_what_is_no_id_settles_nothing(ran, ledger, ids, capsys, wrong):
    code = call(["resolve", "dress", f"--id={wrong}"])
    if wrong == "-":  # an odd id is still one
        assert code == 0
        return
    assert code == 2
    assert "cannot be a prediction id" in capsys.readouterr().err
    assert ledger.run(RUN).at_risk_cents == 54


@pytest.mark.parametrize(
    ("row", "output"),
    [("mug", "paid for as prediction pred-mug"), ("nobody", "knows no row"), (f"{RUN}:9", "no row in line 9")],
)
def test_a_row_that_is_not_unknown_says_how_it_stands(ran, capsys, row, output):
    assert call(["resolve", row, "--abandon"]) == 2
    assert output in capsys.readouterr().err


def test_a_name_that_fits_several_unknown_rows_says_which(ledger, ids, registers, capsys):
    registers(ledger, RUN, rows=2, sheet=Sheet((2, 3), ("dress", "dress"), tuple(ids)))
    for identity in ids:
        ledger.record_unknown(ledger.claim(identity, run_id=RUN, price_cents=54).attempt, "lost")
    assert call(["resolve", "dress", "--abandon"]) == 2
    output = capsys.readouterr().err
    assert all(identity[:8] in output for identity in ids)
    assert ledger.run(RUN).at_risk_cents == 108


def test_a_row_of_a_killed_process_can_be_settled(ran, ledger, ids, expires, capsys):
    ledger.resolve(ids[1], None)
    ledger.claim(ids[1], run_id=RUN, price_cents=54)
    expires(ledger, ledger)
    assert call(["resolve", ids[1], "--id", "pred-late"]) == 0
    assert ledger.history(ids[1]).latest.prediction_id == "pred-late"
