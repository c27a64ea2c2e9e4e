"""Share links become addresses of the file itself, and nothing else is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.web.share_links import canonical, direct, is_fleeting, is_google, sheet_export

KEY = "1aBcD-efGh_IjKlMnOpQrStUvWxYz012345"


@pytest.mark.parametrize(
    "link",
    [
        f"https://drive.google.com/file/d/{KEY}/view?usp=sharing",
        f"https://drive.google.com/file/d/{KEY}/view",
        f"https://drive.google.com/file/d/{KEY}",
        f"https://drive.google.com/file/u/1/d/{KEY}/edit",
        f"https://drive.google.com/a/shop.example/file/d/{KEY}/preview",
        f"https://drive.google.com/open?id={KEY}&usp=drive_copy",
        f"https://drive.google.com/uc?id={KEY}",
        f"https://docs.google.com/uc?export=view&id={KEY}",
        f"http://DRIVE.google.com/file/d/{KEY}/view#top",
    ],
)
def test_a_drive_share_link_becomes_a_download(link):
    assert direct(link) == f"https://drive.google.com/uc?export=download&id={KEY}"


def test_an_old_drive_file_keeps_the_key_of_its_link():
    link = f"https://drive.google.com/file/d/{KEY}/view?resourcekey=0-abc_DEF"
    assert direct(link) == f"https://drive.google.com/uc?export=download&id={KEY}&resourcekey=0-abc_DEF"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://www.dropbox.com/s/a1b2c3/cup.jpg?dl=0", "https://www.dropbox.com/s/a1b2c3/cup.jpg?dl=1"),
        ("https://www.dropbox.com/s/a1b2c3/cup.jpg", "https://www.dropbox.com/s/a1b2c3/cup.jpg?dl=1"),
        (
            "https://www.dropbox.com/scl/fi/a1b2c3/cup%20blue.jpg?rlkey=xyz&st=q1&dl=0",
            "https://www.dropbox.com/scl/fi/a1b2c3/cup%20blue.jpg?rlkey=xyz&st=q1&dl=1",
        ),
        ("https://dropbox.com/s/a1b2c3/cup.jpg?raw=1", "https://www.dropbox.com/s/a1b2c3/cup.jpg?dl=1"),
    ],
)
def test_a_dropbox_share_link_becomes_a_download_and_keeps_its_key(link, expected):
    assert direct(link) == expected


@pytest.mark.parametrize(
    "address",
    [
        "https://cdn.shop.example/p/1.jpg",
        "https://drive.google.com/drive/folders/1aBcD-efGh_IjKlMn",
        "https://drive.google.com/file/d/short/view",
        "https://drive.google.com/open",
        "https://www.dropbox.com/sh/a1b2c3/AAD?dl=0",
        "https://www.dropbox.com/scl/fo/a1b2c3/h?rlkey=x",
        "https://notdropbox.com/s/a1b2c3/cup.jpg?dl=0",
        "https://drive.google.com.evil.example/file/d/1aBcD-efGh_IjKlMn/view",
        "s3://drive.google.com/file/d/1aBcD-efGh_IjKlMn/view",
        "https://[not-a-host/file",
        "",
    ],
)
def test_any_other_address_stays_as_it_is(address):
    assert direct(address) == address
    assert sheet_export(address) == address


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (
            f"https://docs.google.com/spreadsheets/d/{KEY}/edit?usp=sharing",
            f"https://docs.google.com/spreadsheets/d/{KEY}/export?format=csv",
        ),
        (
            f"https://docs.google.com/spreadsheets/d/{KEY}/edit#gid=77",
            f"https://docs.google.com/spreadsheets/d/{KEY}/export?format=csv&gid=77",
        ),
        (
            f"https://docs.google.com/spreadsheets/d/{KEY}/edit?gid=77#gid=77",
            f"https://docs.google.com/spreadsheets/d/{KEY}/export?format=csv&gid=77",
        ),
        (
            f"https://docs.google.com/spreadsheets/u/2/d/{KEY}/htmlview?gid=0",
            f"https://docs.google.com/spreadsheets/d/{KEY}/export?format=csv&gid=0",
        ),
        (
            f"https://docs.google.com/a/shop.example/spreadsheets/d/{KEY}",
            f"https://docs.google.com/spreadsheets/d/{KEY}/export?format=csv",
        ),
        (
            "https://docs.google.com/spreadsheets/d/e/2PACX-1vAbCdEfGh/pubhtml?gid=5&single=true",
            "https://docs.google.com/spreadsheets/d/e/2PACX-1vAbCdEfGh/pub?output=csv&gid=5&single=true",
        ),
    ],
)
def test_a_google_sheets_link_becomes_the_csv_export_of_its_tab(link, expected):
    assert sheet_export(link) == expected


@pytest.mark.parametrize(
    "address",
    [
        f"https://docs.google.com/spreadsheets/d/{KEY}/export?format=xlsx",
        f"https://docs.google.com/spreadsheets/d/{KEY}/gviz/tq?tqx=out:csv",
        "https://docs.google.com/spreadsheets/d/e/2PACX-1vAbCdEfGh/pub?output=csv",
    ],
)
def test_what_is_an_export_already_is_left_alone(address):
    assert sheet_export(address) == address


def test_all_tabs_are_exported_where_one_is_to_be_chosen_by_name():
    link = f"https://docs.google.com/spreadsheets/d/{KEY}/edit#gid=77"
    assert sheet_export(link, "xlsx") == f"https://docs.google.com/spreadsheets/d/{KEY}/export?format=xlsx"


def test_google_is_told_from_names_that_only_look_like_it():
    assert is_google("https://docs.google.com/spreadsheets/d/x")
    assert is_google("https://doc-0s-sheets.googleusercontent.com/x")
    assert not is_google("https://docs.google.com.evil.example/x")
    assert not is_google("https://notgoogle.com/x")


@given(st.text(max_size=200) | st.from_regex(r"https://(drive|docs)\.google\.com/[!-~]{0,60}", fullmatch=True))
def test_no_text_breaks_it_and_a_direct_address_is_final(text):
    assert direct(direct(text)) == direct(text)
    assert sheet_export(sheet_export(text)) == sheet_export(text)


@pytest.mark.parametrize(
    "address",
    [
        "https://v5.airtableusercontent.com/v3/u/29/29/1764316800000/abc/def/ghi",
        "https://dl.airtable.com/.attachments/abc/def/cup.jpg",
        "https://public.bn.files.1drv.com/y4mAbc",
        "https://dl.boxcloud.com/d/1/abc/download",
    ],
)
def test_some_addresses_have_nothing_that_lasts(address):
    assert is_fleeting(address)
    assert canonical(address) == address


@pytest.mark.parametrize(
    "address", ["https://cdn.shop.example/p/1.jpg", "https://airtable.com/app1", "s3://b/k", "", "http://["]
)
def test_other_addresses_last(address):
    assert not is_fleeting(address)


@given(st.text(max_size=60))
def test_the_canonical_form_of_a_canonical_form_is_itself(text):
    for address in (text, f"https://www.dropbox.com/s/{text}", f"https://drive.google.com/{text}"):
        assert canonical(canonical(address)) == canonical(address)
