"""Answers of every kind are read without a crash, and never believed further than they go."""

import json
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reelsheet.provider.classification import PREDICTION_ID, SubmitOutcome, classify_response, usable_id
from reelsheet.provider.client import Provider
from reelsheet.provider.prediction import Phase, PollResult, read_prediction
from reelsheet.redaction import clean, clean_url, unsigned, visible
from reelsheet.settings import Settings

ASKED = "550e8400-e29b-41d4-a716-446655440000"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))
FIELDS = st.sampled_from(["id", "status", "outputs", "error", "message", "detail", "code", "costCents", "data", "type"])
ANSWERS = st.dictionaries(FIELDS | st.sampled_from(["createdAt", "completedAt", "estimatedTime"]), JSON, max_size=8)
BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | ANSWERS.map(json.dumps).map(str.encode)
)


def is_harmless(text: str) -> bool:
    """One line, with nothing in it that a terminal or a reader's eye would obey."""
    return not any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in text)


@pytest.fixture(scope="module")
def provider():
    return Provider(Settings(api_key="a-key-of-nobody"))


@given(
    st.integers(100, 599),
    BODIES,
    st.booleans(),
    st.dictionaries(st.sampled_from(["location", "content-type"]), st.text()),
)
def test_no_answer_to_a_submission_crashes_and_only_a_2xx_with_an_id_is_accepted(status, body, complete, headers):
    answer = classify_response(status, headers, body, complete=complete, retry_after_s=None)
    assert (answer.outcome is SubmitOutcome.ACCEPTED) == bool(answer.prediction_id)
    if answer.outcome is SubmitOutcome.ACCEPTED:
        assert 200 <= status < 300
        assert PREDICTION_ID.fullmatch(answer.prediction_id)
    if answer.outcome in {
        SubmitOutcome.REJECTED,
        SubmitOutcome.THROTTLED,
        SubmitOutcome.KEY_REFUSED,
        SubmitOutcome.NO_BALANCE,
    }:
        assert 400 <= status < 500
    assert is_harmless(answer.message)
    assert len(answer.message) < 400


@given(ANSWERS, st.sampled_from(["processing", "completed", "failed", "Completed", "nsfw", "queued_v2"]))
def test_no_answer_to_a_poll_crashes_and_a_clip_needs_the_asked_id(provider, answer, status):
    for more in ({"id": ASKED, "status": status}, {"id": ASKED}, {}):
        look = read_prediction(ASKED, json.dumps(answer | more).encode(), provider._link)
        assert isinstance(look, PollResult)
        if (answer | more).get("id") != ASKED:
            assert look.phase is Phase.BLIP
        assert all(isinstance(link, str) and len(link) < 8300 for link in look.outputs)
        assert is_harmless(look.message)


@pytest.mark.parametrize("depth", [*range(900, 1010, 3), 100_000])
@pytest.mark.parametrize("field", ["status", "error", "outputs", "completedAt"])
def test_nesting_of_any_depth_is_no_crash(provider, depth, field):
    """At some depth a body can just be parsed, and no longer be shown."""
    deep = "[" * depth + "]" * depth
    body = f'{{"id": "{ASKED}", "status": "failed", "{field}": {deep}}}'.encode()
    assert read_prediction(ASKED, body, provider._link).phase in {Phase.FAILED, Phase.RUNNING, Phase.BLIP}
    classify_response(200, {}, body, complete=True, retry_after_s=None)
    classify_response(400, {}, body, complete=True, retry_after_s=None)
    assert sys.getrecursionlimit() <= 3000


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:59.999999Z",
        "99999-01-01",
        "2026-02-30",
        "",
        "now",
        "\u0662\u0660\u0662\u0666-01-01",
    ],
)
def test_times_that_cannot_be_are_no_crash(provider, moment):
    body = {"id": ASKED, "status": "completed", "outputs": ["https://a.test/a.mp4"], "completedAt": moment}
    look = read_prediction(ASKED, json.dumps(body).encode(), provider._link)
    assert (look.phase, look.completed_at) == (Phase.COMPLETED, None)


@given(st.text(max_size=300) | st.binary(max_size=20) | SCALARS)
@example("a" * 200)
@example("..")
@example("a/../b")
@example("a\n")
def test_an_id_is_safe_in_an_address_a_file_name_and_a_table(value):
    found = usable_id(value)
    assert found in {"", value}
    assert not set(found) & set("/\\?#%&=+ \t\r\n'\"<>@")
    assert found not in {".", ".."}
    assert len(found) <= 200


# Texts that were written to keep a pattern busy: the time limit is what would fail

BUSY = [
    "x://" + ":" * 3000 + "]/@a",
    "http://" + ":1" * 9000 + "]/@a",
    "http://" + "@" * 20_000,
    "-----BEGIN " * 2000,
    "cookie: " + "a; " * 6000,
    "token=" * 3500,
    "'auth':'" * 2500,
    "%25" * 7000,
    "http://a/" + "%25" * 7000,
    "http://a/" + "/" * 20_000,
    "http://a/?" + "a=b&" * 5000,
    "http://a/?" + ";" * 20_000,
    "\x1b]" * 10_000,
    "eyJ" + "a" * 20_000,
    "sk-" + "a-" * 10_000,
    "a://" * 5000,
    "http://a/?u=http%3A%2F%2Fb%3Ftoken%3Dx&" * 500,
    "http://" + "a" * 1_000_000,
    "x" * 1_000_000,
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", BUSY, ids=range(len(BUSY)))
def test_no_text_keeps_the_cleaning_busy(text):
    assert len(clean(text)) <= 300
    assert clean_url(text) is not None
    assert unsigned(text) is not None
    assert visible(text[:20_000])


@settings(max_examples=50)
@given(st.text(max_size=40), st.text(max_size=40))
def test_a_secret_that_was_told_once_is_masked_in_every_text(before, after):
    from reelsheet.redaction import register_secret

    secret = "0nly-0nce-t0ld/to us"
    register_secret(secret)
    for shown in (clean(f"{before} {secret} {after}"), clean_url(f"https://a.test/{secret}/{after}"), visible(secret)):
        assert secret not in shown
        assert "0nly-0nce-t0ld" not in shown
