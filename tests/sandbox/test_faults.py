"""Scripted faults do what they say, and the stand-in knows whether it charged."""

import httpx
import pytest

CHARGED = pytest.mark.parametrize("charged", [True, False])


@CHARGED
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ({"close": "after"}, httpx.RemoteProtocolError),
        ({"close": "before"}, httpx.TransportError),  # which one depends on what the client was about to send
        ({"reset": "after"}, httpx.ReadError),
        ({"reset": "before"}, httpx.TransportError),
        ({"cut": 10}, httpx.RemoteProtocolError),
        ({"cut": 10, "framing": "chunked"}, httpx.RemoteProtocolError),
    ],
)
def test_a_dropped_connection_looks_the_same_whether_or_not_it_was_charged(sandbox, submit, what, error, charged):
    sandbox.fault("submit", charged=charged, **what)
    with pytest.raises(error):
        submit()
    assert len(sandbox.charges()) == charged
    assert submit().status_code == 200


@CHARGED
def test_a_request_can_be_read_and_never_answered(sandbox, client, charged):
    sandbox.fault("submit", hang=True, charged=charged)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/api/v1/models/i2v-pro/generate", json={"image": "https://e.com/a"}, timeout=0.2)
    assert len(sandbox.charges()) == charged


@CHARGED
@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500, "body": "<html>oops</html>", "headers": {"Content-Type": "text/html"}},
        {"status": 202, "body": "<title>portal</title>"},
        {"status": 402, "body": {"error": {"code": "insufficient_credits"}}},
        {"status": 503, "headers": {"Retry-After": "1"}},
        {"status": 200, "base64": "AP8="},
    ],
)
def test_any_answer_can_stand_in_for_the_normal_one(sandbox, submit, answer, charged):
    sandbox.fault("submit", answer=answer, charged=charged)
    got = submit()
    assert got.status_code == answer["status"]
    if isinstance(answer.get("body"), str):
        assert got.text == answer["body"]
    for name, value in answer.get("headers", {}).items():
        assert got.headers[name] == value
    assert len(sandbox.charges()) == charged


def test_a_body_without_a_length_ends_early_unnoticed(sandbox, submit):
    sandbox.fault("submit", cut=20, framing="none")
    got = submit()
    assert len(got.content) == 20
    assert "content-length" not in got.headers
    assert len(sandbox.charges()) == 1


