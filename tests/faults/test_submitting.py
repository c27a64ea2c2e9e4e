"""Every way in which a submission can go wrong, and what the row, the books and the money say then."""

from typing import Any

import httpx
import pytest

from reelsheet.provider.client import Provider
from reelsheet.surroundings.problems import UnusableSurroundings

OK = "a calm push in"
ODD = "the odd one"

UNKNOWN: dict[str, tuple[dict[str, Any], bool]] = {
    "closed after reading, charged": ({"close": "after"}, True),
    "closed after reading, not charged": ({"close": "after"}, False),
    "reset after reading, charged": ({"reset": "after"}, True),
    "closed before reading": ({"close": "before"}, False),
    "reset before reading": ({"reset": "before"}, False),
    "hangs for ever, charged": ({"hang": True}, True),
    "500": ({"answer": {"status": 500, "body": "<html><title>oops</title></html>"}}, True),
    "501": ({"answer": {"status": 501}}, False),
    "502": ({"answer": {"status": 502, "body": "Bad Gateway"}}, True),
    "503 bare": ({"answer": {"status": 503}}, False),
    "503 with Retry-After": ({"answer": {"status": 503, "headers": {"retry-after": "1"}}}, False),
    "504": ({"answer": {"status": 504}}, True),
    "520": ({"answer": {"status": 520}}, True),
    "408": ({"answer": {"status": 408}}, True),
    "409": ({"answer": {"status": 409, "body": {"error": "conflict"}}}, True),
    "425": ({"answer": {"status": 425}}, False),
    "499": ({"answer": {"status": 499}}, True),
    "200 HTML": ({"answer": {"status": 200, "body": "<html><title>Sign in</title></html>"}}, True),
    "200 empty": ({"answer": {"status": 200}}, True),
    "200 without id": ({"drop": ["id"]}, True),
    "200 null id": ({"patch": {"id": None}}, True),
    "200 number id": ({"patch": {"id": 12345}}, True),
    "200 id with a path": ({"patch": {"id": "../../etc/passwd"}}, True),
    "200 id too long": ({"patch": {"id": "x" * 300}}, True),
    "200 a list": ({"answer": {"status": 200, "body": [1, 2, 3]}}, True),
    "200 cut before the id ends": ({"cut": 20, "framing": "length"}, True),
    "redirect 307 elsewhere": ({"redirect": "http://127.0.0.1:9/elsewhere"}, False),
    "redirect 302": ({"redirect": "http://127.0.0.1:9/", "answer": {"status": 302}}, True),
}


@pytest.mark.parametrize("case", UNKNOWN)
async def test_an_answer_that_proves_nothing_is_unknown_and_at_risk_and_never_sent_again(bench, monkeypatch, case):
    fault, charged = UNKNOWN[case]
    monkeypatch.setenv("REELSHEET_SUBMIT_TIMEOUT", "1")
    bench.sandbox.fault("submit", prompt=ODD, charged=charged, times=-1, **fault)
    sheet = bench.sheet([ODD, OK])
    done = await bench.deliver(sheet)
    assert done.statuses() == ["unknown", "succeeded"], done.results
    odd = done.results[0]
    assert odd.error_code == "submit_unknown"
    assert odd.cost_cents == 0
    assert odd.at_risk_cents == 54
    assert "resolve" in odd.error
    assert done.exit_code == 1
    assert done.summary.at_risk_cents == 54
    posts = sum(bench.posted().values())
    again = await bench.deliver(sheet)
    assert again.statuses() == ["unknown", "succeeded"]
    assert again.results[1].reused
    assert again.summary.cost_cents == 0
    assert sum(bench.posted().values()) == posts


REFUSED = {
    "400": 400,
    "404": 404,
    "405": 405,
    "410": 410,
    "413": 413,
    "415": 415,
    "418": 418,
    "422": 422,
    "451": 451,
}


