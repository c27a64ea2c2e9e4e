"""What the answer to a submission proves, row by row of the table in `reelsheet.provider.classification`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.provider.classification import PREDICTION_ID, SubmitOutcome, classify_response, usable_id
from reelsheet.web.retry_after import LONGEST_S

UUID = "550e8400-e29b-41d4-a716-446655440000"


def classify(status, body=b"", *, complete=True, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify_response(status, named, content, complete=complete, retry_after_s=None)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_2xx_with_an_id_is_accepted_at_its_quote(status):
    result = classify(status, {"id": UUID, "costCents": 60, "estimatedTime": "5 seconds"})
    assert (result.outcome, result.prediction_id, result.price_cents) == (SubmitOutcome.ACCEPTED, UUID, 60)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"data": {"id": UUID}}, {}),
        ({"prediction_id": UUID, "status": "queued"}, {}),
        ({"code": 0, "data": {"predictionId": UUID}}, {}),
        ({}, {"location": f"/api/v1/predictions/{UUID}?x=1"}),
        (b"", {"location": f"https://api.example.com/api/v1/predictions/{UUID}/"}),
    ],
)
def test_an_id_is_found_where_an_api_may_put_it(body, headers):
    assert classify(202, body, **headers).prediction_id == UUID


@pytest.mark.parametrize(
    "body",
    [
        f'{{"id": "{UUID}", "status": "proc',
        f'{{"status":"processing","costCents":54,"id":"{UUID}"',
        f'{{"urls": {{"a": [1, 2]}}, "id" : "{UUID}", "x": {{',
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_whole_id_in_an_answer_that_was_cut_off_still_counts(body, complete):
    """Whether the protocol shows the cut or a lying Content-Length hides it."""
    assert classify(200, body.encode(), complete=complete).prediction_id == UUID


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b"7", b"not json", b"<html><title>Welcome to Wi-Fi</title></html>",
        b'{"id": ""}', b'{"id": null}', b'{"id": 12345}', b'{"id": ["a"]}', b'{"id": "../../x"}', b'{"id": "."}',
        b'{"id": "a b"}', b'{"id": "' + b"x" * 201 + b'"}', b'{"id": "abc', b'{"input": {"id": "nested"}, "st',
        b'{"id": "' + "é".encode() + b'"}', b"\xff\xfe\x00", b'{"id": {"id": "a"}}', b"[" * 100_000,
        b'{"id": 7, "prediction_id": "a"}', b'{"task_id": "a"}', b'{"request_id": "a"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("complete", [True, False])
def test_2xx_without_a_usable_id_proves_nothing(body, complete):
    result = classify(200, body, complete=complete)
    assert (result.outcome, result.prediction_id) == (SubmitOutcome.UNKNOWN, "")


def test_an_id_that_is_none_is_not_looked_for_elsewhere():
    """`"id": null` says that something changed; nothing is guessed from what stands beside it."""
    assert classify(200, {"id": None}, location=f"/predictions/{UUID}").outcome is SubmitOutcome.UNKNOWN
    assert classify(200, {"statusUrl": f"https://x/predictions/{UUID}"}).outcome is SubmitOutcome.UNKNOWN


def test_what_came_without_an_id_is_kept_for_whoever_looks_for_it():
    assert "queued" in classify(200, {"state": "queued"}).message


@pytest.mark.parametrize("status", [408, 409, 425, 499])
def test_what_proxies_say_of_requests_that_arrived_proves_nothing(status):
    assert classify(status, {"error": "conflict"}).outcome is SubmitOutcome.UNKNOWN


@pytest.mark.parametrize("status", [199, 300, 399, 500])
def test_an_id_counts_in_2xx_only(status):
    assert classify(status, {"id": UUID}).outcome is SubmitOutcome.UNKNOWN


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 304])
def test_a_redirect_proves_nothing_and_says_where_it_leads(status):
    result = classify(status, location="https://elsewhere.example/api?token=secret123456")
    assert result.outcome is SubmitOutcome.UNKNOWN
    assert "elsewhere.example" in result.message
    assert "secret123456" not in result.message


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 507, 520, 521, 522, 523, 524, 530, 599])
def test_5xx_proves_nothing(status):
    assert classify(status, b"<html>Bad gateway</html>", content_type="text/html").outcome is SubmitOutcome.UNKNOWN


@pytest.mark.parametrize(
    "status", [400, 404, 405, 406, 410, 411, 412, 413, 414, 415, 418, 422, 424, 426, 428, 431, 451]
)
def test_any_other_answered_4xx_was_not_accepted(status):
    result = classify(status, {"error": {"message": "prompt is too long"}})
    assert (result.outcome, result.message) == (SubmitOutcome.REJECTED, "prompt is too long")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_accounts_trouble(status):
    assert classify(status, {"error": "bad key"}).outcome is SubmitOutcome.KEY_REFUSED


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, b""),
        (402, {"error": "x"}),
        (400, {"code": "insufficient_credits"}),
        (403, {"error": {"code": "INSUFFICIENT-BALANCE"}}),
        (429, {"error": {"type": "x", "code": "insufficient_quota"}}),
    ],
)
def test_an_empty_account_is_told_by_its_code_whatever_the_status(status, body):
    assert classify(status, body).outcome is SubmitOutcome.NO_BALANCE


def test_a_server_error_stays_unknown_whatever_its_code_says():
    assert classify(500, {"code": "insufficient_credits"}).outcome is SubmitOutcome.UNKNOWN


def test_429_is_not_accepted_and_carries_its_pause():
    result = classify_response(429, {}, b"", complete=True, retry_after_s=7.5)
    assert (result.outcome, result.retry_after_s) == (SubmitOutcome.THROTTLED, 7.5)
    assert LONGEST_S == 600.0


def test_a_moderated_row_is_told_by_its_code():
    assert classify(400, {"code": "content_policy_violation"}).moderated
    assert classify(400, {"type": "Moderation-Failed"}).moderated
    assert not classify(400, {"code": "invalid_params"}).moderated


def test_a_moderated_row_is_told_by_the_provider_s_sentence_as_well():
    sentence = "Your request was flagged by content moderation. Please modify your prompt."
    assert classify(422, {"error": sentence}).moderated
    assert not classify(422, {"error": "The image could not be read."}).moderated


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": "short", "message": "a longer explanation"}, "a longer explanation"),
        ({"detail": [{"msg": "field required"}]}, "field required"),
        ({"errors": [{"message": "prompt is too long", "code": 7}]}, "prompt is too long"),
        ({"details": "no"}, "no"),
        ({"title": "no"}, "no"),
        ({"msg": "no"}, "no"),
        ({"reason": {"detail": "no"}}, "no"),
        ({"message": {"error": "no"}}, "no"),
        (b"plain words\x00 with\ncontrol", "plain words with control"),
        (b"<html><head><title>502 Bad Gateway</title>", "a web page: 502 Bad Gateway"),
        ({"error": "see https://x.example/a?X-Amz-Signature=abcdef"}, "see https://x.example/a"),
    ],
)
def test_the_providers_words_are_found_in_any_shape_and_cleaned(body, words):
    assert classify(422, body).message == words


@pytest.mark.parametrize("status", [402, 429, 403, 408, 422])
def test_the_words_and_the_status_come_with_every_verdict(status):
    result = classify(status, {"message": "no"})
    assert (result.status, result.message) == (status, "no")


def test_a_page_is_known_by_its_type_where_its_first_sign_says_nothing():
    assert classify(422, b"  hello <TITLE>Sorry</TITLE>", content_type="Text/HTML").message == "a web page: Sorry"
    assert classify(422, b"hello", content_type="text/html").message == "a web page"


def test_what_an_accepted_answer_says_of_its_time_is_passed_on():
    result = classify_response(
        200, {}, json.dumps({"id": UUID, "estimatedTime": "5 seconds"}).encode(), complete=True, retry_after_s=3
    )
    assert (result.status, result.estimate, result.retry_after_s) == (200, "5 seconds", 3)


@given(st.integers(100, 599), st.binary(max_size=300), st.booleans())
def test_no_body_breaks_the_judgement_and_only_a_usable_id_is_accepted(status, body, complete):
    result = classify(status, body, complete=complete)
    assert (result.outcome is SubmitOutcome.ACCEPTED) == bool(result.prediction_id)
    if result.prediction_id:
        assert 200 <= status < 300
        assert PREDICTION_ID.fullmatch(result.prediction_id)


@given(st.text(max_size=220))
def test_an_id_is_safe_in_an_address_and_in_a_file_name(text):
    if usable_id(text):
        assert "/" not in text
        assert text not in {".", ".."}
        assert text.isascii()
        assert text.isprintable()