def test_a_redirect_carries_its_location_and_charges_nothing_by_default(sandbox, submit):
    sandbox.fault("submit", redirect="http://127.0.0.1:9/elsewhere")
    got = submit()
    assert (got.status_code, got.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")
    assert sandbox.charges() == []


def test_fields_of_the_normal_answer_can_be_changed_or_left_out(sandbox, submit):
    sandbox.fault("submit", patch={"id": "../etc", "extra": 1}, drop=["costCents"])
    body = submit().json()
    assert (body["id"], body["extra"]) == ("../etc", 1)
    assert "costCents" not in body
    assert len(sandbox.charges()) == 1


def test_an_answer_that_looks_accepted_can_be_worth_nothing(sandbox, submit, client):
    sandbox.fault("submit", delay=0.01, charged=False)
    identifier = submit().json()["id"]
    assert client.get(f"/api/v1/predictions/{identifier}").status_code == 404
    assert sandbox.charges() == []


@pytest.mark.parametrize(
    ("quote", "cents"), [(60, 60), (54.2, 55), ("0.54", 1), (None, 54), ("free", 54), ({"usd": 1}, 54), (0, 0)]
)
def test_one_submission_can_be_quoted_differently_and_is_charged_what_the_quote_says(sandbox, submit, quote, cents):
    sandbox.fault("submit", cents=quote)
    assert [submit().json()["costCents"] for _ in range(2)] == [quote, 54]
    assert [charge["cents"] for charge in sandbox.charges()] == [cents, 54]


def test_rules_strike_by_prompt_by_picture_and_by_count(sandbox, submit):
    sandbox.fault("submit", prompt="cat", nth=2, answer={"status": 418})
    sandbox.fault("submit", image="dog.jpg", times=-1, answer={"status": 410})
    assert [submit(prompt=prompt).status_code for prompt in ("cat", "dog", "a cat", "cat")] == [200, 200, 418, 200]
    assert [submit(image="https://e.com/dog.jpg").status_code for _ in range(2)] == [410, 410]
    sandbox.fault("submit", nth=[1, 3], times=2, close="before")
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(submit().status_code)
        except httpx.TransportError:
            outcomes.append(0)
    assert outcomes == [0, 200, 0, 200]


def test_statuses_follow_a_script_for_each_prediction(sandbox, submit, client):
    sandbox.fault("poll", status=["processing", "queued_v2", "COMPLETED"])
    for _ in range(2):
        identifier = submit().json()["id"]
        states = [client.get(f"/api/v1/predictions/{identifier}").json() for _ in range(4)]
        assert [state["status"] for state in states] == ["processing", "queued_v2", "COMPLETED", "COMPLETED"]
        assert states[0]["outputs"] is None
        assert states[3]["outputs"]


def test_outputs_follow_a_script(sandbox, submit, finish, plain):
    identifier = submit().json()["id"]
    finish(identifier)
    odd = ["{assets}/outputs/{id}/0.mp4", "data:video/mp4;base64,AA==", 7]
    for outputs in (None, [], 3, odd):
        sandbox.fault("poll", outputs=outputs, times=1)
    states = [finish(identifier)["outputs"] for _ in range(4)]
    assert states[:2] == [None, []]
    assert len(set(states[2])) == 3
    assert states[3] == [f"{sandbox.assets}/outputs/{identifier}/0.mp4", *odd[1:]]
    clips = [plain.get(url) for url in (*states[2], states[3][0])]
    assert {clip.status_code for clip in clips} == {200}
    assert len({clip.content for clip in clips}) == 3


def test_a_prediction_can_fail_with_a_given_error(sandbox, submit, finish):
    sandbox.fault("submit", prompt="bad", fail="NSFW content detected")
    state = finish(submit(prompt="bad").json()["id"])
    assert (state["status"], state["error"], state["outputs"]) == ("failed", "NSFW content detected", None)
    assert sandbox.charges()[0]["outcome"] == "failed"


def test_a_poll_can_show_somebody_elses_id_vanish_or_break(sandbox, submit, client):
    identifier = submit().json()["id"]
    sandbox.fault("poll", patch={"id": "other"})
    sandbox.fault("poll", answer={"status": 404, "body": {"error": "gone"}})
    sandbox.fault("poll", cut=5, framing="none")
    polls = [client.get(f"/api/v1/predictions/{identifier}") for _ in range(4)]
    assert polls[0].json()["id"] == "other"
    assert polls[1].status_code == 404
    assert polls[2].text == polls[3].text[:5]
    assert polls[3].json()["id"] == identifier


@pytest.mark.parametrize(
    ("what", "error"),
    [({"cut": 1000}, httpx.RemoteProtocolError), ({"reset": "after"}, httpx.ReadError)],
)
def test_a_download_can_break(sandbox, submit, finish, what, error, plain):
    url = finish(submit().json()["id"])["outputs"][0]
    sandbox.fault("asset", **what)
    with pytest.raises(error):
        plain.get(url)
    assert plain.get(url).status_code == 200


def test_a_download_can_lie_about_its_length_its_type_and_its_place(sandbox, submit, finish, plain):
    url = finish(submit().json()["id"])["outputs"][0]
    sandbox.fault("asset", declare=100)
    sandbox.fault("asset", cut=100, framing="none")
    sandbox.fault("asset", answer={"status": 200, "body": "<Error/>", "headers": {"Content-Type": "application/xml"}})
    sandbox.fault("asset", headers={"Content-Encoding": "x-odd", "Content-Type": "text/html"})
    sandbox.fault("asset", redirect="http://169.254.169.254/latest")
    got = [plain.get(url) for _ in range(5)]
    assert [len(answer.content) for answer in got[:2]] == [100, 100]
    assert got[0].headers["content-length"] == "100"
    assert got[2].text == "<Error/>"
    assert (got[3].headers["content-encoding"], got[3].headers["content-type"]) == ("x-odd", "text/html")
    assert got[4].headers["location"] == "http://169.254.169.254/latest"


def test_a_dripped_body_arrives_whole(sandbox, submit):
    sandbox.fault("submit", drip=2000, delay=0.05)
    assert submit().json()["status"] == "processing"


def test_a_script_for_one_prediction_leaves_the_others_alone(sandbox, submit, client):
    first, second = (submit(prompt=prompt).json()["id"] for prompt in ("cat", "dog"))
    sandbox.fault("poll", id=first, status="queued")
    shown = [client.get(f"/api/v1/predictions/{identifier}").json()["status"] for identifier in (first, second)]
    assert shown[0] == "queued"
    assert shown[1] != "queued"


def test_a_rule_with_an_unknown_field_is_refused_not_ignored(sandbox, plain):
    answer = plain.post(f"{sandbox.api}/sandbox/faults", json={"at": "submit", "do": {"hangs": True}})
    assert answer.status_code == 422
