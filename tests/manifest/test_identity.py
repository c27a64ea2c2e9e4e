"""One identity is paid for once: what belongs to it, what does not, and that it never changes."""

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reelsheet.manifest.identity import identity, identity_of
from reelsheet.manifest.rows import Row
from reelsheet.settings import Settings

ASKED = {
    "api": "https://api.vibedream.ai",
    "model": "i2v-pro",
    "image": "https://shop.test/dress.jpg",
    "prompt": "steam rises",
    "expansion": None,
    "take": 1,
}
SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Signature="


def test_an_identity_never_changes_from_one_version_to_the_next():
    """Whoever changes these lets people pay again for what they have."""
    assert identity(**ASKED) == "59ebd8dd2dad25391a7000b1146849ec2e176e92e5f320fa77391fe00f0dff24"
    plain = ASKED | {"prompt": None, "expansion": True, "take": 2, "image": "s3://b/ü.png"}
    assert identity(**plain) == "0a69f9db833a25e3712489d7f4b2735f2d4bcd634eb9644ca59083b3cc0d5e56"


@pytest.mark.parametrize(
    "other",
    [
        {"api": "https://api.other.test"},
        {"model": "i2v-fast"},
        {"image": "https://shop.test/dress.jpg?v=2"},
        {"image": "https://shop.test/Dress.jpg"},
        {"prompt": "steam rises."},
        {"prompt": " steam rises"},
        {"prompt": None},
        {"expansion": True},
        {"expansion": False},
        {"take": 2},
    ],
)
def test_whatever_is_asked_for_makes_another_identity(other):
    assert identity(**ASKED | other) != identity(**ASKED)


def test_expansion_unset_off_and_on_are_three():
    assert len({identity(**ASKED | {"expansion": value}) for value in (None, True, False)}) == 3


@pytest.mark.parametrize("same", [{"api": "https://api.vibedream.ai/"}, {"api": "https://api.vibedream.ai//"}])
def test_a_slash_at_the_end_of_the_api_s_address_is_none(same):
    assert identity(**ASKED | same) == identity(**ASKED)


def test_no_prompt_and_an_empty_one_are_the_same_request():
    assert identity(**ASKED | {"prompt": ""}) == identity(**ASKED | {"prompt": None})


def test_one_picture_signed_twice_is_one():
    once = identity(**ASKED | {"image": f"{ASKED['image']}?{SIGNED}1"})
    assert once == identity(**ASKED | {"image": f"{ASKED['image']}?{SIGNED}2"}) == identity(**ASKED)


@pytest.mark.parametrize("lacking", [{"image": ""}, {"image": "  "}, {"api": ""}, {"model": ""}])
def test_without_picture_api_or_model_there_is_none(lacking):
    with pytest.raises(ValueError, match="an identity needs an API address, a model and an image"):
        identity(**ASKED | lacking)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40), st.text(max_size=5))
def test_no_text_can_move_from_one_field_to_the_next(image, prompt, piece):
    """ "a" + "bc" is not "ab" + "c"."""
    assume(image.strip() and piece)
    asked = ASKED | {"image": image + piece, "prompt": prompt}
    moved = ASKED | {"image": image, "prompt": piece + prompt}
    assert identity(**asked) != identity(**moved)


def test_a_row_s_identity_is_that_of_its_request():
    row = Row(0, 2, image=ASKED["image"], prompt=ASKED["prompt"], id="MUG-7")
    assert identity_of(row, Settings()) == identity(**ASKED)
    assert identity_of(dataclasses.replace(row, id="", line=9), Settings()) == identity(**ASKED)
    changed = dataclasses.replace(row, expansion=False, take=3)
    assert identity_of(changed, Settings()) == identity(**ASKED | {"expansion": False, "take": 3})
    assert identity_of(row, Settings(model="i2v-fast")) == identity(**ASKED | {"model": "i2v-fast"})
    assert identity_of(row, Settings(base_url="https://a.test")) == identity(**ASKED | {"api": "https://a.test"})
