"""Runs are found by id, keep their rows, and stay themselves when a flow run is repeated."""

from reelsheet.ledger import Known, OverBudget, Sheet


def test_the_same_flow_run_is_the_same_run_with_its_money_and_cap(process, registers):
    first = registers(process.ledger, "f1", flow_run_id="flow", cap_cents=54)
    attempt = process.ledger.claim("a", run_id="f1", price_cents=54).attempt
    process.ledger.record_id(attempt, "p", 54)
    process.ledger.finish_run("f1", exit_code=3, summary={})
    again = registers(process.ledger, "f2", flow_run_id="flow", cap_cents=10_000, permissions={"a": 1})
    assert (again.run_id, again.cap_cents, again.finished_at) == (first.run_id, 54, None)
    assert isinstance(process.ledger.claim("a", run_id="f1", price_cents=54), Known)  # a retry gives no new permission
    assert process.ledger.claim("b", run_id="f1", price_cents=54) == OverBudget("run", 54)


def test_a_run_is_found_by_the_beginning_of_its_id(process, registers):
    registers(process.ledger, "20260115-120000-1f3a9c")
    registers(process.ledger, "20260115-120000-2b3a9c")
    assert process.ledger.run("20260115-120000-1").run_id == "20260115-120000-1f3a9c"
    assert process.ledger.run("20260115") is None


def test_a_runs_rows_are_kept(process, registers):
    sheet = Sheet((2, 3), ("mug", "Tässe"), ("a", ""))
    registers(process.ledger, "s1", sheet=sheet)
    assert process.ledger.sheet("s1") == sheet
    assert process.ledger.sheet("r1") is None
