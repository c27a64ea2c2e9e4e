"""What every kind of destination does: one behaviour, two kinds."""

import hashlib
import os
import uuid
from datetime import UTC, datetime, timedelta
from urllib.request import urlopen

import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.storage import stored_object
from reelsheet.storage.destination import copy_between, open_destination
from reelsheet.storage.errors import ObjectConflict, ObjectMissing, StorageError
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.storage.s3_upload import PART_BYTES
from reelsheet.storage.stored_object import StoredObject

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1", "cost-cents": "54", "run-id": "r"}
OTHERS = {**MINE, "identity": "2" * 64}


# Addresses


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("s3://clips/spring", "s3://clips/spring"),
        ("S3://clips/spring/", "s3://clips/spring"),
        ("s3://clips", "s3://clips"),
        ("s3://clips/", "s3://clips"),
        ("/data/out/", "/data/out"),
        ("/data/x/../out", "/data/out"),
        ("file:///data/my%20clips", "/data/my clips"),
    ],
)
def test_an_address_has_one_spelling(address, canonical):
    assert open_destination(address).address == canonical


def test_a_folder_is_absolute_and_knows_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert open_destination("~/clips").address == str(tmp_path.resolve() / "clips")
    assert open_destination("clips").address == str(tmp_path.resolve() / "clips")
    for name in (".", "./", "././"):
        assert open_destination(name).address == str(tmp_path.resolve())
    assert not (tmp_path / "clips").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "no destination"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://my bucket/x", "names no bucket"),
        ("s3:/clips/x", "lacks the slashes"),
        ("s3:clips", "lacks the slashes"),
        ("s3://clips/a//b", "empty or dotted"),
        ("s3://clips/../b", "empty or dotted"),
        (f"s3://clips/{'x' * 300}", "too long"),
        ("https://example.com/clips", "cannot write to https://"),
        ("https://clips.s3.eu-west-1.amazonaws.com/spring", r"perhaps s3://clips/spring"),
        ("https://s3.amazonaws.com/clips/spring/", r"perhaps s3://clips/spring"),
        ("gs://clips", "cannot write to gs://"),
        ("~nobody-here/clips", "home folder"),
    ],
)
def test_an_address_that_cannot_be_written_to_is_refused(address, message):
    with pytest.raises(ConfigurationError, match=message):
        open_destination(address)


def test_a_uri_leads_back_to_its_key(place):
    uri = place.uri("videos/a b.mp4")
    assert uri.startswith(place.address)
    assert place.key_of(uri) == "videos/a b.mp4"
    assert place.key_of(place.address) is None
    assert place.key_of("s3://elsewhere/videos/a.mp4") is None
    assert place.key_of("/elsewhere/a.mp4") is None
    assert place.key_of(place.address + "-other/videos/a.mp4") is None


@pytest.mark.parametrize("key", ["../x", "/x", "a//b", "a/../b", "a\\b", "", "a\nb", "./a"])
def test_a_key_never_leads_out_of_the_destination(place, key):
    for use in (place.stat, place.read, place.uri, lambda key: place.write(key, b"x", "text/plain")):
        with pytest.raises(ValueError, match="not a key"):
            use(key)


# Reading and writing


def test_what_is_written_is_read_listed_and_described(place, upload):
    place.write("results.csv", b"a,b\n", "text/csv")
    place.write("results.csv", b"a,b\n1,2\n", "text/csv")
    place.write("runs/r1/results.csv", b"", "text/csv")
    upload(place, "videos/a/b.mp4", b"film")
    assert place.read("results.csv") == b"a,b\n1,2\n"
    assert place.listing() == {"results.csv": 8, "runs/r1/results.csv": 0, "videos/a/b.mp4": 4}
    assert place.listing("videos") == place.listing("videos/") == {"videos/a/b.mp4": 4}
    assert place.listing("video") == {}
    stored = place.stat("videos/a/b.mp4")
    assert stored.size_bytes == 4
    assert stored.metadata == {**MINE, "sha256": hashlib.sha256(b"film").hexdigest()}
    assert abs(datetime.now(UTC) - stored.modified) < timedelta(minutes=5)
    assert b"".join(place.chunks("videos/a/b.mp4")) == b"film"


