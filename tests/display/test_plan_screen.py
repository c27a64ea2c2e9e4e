"""The plan on one screen and as JSON."""

import io
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import openpyxl
import pytest

from reelsheet import settings
from reelsheet.display.plan_screen import facts_of, plan_json, show_plan
from reelsheet.ledger import Attempt, IdentityHistory, Ledger, State
from reelsheet.options import Options
from reelsheet.planning import preparation

RUN = "20260115-120000-abcdef"
ESCAPE = "\x1b[31mred\x1b[2J"


def sheet(tmp_path: Path, rows: list[str], header: str = "sku,image,prompt") -> str:
    path = tmp_path / "sheet.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def row(n: int, prompt: str = "") -> str:
    return f"S{n},https://example.com/{n}.jpg,{prompt or f'push in {n}'}"


async def prepared(tmp_path: Path, rows: list[str], **options) -> preparation.Preparation:
    options = {"preflight": False, **options}
    asked = Options(source=sheet(tmp_path, rows), **options)
    return await preparation.prepare(asked, settings.Settings(), spending=False)


async def screen(tmp_path: Path, rows: list[str], **options) -> str:
    found = await prepared(tmp_path, rows, **options)
    stream = io.StringIO()
    show_plan(found, stream)
    found.close()
    return stream.getvalue()


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


async def test_the_counts_of_a_plan_add_up_to_the_rows(tmp_path):
    found = await prepared(tmp_path, [row(1), row(1), row(2), "S9,,nothing", row(3), row(4)], limit=2)
    told = plan_json(found)
    parts = ("pay", "poll", "copy", "reuse", "report", "duplicates", "invalid", "limited", "hidden", "not_chosen")
    assert sum(told[name] for name in parts) == told["rows"] == 6
    assert (told["pay"], told["duplicates"], told["invalid"], told["limited"]) == (2, 1, 1, 2)
    found.close()


async def test_hidden_rows_are_counted_with_their_dollars(tmp_path):
    book = openpyxl.Workbook()
    pictures = [f"https://example.com/{n}.jpg" for n in (1, 2, 3, 3)]
    for record in (["image", "take"], *([picture, 1] for picture in pictures), ["", 1], [pictures[0], 2]):
        book.active.append(record)
    for row in (3, 4, 5, 6):
        book.active.row_dimensions[row].hidden = True
    book.save(tmp_path / "sheet.xlsx")
    asked = Options(source=str(tmp_path / "sheet.xlsx"), preflight=False)
    found = await preparation.prepare(asked, settings.Settings(), spending=False)
    told = plan_json(found)
    assert (told["rows"], told["pay"], told["hidden"], told["hidden_usd"], told["invalid"]) == (6, 2, 4, 1.08, 0)
    stream = io.StringIO()
    show_plan(found, stream)
    found.close()
    assert re.search(r"4  hidden, left out +\$1\.08; --include-hidden runs them", stream.getvalue())


async def test_a_cap_says_how_many_rows_it_pays_for_and_which_it_leaves_out(tmp_path):
    found = await prepared(tmp_path, [row(n) for n in range(40)], max_cost_usd=6.5)
    told = plan_json(found)
    assert (told["cost_usd"], told["cap_usd"], told["left_out"]) == (21.6, 6.5, 28)
    found.close()
    text = await screen(tmp_path, [row(n) for n in range(40)], max_cost_usd=6.5)
    assert "$21.60 (40 × $0.54), --max-cost $6.50; pays for the first 12 of 40 rows" in text  # noqa: RUF001


async def test_what_the_days_cap_leaves_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("REELSHEET_DAILY_CAP_USD", "1.00")
    text = await screen(tmp_path, [row(n) for n in range(3)])
    assert "$1.00 left of the day's $1.00" in text
    assert "pays for the first 1 of 3 rows" in text


async def test_the_first_bad_rows_are_named_with_their_line_and_the_others_counted(tmp_path):
    text = await screen(tmp_path, [f"B{n},,x" for n in range(11)] + [row(1)])
    assert "B0 (line 2)" in text
    assert "B8" not in text
    assert "and 3 more" in text


