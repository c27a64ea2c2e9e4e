"""What a cell for a picture may hold, and what each refusal says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.manifest import image_url
from reelsheet.manifest.image_url import is_ordinary, split_addresses, strip_blanks, validation_error


@pytest.mark.parametrize(
    "address",
    [
        "https://cdn.shop.example/p/1.jpg",
        "http://cdn.shop.example/p/1.jpg?v=3#x",
        "HTTPS://CDN.shop.example/p/1.JPG",
        "https://res.cloudinary.com/shop/image/upload/w_300,h_200/1.jpg",
        "https://münchen.example/straße.jpg",
        "https://8.8.8.8/1.jpg",
        "https://[2606:4700::1111]/1.jpg",
        "https://cdn.shop.example:8443/1.jpg",
        "s3://pictures/summer/1.jpg",
        "s3://pictures/my summer photo.jpg",
    ],
)
def test_what_can_be_fetched_is_right(address):
    assert validation_error(address, allow_private=False) == ""


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "empty"),
        ("N/A", "'N/A' is no web address"),
        ("nan", "no web address"),
        ("#REF!", "no web address"),
        ("https://cdn.shop.example/my photo.jpg", "space inside"),
        ("https://cdn.shop.example/a\nb.jpg", "space inside"),
        ("https://cdn.shop.example/a\u200bb.jpg", "invisible"),
        ("https://cdn.shop.example/a\x00b.jpg", "invisible"),
        ("https://cdn.shop.example\\a.jpg", "backslash"),
        ("ftp://cdn.shop.example/1.jpg", "must begin with https://"),
        ("gs://bucket/1.jpg", "must begin with https://"),
        ("javascript:alert(1)", "must begin with https://"),
        ("file:///etc/passwd", "file on a computer"),
        ("C:\\Users\\me\\1.jpg", "file on a computer"),
        ("/home/me/1.jpg", "file on a computer"),
        ("../pictures/1.jpg", "file on a computer"),
        ("photo one.jpg", "file on a computer"),
        ("data:image/png;base64,iVBORw0KGgo", "picture itself"),
        ("cdn.shop.example/1.jpg", "did you mean 'https://cdn.shop.example/1.jpg'"),
        ("www.shop.example/1.jpg", "did you mean 'https://www.shop.example/1.jpg'"),
        ("//cdn.shop.example/1.jpg", "did you mean 'https://cdn.shop.example/1.jpg'"),
        ("https:/cdn.shop.example/1.jpg", "two slashes"),
        ("https:cdn", "two slashes"),
        ("https://", "no valid host"),
        ("https:///1.jpg", "no valid host"),
        ("https://" + "a." * 200 + "com/1.jpg", "no valid host"),
        ("https://https://cdn.shop.example/1.jpg", "no valid host"),
        ("https://cdn.shop.example:99999/1.jpg", "no valid web address"),
        ("https://[::1/1.jpg", "no valid web address"),
        ("https://me:secret@cdn.shop.example/1.jpg", "user name or password"),
        ("https://me@cdn.shop.example/1.jpg", "user name or password"),
        ("s3://", "no valid bucket"),
        ("s3://pictures", "no file in the bucket"),
        ("s3://pictures/summer/", "no file in the bucket"),
        ("https://a.example/" + "x" * 9_000, "9,018 characters"),
        ("red cup", "neither an address, which must begin with https://, http:// or s3://, nor"),
    ],
)
def test_each_refusal_says_what_is_wrong(address, says):
    assert says in validation_error(address, allow_private=False)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "shop.localhost", "10.1.2.3", "192.168.0.1", "100.64.0.1", "[::1]"),
        *("127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost."),
    ],
)
def test_a_private_host_is_refused_unless_it_is_allowed(host):
    address = f"http://{host}/1.jpg"
    assert "private network" in validation_error(address, allow_private=False)
    assert validation_error(address, allow_private=True) == ""
    assert not is_ordinary(address)


@pytest.mark.parametrize("host", ["169.254.169.254", "0.0.0.0", "[fe80::1]", "224.0.0.1", "0xa9fea9fe"])  # noqa: S104 - refused
def test_link_local_and_metadata_addresses_are_never_allowed(host):
    assert validation_error(f"http://{host}/1.jpg", allow_private=True)


def test_a_refusal_repeats_neither_password_nor_signature():
    assert "secret" not in validation_error("https://me:secret@cdn.shop.example/1.jpg", allow_private=False)
    signed = "https://b.s3.amazonaws.com/a b.jpg?X-Amz-Signature=secret&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE"
    assert "secret" not in validation_error(signed, allow_private=False)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("https://a.example/1.jpg, https://a.example/2.jpg", ["https://a.example/1.jpg", "https://a.example/2.jpg"]),
        ("https://a.example/1.jpg,https://a.example/2.jpg,", ["https://a.example/1.jpg", "https://a.example/2.jpg"]),
        ("https://a.example/1.jpg|s3://b12/2.jpg", ["https://a.example/1.jpg", "s3://b12/2.jpg"]),
        ("https://a.example/1.jpg;\nhttps://a.example/2.jpg", ["https://a.example/1.jpg", "https://a.example/2.jpg"]),
        ("https://a.example/w_3,h_2/1.jpg", ["https://a.example/w_3,h_2/1.jpg"]),
        ("https://a.example/1.jpg,", ["https://a.example/1.jpg"]),
        ("https://proxy.example/?u=https://a.example/1.jpg", ["https://proxy.example/?u=https://a.example/1.jpg"]),
    ],
)
def test_a_list_is_divided_only_where_another_address_follows(cell, expected):
    assert split_addresses(cell) == expected


def test_white_space_and_invisible_signs_around_a_text_go():
    assert strip_blanks("\ufeff \u00a0\u200bhttps://a.example/1.jpg\u200b \u00a0\n") == "https://a.example/1.jpg"
    assert strip_blanks("\u200b \u00a0") == ""


@given(st.text(max_size=60) | st.from_regex(r"https?://[!-~]{0,60}", fullmatch=True))
def test_the_quick_test_passes_only_what_the_close_look_would(text):
    told = validation_error(text, allow_private=False)
    if is_ordinary(text):
        assert not told
        assert strip_blanks(text) == text
        assert split_addresses(text) == [text]
    assert "\n" not in told
    assert len(told) < 400


@given(st.from_regex(image_url._ORDINARY, fullmatch=True))
def test_an_ordinary_address_is_right(text):
    assert validation_error(text, allow_private=False) == ""
    assert split_addresses(text) == [text]
