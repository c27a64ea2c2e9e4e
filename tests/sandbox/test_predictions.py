"""What the stand-in counts: who was charged, how often, and when."""

import httpx

from reelsheet.sandbox.predictions import hash_of


def test_every_charge_is_recorded_with_its_body(sandbox, submit, finish):
    identifier = submit(prompt="A cat", enable_prompt_expansion=True).json()["id"]
    finish(identifier)
    (charge,) = sandbox.charges()
    assert charge["id"] == identifier
    assert charge["body"] == {"image": charge["image"], "prompt": "A cat", "enable_prompt_expansion": True}
    assert sandbox.activity()["posts"] == {hash_of(charge["body"]): 1}
    assert (charge["prompt"], charge["cents"], charge["outcome"]) == ("A cat", 54, "completed")
    assert charge["time"].endswith("Z")
    assert sandbox.activity()["charged_cents"] == 54


def test_posts_are_counted_by_body_refused_ones_included(sandbox, submit):
    sandbox.settings(capacity=2, latency=60)
    for prompt in ("a", "a", "b"):
        submit(prompt=prompt)
    assert sorted(sandbox.activity()["posts"].values()) == [1, 2]
    assert len(sandbox.charges()) == 2


def test_polls_are_counted_and_the_first_sight_of_the_end_is_timed(sandbox, submit, client, finish):
    identifier = submit().json()["id"]
    finish(identifier)
    before = sandbox.activity()
    client.get(f"/api/v1/predictions/{identifier}")
    after = sandbox.activity()
    course = after["predictions"][identifier]
    assert after["polls"][identifier] == before["polls"][identifier] + 1
    assert course == before["predictions"][identifier]
    assert 0 <= course["accepted_at"] <= course["done_at"] <= course["first_seen_done_at"] <= after["now"]
    assert after["first_submission"] <= course["accepted_at"]


def test_a_key_that_reaches_the_asset_host_is_recorded(sandbox, submit, finish, plain):
    url = finish(submit().json()["id"])["outputs"][0]
    plain.get(url)
    assert sandbox.activity()["downloads_with_key"] == []
    plain.get(url, headers={"Authorization": "Bearer leaked"})
    activity = sandbox.activity()
    assert activity["downloads_with_key"] == [httpx.URL(url).path]
    assert activity["downloads"] == 2


def test_a_reset_forgets_everything(sandbox, submit, client):
    sandbox.settings(latency=60, capacity=1)
    sandbox.fault("poll", hang=True)
    identifier = submit().json()["id"]
    sandbox.reset()
    assert client.get(f"/api/v1/predictions/{identifier}").status_code == 404
    assert sandbox.activity()["in_flight"] == 0
    assert submit().status_code == 200