@pytest.mark.parametrize("status", REFUSED.values(), ids=REFUSED)
async def test_an_answered_4xx_is_final_for_the_row_and_costs_nothing(bench, status):
    bench.sandbox.fault(
        "submit", prompt=ODD, times=-1, answer={"status": status, "body": {"message": "the prompt is too rude"}}
    )
    sheet = bench.sheet([ODD, OK])
    done = await bench.deliver(sheet)
    assert done.statuses() == ["failed", "succeeded"]
    assert done.results[0].error_code == "rejected"
    assert "too rude" in done.results[0].error
    assert (done.results[0].cost_cents, done.results[0].at_risk_cents) == (0, 0)
    assert done.results[0].attempt is None


async def test_a_refused_row_is_asked_for_again_by_a_later_run(bench):
    bench.sandbox.fault("submit", prompt=ODD, times=1, answer={"status": 422, "body": {"error": "not today"}})
    sheet = bench.sheet([ODD])
    assert (await bench.deliver(sheet)).statuses() == ["failed"]
    assert (await bench.deliver(sheet)).statuses() == ["succeeded"]


PAGE = {"status": 403, "headers": {"content-type": "text/html"}, "body": "<title>Request blocked</title>"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": "content_policy_violation", "message": "Forbidden"}}, "moderated"),
        ({"message": "This prompt was flagged by our safety system."}, "moderated"),
        ({"error": "The image could not be downloaded."}, "rejected"),
    ],
)
async def test_a_403_about_one_row_is_that_row_s_and_the_sheet_goes_on(bench, body, code):
    bench.sandbox.fault("submit", prompt=ODD, times=-1, answer={"status": 403, "body": body})
    sheet = bench.sheet([OK, ODD, "third"])
    for _ in range(2):
        done = await bench.deliver(sheet, concurrency=1)
        assert done.statuses() == ["succeeded", "failed", "succeeded"]
        assert (done.results[1].error_code, done.exit_code) == (code, 1)
        assert (done.results[1].total_cost_cents, done.results[1].at_risk_cents) == (0, 0)


async def test_five_rows_in_a_row_that_a_403_refuses_stop_the_run(bench):
    bench.sandbox.fault("submit", prompt=ODD, times=-1, answer={"status": 403, "body": {"code": "moderated"}})
    done = await bench.deliver(bench.sheet([f"{ODD} {n}" for n in range(9)]), concurrency=1)
    assert done.statuses() == ["failed"] * 5 + ["skipped"] * 4
    assert (set(done.codes()[5:]), done.exit_code) == ({"auth"}, 3)


async def test_an_accepted_row_between_shows_that_the_account_is_good(bench):
    bench.sandbox.fault("submit", prompt=ODD, times=-1, answer={"status": 403, "body": {"code": "moderated"}})
    prompts = [f"{ODD} {n}" for n in range(4)] + [OK] + [f"{ODD} {n}" for n in range(4, 8)]
    done = await bench.deliver(bench.sheet(prompts), concurrency=1)
    assert done.statuses() == ["failed"] * 4 + ["succeeded"] + ["failed"] * 4


async def test_a_firewall_s_page_stops_submitting_and_is_no_row_s_fault(bench):
    bench.sandbox.fault("submit", prompt=ODD, times=-1, answer=PAGE)
    done = await bench.deliver(bench.sheet([OK, ODD, "third", "fourth"]), concurrency=1)
    assert done.statuses() == ["succeeded", "skipped", "skipped", "skipped"]
    assert (set(done.codes()[1:]), done.exit_code) == ({"provider_down"}, 3)
    assert "Request blocked" in done.results[1].error
    assert done.summary.at_risk_cents == 0


async def test_web_pages_with_another_4xx_stop_submitting_after_five(bench):
    bench.sandbox.fault("submit", times=-1, answer=PAGE | {"status": 404})
    done = await bench.deliver(bench.sheet([f"prompt {n}" for n in range(8)]), concurrency=1)
    assert done.statuses() == ["failed"] * 5 + ["skipped"] * 3
    assert (set(done.codes()), done.exit_code) == ({"rejected", "provider_down"}, 3)