async def test_warnings_of_one_kind_are_told_once_with_their_count(tmp_path):
    text = await screen(tmp_path, [row(n, "word " * (401 + n)) for n in range(5)])
    assert len(re.findall("are often refused", text)) == 1
    assert re.search(r"5 ×  .*\(S0, S1, S2 and 2 more\)", " ".join(text.split()).replace("× ", "×  "))  # noqa: RUF001


async def test_no_cell_reaches_the_terminal_with_its_control_characters(tmp_path):
    text = await screen(tmp_path, [f"{ESCAPE},https://example.com/1.jpg,x", f"T\x07,,{ESCAPE}"])
    assert "\x1b" not in text
    assert "\x07" not in text


async def test_rich_markup_in_a_cell_stays_text(tmp_path):
    text = await screen(tmp_path, ["[bold]B[/],,x"])
    assert "[bold]B[/]" in text


async def test_a_plan_fits_into_eighty_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = [f"{'long-' * 30}{n},https://example.com/{'a' * 200}{n}.jpg,{'word ' * 500}" for n in range(3)]
    text = await screen(tmp_path, [*rows, f"{'x' * 200},,y"])
    assert max(map(len, text.splitlines())) <= 80


async def test_lines_in_a_file_have_no_colour_and_no_blanks_at_their_ends(tmp_path):
    text = await screen(tmp_path, [row(1), "B,,x"])
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


async def test_a_plan_where_nothing_is_to_be_paid_says_so(tmp_path):
    assert "nothing to pay for" in await screen(tmp_path, ["B,,x"])


async def test_the_plan_as_json_is_json_and_lists_every_problem(tmp_path):
    found = await prepared(tmp_path, [f"B{n},,x" for n in range(30)])
    told = json.loads(json.dumps(plan_json(found)))
    assert [problem["line"] for problem in told["problems"]] == list(range(2, 32))
    found.close()


async def test_the_names_shown_are_those_that_the_template_gives(tmp_path):
    found = await prepared(tmp_path, [row(7)], name="spring/{sku}")
    identity = next(iter(found.plan.groups))
    assert plan_json(found)["names"] == [f"videos/spring/S7-{identity[:8]}.mp4"]
    found.close()


async def test_the_next_attempt_has_the_name_that_is_shown(tmp_path):
    found = await prepared(tmp_path, [row(7)])
    only = next(iter(found.plan.groups.values()))
    only.history = IdentityHistory((attempt(only.identity, State.FAILED),))
    assert facts_of(found).names[0].endswith("-2.mp4")
    found.close()


async def test_time_is_told_at_the_pace_seen_so_far(tmp_path):
    first = await prepared(tmp_path, [row(1)])
    assert plan_json(first)["eta_seconds"] is None
    assert "not known yet" in await screen(tmp_path, [row(1)])
    predict(first.ledger, 4, 60.0)
    told = plan_json(first)
    assert (told["seconds_per_clip"], told["at_once"], told["eta_seconds"]) == (60.0, 4, 60.0)
    first.close()
    text = await screen(tmp_path, [row(n) for n in range(9)])
    assert "about 3 min at the pace so far (1 min 0 s a clip, 4 at once)" in text


