"""Who may be paid for again."""

from dataclasses import replace

import pytest

from reelsheet.ledger import Ask, Attempt, Grant, IdentityHistory, RepayRequest, State, UnfinishedRun
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.options import Options
from reelsheet.planning import permissions
from reelsheet.planning.plan import Plan, RowGroup

IDENTITY = "a" * 64


def group(state: State | None, *, number: int = 1, identity: str = IDENTITY) -> RowGroup:
    attempt = Attempt(1, identity, number, state, None, "earlier", "2026-01-15", 54) if state else None
    return RowGroup(identity, Row(0, 2), [0], IdentityHistory((attempt,)) if attempt else None)


def allows(options: Options, state: State | None, *unfinished: UnfinishedRun, **more) -> bool:
    manifest = Manifest("m.csv", text_frame(["image"], [[""]]), (Row(0, 2),), {})
    return permissions.from_options(options, unfinished, manifest)(group(state, **more))


def unfinished(grant: Grant, *asks: Ask) -> UnfinishedRun:
    """A run of the same command, the latest, that got this grant."""
    return UnfinishedRun("earlier", 0.0, None, False, True, frozenset(asks), {IDENTITY: grant}, 54)


RUN = Options(source="m.csv", destination="d")
FRESH = Options(source="m.csv", destination="d", fresh=True)
RETRY_UNKNOWN = Options(source="m.csv", destination="d", retry_unknown=True)
BOTH = Options(source="m.csv", destination="d", fresh=True, retry_unknown=True)
RETRY = Options(verb="retry", source="m.csv", destination="d")


@pytest.mark.parametrize(
    ("options", "states"),
    [
        (RUN, set()),
        (FRESH, {State.SUBMITTED, State.COMPLETED, State.FAILED}),
        (RETRY_UNKNOWN, {State.UNKNOWN}),
        (RETRY, {State.FAILED}),
    ],
)
def test_each_option_allows_to_replace_attempts_in_certain_states_only(options, states):
    assert {state for state in State if allows(options, state)} == states
    assert not allows(options, None), "what was never attempted needs no permission"


ONCE = Grant(1, Ask.FRESH)
NEVER_PAID = Grant()


@pytest.mark.parametrize(
    ("options", "state", "number", "grant", "asks", "allowed"),
    [
        (FRESH, State.COMPLETED, 1, ONCE, {Ask.FRESH}, True),  # not used yet
        (FRESH, State.COMPLETED, 2, ONCE, {Ask.FRESH}, False),  # used
        (FRESH, State.COMPLETED, 1, NEVER_PAID, {Ask.FRESH}, False),  # paid for the first time by that run
        (RETRY, State.FAILED, 1, NEVER_PAID, {Ask.FAILED}, False),
        (RETRY, State.FAILED, 2, Grant(1, Ask.FAILED), {Ask.FAILED}, False),
        (RETRY_UNKNOWN, State.UNKNOWN, 1, NEVER_PAID, {Ask.UNKNOWN}, False),
        # Another wish: what was added to the command is asked for for the first time.
        (BOTH, State.UNKNOWN, 1, NEVER_PAID, {Ask.FRESH}, True),
        (BOTH, State.COMPLETED, 1, NEVER_PAID, {Ask.FRESH}, False),
        (FRESH, State.COMPLETED, 1, NEVER_PAID, {Ask.UNKNOWN}, True),
        (FRESH, State.FAILED, 1, NEVER_PAID, set(), True),
        (FRESH, State.COMPLETED, 2, Grant(1, Ask.UNKNOWN), {Ask.FRESH, Ask.UNKNOWN}, False),
        # A person's redo goes on although the table that said so was written again.
        (RETRY, State.COMPLETED, 1, Grant(1, Ask.REDO), {Ask.FAILED}, True),
        (RETRY, State.COMPLETED, 2, Grant(1, Ask.REDO), {Ask.FAILED}, False),
        (RUN, State.COMPLETED, 1, ONCE, {Ask.FRESH}, False),  # this command asks for nothing
    ],
)
def test_a_command_repeated_gets_what_its_unfinished_run_got(options, state, number, grant, asks, allowed):
    assert allows(options, state, unfinished(grant, *asks), number=number) is allowed