async def test_a_400_that_names_the_key_stops_the_run(bench):
    bench.sandbox.fault("submit", times=-1, answer={"status": 400, "body": {"code": "invalid_api_key"}})
    done = await bench.deliver(bench.sheet([OK, ODD]), concurrency=1)
    assert (done.statuses(), set(done.codes()), done.exit_code) == (["skipped"] * 2, {"auth"}, 3)


async def test_a_provider_that_does_not_answer_the_free_question_is_sent_nothing(bench, monkeypatch):
    async def silence(*_: object) -> None:
        raise httpx.ReadTimeout("")

    monkeypatch.setattr(Provider, "_get", silence)
    done = await bench.deliver(bench.sheet([OK, ODD]))
    assert (done.statuses(), set(done.codes()), done.exit_code) == (["skipped"] * 2, {"provider_down"}, 3)
    assert "VIBEDREAM_BASE_URL" in done.results[0].error
    assert done.summary.at_risk_cents == 0
    assert not bench.charged()


async def test_an_address_for_notifications_that_is_none_is_told_before_anything_is_paid(bench, monkeypatch):
    monkeypatch.setenv("REELSHEET_NOTIFY_URL", "what?")
    with pytest.raises(UnusableSurroundings, match="REELSHEET_NOTIFY_URL: it is no address"):
        await bench.deliver(bench.sheet([OK]))
    assert not bench.charged()


STOPS = {401: "auth", 403: "auth", 402: "no_balance"}


@pytest.mark.parametrize("status", STOPS)
async def test_a_refused_key_or_an_empty_balance_stops_submitting_and_leaves_rows_skipped(bench, status):
    bench.sandbox.fault("submit", prompt=ODD, times=-1, answer={"status": status, "body": {"error": "no"}})
    prompts = [OK, f"{ODD} 1", f"{ODD} 2", f"{ODD} 3", *[f"later {n}" for n in range(8)]]
    done = await bench.deliver(bench.sheet(prompts), concurrency=1)
    assert done.statuses() == ["succeeded"] + ["skipped"] * 11
    assert set(done.codes()[1:]) == {STOPS[status]}
    assert done.exit_code == 3
    assert sum(bench.charged().values()) == 1


async def test_429_is_waited_out_and_the_row_is_paid_for_once(bench):
    bench.sandbox.fault(
        "submit",
        prompt=ODD,
        times=3,
        answer={"status": 429, "headers": {"retry-after": "0"}, "body": {"error": "slow"}},
    )
    done = await bench.deliver(bench.sheet([ODD, OK]))
    assert done.statuses() == ["succeeded", "succeeded"]
    assert done.exit_code == 0


async def test_429_that_says_there_is_no_credit_stops_the_run(bench):
    bench.sandbox.fault(
        "submit", prompt=ODD, times=-1, answer={"status": 429, "body": {"error": {"code": "insufficient_credits"}}}
    )
    done = await bench.deliver(bench.sheet([ODD]))
    assert (done.statuses(), done.codes(), done.exit_code) == (["skipped"], ["no_balance"], 3)


async def test_a_rate_limit_longer_than_ten_minutes_stops_the_run(bench):
    bench.sandbox.fault("submit", times=-1, answer={"status": 429, "headers": {"retry-after": "7200"}})
    done = await bench.deliver(bench.sheet([ODD, OK]))
    assert (set(done.statuses()), set(done.codes()), done.exit_code) == ({"skipped"}, {"rate_limited"}, 3)


async def test_a_provider_that_is_not_there_stops_the_run_with_nothing_at_risk(bench, monkeypatch, refusing_port):
    monkeypatch.setenv("VIBEDREAM_BASE_URL", f"http://127.0.0.1:{refusing_port}")
    done = await bench.deliver(bench.sheet([ODD, OK, "third"]))
    assert set(done.statuses()) == {"skipped"}
    assert set(done.codes()) == {"provider_down"}
    assert done.exit_code == 3
    assert done.summary.at_risk_cents == 0


