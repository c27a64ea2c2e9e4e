"""Paying again: only with a permission that names the attempt, and once for one wish, however often it is repeated."""

import time

import pytest

from reelsheet.ledger import Ask, Claimed, Known, RepayRequest, State


def test_a_paid_row_is_paid_again_only_by_the_run_that_may(opens):
    first = opens("r1")
    first.submitted()
    second, third = opens("r2", permissions={"a": 1}), opens("r3")
    assert isinstance(third.claim(), Known)
    assert second.claimed().number == 2
    second.ledger.record_id(second.ledger.history("a").latest, "p2", 54)
    assert isinstance(second.claim(), Known)  # spent


def test_a_refused_second_try_leaves_the_first_in_force(opens):
    """A plain run must not take the vacant second attempt for a row that was never paid for."""
    first = opens("r1")
    first.ledger.record_completed(first.submitted(), None)
    again = opens("r2", permissions={"a": 1})
    refused = again.ledger.record_refused(again.claimed(), None, None)
    again.ledger.mark_unawaited(refused)
    assert again.state() == State.COMPLETED
    assert isinstance(opens("r3").claim(), Known)
    assert again.claimed().number == 2  # its own permission was not spent


def test_an_unknown_row_stays_unknown_when_the_retry_was_refused(opens):
    first = opens("r1")
    first.unknown()
    again = opens("r2", permissions={"a": 1})
    again.ledger.record_refused(again.claimed(), None, None)
    assert again.state() == State.UNKNOWN
    assert isinstance(opens("r3").claim(), Known)


@pytest.mark.parametrize("answer", ["a late id", "resolve"])
def test_a_row_that_is_unknown_no_more_is_not_submitted_again_for_that(opens, answer):
    first = opens("r1")
    lost = first.unknown()
    again = opens("r2", permissions={"a": 1}, asks=frozenset({Ask.UNKNOWN}))
    if answer == "resolve":
        first.ledger.resolve("a", "p1")
    else:
        first.ledger.record_id(lost, "p1", 54)
    assert isinstance(again.claim(), Known)


# The command repeated while a run of it is unfinished


def finishes(process, exit_code, *chosen, left_out=()):
    rows = dict.fromkeys(chosen, True) | dict.fromkeys(left_out, False)
    process.ledger.finish_run(process.run_id, exit_code=exit_code, summary={})
    process.ledger.conclude_run(process.run_id, rows)


def dies(process):
    process.ledger.close()


def test_the_same_command_repeated_shares_the_permission(opens):
    opens("r0").submitted()
    killed = opens("r1", command="fresh", permissions={"a": 1})
    killed.submitted("a", "p2")
    repeated = opens("r2", command="fresh", permissions={"a": 2})
    assert isinstance(repeated.claim(), Known)


def test_permission_that_the_killed_run_did_not_use_is_used_by_the_next(opens):
    opens("r0").submitted()
    opens("r1", command="fresh", permissions={"a": 1})
    assert opens("r2", command="fresh", permissions={"a": 1}).claimed().number == 2


def test_rows_that_the_unfinished_run_did_not_choose_get_a_permission_of_their_own(opens):
    """`--fresh --limit 1`, stopped, then `--fresh`: the other rows are paid again too, the first one not."""
    old = opens("r0")
    old.submitted("a")
    old.submitted("b")
    limited = opens("r1", command="fresh", permissions={"a": 1})
    limited.submitted("a", "p2")
    whole = opens("r2", command="fresh", permissions={"a": 2, "b": 1})
    assert isinstance(whole.claim("a"), Known)
    assert whole.claimed("b").number == 2


