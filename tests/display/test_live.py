"""What people see of a run: the tally, the live display, the closing lines."""

import asyncio
import io
import os
import pty
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.display import closing, live
from reelsheet.display.tally import Tally
from reelsheet.ledger import Attempt, Delivery, IdentityHistory, State
from reelsheet.ledger.pace_history import ObservedPace
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.pacing.congestion_window import CongestionWindow
from reelsheet.pacing.gate import Gate
from reelsheet.pacing.poll_schedule import PollSchedule
from reelsheet.planning.plan import Plan, RowGroup, RowOutcome, Step
from reelsheet.results.publication import Files
from reelsheet.run.row_status import Stage
from reelsheet.run.run import RunMonitor
from reelsheet.run.stop_control import StopControl
from reelsheet.storage.stored_object import Link

RUN = "20260115-120000-abcdef"
ESCAPE = "\x1b[31mred\x1b[2J"


def attempt(identity: str, state: State, *, number: int = 1, run_id: str = RUN) -> Attempt:
    return Attempt(
        1,
        identity,
        number,
        state,
        None,
        run_id,
        "2026-01-15",
        54,
        error="It failed." if state == State.FAILED else None,
    )


def group(n: int, step: Step = Step.SUBMIT, state: State | None = None, positions: tuple[int, ...] = ()) -> RowGroup:
    identity = f"{n:064x}"
    history = IdentityHistory((attempt(identity, state),)) if state else None
    return RowGroup(identity, Row(n, n + 2, id=f"S{n}"), list(positions or (n,)), step=step, history=history)


def plan_of(*groups: RowGroup, invalid: int = 0) -> Plan:
    count = sum(len(w.positions) for w in groups) + invalid
    rows = tuple(Row(n, n + 2) for n in range(count))
    return Plan(
        Manifest("sheet.csv", text_frame(["image"], [[""]] * count), rows, {"image": 0}),
        {w.identity: w for w in groups},
        54,
    )


# The tally


def test_a_tally_follows_what_was_touched_and_nothing_else():
    waiting_one, done = group(0), group(1, Step.DONE, State.COMPLETED)
    tally = Tally(plan_of(waiting_one, done, invalid=1), RUN)
    assert dict(+tally.rows) == {Stage.WAITING: 1, Status.SUCCEEDED: 1, Status.INVALID: 1}
    waiting_one.in_flight = True
    tally.update([])
    assert tally.rows[Stage.GENERATING] == 0
    tally.update([waiting_one.identity])
    assert tally.rows[Stage.GENERATING] == 1


def test_a_touched_row_is_followed_until_it_rests():
    one = group(0)
    tally = Tally(plan_of(one), RUN)
    one.in_flight, one.history = True, IdentityHistory((attempt(one.identity, State.SUBMITTED),))
    tally.update([one.identity])
    assert (tally.rows[Stage.GENERATING], tally.spent_cents) == (1, 54)
    one.in_flight, one.step = False, Step.COPY
    tally.update([])
    assert tally.rows[Stage.COPYING] == 1
    one.step = Step.DONE
    tally.update([])
    assert (tally.delivered, tally.unfinished) == (1, 0)


def test_errors_of_this_run_are_kept_and_those_before_it_are_not():
    before, now = group(0, Step.REPORT, State.FAILED), group(1)
    tally = Tally(plan_of(before, now), RUN)
    assert not tally.errors
    now.set_outcome(Status.FAILED, ErrorCode.MODERATED, "Flagged.")
    tally.update([now.identity])
    assert list(tally.errors) == [("S1", "Flagged.")]
    assert tally.troubles == 1


def test_money_of_other_runs_is_not_counted_and_risk_stands_by_itself():
    old = group(0)
    old.history = IdentityHistory((attempt(old.identity, State.COMPLETED, run_id="earlier"),))
    lost = group(1, Step.REPORT, State.UNKNOWN)
    tally = Tally(plan_of(old, lost), RUN)
    assert (tally.spent_cents, tally.risk_cents) == (0, 54)


STEPS = st.sampled_from(list(Step))
STATES = st.sampled_from([None, *State])


