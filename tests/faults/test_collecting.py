"""Polling and copying never cost: blips are absorbed, what cannot be delivered is told and collected later."""

import shutil
import time
from typing import Any

import pytest

from reelsheet.provider.client import Provider
from reelsheet.provider.prediction import PollResult

OK = "a calm push in"
ODD = "the odd one"

BLIPS: dict[str, dict[str, Any]] = {
    "500": {"answer": {"status": 500}},
    "502 HTML": {"answer": {"status": 502, "body": "<html>"}},
    "429": {"answer": {"status": 429, "headers": {"retry-after": "1"}}},
    "408": {"answer": {"status": 408}},
    "200 HTML": {"answer": {"status": 200, "body": "<html>"}},
    "200 cut": {"cut": 15},
    "closed": {"close": "after"},
    "reset": {"reset": "after"},
    "another id": {"patch": {"id": "11111111-1111-1111-1111-111111111111"}},
    "redirect": {"redirect": "http://127.0.0.1:9/"},
    "404 while fresh": {"answer": {"status": 404}},
    "400 twice": {"answer": {"status": 400}},
    "402": {"answer": {"status": 402}},
    "a firewall's 403": {"answer": {"status": 403, "body": "<title>Blocked</title>"}},
    "404 that is a page": {"answer": {"status": 404, "body": "<pre>Cannot GET /</pre>"}},
    "403 about the row": {"answer": {"status": 403, "body": {"code": "content_policy"}}},
    "an unknown status": {"status": ["queued_v2", "COMPLETED"]},
    "other cases": {"status": ["Starting", "in_progress", "Completed"]},
}


@pytest.mark.parametrize("also_before", [True, False])
@pytest.mark.parametrize("case", BLIPS)
async def test_blips_while_polling_are_absorbed(bench, case, also_before):
    """`also_before`: the free question about the key, which comes first, meets them too."""
    times = {} if "status" in BLIPS[case] else {"times": 2} if also_before else {"times": 2, "nth": [2, 3]}
    bench.sandbox.fault("poll", **times, **BLIPS[case])
    done = await bench.deliver(bench.sheet([ODD]))
    assert done.statuses() == ["succeeded"], done.results[0].error
    assert done.exit_code == (3 if case == "402" else 0)


@pytest.mark.parametrize(
    ("word", "code"), [("failed", "generation_failed"), ("canceled", "generation_failed"), ("nsfw", "moderated")]
)
async def test_words_for_failure_are_failures(bench, word, code):
    bench.sandbox.fault("poll", status=[word], patch={"error": None, "outputs": None})
    done = await bench.deliver(bench.sheet([ODD]))
    assert (done.statuses(), done.codes()) == (["failed"], [code])
    assert done.results[0].cost_cents == 54
    assert done.summary.wasted_cents == 54


async def test_other_words_for_the_end_are_understood_with_a_warning(bench):
    bench.sandbox.fault("poll", status=["Succeed"])
    done = await bench.deliver(bench.sheet([ODD]))
    assert done.statuses() == ["succeeded"]
    assert any("the status 'Succeed'" in warning for warning in done.results[0].warnings)


async def test_a_moderated_row_is_remembered_by_run_and_paid_for_again_by_retry(bench):
    bench.sandbox.fault("submit", prompt=ODD, fail="Your request was flagged by content moderation.")
    sheet = bench.sheet([ODD, OK])
    first = await bench.deliver(sheet)
    assert first.codes() == ["moderated", ""]
    again = await bench.deliver(sheet)
    assert again.codes() == ["moderated", ""]
    assert again.summary.cost_cents == 0
    assert sum(bench.charged().values()) == 2


@pytest.mark.charges(2)
async def test_retry_pays_for_a_failed_row_once_and_keeps_the_count(bench):
    bench.sandbox.fault("submit", prompt=ODD, fail="Your request was flagged by content moderation.")
    first = await bench.deliver(bench.sheet([ODD, OK]))
    again = await bench.deliver(bench.destination, verb="retry")
    assert again.statuses() == ["succeeded", "succeeded"]
    assert again.results[0].attempt == 2
    assert (again.results[0].cost_cents, again.results[0].total_cost_cents) == (54, 108)
    assert again.results[0].video_uri.endswith("-2.mp4")
    assert first.run_id != again.run.run_id if hasattr(first, "run_id") else True
    third = await bench.deliver(bench.destination, verb="retry")
    assert third.summary.cost_cents == 0
    assert third.exit_code == 0


