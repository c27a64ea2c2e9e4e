"""The body decides with the status: is a refusal about the row, the account, or did nobody of the provider's say it?"""

import json

import pytest

from reelsheet.provider.classification import SubmitOutcome, classify_response

HTML = {"content-type": "text/html; charset=utf-8"}


def classify(status, body=b"", headers=None, retry_after_s=None):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify_response(status, headers or {}, content, complete=True, retry_after_s=retry_after_s)


MODERATED = [
    {"error": {"code": "content_policy_violation", "message": "Forbidden"}},
    {"code": "CONTENT-MODERATED"},
    {"error": "ContentPolicyViolation"},
    {"error": {"type": "invalid_request_error", "code": "moderation_blocked", "message": "Your request was rejected."}},
    {"detail": {"reason": "NSFW", "msg": "not allowed"}},
    {"errors": [{"code": "safety_filter", "message": "blocked"}]},
    {"message": "This prompt was flagged by our safety system."},
    {"error": "Your request was flagged by content moderation. Please modify your prompt."},
    {"message": "Blocked by the content policy. Repeated violations may lead to the suspension of your account."},
    b"The request was blocked: content policy",
]
ABOUT_ROW = [
    {"error": {"code": "image_forbidden", "message": "403 from shop.example"}},
    {"error": "The image could not be downloaded (403 Forbidden)."},
    {"detail": [{"loc": ["body", "image"], "msg": "picture of a public figure", "type": "forbidden"}]},
    {"message": "The photo violates our usage policies."},
    {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "Prompt contains copyright material"}},
    b"prompt not allowed",
]


@pytest.mark.parametrize("body", MODERATED)
def test_a_403_about_the_content_is_the_row_s_and_moderated(body):
    result = classify(403, body)
    assert (result.outcome, result.moderated) == (SubmitOutcome.REJECTED, True)


@pytest.mark.parametrize("body", ABOUT_ROW)
def test_a_403_about_the_picture_or_the_prompt_is_the_row_s(body):
    assert classify(403, body).outcome is SubmitOutcome.REJECTED


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"Forbidden", {"error": "forbidden"}, {"message": "Forbidden"},
        {"error": {"code": "invalid_api_key", "message": "no"}},
        {"error": "You do not have permission to use image-to-video models."},
        {"message": "This API key may not access image models."},
        {"error": "Your account has been suspended after repeated content policy violations."},
        {"message": "User: arn:aws:iam::1:user/x is not authorized, with an explicit deny in a policy"},
        {"error": "The service is not available in your country."},
        {"code": "model_not_allowed", "message": "i2v-pro needs the Pro plan; your image plan is Basic"},
    ],
)  # fmt: skip
def test_any_other_403_is_about_the_key_or_its_account(body):
    assert classify(403, body).outcome is SubmitOutcome.KEY_REFUSED


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<!DOCTYPE html><title>Attention Required! | Cloudflare</title>", HTML),
        (b"\xef\xbb\xbf <html><head><title>403 Forbidden</title></head></html>", {}),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", {"content-type": "application/xml"}),
        (b"Request blocked by Zscaler: content policy, api key", HTML),
        (b"error code: 1020", {"content-type": "text/plain"}),
        ({"title": "Error 1010: Access denied", "cloudflare_error": True}, {}),
    ],
)
def test_a_403_that_is_a_web_page_is_nobody_s_verdict(body, headers):
    result = classify(403, body, headers)
    assert (result.outcome, result.is_page, result.moderated) == (SubmitOutcome.FIREWALL, True, False)


def test_what_is_json_is_the_api_s_whatever_its_content_type_says():
    assert classify(403, {"code": "nsfw"}, HTML).outcome is SubmitOutcome.REJECTED


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422, 451])
def test_the_words_of_a_page_are_not_taken_for_the_provider_s(status):
    page = b"<html><title>Blocked: content policy, invalid api key, insufficient credits</title></html>"
    result = classify(status, page, HTML)
    assert (result.outcome, result.moderated, result.is_page) == (SubmitOutcome.REJECTED, False, True)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(401, "key_refused"), (402, "no_balance"), (429, "throttled"), (408, "unknown"), (503, "unknown")],
)
def test_a_page_with_a_status_that_says_enough_counts_by_its_status(status, outcome):
    assert classify(status, b"<html><title>Blocked: content policy</title></html>", HTML).outcome == outcome


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429])
@pytest.mark.parametrize(
    "body",
    [
        {"error": "Insufficient credits"},
        {"message": "You do not have enough: your balance is too low to run i2v-pro"},
        {"error": {"code": "InsufficientBalance"}},
        {"error": {"type": "x", "code": "insufficient_quota", "message": "please check your plan and billing details"}},
        {"detail": {"code": "out_of_credits"}},
        {"errors": [{"reason": "payment_required"}]},
        b"not enough credits",
    ],
)
def test_an_empty_account_is_known_by_code_or_words_whatever_the_status(status, body):
    assert classify(status, body, retry_after_s=1.0).outcome is SubmitOutcome.NO_BALANCE