def test_what_is_not_there_is_none(place):
    assert place.stat("videos/a.mp4") is None
    assert place.read("runs/r1/results.csv") is None
    assert place.listing("videos") == {}
    with pytest.raises(ObjectMissing):
        list(place.chunks("videos/a.mp4"))


def test_metadata_survives_letters_that_no_header_can_carry(place, upload):
    metadata = {"identity": "1" * 64, "run-id": "été\r\nX-Evil: 1", "prediction-id": "a b:c/d"}
    upload(place, "videos/a.mp4", b"film", metadata)
    stored = place.stat("videos/a.mp4")
    assert stored.metadata["run-id"] == "%C3%A9t%C3%A9%0D%0AX-Evil: 1"
    assert stored.belongs_to(metadata)


def test_an_object_belongs_to_identity_attempt_and_prediction():
    stored = StoredObject(1, {**MINE, "sha256": "x"})
    assert stored.belongs_to(MINE)
    assert stored.belongs_to({"identity": MINE["identity"]})
    assert stored.belongs_to({**MINE, "run-id": "another"})
    for name in ("identity", "attempt", "prediction-id"):
        assert stored.belongs_to({**MINE, name: "9"}) is False
    assert StoredObject(1, {}).belongs_to(MINE) is None


# Uploads


def test_a_large_object_goes_up_in_parts_and_comes_back_the_same(place, s3, upload, unfinished):
    content = os.urandom(2 * PART_BYTES + 12345)
    stored = upload(place, "videos/a.mp4", content)
    assert stored.size_bytes == len(content)
    assert b"".join(place.chunks("videos/a.mp4")) == content
    assert place.stat("videos/a.mp4").belongs_to(MINE)
    assert unfinished(place) == []


@pytest.mark.parametrize("length", [0, 10, 2 * PART_BYTES + 1])
def test_nothing_is_visible_before_an_upload_is_complete_nor_after_it_is_given_up(place, s3, length, unfinished):
    up = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(bytes(length))
    assert place.stat("videos/a.mp4") is None
    assert place.listing() == {}
    up.abort()
    up.abort()
    assert place.listing() == {}
    assert unfinished(place) == []
    with pytest.raises(StorageError, match="given up"):
        up.part(b"more")
    with pytest.raises(StorageError, match="given up"):
        up.complete("0" * 64)


def test_giving_up_after_completion_changes_nothing(place):
    up = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(b"film")
    up.complete(hashlib.sha256(b"film").hexdigest())
    up.abort()
    assert place.read("videos/a.mp4") == b"film"


# Copying from another destination


@pytest.mark.parametrize("source", ["bucket", "folder", "same bucket"])
def test_another_destination_is_filled_by_copying(place, source, s3, tmp_path, upload):
    if source == "folder":
        other = open_destination(str(tmp_path / "elsewhere"))
    elif isinstance(place, S3Destination) and source == "same bucket":
        other = open_destination(f"s3://{place.bucket}/winter")
    else:
        name = f"other-{uuid.uuid4().hex[:12]}"
        s3.create_bucket(Bucket=name)
        other = open_destination(f"s3://{name}/winter")
    content = os.urandom(100_000)
    upload(other, "videos/a.mp4", content)
    stored = copy_between(other, "videos/a.mp4", place, "videos/b.mp4", {**MINE, "run-id": "later"})
    assert stored.size_bytes == len(content)
    assert place.read("videos/b.mp4") == content
    assert place.stat("videos/b.mp4").metadata["run-id"] == "later"
    assert place.stat("videos/b.mp4").metadata["sha256"] == hashlib.sha256(content).hexdigest()
    assert copy_between(other, "videos/a.mp4", place, "videos/b.mp4", MINE).size_bytes == len(content)


def test_a_source_that_is_gone_is_missing(place, tmp_path, in_bucket):
    for other in (open_destination(str(tmp_path / "elsewhere")), open_destination(f"s3://{in_bucket.bucket}/winter")):
        with pytest.raises(ObjectMissing, match="not there any more"):
            copy_between(other, "videos/a.mp4", place, "videos/a.mp4", MINE)


