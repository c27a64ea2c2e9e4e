"""Rows that --where does not choose are not paid for, keep what they have, and are no part of the wish."""

import asyncio
import csv
import signal

import pytest

from reelsheet import settings
from reelsheet.ledger import Ledger
from reelsheet.run.rebuild import load_run
from reelsheet.run.resumption import resumed_preparation

PROMPTS = ["one", "two", "three", "four"]


@pytest.fixture
def sheet(bench):
    """Four rows; the column `a` is 1 for the first two, and 2 for the others."""
    path = bench.sheet(PROMPTS)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "a"])
        writer.writeheader()
        writer.writerows(row | {"a": 1 + n // 2} for n, row in enumerate(rows))
    return path


def one(*conditions):
    return {"where": conditions}


async def test_rows_that_are_not_chosen_are_skipped_and_do_not_count_for_the_exit_code(bench, sheet):
    done = await bench.deliver(sheet, **one("A=1", "sku!=row-1"))
    assert bench.charged() == {"one": 1}
    assert done.statuses() == ["succeeded", "skipped", "skipped", "skipped"]
    assert done.codes() == ["", *["not_chosen"] * 3]
    assert "--where" in done.results[1].error
    assert done.exit_code == 0
    done = await bench.deliver(sheet, **one("a=2"))
    assert done.statuses() == ["succeeded", "skipped", "succeeded", "succeeded"]
    assert (bench.charged(), done.exit_code) == ({"one": 1, "three": 1, "four": 1}, 0)


async def test_where_no_row_is_chosen_there_is_nothing_to_do(bench, sheet):
    done = await bench.deliver(sheet, **one("error_code=moderated"))
    assert (done.exit_code, done.codes(), bench.charged()) == (0, ["not_chosen"] * 4, {})


async def test_retry_and_run_leave_such_rows_of_a_results_file_until_they_are_chosen(bench, sheet):
    await bench.deliver(sheet, **one("a=1"))
    for verb in ("retry", "run"):
        done = await bench.deliver(bench.destination / "results.csv", verb=verb, destination=str(bench.destination))
        assert (done.codes(), done.exit_code) == (["", "", "not_chosen", "not_chosen"], 0)
    done = await bench.deliver(bench.destination, verb="retry", **one("error_code=not_chosen", "sku=row-3"))
    assert done.statuses() == ["succeeded", "succeeded", "skipped", "succeeded"]
    assert bench.charged() == {"one": 1, "two": 1, "four": 1}


@pytest.mark.charges(2)
async def test_only_rows_that_were_refused_for_one_reason_are_tried_again(bench, sheet):
    bench.sandbox.fault("submit", prompt="one", fail="the queue broke down", times=1)
    flagged = {"status": 400, "body": {"error": {"code": "content_policy_violation", "message": "flagged"}}}
    bench.sandbox.fault("submit", prompt="two", answer=flagged, times=1)
    first = await bench.deliver(sheet)
    assert first.codes()[:2] == ["generation_failed", "moderated"]
    done = await bench.deliver(bench.destination, verb="retry", **one("error_code=moderated"))
    assert done.statuses() == ["failed", "succeeded", "succeeded", "succeeded"]
    assert done.exit_code == 0, "the failed row was not chosen"
    assert done.results[0].error == first.results[0].error
    done = await bench.deliver(sheet, fresh=True, **one("status=failed"))
    assert bench.charged() == {"one": 2, "two": 1, "three": 1, "four": 1}


async def test_a_row_that_was_refused_keeps_its_verdict(bench, sheet):
    bench.sandbox.fault("submit", prompt="one", answer={"status": 422}, times=1)
    first = await bench.deliver(sheet, **one("sku=row-0"))
    done = await bench.deliver(sheet, **one("sku=row-1"))
    assert (done.statuses()[:2], done.codes()[:2]) == (["failed", "succeeded"], ["rejected", ""])
    assert done.results[0].error == first.results[0].error
    assert done.exit_code == 0
    done = await bench.deliver(bench.destination, verb="retry")
    assert done.codes() == ["", "", "not_chosen", "not_chosen"], "it failed, so a plain retry tries it again"


async def test_a_report_of_the_run_says_the_same(bench, sheet):
    done = await bench.deliver(sheet, **one("a=2", "prompt!=four"))
    current = settings.load()
    ledger = Ledger.open(current.ledger_url)
    try:
        again = load_run(ledger.run(done.run.run_id), ledger, current)
        results = again.results()
        again.close()
        assert again.exit_code(results) == done.exit_code == 0
    finally:
        ledger.close()
    assert [(r.status, r.error_code, r.error) for r in results] == [
        (r.status, r.error_code, r.error) for r in done.results
    ]


async def stopped(bench, source, **command):
    """The command, interrupted as soon as one row is charged; how many were charged by then."""

    async def stopping(run):
        before = len(bench.sandbox.charges())
        while len(bench.sandbox.charges()) == before:
            await asyncio.sleep(0.02)
        run.stops.interrupt(signal.SIGINT)

    bench.sandbox.settings(latency=0.3)
    done = await bench.deliver(source, meanwhile=stopping, concurrency=1, **command)
    assert done.exit_code == 130
    bench.sandbox.settings(latency=0.0)
    return done


@pytest.mark.charges(2)
@pytest.mark.parametrize("other", ["a=2", "a=1"])
async def test_another_condition_in_between_does_not_end_the_wish(bench, sheet, other):
    await bench.deliver(sheet)
    first = await stopped(bench, sheet, fresh=True, max_cost_usd=9, **one("a=1"))
    done = await bench.deliver(sheet, fresh=True, max_cost_usd=9, **one(other, "prompt!=two"))
    assert done.exit_code == 0
    done = await bench.deliver(sheet, fresh=True, max_cost_usd=9, **one("a=1"))
    assert done.run.context.record.continues == first.run.run_id
    assert done.exit_code == 0
    assert bench.charged() == {"one": 2, "two": 2} | dict.fromkeys(("three", "four"), 2 if other == "a=2" else 1)


@pytest.mark.charges(3)
async def test_the_wish_ends_with_the_rows_that_it_chose(bench, sheet):
    await bench.deliver(sheet)
    await stopped(bench, sheet, fresh=True, max_cost_usd=9, **one("a=1"))
    for _ in range(2):
        done = await bench.deliver(sheet, fresh=True, max_cost_usd=9, **one("a=1"))
        assert done.exit_code == 0
    assert bench.charged() == {"one": 3, "two": 3, "three": 1, "four": 1}


async def test_a_run_of_another_condition_is_not_continued(bench, sheet):
    first = await stopped(bench, sheet, **one("a=1"))
    done = await bench.deliver(sheet, **one("a=2"))
    assert done.run.context.record.continues is None
    done = await bench.deliver(sheet, **one("a=1"))
    assert done.run.context.record.continues == first.run.run_id
    assert bench.charged() == dict.fromkeys(PROMPTS, 1)


@pytest.mark.charges(2)
async def test_rows_that_an_interrupted_run_chose_by_their_results_are_chosen_again(bench, sheet):
    """It has written other results of them meanwhile."""
    for prompt in PROMPTS[:3]:
        bench.sandbox.fault("submit", prompt=prompt, fail="the queue broke down", times=1)
    assert (await bench.deliver(sheet)).statuses() == ["failed", "failed", "failed", "succeeded"]
    command = {"verb": "retry", **one("status=failed", "sku!=row-2")}
    await stopped(bench, bench.destination, **command)
    done = await bench.deliver(bench.destination, **command)
    assert done.statuses() == ["succeeded", "succeeded", "failed", "succeeded"]
    assert bench.charged() == {"one": 2, "two": 2, "three": 1, "four": 1}
    done = await bench.deliver(bench.destination, **command)
    assert (done.exit_code, sum(bench.charged().values())) == (0, 6)


async def test_a_condition_on_the_sheet_is_read_as_the_sheet_is_now(bench, sheet):
    await stopped(bench, sheet, **one("a=1", "status="))
    sheet.write_text(sheet.read_text().replace("two,1", "two,2"))
    done = await bench.deliver(sheet, **one("a=1", "status="))
    assert bench.charged() == {"one": 1}
    assert done.codes() == ["", *["not_chosen"] * 3]


async def test_a_run_that_prefect_continues_keeps_its_choice(bench, sheet):
    flow_run = "5f0c1d1e-0000-0000-0000-000000000007"
    await bench.deliver(sheet, flow_run_id=flow_run, max_cost_usd=0, **one("a=1"))
    sheet.write_text(sheet.read_text().replace(",1", ",3").replace(",2", ",1"))
    prepared = await asyncio.to_thread(resumed_preparation, flow_run, settings.load())
    try:
        assert prepared.options.where == ("a=1",)
        assert [group.row.prompt for group in prepared.plan.at_step("submit")] == ["one", "two"]
    finally:
        prepared.close()
