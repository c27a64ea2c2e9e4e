"""Pictures that are files: only what lies below the folder, and only what is a picture, is ever read for an upload."""

import io
import os
import socket
import struct
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from reelsheet.images import local_pictures
from reelsheet.images.local_pictures import PictureError, PictureFolder
from reelsheet.outcomes import ErrorCode


def picture(form: str = "JPEG", size: tuple[int, int] = (320, 310), shade: int = 90) -> bytes:
    made = io.BytesIO()
    Image.effect_noise(size, shade).convert("RGB").save(made, form)
    return made.getvalue()


JPEG, PNG = picture(), picture("PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "shots"
    (home / "spring").mkdir(parents=True)
    (home / "a.jpg").write_bytes(JPEG)
    (home / "spring" / "b.png").write_bytes(PNG)
    (tmp_path / "outside.jpg").write_bytes(JPEG)
    return home


def refusal(folder: Path, name: str) -> PictureError:
    with pytest.raises(PictureError) as caught:
        PictureFolder(folder).find(name)
    assert str(caught.value).endswith(".")
    return caught.value


@pytest.mark.parametrize("name", ["spring/b.png", "./spring//b.png", "spring\\b.png", "Spring/B.PNG", "spring/b%2Epng"])
def test_a_picture_is_found_however_its_path_is_written(folder, name):
    found = PictureFolder(folder).find(name)
    assert (found.path, found.ending) == ("spring/b.png", "png")


def test_an_absolute_path_below_the_folder_is_found_also_where_the_folder_is_reached_by_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    for path in (folder / "a.jpg", tmp_path / "link" / "a.jpg"):
        assert PictureFolder(tmp_path / "link").find(str(path)).path == "a.jpg"


def test_its_content_is_what_counts(folder):
    (folder / "copy of a.jpeg").write_bytes(JPEG)
    here = PictureFolder(folder)
    assert here.find("a.jpg").sha256 == here.find("copy of a.jpeg").sha256 != here.find("spring/b.png").sha256


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP"])
def test_the_kind_is_known_by_the_content_not_by_the_name(folder, form):
    (folder / "odd.dat").write_bytes(picture(form))
    assert PictureFolder(folder).find("odd.dat").ending == {"JPEG": "jpg"}.get(form, form.lower())


def test_both_unicode_forms_of_a_name_find_the_file(folder):
    names = [unicodedata.normalize(form, "Kräuter-é.jpg") for form in ("NFC", "NFD")]
    (folder / names[1]).write_bytes(JPEG)
    assert [PictureFolder(folder).find(name).path for name in names] == [names[1]] * 2
    assert not PictureFolder(folder).find(names[0]).warnings


def test_blanks_and_capitals_in_a_files_own_name_do_not_hide_it(folder):
    (folder / "Dress 01 .JPG ").write_bytes(JPEG)
    found = PictureFolder(folder).find("dress 01 .jpg")
    assert found.path == "Dress 01 .JPG "
    assert "was read as the file 'Dress 01 .JPG'" in found.warnings[0]


def test_a_file_that_goes_after_its_folder_was_listed_is_missing(folder):
    pictures = PictureFolder(folder)
    assert pictures.find("A.JPG").path == "a.jpg"
    (folder / "a.jpg").unlink()
    with pytest.raises(PictureError, match=r"There is no file .*A\.JPG") as caught:
        pictures.find("A.JPG")
    assert caught.value.code is ErrorCode.IMAGE_UNREACHABLE


def test_a_name_that_fits_two_files_is_not_guessed(folder):
    for name in ("Mug.jpg", "MUG.jpg"):
        (folder / name).write_bytes(JPEG)
    assert PictureFolder(folder).find("MUG.jpg").path == "MUG.jpg"
    error = refusal(folder, "mug.jpg")
    assert (error.code, "may be" in str(error)) == (ErrorCode.IMAGE_UNREACHABLE, True)


def test_a_missing_file_is_named_with_the_path_that_was_looked_for(folder):
    error = refusal(folder, "spring/bb.png")
    assert error.code is ErrorCode.IMAGE_UNREACHABLE
    assert f"{folder}/spring/bb.png" in str(error)
    assert "Did you mean 'b.png'?" in str(error)


@pytest.mark.parametrize("name", ["nowhere/a.jpg", "a.jpg/b.jpg", "x" * 300 + ".jpg", "\ud800.jpg"])
def test_a_path_that_cannot_be_there_is_a_missing_file(folder, name):
    assert refusal(folder, name).code is ErrorCode.IMAGE_UNREACHABLE


@pytest.mark.parametrize(
    "name",
    [
        "../outside.jpg", "spring/../../outside.jpg", "..\\outside.jpg", "spring/../a.jpg", "..", "/etc/passwd",
        "/etc/../etc/passwd", "//server/share/a.jpg", "\\\\server\\share\\a.jpg", "C:\\Users\\me\\a.jpg", "c:/a.jpg",
        "spring", "spring/", ".", "/dev/zero",
    ],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_refused_and_says_what_to_do(folder, name):
    error = refusal(folder, name)
    assert error.code is ErrorCode.INVALID_ROW
    assert "name a picture" in str(error) or "and write '" in str(error)


def test_the_folders_own_path_does_not_open_its_neighbours(folder, tmp_path):
    (tmp_path / "shots-private").mkdir()
    (tmp_path / "shots-private" / "a.jpg").write_bytes(JPEG)
    for name in (f"{folder}-private/a.jpg", f"{folder}/../outside.jpg"):
        assert refusal(folder, name).code is ErrorCode.INVALID_ROW


def test_a_link_is_not_followed_wherever_it_stands_and_wherever_it_leads(folder, tmp_path):
    (folder / "out.jpg").symlink_to(tmp_path / "outside.jpg")
    (folder / "in.jpg").symlink_to("a.jpg")
    (folder / "dead.jpg").symlink_to("nowhere.jpg")
    (folder / "up").symlink_to(tmp_path)
    (folder / "same").symlink_to("spring")
    for name in ("out.jpg", "in.jpg", "dead.jpg", "up/outside.jpg", "same/b.png"):
        error = refusal(folder, name)
        assert (error.code, "link" in str(error)) == (ErrorCode.INVALID_ROW, True), name


def test_what_is_no_file_is_refused_at_once(folder):
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket.jpg"))
        for name in ("pipe.jpg", "socket.jpg"):
            assert refusal(folder, name).code is ErrorCode.INVALID_ROW
    assert "device" in str(refusal(Path("/dev"), "zero"))


SECRETS = {
    ".env": b"VIBEDREAM_API_KEY=vdk-4f9cQ7Zb1mXw8rTn2LpK6sYd3HgJ5vEa\n",
    "id_rsa": b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n",
    "credentials.jpg": b"[default]\naws_secret_access_key = abc\n",
    "ledger.db": b"SQLite format 3\x00" + bytes(100),
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "page.jpg": b"<!doctype html><title>Sign in</title>",
    "photo.heic": b"\x00\x00\x00\x18ftypheic" + bytes(50),
    "empty.jpg": b"",
    "zeros.jpg": bytes(5000),
}


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_no_picture_is_never_taken_whatever_its_name(folder, name):
    (folder / name).write_bytes(SECRETS[name])
    error = refusal(folder, name)
    assert error.code is ErrorCode.IMAGE_UNSUPPORTED
    assert "vdk-" not in str(error)


def with_thumbnail() -> bytes:
    small = picture(size=(80, 60))
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + JPEG[2:]


@pytest.mark.parametrize("content", [JPEG, with_thumbnail(), PNG, picture("WEBP")])
def test_a_picture_that_is_cut_off_is_refused(folder, content):
    (folder / "whole").write_bytes(content)
    PictureFolder(folder).find("whole")
    for length in (len(content) // 2, len(content) - 20):
        (folder / "cut").write_bytes(content[:length])
        error = refusal(folder, "cut")
        assert (error.code, "cut off" in str(error)) == (ErrorCode.IMAGE_UNSUPPORTED, True)


def test_a_file_that_is_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(local_pictures, "LARGEST_BYTES", 1000)
    assert refusal(folder, "a.jpg").code is ErrorCode.IMAGE_UNSUPPORTED


def test_a_file_that_may_not_be_read_is_said(folder, monkeypatch):
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert "may not be read by this user" in str(refusal(folder, "a.jpg"))


def test_a_picture_that_changed_since_the_plan_is_not_read(folder):
    here = PictureFolder(folder)
    found = here.find("a.jpg")
    assert here.read(found.path, found.sha256) == JPEG
    (folder / "a.jpg").write_bytes(picture(shade=30))
    with pytest.raises(PictureError, match="was changed after the plan was made"):
        here.read(found.path, found.sha256)
    (folder / "a.jpg").unlink()
    (folder / "a.jpg").symlink_to("spring/b.png")
    with pytest.raises(PictureError, match="link"):
        here.read(found.path, found.sha256)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(["..", ".", "", "/", "\\\\", "a.jpg", "up", "spring", "~", "%2e%2e", "\x00", "é"]), min_size=1
    )
)
def test_no_path_reads_anything_outside_of_the_folder(folder, parts):
    if not (folder / "up").is_symlink():
        (folder / "up").symlink_to(folder.parent)
        (folder.parent / "a.jpg").write_bytes(picture(shade=5))
    inside = {local_pictures.PictureFolder(folder).find(name).sha256 for name in ("a.jpg", "spring/b.png")}
    for name in ("/".join(parts), "\\\\".join(parts), str(folder) + "/" + "/".join(parts)):
        with suppress(PictureError):
            assert PictureFolder(folder).find(name).sha256 in inside