@given(st.lists(st.tuples(STEPS, STATES, st.booleans(), st.integers(1, 3)), max_size=8), st.data())
def test_a_tally_that_follows_changes_equals_one_that_counts_anew(rows, data):
    """Whatever happens to the works, in any order, as long as what changes was touched or on its way."""
    groups, position = [], 0
    for n, (step, state, _, size) in enumerate(rows):
        groups.append(group(n, step, state, tuple(range(position, position + size))))
        position += size
    drawn = plan_of(*groups)
    tally = Tally(drawn, RUN)
    for _ in range(3):
        changed = data.draw(st.lists(st.sampled_from(groups), max_size=4)) if groups else []
        for one in changed:
            one.step = data.draw(STEPS)
            one.in_flight = data.draw(st.booleans())
            state = data.draw(STATES)
            one.history = IdentityHistory((attempt(one.identity, state),)) if state else None
            status = data.draw(st.sampled_from([None, *Status]))
            one.outcome = RowOutcome(status, None, "") if status else None
        tally.update(one.identity for one in changed)
    tally.update(one.identity for one in groups)
    fresh = Tally(drawn, RUN)
    fresh.update(one.identity for one in groups)
    assert +tally.rows == +fresh.rows
    assert (tally.spent_cents, tally.risk_cents) == (fresh.spent_cents, fresh.risk_cents)
    assert sum(tally.rows.values()) == tally.total


# The live display


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def running(drawn: Plan, clock: Clock, *, cap: int | None = 1000) -> RunMonitor:
    """What the display reads of a run."""
    options = SimpleNamespace(where=(), pictures=None)
    context = SimpleNamespace(plan=drawn, run_id=RUN, record=SimpleNamespace(cap_cents=cap), options=options)
    gate, schedule = Gate(CongestionWindow(clock=clock)), PollSchedule(clock=clock)
    return RunMonitor(context, StopControl(gate.close), gate, schedule, clock())


def test_the_display_shows_rows_money_pace_and_the_last_errors():
    clock = Clock()
    one, two = group(0), group(1)
    run = running(plan_of(one, two, group(2), invalid=1), clock)
    view = live.View(run, clock=clock)
    one.in_flight, one.history = True, IdentityHistory((attempt(one.identity, State.SUBMITTED),))
    two.set_outcome(Status.FAILED, ErrorCode.MODERATED, "Flagged.")
    run.touched = {one.identity, two.identity}
    clock.now += 10
    view.update()
    text = "\n".join(live.lines(view, 80))
    assert "2 of 4 rows" in text
    assert "1 generating · 1 waiting · 1 failed · 1 invalid" in text
    assert "$0.54 spent · cap $10.00" in text
    assert "10 s so far" in text
    assert "✗ S1: Flagged." in text
    assert run.touched == set()


def test_rows_that_share_a_clip_are_counted_as_one_clip_in_flight():
    clock = Clock()
    one, two = group(0, positions=(0, 2)), group(1)
    run = running(plan_of(one, two), clock)
    view = live.View(run, clock=clock)
    assert "3 waiting (2 clips)" in live.line(view)
    one.in_flight = two.in_flight = True
    run.touched = {one.identity, two.identity}
    view.update()
    assert "3 generating (2 clips)" in live.line(view)
    assert "2 at once" in live.line(view)
    one.step = two.step = Step.DONE
    one.in_flight = two.in_flight = False
    one.history = two.history = delivered(one.identity)
    view.update()
    assert live.line(view).startswith("3 delivered ·")


def test_no_line_of_the_display_is_wider_than_the_terminal():
    clock = Clock()
    one = group(0)
    run = running(plan_of(one), clock)
    view = live.View(run, clock=clock)
    one.set_outcome(Status.FAILED, None, "word " * 100 + ESCAPE)
    run.touched = {one.identity}
    view.update()
    for columns in (40, 80, 200):
        lines = live.lines(view, columns)
        assert all(len(line.rstrip()) <= columns for line in lines)
        assert "\x1b[2J" not in "".join(lines)


def test_a_wait_that_keeps_no_place_empty_does_not_hide_the_time_left():
    clock = Clock()
    run = running(plan_of(*(group(n) for n in range(4))), clock)
    view = live.View(run, ObservedPace(30.0, 1), clock)
    for answer in (run.gate.pace.accepted, lambda: run.gate.pace.refused(20.0)):
        run.gate.pace.sent()
        answer()
    assert "1 of about 1 at once · about 2 min left" in view.pace()
    run.gate.pace.finished()
    assert "the provider asks to wait" in view.pace()


def test_the_bar_is_no_wider_than_80_columns():
    clock = Clock()
    view = live.View(running(plan_of(group(0)), clock), clock=clock)
    for columns, width in ((40, 40), (80, 80), (200, 80)):
        bar = live.lines(view, columns)[0]
        assert bar.endswith("0 of 1 rows")
        assert len(bar) == width


def test_no_time_is_left_when_nothing_new_is_sent():
    clock = Clock()
    run = running(plan_of(group(0)), clock)
    view = live.View(run, ObservedPace(30.0, 1), clock)
    assert view.seconds_left == 30
    assert "about 30 s left" in view.pace()
    run.stops.stop_over_budget("The cap is reached.")
    assert view.seconds_left is None
    assert "nothing new is sent" in view.pace()