@pytest.mark.parametrize("ask", [Ask.FRESH, Ask.UNKNOWN, Ask.FAILED])
@pytest.mark.parametrize("others", [{}, {"old": 1}])
def test_a_row_first_paid_by_the_unfinished_run_is_not_paid_again_by_the_next(opens, ask, others):
    """Whether or not that run had anything to replace when it began."""
    opens("r0").unknown("old")
    asks = frozenset({ask})
    killed = opens("r1", command="c", asks=asks, permissions={"new": 0, **others})
    first = killed.unknown("new") if ask is Ask.UNKNOWN else killed.submitted("new")
    if ask is Ask.FAILED:
        killed.ledger.record_failed(first, "generation_failed", "no", None)
    repeated = opens("r2", command="c", asks=asks, permissions={"new": 1, **others})
    assert isinstance(repeated.claim("new"), Known)


def test_several_repeated_runs_pay_once_between_them(opens):
    opens("r0").submitted("a")
    first = opens("r1", command="fresh", permissions={"a": 1, "b": 0, "c": 0})
    first.submitted("a", "p2")
    second = opens("r2", command="fresh", permissions={"a": 2, "b": 0, "c": 0})
    second.submitted("b")
    third = opens("r3", command="fresh", permissions={"a": 2, "b": 1, "c": 0})
    third.submitted("c")
    fourth = opens("r4", command="fresh", permissions={"a": 2, "b": 1, "c": 1})
    assert all(isinstance(fourth.claim(identity), Known) for identity in "abc")


@pytest.mark.parametrize(("exit_code", "shared"), [(0, False), (1, False), (3, True), (4, True), (130, True)])
def test_a_finished_run_is_not_continued(opens, exit_code, shared):
    opens("r0").submitted()
    first = opens("r1", command="fresh", permissions={"a": 1})
    first.submitted("a", "p2")
    finishes(first, exit_code, "a")
    second = opens("r2", command="fresh", permissions={"a": 2})
    assert isinstance(second.claim(), Known if shared else Claimed)


def test_a_run_that_finished_what_a_killed_one_began_ends_that_wish(opens):
    killed = opens("r1", command="fresh", permissions={"a": 0, "b": 0})
    killed.submitted("a")
    dies(killed)
    rest = opens("r2", command="fresh", permissions={"a": 1, "b": 0})
    rest.submitted("b")
    finishes(rest, 0, "a", "b")
    anew = opens("r3", command="fresh", permissions={"a": 1, "b": 1})
    assert (anew.claimed("a").number, anew.claimed("b").number) == (2, 2)


def test_a_portion_that_was_finished_does_not_end_the_wish_for_the_other_rows(opens):
    """`--fresh` killed, `--fresh --limit 1` finished, `--fresh`: it goes on with the first one."""
    killed = opens("r1", command="fresh", permissions={"a": 0, "b": 0, "c": 0})
    killed.submitted("a")
    dies(killed)
    portion = opens("r2", command="fresh", permissions={"b": 0})
    portion.submitted("b")
    finishes(portion, 0, "a", "b", left_out="c")
    rest = opens("r3", command="fresh", permissions={"a": 1, "b": 1, "c": 0})
    assert isinstance(rest.claim("a"), Known)
    assert isinstance(rest.claim("b"), Known)
    rest.submitted("c")
    finishes(rest, 0, "a", "b", "c")
    assert opens("r4", command="fresh", permissions={"b": 1}).claimed("b").number == 2


@pytest.mark.parametrize("asks", [frozenset(), frozenset({Ask.UNKNOWN})])
def test_a_run_that_asked_for_less_does_not_end_the_wish(opens, asks):
    """`--fresh` stopped, a plain run that finds every row delivered, `--fresh`: what the first one paid for stays."""
    stopped = opens("r1", command="c", permissions={"a": 0, "b": 0}, asks=frozenset({Ask.FRESH}))
    stopped.submitted("a")
    dies(stopped)
    plain = opens("r2", command="c", asks=asks)
    plain.submitted("b")
    finishes(plain, 0, "a", "b")
    again = opens("r3", command="c", permissions={"a": 1, "b": 1}, asks=frozenset({Ask.FRESH}))
    assert isinstance(again.claim("a"), Known)
    finishes(again, 0, "a", "b")
    anew = opens("r4", command="c", permissions={"a": 1}, asks=frozenset({Ask.FRESH}))
    assert anew.claimed("a").number == 2


