"""The stand-in answers as the provider's page says, to the letter."""

import re
import uuid

import httpx
import pytest

from tests.conftest import KEY

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


def test_a_submission_is_answered_at_once_with_the_six_fields_of_the_page(sandbox, submit):
    answer = submit(prompt="A cat")
    body = answer.json()
    assert answer.status_code == 200
    assert list(body) == ["id", "status", "statusUrl", "estimatedTime", "costCents", "createdAt"]
    assert str(uuid.UUID(body["id"])) == body["id"]
    assert body["status"] == "processing"
    assert body["statusUrl"] == f"{sandbox.api}/api/v1/predictions/{body['id']}"
    assert re.fullmatch(r"\d+ seconds", body["estimatedTime"])
    assert body["costCents"] == 54
    assert TIME.match(body["createdAt"])


def test_a_poll_shows_the_eight_fields_with_nulls_while_processing(sandbox, submit, client):
    sandbox.settings(latency=60)
    identifier = submit().json()["id"]
    state = client.get(f"/api/v1/predictions/{identifier}").json()
    assert list(state) == [
        "id", "modelId", "modelName", "status", "outputs", "error", "createdAt", "completedAt",
    ]  # fmt: skip
    assert state["id"] == identifier
    assert (state["modelId"], state["modelName"]) == ("i2v-pro", "MiniMax Hailuo 2.3 Pro")
    assert (state["status"], state["outputs"], state["error"], state["completedAt"]) == ("processing", None, None, None)


def test_a_completed_prediction_links_a_clip_on_the_asset_host(sandbox, submit, finish):
    state = finish(submit().json()["id"])
    assert state["status"] == "completed"
    assert state["error"] is None
    assert TIME.match(state["completedAt"])
    assert len(state["outputs"]) == 1
    assert re.fullmatch(rf"{re.escape(sandbox.assets)}/outputs/{state['id']}/\d+-0\.mp4", state["outputs"][0])
    assert not state["outputs"][0].startswith(sandbox.api)


def test_a_clip_is_served_without_a_key_with_length_and_etag(submit, finish, plain):
    url = finish(submit().json()["id"])["outputs"][0]
    answer = plain.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["etag"].strip('"')
    assert answer.content[4:8] == b"ftyp"


def test_a_range_of_a_clip_is_that_part_of_it(submit, finish, plain):
    url = finish(submit().json()["id"])["outputs"][0]
    whole = plain.get(url)
    headers = {"Range": "bytes=100-199", "If-Range": whole.headers["etag"]}
    part = plain.get(url, headers=headers)
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"


def test_every_prediction_of_tiny_clips_has_bytes_of_its_own(sandbox, submit, finish, plain):
    urls = [finish(submit(prompt="same").json()["id"])["outputs"][0] for _ in range(2)]
    first, second = (plain.get(url).content for url in urls)
    assert first != second
    assert len(first) == len(second) == 400_000
    sandbox.settings(clip_bytes=150_000)
    assert len(plain.get(urls[0]).content) == 150_000


@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer wrong", KEY, f"Basic {KEY}"])
def test_no_key_or_another_one_is_answered_401_before_anything_else(sandbox, key):
    headers = {} if key is None else {"Authorization": key}
    with httpx.Client(base_url=sandbox.api, headers=headers, trust_env=False, verify=False) as client:  # noqa: S501 - plain HTTP
        assert client.post("/api/v1/models/i2v-pro/generate", json={"image": "https://e.com/a"}).status_code == 401
        refused = client.get("/api/v1/predictions/nothing")
    assert refused.status_code == 401
    assert refused.json()["error"]
    assert sandbox.charges() == []