def test_what_an_unfinished_run_did_not_have_is_asked_for_for_the_first_time():
    assert allows(FRESH, State.COMPLETED, unfinished(ONCE, Ask.FRESH), identity="b" * 64)


def test_the_latest_unfinished_run_that_asked_counts():
    first, second = unfinished(NEVER_PAID, Ask.FRESH), unfinished(Grant(2, Ask.FRESH), Ask.FRESH)
    assert allows(FRESH, State.COMPLETED, second, first, number=2)
    assert not allows(FRESH, State.COMPLETED, second, first, number=3)


def test_a_grant_names_one_attempt():
    may_repay = permissions.from_grants({IDENTITY: Grant(1, Ask.FAILED)})
    assert may_repay(group(State.FAILED))
    assert not may_repay(group(State.FAILED, number=2))
    assert not may_repay(group(None))


@pytest.mark.parametrize("state", [State.SUBMITTED, State.COMPLETED, State.FAILED, State.CLAIMED])
def test_permission_to_submit_an_unknown_row_again_ends_when_its_answer_is_known(state):
    may_repay = permissions.from_grants({IDENTITY: Grant(1, Ask.UNKNOWN)})
    assert may_repay(group(State.UNKNOWN))
    assert not may_repay(group(state))


def test_a_command_that_asks_to_pay_again_asks_of_rows_that_were_never_paid_for_too():
    manifest = Manifest("m.csv", text_frame(["image"], [[""]]), (Row(0, 2),), {})
    plan = Plan(manifest, {IDENTITY: group(None)}, 54)
    assert permissions.requests_of(plan, FRESH) == {IDENTITY: RepayRequest()}
    assert permissions.requests_of(plan, RUN) == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("m.csv", "./sub/../m.csv"),
        ("m.csv", "{folder}/m.csv"),
        ("m.csv", "link.csv"),
        ("m.csv", "linked/m.csv"),
        ("m.csv", "  m.csv "),
        ("~/m.csv", "{home}/m.csv"),
        (
            "https://docs.google.com/spreadsheets/d/1aBcDeFgHiJk/edit?usp=sharing",
            "https://docs.google.com/spreadsheets/d/1aBcDeFgHiJk/edit#gid=0",
        ),
        (
            "https://b.s3.amazonaws.com/m.csv?X-Amz-Signature=1&X-Amz-Credential=2&X-Amz-Date=3&X-Amz-Algorithm=4",
            "https://b.s3.amazonaws.com/m.csv?X-Amz-Signature=9&X-Amz-Credential=2&X-Amz-Date=8&X-Amz-Algorithm=4",
        ),
        (
            "https://www.dropbox.com/scl/fi/abc/m.csv?rlkey=k&dl=0",
            "https://www.dropbox.com/scl/fi/abc/m.csv?rlkey=k&st=x1&dl=1",
        ),
    ],
)
def test_another_spelling_of_the_same_sheet_is_the_same_command(one, other, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "m.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "m.csv")
    (tmp_path / "linked").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = {
        permissions.command_key(Options(source=source.format(folder=tmp_path, home=tmp_path), destination="d"), "d")
        for source in (one, other)
    }
    assert len(keys) == 1


def test_limits_and_what_is_asked_for_make_no_other_command_but_sheet_and_destination_do():
    key = permissions.command_key(RUN, "d")
    assert {permissions.command_key(replace(RUN, **more), "d") for more in (
        {"limit": 3}, {"fresh": True}, {"retry_unknown": True}, {"max_cost_usd": 1.0}, {"concurrency": 2},
    )} == {key}  # fmt: skip
    others = [
        permissions.command_key(RUN, "elsewhere"),
        permissions.command_key(RUN, "d", "Spring"),
        permissions.command_key(replace(RUN, source="other.csv"), "d"),
        permissions.command_key(replace(RUN, verb="retry"), "d"),
    ]
    assert len({key, *others}) == 5


def test_retry_is_the_same_command_whether_it_is_given_a_file_a_run_or_the_destination():
    sources = ("s3://b/d", "s3://b/d/results.csv", "s3://b/d/runs/20260115-120000-abcdef/results.csv", "kept.xlsx")
    keys = {permissions.command_key(replace(RETRY, source=source), "s3://b/d") for source in sources}
    assert len(keys) == 1