async def test_a_prediction_that_never_ends_is_undelivered_at_the_deadline_and_collected_by_a_later_run(bench):
    bench.sandbox.fault("poll", status=["processing"], times=1000)
    sheet = bench.sheet([ODD])
    first = await bench.deliver(sheet, deadline_seconds=0.3)
    assert (first.statuses(), first.codes(), first.exit_code) == (["undelivered"], ["deadline"], 1)
    assert first.results[0].cost_cents == 54
    bench.sandbox.clear_faults()
    second = await bench.deliver(sheet)
    assert second.statuses() == ["succeeded"]
    assert second.results[0].cost_cents == 0
    assert second.results[0].reused


@pytest.mark.parametrize("hours", [-30, 30])
async def test_a_clock_that_jumps_while_a_clip_is_made_changes_no_deadline(bench, monkeypatch, hours):
    """A laptop that sleeps, a clock that is set: the time of day moves between two polls."""
    bench.sandbox.fault("poll", times=2, status=["processing"])
    polls = 0
    usual = Provider.poll

    async def poll(provider: Provider, prediction_id: str) -> PollResult:
        nonlocal polls
        polls += 1
        if polls == 1:
            now = time.time
            monkeypatch.setattr(time, "time", lambda: now() + 3600 * hours)
        return await usual(provider, prediction_id)

    monkeypatch.setattr(Provider, "poll", poll)
    done = await bench.deliver(bench.sheet([ODD]), deadline_seconds=60)
    assert done.statuses() == ["succeeded"], done.results[0].error
    assert polls >= 2
    assert sum(bench.charged().values()) == 1


async def test_a_deadline_of_zero_still_polls_once(bench):
    bench.sandbox.settings(latency=0)
    done = await bench.deliver(bench.sheet([ODD]), deadline_seconds=0)
    assert done.statuses()[0] in {"succeeded", "undelivered"}
    assert sum(1 for count in bench.sandbox.activity()["polls"].values() if count) >= 1


async def test_an_unknown_status_is_named_and_not_guessed(bench):
    bench.sandbox.fault("poll", status=["hovering"])
    done = await bench.deliver(bench.sheet([ODD]), deadline_seconds=0.3)
    assert done.codes() == ["deadline"]
    assert "hovering" in done.results[0].error


async def test_a_prediction_that_the_provider_forgot_is_lost_and_never_sent_again(bench):
    bench.sandbox.fault("poll", times=-1, answer={"status": 404, "body": {"error": "not found"}})
    sheet = bench.sheet([ODD])
    first = await bench.deliver(sheet, deadline_seconds=0.5)
    assert (first.statuses(), first.codes()) == (["undelivered"], ["lost"])
    second = await bench.deliver(sheet, deadline_seconds=0.5)
    assert second.codes() == ["lost"]
    assert sum(bench.charged().values()) == 1


@pytest.mark.parametrize("outputs", [None, [], [""]])
async def test_completed_without_outputs_is_undelivered_and_polled_by_a_later_run(bench, outputs):
    bench.sandbox.fault("poll", outputs=outputs)
    sheet = bench.sheet([ODD])
    first = await bench.deliver(sheet)
    assert (first.statuses(), first.codes()) == (["undelivered"], ["no_output"])
    bench.sandbox.clear_faults()
    assert (await bench.deliver(sheet)).statuses() == ["succeeded"]


async def test_every_output_of_a_prediction_is_stored(bench):
    bench.sandbox.fault("poll", outputs=3)
    done = await bench.deliver(bench.sheet([ODD]))
    assert done.statuses() == ["succeeded"]
    assert len(done.results[0].more_video_uris) == 2
    assert len(list((bench.destination / "videos").glob("*.mp4"))) == 3


async def test_a_key_that_is_refused_while_polling_stops_submitting_and_leaves_paid_rows_undelivered(bench):
    bench.sandbox.fault("poll", prompt=ODD, times=-1, answer={"status": 401, "body": {"error": "revoked"}})
    bench.sandbox.fault("poll", times=-1, nth=list(range(2, 200)), answer={"status": 401, "body": {"error": "revoked"}})
    sheet = bench.sheet([ODD, *[f"later {n}" for n in range(6)]])
    done = await bench.deliver(sheet, concurrency=1)
    assert done.results[0].status == "undelivered"
    assert done.results[0].error_code == "auth"
    assert done.exit_code == 3
    assert done.statuses().count("skipped") >= 4