async def test_five_submissions_in_a_row_without_a_definite_answer_stop_submitting(bench):
    bench.sandbox.fault("submit", times=-1, charged=False, answer={"status": 500})
    done = await bench.deliver(bench.sheet([f"prompt {n}" for n in range(30)]))
    unknown = done.statuses().count("unknown")
    assert 5 <= unknown <= 7  # those on their way with the fifth
    assert done.statuses().count("skipped") == 30 - unknown
    assert done.exit_code == 3


async def test_an_id_that_another_row_has_already_is_no_id(bench):
    first = await bench.deliver(bench.sheet([OK]))
    bench.sandbox.fault("submit", prompt=ODD, patch={"id": first.results[0].prediction_id}, charged=True)
    done = await bench.deliver(bench.sheet([OK, ODD]))
    assert done.statuses() == ["succeeded", "unknown"]
    assert done.results[1].at_risk_cents == 54


@pytest.mark.parametrize(("answer", "cents"), [(201, 54), (202, 54)])
async def test_201_and_202_are_as_good_as_200(bench, answer, cents):
    bench.sandbox.fault("submit", prompt=ODD, patch={}, answer=None) if answer == 200 else None
    done = await bench.deliver(bench.sheet([OK]))
    assert done.results[0].cost_cents == cents


@pytest.mark.parametrize(("quote", "cents"), [(60, 60), ("60", 60), (53.2, 54), (0, 0), (None, 54), (540, 540)])
async def test_the_providers_quote_is_what_the_row_costs(bench, quote, cents):
    bench.sandbox.fault("submit", prompt=OK, cents=quote)
    done = await bench.deliver(bench.sheet([OK]), max_cost_usd=9)
    assert (done.results[0].cost_cents, done.summary.cost_cents) == (cents, cents)
    assert (done.results[0].warnings, done.exit_code) == ((), 0)


@pytest.mark.parametrize("quote", ["soon", -5, True, "9" * 400, [54], {"cents": 54}, ""])
async def test_a_quote_that_is_no_price_is_booked_as_expected_with_a_warning(bench, quote):
    bench.sandbox.fault("submit", prompt=OK, cents=quote)
    done = await bench.deliver(bench.sheet([OK, ODD]), max_cost_usd=5, concurrency=1)
    assert [result.cost_cents for result in done.results] == [54, 54]
    assert "no price" in done.results[0].warnings[0]
    assert "no price" in done.table()[0]["warnings"]
    assert (done.results[1].warnings, done.exit_code) == ((), 0)


@pytest.mark.parametrize("quote", [541, 1e9, 1e300])
async def test_a_quote_of_more_than_ten_times_is_booked_and_stops_submitting(bench, quote):
    bench.sandbox.fault("submit", prompt=ODD, cents=quote)
    done = await bench.deliver(bench.sheet([OK, ODD, "third", "fourth"]), max_cost_usd=10_000_000, concurrency=1)
    assert done.statuses() == ["succeeded", "succeeded", "skipped", "skipped"]
    assert done.results[1].cost_cents == min(quote, 1_000_000_000)
    assert (set(done.codes()[2:]), done.exit_code) == ({"over_budget"}, 4)
    assert "REELSHEET_PRICE_CENTS" in done.results[3].error


async def test_quotes_of_nothing_leave_the_expected_price_and_the_cap_in_force(bench):
    """Nine clips for nothing are no promise for the tenth, whose answer names no price."""
    bench.sandbox.fault("submit", times=9, cents=0)
    bench.sandbox.fault("submit", times=-1, cents=None)
    done = await bench.deliver(bench.sheet([f"prompt {n}" for n in range(12)]), max_cost_usd=1.08, concurrency=1)
    assert [result.cost_cents for result in done.results] == [0] * 9 + [54, 54, 0]
    assert (done.codes()[11], done.exit_code) == ("over_budget", 4)


async def test_a_quote_above_the_expected_price_is_obeyed_and_stops_at_the_cap(bench):
    bench.sandbox.settings(cost_cents=100)
    done = await bench.deliver(bench.sheet([f"prompt {n}" for n in range(6)]), max_cost_usd=3.24, concurrency=1)
    assert done.statuses() == ["succeeded"] * 3 + ["skipped"] * 3
    assert set(done.codes()[3:]) == {"over_budget"}
    assert done.exit_code == 4
    assert done.summary.cost_cents == 300