def predict(ledger: Ledger, count: int, seconds: float) -> None:
    """`count` predictions at once in a run of `ledger`, each of so many seconds."""
    record = ledger.open_run(
        run_id=RUN,
        verb="run",
        source="s",
        destination="d",
        command="c",
        flow_run_id=None,
        options={},
        rows=count,
        cap_cents=None,
    )
    for n in range(count):
        claim = ledger.claim(f"{n:064x}", run_id=record.run_id, price_cents=54)
        taken = ledger.record_id(claim.attempt, f"p{n}", 54)
        ledger.record_completed(taken, time.time() + seconds)
        ledger.mark_unawaited(taken)


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [(None, "which is still running"), (4, "which stopped at a cap"), (3, "stopped early"), (130, "was interrupted")],
)
async def test_the_unfinished_run_that_a_command_continues_is_named_with_its_date(
    tmp_path, registers, exit_code, words
):
    found = await prepared(tmp_path, [row(1)])
    assert plan_json(found)["continues"] is None
    registers(found.ledger, RUN, command=found.command, asks=frozenset())
    if exit_code is not None:
        found.ledger.finish_run(RUN, exit_code=exit_code, summary={})
    text = " ".join((await screen(tmp_path, [row(1)])).split())
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    assert f"Continues run {RUN} of {day}" in text
    assert words in text
    assert "--new-run begins another run" in text
    assert "paid for again" not in text  # it paid for nothing
    found.ledger.claim("a" * 64, run_id=RUN, price_cents=54)
    text = " ".join((await screen(tmp_path, [row(1)])).split())
    assert f"{words}: what that run paid for is not paid for again." in text
    assert "Continues" not in await screen(tmp_path, [row(1)], new_run=True)
    again = await prepared(tmp_path, [row(1)])
    told = plan_json(again)["continues"]
    assert (told["run_id"], told["started_at"][:10], told["exit_code"]) == (RUN, day, exit_code)
    again.close()
    found.ledger.finish_run(RUN, exit_code=1, summary={})
    found.ledger.conclude_run(RUN, {})
    assert "Continues" not in await screen(tmp_path, [row(1)])
    found.close()


async def test_the_first_prompts_that_a_template_makes_are_shown(tmp_path):
    asked = {"prompt": "{sku} turns: {prompt}", "limit": 4}
    shown = await screen(tmp_path, [row(1), "S2,https://example.com/2.jpg,", *map(row, range(3, 9))], **asked)
    prompts = shown.partition("\nPrompts\n")[2].partition("\n\n")[0]
    assert [line.split() for line in prompts.splitlines()] == [
        *([f"S{n}", f"S{n}", "turns:", "push", "in", str(n)] for n in (1, 3, 4)),
        ["…", "and", "1", "more"],
    ]
    found = await prepared(tmp_path, [row(1, ESCAPE), *map(row, range(2, 4))], **asked)
    assert plan_json(found)["prompts"][0] == {"row": "S2", "line": 3, "prompt": "S2 turns: push in 2"}
    assert plan_json(found)["pay"] == 2  # a control character is refused
    found.close()
    assert "Prompts" not in await screen(tmp_path, [row(1)])


@pytest.mark.parametrize(("rows", "rest"), [(3, []), (4, ["… and 1 more"]), (5, ["… and 2 more"])])
async def test_how_many_prompts_are_not_shown_is_said(tmp_path, rows, rest):
    shown = await screen(tmp_path, [row(n) for n in range(rows)], prompt="{sku} turns")
    lines = shown.partition("\nPrompts\n")[2].partition("\n\n")[0].splitlines()
    assert [line.strip() for line in lines[3:]] == rest


async def test_a_sheet_without_rows_is_one_plain_sentence(tmp_path):
    assert (await screen(tmp_path, [])).splitlines() == [
        f"{tmp_path}/sheet.csv: 0 rows",
        "There are column names but no rows below them: nothing to do.",
        "",
    ]


@pytest.mark.parametrize(("cap", "is_too_low"), [(0.0, True), (0.53, True), (0.54, False), (None, False)])
async def test_a_cap_below_one_clips_price_is_a_warning(tmp_path, cap, is_too_low):
    found = await prepared(tmp_path, [row(1), row(2)], max_cost_usd=cap)
    texts = [kind.text for kind in facts_of(found).warnings]
    found.close()
    assert any("is less than one clip costs ($0.54)" in text and "$20" in text for text in texts) is is_too_low


async def test_rows_that_cannot_run_are_counted_among_those_that_were_chosen(tmp_path):
    rows = [row(1), "S2,,push in", "S3,ftp://x/y,push in"]
    for where, count in ((), 2), (("sku=S1",), 0), (("sku!=S3",), 1):
        found = await prepared(tmp_path, rows, where=where)
        assert found.plan.cannot_run == count
        found.close()