def test_an_id_that_cannot_exist_tells_a_good_key_by_404_at_no_cost(sandbox, client):
    answer = client.get(f"/api/v1/predictions/{uuid.UUID(int=0)}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert sandbox.charges() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"image": ""}, 400),
        ({"image": 7}, 400),
        ({"image": "pictures/a.jpg"}, 400),
        ({"image": "https://e.com/a", "prompt": 7}, 400),
        ({"image": "https://e.com/a", "enable_prompt_expansion": "yes"}, 400),
        ({"image": "https://e.com/a", "prompt": "", "enable_prompt_expansion": True}, 200),
        ({"image": "HTTPS://e.com/a"}, 200),
    ],
)
def test_what_the_schema_does_not_allow_is_refused_and_not_charged(sandbox, client, body, status):
    assert client.post("/api/v1/models/i2v-pro/generate", json=body).status_code == status
    assert len(sandbox.charges()) == (status == 200)


def test_a_body_that_is_no_json_object_is_refused(sandbox, client):
    for content in (b"", b"{", b"[]", b"\xff"):
        assert client.post("/api/v1/models/i2v-pro/generate", content=content).status_code == 400
    assert sandbox.charges() == []


def test_a_model_that_does_not_exist_is_404(sandbox, client):
    answer = client.post("/api/v1/models/nope/generate", json={"image": "https://e.com/a"})
    assert answer.status_code == 404
    assert sandbox.charges() == []


def test_beyond_its_capacity_it_answers_429_with_retry_after_and_charges_nothing(sandbox, submit):
    sandbox.settings(latency=60, capacity=2)
    answers = [submit(prompt=f"{number}") for number in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60
    activity = sandbox.activity()
    assert len(activity["charges"]) == 2
    assert activity["most_in_flight"] == activity["in_flight"] == 2
    assert activity["refusals"] == {"capacity": 2}


def test_capacity_can_change_while_it_runs(sandbox, submit):
    sandbox.settings(latency=60, capacity=1)
    assert [submit().status_code for _ in range(2)] == [200, 429]
    sandbox.settings(capacity=2)
    assert [submit().status_code for _ in range(2)] == [200, 429]


def test_beyond_its_rate_it_answers_429(sandbox, submit):
    sandbox.settings(per_minute=1)
    answers = [submit() for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert 59 <= int(answers[1].headers["retry-after"]) <= 60
    assert sandbox.activity()["refusals"] == {"per_minute": 1}


def test_a_rate_is_refilled_evenly_and_at_most_a_burst_comes_at_once(sandbox, submit):
    sandbox.settings(per_minute=6, burst=3)
    answers = [submit() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 9 <= int(answers[-1].headers["retry-after"]) <= 10
    sandbox.settings(per_minute=600_000)
    assert submit().status_code == 200


def test_a_share_fails_is_told_why_and_is_charged(sandbox, submit, finish):
    sandbox.settings(fail_rate=1)
    state = finish(submit().json()["id"])
    assert (state["status"], state["outputs"]) == ("failed", None)
    assert state["error"]
    assert TIME.match(state["completedAt"])
    (charge,) = sandbox.charges()
    assert (charge["outcome"], charge["cents"]) == ("failed", 54)


def test_latencies_can_be_spread(sandbox, submit):
    sandbox.settings(latency=30, latency_sigma=0.6)
    told = {submit(prompt=f"{number}").json()["estimatedTime"] for number in range(8)}
    assert len(told) > 3


@pytest.mark.parametrize(
    "setting", ["fail_rate", "latency", "latency_sigma", "capacity", "per_minute", "burst", "cost_cents", "clip_bytes"]
)
def test_settings_that_make_no_sense_are_refused(sandbox, plain, setting):
    answer = plain.post(f"{sandbox.api}/sandbox/settings", json={setting: 10**30})
    assert answer.status_code == 422


def test_the_description_is_complete_and_the_page_needs_nothing_from_elsewhere(sandbox, plain):
    schema = plain.get(f"{sandbox.api}/openapi.json").json()
    submission = schema["paths"]["/api/v1/models/{model}/generate"]["post"]
    assert set(submission["responses"]) == {"200", "400", "401", "404", "429"}
    assert submission["security"] == [{"key": []}]
    assert "image" in submission["requestBody"]["content"]["application/json"]["schema"]["properties"]
    page = plain.get(f"{sandbox.api}/docs").text
    assert "/api/v1/predictions/{prediction_id}" in page
    assert "enable_prompt_expansion" in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