def test_a_run_of_other_rows_does_not_end_the_wish(opens):
    killed = opens("r1", command="retry", permissions={"a": 0})
    killed.submitted("a")
    dies(killed)
    others = opens("r2", command="retry", permissions={"b": 0})
    others.submitted("b")
    finishes(others, 0, "b")
    assert isinstance(opens("r3", command="retry", permissions={"a": 1}).claim("a"), Known)


def test_a_row_that_was_edited_since_does_not_keep_the_wish_open(opens):
    killed = opens("r1", command="fresh", permissions={"a": 0, "with a typo": 0})
    killed.submitted("a")
    dies(killed)
    corrected = opens("r2", command="fresh", permissions={"a": 1, "without": 0})
    corrected.submitted("without")
    finishes(corrected, 0, "a", "without")
    assert opens("r3", command="fresh", permissions={"a": 1}).claimed("a").number == 2


def test_a_run_that_finishes_beside_a_living_one_leaves_the_wish_to_it(opens):
    living = opens("r1", command="fresh", permissions={"a": 0, "b": 0})
    living.submitted("a")
    beside = opens("r2", command="fresh", permissions={"a": 1, "b": 0})
    beside.submitted("b")
    finishes(beside, 0, "a", "b")
    third = opens("r3", command="fresh", permissions={"a": 1, "b": 1})
    assert isinstance(third.claim("a"), Known)
    assert isinstance(third.claim("b"), Known)
    finishes(living, 0, "a", "b")
    finishes(third, 0, "a", "b")
    assert opens("r4", command="fresh", permissions={"a": 1}).claimed("a").number == 2


def test_another_command_has_permissions_of_its_own(opens):
    opens("r0").submitted()
    opens("r1", command="fresh", permissions={"a": 1}).submitted("a", "p2")
    assert opens("r2", command="another", permissions={"a": 2}).claimed().number == 3


def test_what_is_added_to_the_command_is_asked_for_for_the_first_time(opens):
    """`--fresh` killed, then `--fresh --retry-unknown`: only what was lost is submitted again."""
    killed = opens("r1", command="c", permissions={"a": 0, "b": 0})
    killed.submitted("a")
    killed.unknown("b")
    both = frozenset({Ask.FRESH, Ask.UNKNOWN})
    requests = {"a": RepayRequest(1, frozenset({Ask.FRESH})), "b": RepayRequest(1, frozenset({Ask.UNKNOWN}))}
    more = opens("r2", command="c", asks=both, requests=requests)
    assert isinstance(more.claim("a"), Known)
    assert more.claimed("b").number == 2


def test_a_new_run_on_purpose_has_permissions_of_its_own_and_is_the_one_that_is_continued(opens):
    first = opens("r1", command="fresh", permissions={"a": 0})
    first.submitted("a")
    on_purpose = opens("r2", command="fresh", permissions={"a": 1}, is_new=True)
    on_purpose.submitted("a", "p2")
    assert isinstance(opens("r3", command="fresh", permissions={"a": 2}).claim("a"), Known)


@pytest.mark.parametrize("ahead_s", [7_200.0, -7_200.0])
def test_clocks_that_are_hours_apart_change_nothing(opens, registers, opened, monkeypatch, ahead_s):
    """The latest run of a command is told by the ledger, whatever its machine's clock said when it began."""
    now = time.time()

    def at(moment, run_id, **more):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: moment)
            return opens(run_id, **more)

    finished = at(now + ahead_s, "20990101-000000-aaaaaa", command="fresh", permissions={"a": 0})
    finished.submitted("a")
    finishes(finished, 0, "a")
    killed = at(now, "20000101-000000-bbbbbb", command="fresh", permissions={"a": 1})
    killed.submitted("a", "p2")
    repeated = at(now - ahead_s, "20500101-000000-cccccc", command="fresh", permissions={"a": 2})
    assert isinstance(repeated.claim("a"), Known)
    latest = [run.run_id for run in repeated.ledger.recent_runs(3)]
    assert latest == [repeated.run_id, killed.run_id, finished.run_id]
