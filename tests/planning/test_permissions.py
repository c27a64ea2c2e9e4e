"""Who may be paid for again."""

import pytest

from reelsheet.ledger import Attempt, IdentityHistory, RepayPermission, State
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.options import Options
from reelsheet.planning import permissions
from reelsheet.planning.plan import RowGroup

IDENTITY = "a" * 64


def group(state: State | None, *, number: int = 1, run_id: str = "earlier") -> RowGroup:
    attempt = Attempt(1, IDENTITY, number, state, None, run_id, "2026-01-15", 54) if state else None
    return RowGroup(IDENTITY, Row(0, 2), [0], IdentityHistory((attempt,)) if attempt else None)


def allows(options: Options, state: State | None, shared: RepayPermission | None = None, **more) -> bool:
    manifest = Manifest("m.csv", text_frame(["image"], [[""]]), (Row(0, 2),), {})
    return permissions.from_options(options, shared, manifest)(group(state, **more))


RUN = Options(source="m.csv", destination="d")
FRESH = Options(source="m.csv", destination="d", fresh=True)
RETRY_UNKNOWN = Options(source="m.csv", destination="d", retry_unknown=True)
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


def test_the_permission_of_an_unfinished_run_is_used_and_no_new_one_is_given_for_what_it_paid():
    shared = RepayPermission({IDENTITY: 1}, frozenset({"earlier"}))
    assert allows(FRESH, State.COMPLETED, shared)
    assert not allows(FRESH, State.COMPLETED, shared, number=2), "the attempt that it named is replaced"
    assert not allows(FRESH, State.COMPLETED, RepayPermission({}, frozenset({"earlier"})))
    assert allows(FRESH, State.COMPLETED, RepayPermission({}, frozenset({"another"})))


def test_a_grant_names_one_attempt():
    may_repay = permissions.from_grants({IDENTITY: 1})
    assert may_repay(group(State.FAILED))
    assert not may_repay(group(State.FAILED, number=2))
    assert not may_repay(group(None))


def test_the_same_command_has_the_same_key_and_another_one_has_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = permissions.command_key(RUN, "d")
    assert key == permissions.command_key(Options(source=str(tmp_path / "m.csv"), destination="d", limit=3), "d")
    assert key not in {permissions.command_key(FRESH, "d"), permissions.command_key(RUN, "elsewhere")}