async def test_a_402_while_polling_stops_submitting_and_the_paid_row_is_still_fetched(bench):
    bench.sandbox.fault("poll", prompt=ODD, times=2, answer={"status": 402, "body": {"error": "top up"}})
    done = await bench.deliver(bench.sheet([ODD, *[f"later {n}" for n in range(6)]]), concurrency=1)
    assert done.statuses() == ["succeeded"] + ["skipped"] * 6
    assert (set(done.codes()[1:]), done.exit_code) == ({"no_balance"}, 3)


ASSETS: dict[str, dict[str, Any]] = {
    "404": {"answer": {"status": 404}},
    "403 XML": {"answer": {"status": 403, "body": "<Error><Code>AccessDenied</Code></Error>"}},
    "410": {"answer": {"status": 410}},
    "500": {"answer": {"status": 500}},
    "HTML with 200": {
        "answer": {"status": 200, "body": "<html>expired</html>", "headers": {"content-type": "text/html"}}
    },
    "empty": {"answer": {"status": 200, "headers": {"content-type": "video/mp4"}}},
    "cut with a length": {"cut": 1000},
    "cut without a length": {"cut": 1000, "framing": "none"},
    "cut in chunks": {"cut": 1000, "framing": "chunked"},
    "closed": {"close": "after"},
}


@pytest.mark.parametrize("case", ASSETS)
async def test_a_clip_that_does_not_come_whole_at_first_is_fetched_again(bench, case, monkeypatch):
    quick = __import__("asyncio").sleep
    monkeypatch.setattr("reelsheet.storage.clip_copy.asyncio.sleep", lambda seconds: quick(seconds * 0.02))
    bench.sandbox.fault("asset", times=1, **ASSETS[case])
    done = await bench.deliver(bench.sheet([ODD]))
    assert done.statuses() == ["succeeded"], done.results[0].error


async def test_a_clip_that_is_no_clip_is_undelivered_and_costs_nothing_more_later(bench):
    bench.sandbox.fault(
        "asset", times=-1, answer={"status": 200, "body": "not a movie", "headers": {"content-type": "video/mp4"}}
    )
    sheet = bench.sheet([ODD])
    first = await bench.deliver(sheet)
    assert (first.statuses(), first.codes()) == (["undelivered"], ["asset_corrupt"])
    assert not list((bench.destination / "videos").glob("*")) if (bench.destination / "videos").exists() else True
    bench.sandbox.clear_faults()
    second = await bench.deliver(bench.destination, verb="retry")
    assert second.statuses() == ["succeeded"]
    assert second.summary.cost_cents == 0


async def test_the_key_never_reaches_the_asset_host(bench):
    await bench.deliver(bench.sheet([OK, ODD]))
    assert bench.sandbox.activity()["downloads_with_key"] == []


async def test_a_clip_that_is_gone_from_the_destination_is_copied_again_for_nothing(bench):
    sheet = bench.sheet([OK, ODD])
    first = await bench.deliver(sheet)
    from pathlib import Path

    Path(first.results[0].video_uri).unlink()
    second = await bench.deliver(sheet)
    assert second.statuses() == ["succeeded", "succeeded"]
    assert second.summary.cost_cents == 0
    assert Path(second.results[0].video_uri).exists()


async def test_another_destination_is_filled_without_paying(bench):
    sheet = bench.sheet([OK, ODD])
    await bench.deliver(sheet)
    bench.sandbox.fault("asset", times=-1, answer={"status": 410})  # the provider's links have ended
    other = bench.folder / "other"
    done = await bench.deliver(sheet, destination=str(other))
    assert done.statuses() == ["succeeded", "succeeded"]
    assert done.summary.cost_cents == 0
    assert all(r.video_uri.startswith(str(other)) for r in done.results)


async def test_a_lost_ledger_is_rebuilt_from_what_the_destination_carries(bench, monkeypatch):
    bench.sandbox.fault("submit", prompt="lost answer", charged=True, close="after")
    bench.sandbox.fault("submit", prompt="moderated", fail="flagged by content moderation")
    bench.sandbox.fault("poll", prompt="slow", status=["processing"])
    sheet = bench.sheet([OK, "lost answer", "moderated one", "slow one"])
    first = await bench.deliver(sheet, deadline_seconds=0.3)
    assert first.statuses() == ["succeeded", "unknown", "failed", "undelivered"]
    posts = sum(bench.posted().values())
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.folder / "another-laptop"))
    bench.sandbox.clear_faults()
    second = await bench.deliver(sheet)
    assert second.statuses() == ["succeeded", "unknown", "failed", "succeeded"]
    assert second.summary.cost_cents == 0
    assert second.summary.at_risk_cents == 54
    assert [r.total_cost_cents for r in second.results] == [54, 0, 54, 54]
    assert sum(bench.posted().values()) == posts