def test_a_prompt_that_is_quoted_back_empties_no_account():
    body = {"error": "The prompt 'insufficient balance on a tightrope' is too long"}
    assert classify(422, body).outcome is SubmitOutcome.REJECTED


@pytest.mark.parametrize(
    ("body", "pause_s", "outcome"),
    [
        ({"code": "quota_exceeded"}, None, "no_balance"),
        ({"error": "You have exceeded your monthly quota."}, None, "no_balance"),
        ({"code": "quota_exceeded"}, 20.0, "throttled"),
        ({"code": "quota_exceeded", "message": "Quota exceeded: 10 requests per minute"}, None, "throttled"),
        ({"code": "quota_exceeded", "message": "too many concurrent predictions"}, None, "throttled"),
        ({"code": "content_policy_violation"}, None, "throttled"),
    ],
)
def test_a_429_is_a_pace_unless_its_quota_does_not_come_back(body, pause_s, outcome):
    assert classify(429, body, retry_after_s=pause_s).outcome == outcome


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID"}},
        {"code": "invalid_api_key"},
        {"error": "Unauthorized"},
        {"message": "Invalid API token"},
        {"error": {"type": "authentication_error"}},
    ],
)
def test_a_refused_key_is_known_by_its_words_too(status, body):
    assert classify(status, body).outcome is SubmitOutcome.KEY_REFUSED


@pytest.mark.parametrize(
    "body", [{"error": "unknown parameter 'api_version'"}, {"message": "token limit of the prompt exceeded"}, b"nope"]
)
def test_any_other_refusal_is_the_row_s(body):
    assert classify(422, body).outcome is SubmitOutcome.REJECTED


@pytest.mark.parametrize("digits", ["9" * 5000, "-" + "9" * 5000, "9" * 31])
@pytest.mark.parametrize("order", ["{%s, %s}", "{%s, %s, cut"])
def test_a_number_that_python_will_not_read_hides_no_id(digits, order):
    parts = f'"costCents": {digits}', '"id": "pred-1"'
    result = classify_response(200, {}, (order % parts).encode(), complete=True, retry_after_s=None)
    assert (result.outcome, result.prediction_id) == (SubmitOutcome.ACCEPTED, "pred-1")


@pytest.mark.parametrize("quote", [-54, float("nan"), "abc", True, [54], {"cents": 54}, "9" * 300, float("inf")])
def test_a_quote_that_is_no_price_is_kept_for_the_row_s_warning(quote):
    result = classify(200, {"id": "pred-1", "costCents": quote})
    assert result.price_cents is None
    assert result.odd_quote
    assert len(result.odd_quote) <= 70


@pytest.mark.parametrize("body", [{"id": "pred-1"}, {"id": "pred-1", "costCents": None}])
def test_no_quote_is_nothing_odd(body):
    assert classify(200, body).odd_quote == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errors": {"prompt": ["is spicy", "is long"], "image": "too small"}}, "prompt: is spicy; image: too small"),
        ({"error": {"code": "E17", "hint": "use a JPEG"}}, "code: E17; hint: use a JPEG"),
        ({"error": {"message": {"en": "no such image"}}}, '{"error": {"message": {"en": "no such image"}}}'),
        ({"error": 1234}, "1234"),
        ({"error_description": "teapot"}, '{"error_description": "teapot"}'),
        ({"fault": {"faultstring": "policy"}}, '{"fault": {"faultstring": "policy"}}'),
        ({"ok": False}, '{"ok": false}'),
        (["first", 2], '["first", 2]'),
        (b"null", "null"),
        (b'{"error": "cut o', '{"error": "cut o'),
        ({}, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 400, 503])
def test_no_shape_of_an_error_loses_the_provider_s_words(status, body, words):
    assert classify(status, body).message == words


@pytest.mark.parametrize("body", [{"errors": {"prompt": ["was flagged"]}}, {"detail": {"image": "is not a picture"}}])
def test_an_error_that_is_filed_under_a_field_is_about_the_row(body):
    assert classify(403, body).outcome is SubmitOutcome.REJECTED