def test_a_source_that_changed_is_not_copied(place, tmp_path):
    other = open_destination(str(tmp_path / "elsewhere"))
    other.write("videos/a.mp4", b"film", "video/mp4")
    with pytest.raises(StorageError, match="checksum differs"):
        copy_between(other, "videos/a.mp4", place, "videos/a.mp4", {**MINE, "sha256": "0" * 64})
    assert place.listing() == {}


def test_a_clip_of_another_row_is_never_overwritten(place, tmp_path, upload):
    other = open_destination(str(tmp_path / "elsewhere"))
    upload(other, "videos/a.mp4", b"film")
    upload(place, "videos/a.mp4", b"something", OTHERS)
    with pytest.raises(ObjectConflict, match="belongs to something else"):
        copy_between(other, "videos/a.mp4", place, "videos/a.mp4", MINE)
    assert place.read("videos/a.mp4") == b"something"


def test_an_object_without_metadata_is_kept_if_equal_else_a_conflict(place, tmp_path, upload):
    other = open_destination(str(tmp_path / "elsewhere"))
    upload(other, "videos/a.mp4", b"film")
    place.write("videos/a.mp4", b"film", "video/mp4")
    assert copy_between(other, "videos/a.mp4", place, "videos/a.mp4", MINE).size_bytes == 4
    place.write("videos/a.mp4", b"FILM", "video/mp4")
    with pytest.raises(ObjectConflict):
        copy_between(other, "videos/a.mp4", place, "videos/a.mp4", MINE)


# Probing


def test_a_probe_leaves_nothing(place, s3, unfinished):
    warnings = place.probe()
    assert place.listing() == {}
    assert unfinished(place) == []
    if isinstance(place, S3Destination):
        assert s3.list_objects_v2(Bucket=place.bucket)["KeyCount"] == 0
    assert not [one for one in warnings if "stays behind" in one]


# Links and sweeping


def test_a_link_says_when_it_ends(place):
    before = datetime.now(UTC)
    link = place.presign_get("videos/a.mp4", 3600)
    if isinstance(place, S3Destination):
        assert link.ends_at is not None
        assert timedelta(0) <= link.ends_at - before - timedelta(hours=1) < timedelta(minutes=1)
    else:
        assert link.ends_at is None


@pytest.mark.parametrize(
    ("variables", "hours"),
    [
        ({}, 7 * 24),
        ({"AWS_SESSION_TOKEN": "t"}, 12),  # a role's or a login's: nobody says until when
        ({"AWS_SESSION_TOKEN": "t", "AWS_CREDENTIAL_EXPIRATION": 2}, 2),
        ({"AWS_SESSION_TOKEN": "t", "AWS_CREDENTIAL_EXPIRATION": 1000}, 7 * 24),
    ],
)
def test_a_link_ends_with_the_credentials_that_sign_it(in_bucket, monkeypatch, variables, hours):
    now = datetime.now(UTC)
    for name, value in variables.items():
        ends = value if isinstance(value, str) else (now + timedelta(hours=value)).strftime("%Y-%m-%dT%H:%M:%SZ")
        monkeypatch.setenv(name, ends)
    ends_at = in_bucket.presign_get("videos/a.mp4", 10**9).ends_at
    assert abs(ends_at - now - timedelta(hours=hours)) < timedelta(minutes=1)


def test_a_link_opens_the_object_without_credentials(place):
    place.write("videos/a b.mp4", b"film", "video/mp4")
    link = place.presign_get("videos/a b.mp4", 10**9).url
    with urlopen(link) as answer:  # noqa: S310 - this machine's own
        assert answer.read() == b"film"
    if isinstance(place, S3Destination):
        assert "X-Amz-Expires=604800" in link
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link


def test_a_table_that_is_far_too_large_is_not_read(place, monkeypatch):
    monkeypatch.setattr(stored_object, "LARGEST_READ_BYTES", 2**20)
    place.write("results.csv", bytes(2**20), "text/csv")
    assert len(place.read("results.csv") or b"") == 2**20
    place.write("results.csv", bytes(2**20 + 1), "text/csv")
    with pytest.raises(StorageError, match=r"results.csv has more than 1 MB, too much for a table"):
        place.read("results.csv")
