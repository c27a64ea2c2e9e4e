"""The books: who was charged, how often, and when."""

import httpx
import pytest

from reelsheet.sandbox.provider import hash_of


def test_every_charge_is_written_down_with_its_body(sandbox, submit, finish):
    identifier = submit(prompt="A cat", enable_prompt_expansion=True).json()["id"]
    finish(identifier)
    (charge,) = sandbox.charges()
    assert charge["id"] == identifier
    assert charge["body"] == {"image": charge["image"], "prompt": "A cat", "enable_prompt_expansion": True}
    assert charge["body_hash"] == hash_of(charge["body"])
    assert (charge["prompt"], charge["cents"], charge["outcome"]) == ("A cat", 54, "completed")
    assert charge["time"].endswith("Z")
    assert sandbox.books()["charged_cents"] == 54


def test_posts_are_counted_by_body_and_by_answer(sandbox, submit):
    sandbox.settings(capacity=2, latency=60)
    for prompt in ("a", "a", "b"):
        submit(prompt=prompt)
    books = sandbox.books()
    assert sorted(books["posts"].values()) == [1, 2]
    assert books["post_answers"] == {"200": 2, "429": 1}


def test_polls_are_counted_and_the_first_sight_of_the_end_is_timed(sandbox, submit, client, finish):
    identifier = submit().json()["id"]
    finish(identifier)
    before = sandbox.books()
    client.get(f"/api/v1/predictions/{identifier}")
    after = sandbox.books()
    course = after["predictions"][identifier]
    assert after["polls"][identifier] == before["polls"][identifier] + 1
    assert course == before["predictions"][identifier]
    assert 0 <= course["accepted_at"] <= course["done_at"] <= course["first_seen_done_at"] <= after["now"]
    assert after["first_submission"] <= course["accepted_at"]
    assert after["last_completion"] == course["done_at"]


def test_a_key_that_reaches_the_asset_host_is_written_down(sandbox, submit, finish, plain):
    url = finish(submit().json()["id"])["outputs"][0]
    plain.get(url)
    assert sandbox.books()["assets"]["with_authorization"] == []
    plain.get(url, headers={"Authorization": "Bearer leaked"})
    assets = sandbox.books()["assets"]
    assert assets["with_authorization"] == [httpx.URL(url).path]
    assert (assets["requests"], assets["answers"], assets["bytes"]) == (2, {"200": 2}, 800_000)


@pytest.mark.parametrize(
    ("quote", "cents"), [(60, 60), (54.2, 55), ("0.54", 1), (None, 54), ("free", 54), ({"usd": 1}, 54), (0, 0)]
)
def test_any_quote_can_be_told_and_the_books_charge_what_it_says(sandbox, submit, quote, cents):
    sandbox.settings(cost_cents=quote)
    assert submit().json()["costCents"] == quote
    assert sandbox.charges()[0]["cents"] == cents


def test_a_reset_of_the_books_keeps_the_predictions(sandbox, submit, client, plain):
    identifier = submit().json()["id"]
    plain.delete(f"{sandbox.api}/sandbox/books")
    assert sandbox.charges() == []
    assert client.get(f"/api/v1/predictions/{identifier}").status_code == 200


def test_a_full_reset_forgets_everything(sandbox, submit, client):
    sandbox.settings(latency=60, capacity=1)
    sandbox.fault("poll", hang=True)
    identifier = submit().json()["id"]
    sandbox.reset()
    assert client.get(f"/api/v1/predictions/{identifier}").status_code == 404
    assert sandbox.books()["in_flight"] == 0
    assert submit().status_code == 200