async def test_clips_are_adopted_by_their_metadata_where_ledger_and_tables_are_gone(bench, monkeypatch, bucket):
    for name, value in bench.sandbox.environment().items():
        if name.startswith("AWS_") is False:
            monkeypatch.setenv(name, value)
    sheet = bench.sheet([OK])
    first = await bench.deliver(sheet, destination=f"s3://{bucket}/c")
    assert first.statuses() == ["succeeded"]
    import boto3

    client = boto3.client("s3")
    for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
        if "/videos/" not in found["Key"]:
            client.delete_object(Bucket=bucket, Key=found["Key"])
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.folder / "another-laptop"))
    second = await bench.deliver(sheet, destination=f"s3://{bucket}/c")
    assert second.statuses() == ["succeeded"]
    assert second.summary.cost_cents == 0
    assert second.results[0].prediction_id == first.results[0].prediction_id
    assert sum(bench.charged().values()) == 1


@pytest.mark.charges(2)
async def test_fresh_pays_once_more_and_keeps_the_old_clip(bench):
    sheet = bench.sheet([OK, ODD])
    await bench.deliver(sheet)
    done = await bench.deliver(sheet, fresh=True)
    assert [r.attempt for r in done.results] == [2, 2]
    assert done.summary.cost_cents == 108
    assert len(list((bench.destination / "videos").glob("*.mp4"))) == 4


@pytest.mark.charges(2)
async def test_retry_unknown_pays_once_more_and_the_first_stays_at_risk(bench):
    bench.sandbox.fault("submit", prompt=ODD, charged=True, close="after", times=1)
    sheet = bench.sheet([ODD])
    await bench.deliver(sheet)
    done = await bench.deliver(sheet, retry_unknown=True)
    assert done.statuses() == ["succeeded"]
    assert (done.results[0].attempt, done.results[0].cost_cents, done.results[0].at_risk_cents) == (2, 54, 54)


@pytest.mark.charges(2)
async def test_a_row_marked_redo_is_paid_for_once_more_and_only_once(bench):
    sheet = bench.sheet([OK, ODD])
    await bench.deliver(sheet)
    marked = bench.folder / "marked.csv"
    table = (bench.destination / "results.csv").read_text(encoding="utf-8").splitlines()
    marked.write_text(
        "\n".join([table[0], table[1].removesuffix(",,,") + "redo,,,", *table[2:]]) + "\n", encoding="utf-8"
    )
    done = await bench.deliver(marked, verb="retry")
    assert [r.attempt for r in done.results] == [2, 1]
    assert done.summary.cost_cents == 54
    again = await bench.deliver(marked, verb="retry")
    assert again.summary.cost_cents == 0


async def test_failed_csv_can_be_mended_and_run_as_it_is(bench):
    bench.sandbox.fault("submit", prompt=ODD, times=-1, answer={"status": 422, "body": {"error": "rude"}})
    done = await bench.deliver(bench.sheet([OK, ODD]))
    failed = bench.destination / "runs" / done.run.run_id / "failed.csv"
    mended = bench.folder / "mended.csv"
    mended.write_text(failed.read_text(encoding="utf-8").replace(ODD, "a polite one"), encoding="utf-8")
    again = await bench.deliver(mended)
    assert again.statuses() == ["succeeded"]
    assert list(again.table()[0])[:3] == ["sku", "image", "prompt"]
    assert len(again.table()[0]) == len(done.table()[0])


async def test_a_results_file_is_a_manifest_and_its_columns_are_not_doubled(bench):
    await bench.deliver(bench.sheet([OK]))
    copied = bench.folder / "copied.csv"
    shutil.copy(bench.destination / "results.csv", copied)
    done = await bench.deliver(copied)
    assert done.summary.cost_cents == 0
    assert len(done.table()[0]) == len(set(done.table()[0]))


@pytest.mark.charges(2)
async def test_redo_on_any_row_of_a_clip_that_several_share_is_heard(bench):
    sheet = bench.sheet(["the same", "the same"])
    await bench.deliver(sheet)
    marked = bench.folder / "marked.csv"
    table = (bench.destination / "results.csv").read_text(encoding="utf-8").splitlines()
    marked.write_text(
        "\n".join([table[0], table[1], table[2].removesuffix(",,,") + "redo,,,"]) + "\n", encoding="utf-8"
    )
    again = await bench.deliver(marked, verb="retry")
    assert [result.attempt for result in again.results] == [2, 2]
    assert again.summary.cost_cents == 54