async def test_the_cap_holds_and_says_what_to_raise(bench):
    done = await bench.deliver(bench.sheet([f"prompt {n}" for n in range(5)]), max_cost_usd=1.08)
    assert sorted(done.statuses()) == ["skipped"] * 3 + ["succeeded"] * 2
    assert done.exit_code == 4
    assert "--max-cost" in next(result.error for result in done.results if result.status == "skipped")


async def test_money_that_is_released_by_a_refusal_lets_a_later_row_in(bench):
    bench.sandbox.fault("submit", prompt=ODD, times=-1, delay=0.3, answer={"status": 422})
    done = await bench.deliver(bench.sheet([ODD, OK, "third"]), max_cost_usd=1.08)
    assert done.statuses() == ["failed", "succeeded", "succeeded"]


@pytest.mark.parametrize("verb", ["run", "retry"])
@pytest.mark.parametrize(
    "answer",
    [
        {"redirect": "https://api.test/", "answer": {"status": 301}},
        {"redirect": "https://api.test/", "answer": {"status": 308}},
        {"answer": {"status": 200, "headers": {"content-type": "text/html"}, "body": "<title>Welcome</title>"}},
    ],
)
async def test_an_address_that_is_not_the_apis_is_refused_before_anything_is_sent(bench, verb, answer):
    bench.sandbox.fault("submit", answer={"status": 422}, times=-1)
    sheet = bench.sheet(["one", "two"])
    done = await bench.deliver(sheet)
    assert done.statuses() == ["failed"] * 2
    posted = bench.posted()
    bench.sandbox.clear_faults()
    bench.sandbox.fault("poll", times=-1, **answer)
    bench.sandbox.fault("submit", times=-1, **answer)
    with pytest.raises(UnusableSurroundings, match="VIBEDREAM_BASE_URL: http://127") as caught:
        await bench.deliver(done.destination if verb == "retry" else sheet, verb=verb)
    assert str(caught.value).endswith("Nothing was spent.")
    assert caught.value.exit_code == 2
    assert bench.posted() == posted


async def test_the_days_cap_holds_over_runs(bench, monkeypatch):
    monkeypatch.setenv("REELSHEET_DAILY_CAP_USD", "1.62")
    first = await bench.deliver(bench.sheet(["one", "two"]))
    assert first.exit_code == 0
    second = await bench.deliver(bench.sheet(["three", "four"]))
    assert sorted(second.statuses()) == ["skipped", "succeeded"]
    assert second.exit_code == 4
    assert "REELSHEET_DAILY_CAP_USD" in next(r.error for r in second.results if r.status == "skipped")


async def test_rows_with_one_identity_are_paid_for_once_and_all_delivered(bench):
    done = await bench.deliver(bench.sheet([OK, OK, OK]))
    assert done.statuses() == ["succeeded"] * 3
    assert [r.cost_cents for r in done.results] == [54, 0, 0]
    assert [r.total_cost_cents for r in done.results] == [54, 0, 0]
    assert [r.reused for r in done.results] == [False, True, True]
    assert len({r.video_uri for r in done.results}) == 1


async def test_only_a_limited_number_is_attempted_and_the_others_say_so(bench):
    done = await bench.deliver(bench.sheet(["one", "two", "three"]), limit=2)
    assert done.statuses() == ["succeeded", "succeeded", "skipped"]
    assert done.codes()[2] == "over_limit"
    assert done.exit_code == 0


async def test_ten_failed_predictions_and_no_good_one_stop_submitting(bench):
    bench.sandbox.settings(fail_rate=1.0)
    done = await bench.deliver(bench.sheet([f"prompt {n}" for n in range(40)]), concurrency=4)
    assert done.exit_code == 3
    assert 10 <= done.statuses().count("failed") < 40
    assert done.statuses().count("skipped") > 0
    assert done.summary.wasted_cents == done.summary.cost_cents