def test_the_rate_is_of_the_last_minutes():
    clock = Clock()
    groups = [group(n) for n in range(100)]
    run = running(plan_of(*groups), clock)
    view = live.View(run, clock=clock)
    for one in groups[:30]:
        clock.now += 2
        one.step = Step.DONE
        run.touched.add(one.identity)
        view.update()
    assert round(view.per_minute) == 30
    assert view.seconds_left == pytest.approx(70 / 30 * 60, rel=0.05)


def test_a_log_gets_plain_lines():
    clock = Clock()
    view = live.View(running(plan_of(group(0, Step.DONE, State.COMPLETED)), clock), clock=clock)
    assert live.line(view) == "1 delivered · $0.54 spent · cap $10.00 · 0 at once · 0 s so far"


def all_that_was_written(screen_end: int) -> str:
    """What came through a terminal whose other end is closed; closes this one. It comes in pieces."""
    seen = b""
    with os.fdopen(screen_end, "rb", buffering=0) as screen, suppress(OSError):  # the other end is gone: no more comes
        while piece := screen.read(65536):
            seen += piece
    return seen.decode()


async def test_the_display_ends_when_it_is_cancelled_and_leaves_no_line_open(monkeypatch):
    screen_end, end = pty.openpty()
    clock = Clock()
    one = group(0)
    with os.fdopen(end, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", "xterm-256color")
        watching = asyncio.create_task(
            live.watch(SimpleNamespace(run=SimpleNamespace(monitor=running(plan_of(one), clock))))
        )
        await asyncio.sleep(0.4)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    seen = all_that_was_written(screen_end)
    assert "1 waiting" in seen
    assert "\x1b[?25l" not in seen
    assert seen.endswith("\x1b[J\r\x1b[K")


# The closing lines


def ended(**counts) -> dict:
    empty = dict.fromkeys(("succeeded", "failed", "undelivered", "unknown", "skipped", "invalid", "reused"), 0)
    told = {**empty, **counts}
    rows = sum(told[str(status)] for status in Status)
    return {"rows": rows, "cost_usd": 2.7, "at_risk_usd": 0.0, "wasted_usd": 0.0, "seconds": 64.0, **told}


def last_lines(
    summary: dict,
    *groups: RowGroup,
    stopping: ErrorCode | None = None,
    fallback: str = "",
    link=None,
    destination: str = "s3://clips/spring sale",
    chosen: dict | None = None,
    **options,
) -> str:
    monitor = running(plan_of(*groups), Clock())
    monitor.context.destination = SimpleNamespace(address=destination)
    vars(monitor.context.options).update(options)
    monitor.chosen = chosen and SimpleNamespace(rows=chosen["rows"], as_json=lambda: chosen)
    monitor.files = Files("F", "s3://clips/r.csv", "s3://clips/g.html", fallback, link=link)
    if stopping:
        monitor.stops.stop_quietly(stopping, "The key was refused.")
    stream = io.StringIO()
    closing.show_closing(monitor, summary, stream)
    return stream.getvalue()


def test_the_last_lines_say_what_was_made_what_it_cost_and_where_it_is():
    text = last_lines(ended(succeeded=5, reused=2))
    assert text.splitlines() == [
        "5 rows: 5 succeeded (2 without paying again) in 1 min 4 s",
        "$2.70 spent in this run",
        "Results  s3://clips/r.csv",
        "Gallery  s3://clips/g.html",
        "Copy     reelsheet fetch 's3://clips/spring sale'  (clips, results and gallery onto this machine)",
        f"Review   reelsheet retry review-{RUN}.csv --where review=redo",
        "         makes again what you mark Redo in the gallery; its Download review saves this file",
    ]


def test_a_folder_needs_no_copy_and_its_clips_can_be_reviewed():
    text = last_lines(ended(succeeded=1), destination="/home/me/clips")
    assert "fetch" not in text
    assert f"reelsheet retry review-{RUN}.csv --where review=redo" in text


def test_without_a_clip_there_is_nothing_to_review():
    text = last_lines(ended(failed=1))
    assert "Review" not in text
    assert "Copy" not in text


def test_with_where_the_last_lines_count_the_rows_that_it_chose():
    text = last_lines(ended(succeeded=7, skipped=1), chosen=ended(succeeded=2), where=("review=redo",))
    assert text.startswith("2 of 8 rows chosen: 2 succeeded in")


def test_a_sheet_without_rows_ends_with_one_line():
    assert last_lines(ended()) == "0 rows: nothing to do in 1 min 4 s\n"


@pytest.mark.parametrize(("folder", "flag"), [(None, ""), ("/my shots", " --pictures '/my shots'")])
def test_the_command_for_corrected_rows_finds_their_table_and_their_pictures(monkeypatch, folder, flag):
    monkeypatch.setenv("COLUMNS", "300")
    text = last_lines(ended(succeeded=1, invalid=1), pictures=folder)
    assert "Fix      reelsheet fetch 's3://clips/spring sale'  (1 row cannot work; this brings" in text
    assert f"reelsheet run spring-sale-clips/failed.csv --to 's3://clips/spring sale'{flag}  (first" in text
    text = last_lines(ended(succeeded=1, invalid=1), pictures=folder, destination="/home/me/clips")
    assert f"Fix      reelsheet run F/failed.csv --to /home/me/clips{flag}  (1 row cannot work; first" in text


def test_failed_and_paid_rows_come_with_the_command_that_goes_on():
    text = last_lines(ended(succeeded=1, failed=2, undelivered=1))
    assert "reelsheet retry 's3://clips/spring sale'" in text
    assert "collects 1 paid clip at no cost, pays for another try at 2 rows" in text


def test_an_unknown_row_comes_with_the_command_that_settles_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lost = group(1, Step.REPORT, State.UNKNOWN)
    text = last_lines(ended(unknown=1) | {"at_risk_usd": 0.54}, lost)
    assert f"Unknown  reelsheet resolve {lost.identity[:8]} --id PREDICTION  (as" in text
    assert f"reelsheet resolve {lost.identity[:8]} --abandon  (where" in text
    assert "$0.54 at risk" in text


@pytest.mark.parametrize("code", [ErrorCode.AUTH, ErrorCode.OVER_BUDGET])
def test_a_stopped_run_says_why_and_that_the_same_command_goes_on(code):
    text = last_lines(ended(succeeded=1, skipped=3), stopping=code)
    assert "The key was refused." in text
    assert "the same command again" in text
    assert "retry" not in text


def test_rows_beyond_the_limit_are_no_second_try():
    later = group(1)
    later.set_outcome(Status.SKIPPED, ErrorCode.OVER_LIMIT, "Not attempted.")
    text = last_lines(ended(succeeded=3, skipped=1), later)
    assert "1 row by --limit; the same command without it goes on" in text
    assert "another try" not in text


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_no_line_is_broken_inside_a_word_an_address_or_a_command(monkeypatch, columns):
    lost = group(1, Step.REPORT, State.UNKNOWN)
    summary = ended(succeeded=1, failed=2, undelivered=1, unknown=2, invalid=1) | {"at_risk_usd": 0.54, "wasted_usd": 1}
    monkeypatch.setenv("COLUMNS", "500")
    words = set(last_lines(summary, lost).split())
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = last_lines(summary, lost).splitlines()
    assert {word.strip("()") for line in lines for word in line.split()} == {word.strip("()") for word in words}
    for whole in (
        "reelsheet retry 's3://clips/spring sale'",
        f"reelsheet resolve {lost.identity[:8]} --id PREDICTION",
        f"reelsheet resolve {lost.identity[:8]} --abandon",
        "reelsheet fetch 's3://clips/spring sale'",
        "reelsheet run spring-sale-clips/failed.csv --to 's3://clips/spring sale'",
        "s3://clips/g.html",
    ):
        assert any(whole in line for line in lines)
    is_kept = ("reelsheet", "s3://", "spring-sale-clips/failed.csv")
    assert all(len(line) <= max(columns, 22) for line in lines if not any(text in line for text in is_kept))


def test_a_link_to_the_gallery_is_shown_complete_with_its_end():
    url = "https://clips.test/g.html?" + "X-Amz-Security-Token=" + "a" * 900
    text = last_lines(ended(succeeded=1), link=Link(url, datetime(2026, 11, 30, 18, 30, tzinfo=UTC)))
    assert f"Link     {url}\n" in text
    assert "ended on 2026-11-30 18:30 UTC" in text or "works until 2026-11-30 18:30 UTC" in text


def test_results_that_the_destination_did_not_take_are_told_where_they_are():
    text = last_lines(ended(succeeded=1), fallback="/home/me/results.csv")
    assert "Results  /home/me/results.csv (the destination did not take them)" in text
    assert "Gallery" not in text


def delivered(identity: str) -> IdentityHistory:
    return IdentityHistory(
        (attempt(identity, State.COMPLETED),), (Delivery(1, "d", 0, 1, "k", 1, "", None, None, None),)
    )


def test_a_delivered_row_of_an_earlier_run_is_delivered_from_the_start():
    one = replace(group(0, Step.DONE), history=delivered(f"{0:064x}"))
    assert Tally(plan_of(one), "other").delivered == 1


def test_uploads_are_counted_until_the_last_one():
    clock = Clock()
    run = running(plan_of(group(0, Step.SUBMIT, None)), clock)
    view = live.View(run, clock=clock)
    assert view.uploads() == ""
    run.count_upload(120, 1000)
    assert "120 of 1,000 pictures uploaded" in live.line(view)
    run.count_upload(1000, 1000)
    assert "uploaded" not in live.line(view)
