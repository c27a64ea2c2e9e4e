"""One identity is paid for once: what belongs to it, what does not, and that it never changes."""

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reelsheet.manifest.identity import identity, identity_of, is_of_api
from reelsheet.manifest.image_url import strip_blanks
from reelsheet.manifest.rows import Row, parse
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
    assert identity(**ASKED) == "59ebd8dd2dad25391a7000b1146849ec2e176e92e5f320fa77391fe0794b1438"
    plain = ASKED | {"prompt": None, "expansion": True, "take": 2, "image": "s3://b/ü.png"}
    assert identity(**plain) == "0a69f9db833a25e3712489d7f4b2735f2d4bcd634eb9644ca59083b3794b1438"


@pytest.mark.parametrize(
    "other",
    [
        {"api": "https://api.other.test"},
        {"model": "i2v-fast"},
        {"image": "https://shop.test/dress.jpg?v=2"},
        {"image": "https://shop.test/Dress.jpg"},
        {"prompt": "steam rises."},
        {"prompt": "steam  rises"},
        {"prompt": "Steam rises"},
        {"prompt": "steam\nrises"},
        {"prompt": "st\u00e9am rises"},
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


@pytest.mark.parametrize(
    "api",
    [
        "https://api.vibedream.ai/",
        "https://api.vibedream.ai//",
        "https://API.VibeDream.ai",
        "https://api.vibedream.ai:443/",
        " https://api.vibedream.ai ",
    ],
)
def test_one_api_has_several_spellings(api):
    assert identity(**ASKED | {"api": api}) == identity(**ASKED)


@pytest.mark.parametrize("api", ["https://api.vibedream.ai:8443", "https://api.vibedream.ai/eu", "http://127.0.0.1:80"])
def test_another_port_path_or_host_is_another_api(api):
    assert identity(**ASKED | {"api": api}) != identity(**ASKED)


def test_identities_tell_whether_they_belong_to_one_api():
    ours, other = identity(**ASKED), identity(**ASKED | {"api": "http://127.0.0.1:8123"})
    assert is_of_api(ours, "https://API.vibedream.ai/")
    assert is_of_api(identity(**ASKED | {"prompt": "another", "model": "i2v-fast"}), ASKED["api"])
    assert not is_of_api(other, ASKED["api"])


@pytest.mark.parametrize(
    ("prompt", "same"),
    [
        ("slow push in\r\nthen hold", "slow push in\nthen hold"),
        ("slow push in\rthen hold", "slow push in\nthen hold"),
        ("one\r\n\r\ntwo", "one\n\ntwo"),
        ("cafe\u0301 terrace", "caf\u00e9 terrace"),
        ("\u30d5\u3099\u30e9\u30f3\u30b3", "\u30d6\u30e9\u30f3\u30b3"),
        (" steam rises\n", "steam rises"),
        ("\u00a0steam rises\ufeff", "steam rises"),
        ("\u3000\u6e6f\u6c17\t", "\u6e6f\u6c17"),
        ("   ", None),
    ],
)
def test_line_ends_surrounding_blanks_and_the_form_of_letters_are_no_other_prompt(prompt, same):
    assert identity(**ASKED | {"prompt": prompt}) == identity(**ASKED | {"prompt": same})


@pytest.mark.parametrize("blank", [" {}", "{}\n", "\u00a0{}\u200b", "\ufeff{}"])
def test_blanks_around_an_address_do_not_count(blank):
    assert identity(**ASKED | {"image": blank.format(ASKED["image"])}) == identity(**ASKED)


def test_what_is_sent_is_the_text_as_it_stands():
    manifest = parse(b'image,prompt\nhttps://a.test/1.png," cafe\xcc\x81\r\nnow "\n', "sheet.csv")
    assert manifest.rows[0].prompt == " cafe\u0301\r\nnow "


DRIVE = "1AbcdefGHIJKLMNOPQRSTUVWX"


@pytest.mark.parametrize(
    "addresses",
    [
        [
            f"https://drive.google.com/file/d/{DRIVE}/view?usp=sharing",
            f"https://drive.google.com/file/d/{DRIVE}/view?usp=drive_link",
            f"https://drive.google.com/file/u/0/d/{DRIVE}/edit",
            f"https://drive.google.com/open?id={DRIVE}&usp=drive_copy",
            f"https://drive.google.com/uc?export=download&id={DRIVE}",
            f"https://docs.google.com/uc?id={DRIVE}&export=view",
            f"https://drive.usercontent.google.com/download?id={DRIVE}&export=download&uuid=1",
        ],
        [
            "https://www.dropbox.com/scl/fi/k/a.jpg?rlkey=r1&st=aaaa&dl=0",
            "https://www.dropbox.com/scl/fi/k/a.jpg?rlkey=r1&st=bbbb&dl=1",
            "https://dropbox.com/scl/fi/k/a.jpg?rlkey=r1&raw=1",
            "https://dl.dropboxusercontent.com/scl/fi/k/a.jpg?rlkey=r1&e=1",
        ],
        ["https://www.dropbox.com/s/k/a.jpg?dl=0", "https://dl.dropbox.com/s/k/a.jpg", "http://dropbox.com/s/k/a.jpg"],
        [
            "https://file.notion.so/f/f/ws/u/a.jpg?table=block&id=11&expirationTimestamp=1764316800000&signature=aa",
            "https://file.notion.so/f/f/ws/u/a.jpg?table=block&id=11&expirationTimestamp=1764403200000&signature=bb",
        ],
        [
            "https://img.notionusercontent.com/s3/prod%2Fa.jpg/size/w=2000?exp=1764316800&sig=aa",
            "https://img.notionusercontent.com/s3/prod%2Fa.jpg/size/w=2000?exp=1764403200&sig=bb",
        ],
        [
            "https://shop.sharepoint.com/_layouts/15/download.aspx?UniqueId=11&Translate=false&tempauth=v1.eyJ&ApiVersion=2.0",
            "https://shop.sharepoint.com/_layouts/15/download.aspx?UniqueId=11&Translate=false&tempauth=v1.eyK&ApiVersion=2.0",
        ],
        [
            "https://shop-my.sharepoint.com/:i:/g/personal/ann/EabcDEF?e=Ab12Cd",
            "https://shop-my.sharepoint.com/:i:/g/personal/ann/EabcDEF?csf=1&web=1&e=Zz99",
        ],
        ["https://1drv.ms/i/s!AbCdEf?e=1", "https://1drv.ms/i/s!AbCdEf?e=2", "https://1drv.ms/i/s!AbCdEf"],
    ],
    ids=[
        "Drive",
        "Dropbox",
        "old Dropbox",
        "Notion",
        "Notion's pictures",
        "SharePoint",
        "SharePoint's links",
        "OneDrive",
    ],
)
def test_one_picture_under_several_addresses_is_one(addresses):
    assert len({identity(**ASKED | {"image": address}) for address in addresses}) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        [f"https://drive.google.com/file/d/{DRIVE}/view", f"https://drive.google.com/file/d/{DRIVE}a/view"],
        [f"https://drive.google.com/uc?id={DRIVE}", f"https://drive.google.com/thumbnail?id={DRIVE}&sz=w200"],
        [f"https://drive.google.com/uc?id={DRIVE}", f"https://shop.test/uc?id={DRIVE}"],
        ["https://www.dropbox.com/scl/fi/k/a.jpg?rlkey=r1", "https://www.dropbox.com/scl/fi/k/a.jpg?rlkey=r2"],
        ["https://www.dropbox.com/s/k/a.jpg?dl=0", "https://www.dropbox.com/s/k/b.jpg?dl=0"],
        ["https://shop.test/a.jpg?st=aaaa", "https://shop.test/a.jpg?st=bbbb"],
        ["https://shop.test/a?usp=1", "https://shop.test/a?usp=2"],
        ["https://shop.test/a?tempauth=1", "https://shop.test/a?tempauth=2"],
        ["https://shop.test/a?expirationTimestamp=1764316800000&signature=a", "https://shop.test/a"],
        ["https://shop.test/a.jpg?e=1", "https://shop.test/a.jpg?e=2"],
        ["https://shop.test/a.jpg?X-Amz-Signature=1", "https://shop.test/a.jpg?X-Amz-Signature=2"],
        ["https://shop.test/a.jpg?sig=1", "https://shop.test/a.jpg?sig=2"],
        [
            "https://v5.airtableusercontent.com/v3/u/29/29/17/abc/x",
            "https://v5.airtableusercontent.com/v3/u/29/29/18/abc/x",
        ],
    ],
)
def test_in_doubt_there_are_two(addresses):
    assert len({identity(**ASKED | {"image": address}) for address in addresses}) == 2


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
    assume(strip_blanks(image) and strip_blanks(piece))
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
