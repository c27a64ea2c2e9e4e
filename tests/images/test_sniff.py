"""What the first bytes of a file say."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reelsheet.file_types import WEB_PAGE
from reelsheet.images.sniff import FIRST, cautions, is_cut, sniff

MAGICS = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"RIFF\0\0\0\0WEBPVP8X",
    b"\0\0\0\x18ftyp",
    b"<",
]


def encoded(form, size=(640, 480), **options):
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, form, **options)
    return file.getvalue()


def frames(form, count):
    file = io.BytesIO()
    first, *others = (Image.new("RGB", (320, 200), (shade * 40, 9, 9)) for shade in range(count))
    first.save(file, form, save_all=True, append_images=others, duration=100)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (encoded("JPEG"), "jpeg"),
        (encoded("JPEG", progressive=True), "jpeg"),
        (encoded("PNG"), "png"),
        (encoded("GIF"), "gif"),
        (encoded("WEBP"), "webp"),
        (encoded("WEBP", lossless=True), "webp"),
        (encoded("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"), "webp"),
    ],
)
def test_kind_and_dimensions_come_from_the_content(content, kind):
    picture = sniff(content[:FIRST], total=len(content))
    assert (picture.kind, picture.width, picture.height) == (kind, 640, 480)
    assert picture.bytes_total == len(content)
    assert not picture.animated


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_a_moving_picture_is_noticed(form):
    assert sniff(frames(form, 3)).animated
    assert any("animated" in caution for caution in cautions(sniff(frames(form, 3))))
    assert not sniff(encoded(form)).animated


def test_a_jpeg_whose_frame_header_is_not_there_yet_is_still_a_jpeg():
    picture = sniff(b"\xff\xd8\xff\xe1\xff\xf0Exif" + bytes(200))
    assert (picture.kind, picture.width, picture.height) == ("jpeg", None, None)


def test_a_jpeg_with_filling_and_a_thumbnail_gives_its_own_dimensions():
    plain = encoded("JPEG", (800, 600))
    thumbnail = encoded("JPEG", (16, 12))
    segment = b"\xff\xff\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    picture = sniff(plain[:2] + segment + plain[2:])
    assert (picture.width, picture.height) == (800, 600)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", WEB_PAGE),
        (b"\xef\xbb\xbf\n <!-- hello --> <HTML lang=de>", WEB_PAGE),
        (b'<?xml version="1.0"?><!DOCTYPE html>', WEB_PAGE),
        (b'<?xml version="1.0"?><svg xmlns="x">', "an SVG drawing"),
        (b"<svg >", "an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0", "a HEIC picture"),
        (b"\0\0\0\x18ftypavif\0\0", "an AVIF picture"),
        (b"\0\0\0\x18ftypisom\0\0", "a video"),
        (b"BM6\0\0\0", "a BMP picture"),
        (b"II*\0\x08\0", "a TIFF picture"),
        (b"%PDF-1.7", "a PDF file"),
        (b"8BPS\0\x01", "a Photoshop file"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI video"),
        (b'{"error": "no"}', "JSON text"),
        (b"<Error><Code>X</Code>", "an XML or web page"),
        (b"hello", "text"),
        (b"\x01\x02\x03", "an unknown kind of file"),
    ],
)
def test_what_is_no_picture_is_named(content, name):
    picture = sniff(content)
    assert (picture.kind, picture.looks_like) == ("other", name)


def test_a_name_or_a_label_does_not_matter_only_bytes_do():
    assert sniff(b"\x89PNG\r\n\x1a\nrest").kind == "png"
    assert sniff(b"\x89PNG but not really").kind == "other"


def test_the_fingerprint_changes_with_the_first_bytes_and_with_the_length():
    content = encoded("PNG")
    first = sniff(content, total=1000).fingerprint
    assert sniff(content, total=1000).fingerprint == first
    assert sniff(content, total=1001).fingerprint != first
    assert sniff(content[:-1] + b"!", total=1000).fingerprint != first


def test_the_fingerprint_covers_as_much_as_is_always_looked_at():
    """Where more had to be read to find the dimensions, it stays the same."""
    assert sniff(bytes(FIRST), total=9).fingerprint == sniff(bytes(FIRST) + b"more", total=9).fingerprint


@pytest.mark.parametrize(
    ("size", "total", "words"),
    [
        ((640, 480), 19_000_000, []),
        ((640, 480), 21_000_000, ["21 MB"]),
        ((300, 400), 1, ["300 by 400"]),
        ((301, 400), 1, []),
        ((1000, 400), 1, []),
        ((1001, 400), 1, ["2:5 and 5:2"]),
        ((400, 1001), 1, ["2:5 and 5:2"]),
    ],
)
def test_the_limits_of_the_trade_are_warnings(size, total, words):
    found = cautions(sniff(encoded("PNG", size), total=total))
    assert len(found) == len(words)
    assert all(word in caution for word, caution in zip(words, found, strict=True))


@given(st.sampled_from(MAGICS), st.binary(max_size=200))
def test_no_bytes_are_too_odd_to_be_looked_at(magic, rest):
    picture = sniff(magic + rest)
    assert picture.kind in {"jpeg", "png", "gif", "webp", "other"}
    assert picture.looks_like
    assert (picture.width is None) == (picture.height is None)
    cautions(picture)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_head_cut_anywhere_is_no_trouble(form):
    content = encoded(form, (320, 200))
    for length in range(min(len(content), 700)):
        picture = sniff(content[:length])
        assert picture.width in (None, 320)


def test_a_picture_that_would_unfold_into_gigabytes_is_only_measured():
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + b"\x08\x06\0\0\0"
    assert sniff(header).width == 2**31 - 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_picture_that_ends_too_early_is_known_and_a_complete_one_is_not_taken_for_it(form):
    complete = encoded(form)
    for content in (complete, complete + b"trailing bytes of a camera"):
        assert not is_cut(content, len(content), is_complete=True)
    for share in (0.3, 0.6, 0.95):
        cut = complete[: int(len(complete) * share)]
        assert is_cut(cut, len(cut), is_complete=True)
    assert not is_cut(complete[:600], None, is_complete=False), "nobody knows how long it is"
    assert not is_cut(complete[: len(complete) // 2], len(complete), is_complete=False)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_gif_that_lacks_only_its_last_byte_is_complete_and_one_that_lacks_two_is_not(frames):
    stills = [Image.effect_noise((320, 200), 50) for _ in range(frames)]
    file = io.BytesIO()
    stills[0].save(file, "GIF", save_all=True, append_images=stills[1:])
    complete = file.getvalue()
    assert not is_cut(complete[:-1], len(complete) - 1, is_complete=True)
    for length in (6, 12, 13, 100, len(complete) // 2, len(complete) - 2):
        assert is_cut(complete[:length], length, is_complete=True)


def test_what_a_picture_says_of_its_own_length_tells_it_from_its_first_bytes():
    webp, png = encoded("WEBP"), encoded("PNG", (3_000, 3_000))
    assert is_cut(webp[:200], len(webp) - 10, is_complete=False)
    head = png[:33] + struct.pack(">I", 900_000) + b"IDAT" + bytes(500)
    assert is_cut(head, 500_000, is_complete=False)
    assert not is_cut(head, 1_000_000, is_complete=False)


def test_enormous_pictures_are_warned_of():
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII5B", 13, b"IHDR", 30_000, 29_000, 8, 2, 0, 0, 0) + bytes(4)
    assert any("more than 50 million" in warning for warning in cautions(sniff(head)))


@pytest.mark.parametrize(("orientation", "size"), [(1, (600, 400)), (3, (600, 400)), (6, (400, 600)), (8, (400, 600))])
def test_a_picture_that_the_camera_stored_turned_has_the_size_that_people_see(orientation, size):
    turned = Image.Exif()
    turned[0x0112] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", (600, 400)).save(buffer, "JPEG", exif=turned)
    picture = sniff(buffer.getvalue())
    assert (picture.width, picture.height) == size
