"""Buckets and folders as destinations: one behaviour, two kinds."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from reelsheet.errors import ConfigurationError
from reelsheet.storage import s3_client as s3_module
from reelsheet.storage import s3_destination
from reelsheet.storage.destination import copy_between, open_destination
from reelsheet.storage.errors import ObjectConflict, ObjectExists, ObjectMissing, StorageError
from reelsheet.storage.folder_destination import FolderDestination
from reelsheet.storage.s3_destination import PART_BYTES, S3Destination, part_bytes
from reelsheet.storage.stored_object import StoredObject

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1", "cost-cents": "54", "run-id": "r"}
OTHERS = {**MINE, "identity": "2" * 64}


@pytest.fixture(autouse=True)
def one_client(monkeypatch):
    """The same environment in every test, so that the client is built once."""
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")


@pytest.fixture(autouse=True)
def notes(monkeypatch, tmp_path):
    """Extended attributes, also where this machine's temporary folder has none."""
    try:
        os.setxattr(tmp_path, "user.reelsheet.test", b"1")
    except (AttributeError, OSError):
        kept = {}

        def get(path, _):
            if (inode := os.stat(path).st_ino) not in kept:  # noqa: PTH116 - as in `put`
                raise OSError(errno.ENODATA, "no data")
            return kept[inode]

        def put(file, _, value):
            kept[os.stat(file).st_ino] = value  # noqa: PTH116 - a descriptor, perhaps

        monkeypatch.setattr(os, "setxattr", put, raising=False)
        monkeypatch.setattr(os, "getxattr", get, raising=False)


@pytest.fixture
def in_bucket(bucket) -> S3Destination:
    return open_destination(f"s3://{bucket}/spring/clips")


@pytest.fixture
def in_folder(tmp_path) -> FolderDestination:
    return open_destination(str(tmp_path / "out"))


@pytest.fixture(params=["bucket", "folder"])
def place(request):
    return request.getfixturevalue(f"in_{request.param}")


def upload(place, key: str, content: bytes, metadata: dict[str, str] = MINE, piece: int = 2**20) -> StoredObject:
    up = place.open_upload(key, "video/mp4", metadata)
    for at in range(0, len(content), piece):
        up.part(content[at : at + piece])
    return up.complete({"sha256": hashlib.sha256(content).hexdigest()})


def unfinished(s3, place) -> list[str]:
    if isinstance(place, S3Destination):
        return [one["Key"] for one in s3.list_multipart_uploads(Bucket=place.bucket).get("Uploads", ())]
    return [str(path) for path in place.root.rglob("*") if path.name.startswith(".")]


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
    assert not (tmp_path / "clips").exists()


@pytest.mark.parametrize(
    ("address", "told"),
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
def test_an_address_that_cannot_be_written_to_is_refused(address, told):
    with pytest.raises(ConfigurationError, match=told):
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


def test_what_is_written_is_read_listed_and_described(place):
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


def test_metadata_survives_letters_that_no_header_can_carry(place):
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


def test_a_large_object_goes_up_in_parts_and_comes_back_the_same(place, s3):
    content = os.urandom(2 * PART_BYTES + 12345)
    stored = upload(place, "videos/a.mp4", content)
    assert stored.size_bytes == len(content)
    assert b"".join(place.chunks("videos/a.mp4")) == content
    assert place.stat("videos/a.mp4").belongs_to(MINE)
    assert unfinished(s3, place) == []


def test_an_object_of_exactly_one_part_is_one_request_with_its_sha256(in_bucket, s3):
    content = os.urandom(PART_BYTES)
    upload(in_bucket, "videos/a.mp4", content, piece=PART_BYTES)
    head = s3.head_object(Bucket=in_bucket.bucket, Key="spring/clips/videos/a.mp4")
    assert "-" not in head["ETag"]
    assert head["ContentType"] == "video/mp4"
    assert head["Metadata"]["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("length", [0, 10, 2 * PART_BYTES + 1])
def test_nothing_is_visible_before_an_upload_is_complete_nor_after_it_is_given_up(place, s3, length):
    up = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(bytes(length))
    assert place.stat("videos/a.mp4") is None
    assert place.listing() == {}
    up.abort()
    up.abort()
    assert place.listing() == {}
    assert unfinished(s3, place) == []
    with pytest.raises(StorageError, match="given up"):
        up.part(b"more")
    with pytest.raises(StorageError, match="given up"):
        up.complete()


def test_giving_up_after_completion_changes_nothing(place):
    up = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(b"film")
    up.complete()
    up.abort()
    assert place.read("videos/a.mp4") == b"film"


def test_a_part_that_fails_leaves_nothing(in_bucket, s3, monkeypatch):
    client = s3_module.client()
    sent = []

    def refuse(**asked):
        sent.append(asked["PartNumber"])
        if len(sent) > 1:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "UploadPart")
        return {"ETag": '"x"', "ChecksumCRC32": "?"}

    monkeypatch.setattr(client, "upload_part", refuse)
    up = in_bucket.open_upload("videos/a.mp4", "video/mp4", MINE)
    with pytest.raises(StorageError, match="s3:PutObject") as caught:
        up.part(bytes(3 * PART_BYTES))
    assert caught.value.systemic
    up.abort()
    assert sent == [1, 2]
    assert in_bucket.listing() == {}
    assert unfinished(s3, in_bucket) == []


def test_a_completion_whose_answer_is_lost_is_settled_by_what_is_there(in_bucket, s3, monkeypatch):
    client = s3_module.client()
    complete = client.complete_multipart_upload

    def lose(**asked):
        complete(**asked)
        raise EndpointConnectionError(endpoint_url="https://s3.example.com")

    monkeypatch.setattr(client, "complete_multipart_upload", lose)
    assert upload(in_bucket, "videos/a.mp4", bytes(PART_BYTES + 1)).size_bytes == PART_BYTES + 1


def test_a_completion_that_never_happened_is_an_error(in_bucket, s3, monkeypatch):
    def fail(**_):
        raise EndpointConnectionError(endpoint_url="https://s3.example.com")

    monkeypatch.setattr(s3_module.client(), "complete_multipart_upload", fail)
    up = in_bucket.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(bytes(PART_BYTES + 1))
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        up.complete()
    assert caught.value.transient
    up.abort()
    assert unfinished(s3, in_bucket) == []


@pytest.mark.parametrize("length", [100, PART_BYTES + 100])
def test_an_answer_that_proves_nothing_is_followed_by_reading_back(in_bucket, s3, monkeypatch, length):
    """An endpoint with its own kind of ETag and no checksums: what is there is compared."""
    client = s3_module.client()
    for name in ("put_object", "upload_part"):
        real = getattr(client, name)
        monkeypatch.setattr(client, name, lambda real=real, **asked: {"ETag": real(**asked)["ETag"][:-1] + 'z"'})
    monkeypatch.setattr(
        client,
        "complete_multipart_upload",
        lambda **asked: s3.put_object(Bucket=asked["Bucket"], Key=asked["Key"], Body=b""),
    )
    if length < PART_BYTES:
        assert upload(in_bucket, "videos/a.mp4", os.urandom(length)).size_bytes == length
    else:
        with pytest.raises(StorageError, match="0 bytes instead of"):
            upload(in_bucket, "videos/a.mp4", os.urandom(length))


def test_an_object_that_arrives_garbled_is_noticed(in_bucket, monkeypatch):
    client = s3_module.client()
    put = client.put_object
    monkeypatch.setattr(client, "put_object", lambda **asked: put(**{**asked, "Body": b"1000\r\n" + asked["Body"]}))
    with pytest.raises(StorageError, match="does not hold what was sent") as caught:
        in_bucket.write("results.csv", b"a,b", "text/csv")
    assert caught.value.transient


def test_an_abort_from_another_thread_waits_for_the_part_under_way(in_bucket, s3, monkeypatch):
    client = s3_module.client()
    started, go_on = threading.Event(), threading.Event()
    real = client.upload_part

    def slow(**asked):
        started.set()
        assert go_on.wait(10)
        return real(**asked)

    monkeypatch.setattr(client, "upload_part", slow)
    up = in_bucket.open_upload("videos/a.mp4", "video/mp4", MINE)
    sender = threading.Thread(target=up.part, args=(bytes(PART_BYTES + 1),))
    sender.start()
    assert started.wait(10)
    giver_up = threading.Thread(target=up.abort)
    giver_up.start()
    go_on.set()
    sender.join(10)
    giver_up.join(10)
    assert unfinished(s3, in_bucket) == []


def test_ten_thousand_parts_are_always_enough():
    assert part_bytes(0) == PART_BYTES
    assert sum(part_bytes(done) for done in range(10_000)) > 400 * 2**30


# Copying from another destination


@pytest.mark.parametrize("source", ["bucket", "folder", "same bucket"])
def test_another_destination_is_filled_by_copying(place, source, s3, tmp_path):
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


def test_copying_within_s3_moves_no_bytes_through_this_machine(in_bucket, monkeypatch):
    other = open_destination(f"s3://{in_bucket.bucket}/winter")
    upload(other, "videos/a.mp4", b"film")
    monkeypatch.setattr(S3Destination, "chunks", lambda *_: pytest.fail("downloaded"))
    copy_between(other, "videos/a.mp4", in_bucket, "videos/a.mp4", MINE)
    assert in_bucket.stat("videos/a.mp4").metadata["identity"] == MINE["identity"]


def test_where_the_server_cannot_copy_the_bytes_are_streamed(in_bucket, monkeypatch):
    other = open_destination(f"s3://{in_bucket.bucket}/winter")
    upload(other, "videos/a.mp4", b"film")

    def refuse(**_):
        raise ClientError({"Error": {"Code": "NotImplemented"}}, "CopyObject")

    monkeypatch.setattr(s3_module.client(), "copy_object", refuse)
    assert copy_between(other, "videos/a.mp4", in_bucket, "videos/a.mp4", MINE).size_bytes == 4
    assert in_bucket.read("videos/a.mp4") == b"film"


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


def test_another_s_clip_is_never_overwritten(place, tmp_path):
    other = open_destination(str(tmp_path / "elsewhere"))
    upload(other, "videos/a.mp4", b"film")
    upload(place, "videos/a.mp4", b"something", OTHERS)
    with pytest.raises(ObjectConflict, match="belongs to something else"):
        copy_between(other, "videos/a.mp4", place, "videos/a.mp4", MINE)
    assert place.read("videos/a.mp4") == b"something"


def test_a_nameless_object_with_the_same_content_is_taken(place, tmp_path):
    other = open_destination(str(tmp_path / "elsewhere"))
    upload(other, "videos/a.mp4", b"film")
    place.write("videos/a.mp4", b"film", "video/mp4")
    assert copy_between(other, "videos/a.mp4", place, "videos/a.mp4", MINE).size_bytes == 4
    place.write("videos/a.mp4", b"FILM", "video/mp4")
    with pytest.raises(ObjectConflict):
        copy_between(other, "videos/a.mp4", place, "videos/a.mp4", MINE)


# Probing


def test_a_probe_leaves_nothing(place, s3):
    warnings = place.probe()
    assert place.listing() == {}
    assert unfinished(s3, place) == []
    if isinstance(place, S3Destination):
        assert s3.list_objects_v2(Bucket=place.bucket)["KeyCount"] == 0
    assert not [one for one in warnings if "stays behind" in one]


@pytest.mark.parametrize("answer", ["ignored", "NotImplemented", "AccessDenied"])
def test_an_endpoint_that_knows_no_condition_is_looked_at_before_every_upload(in_bucket, monkeypatch, answer):
    client = s3_module.client(attempts=3)
    put = client.put_object

    def unconditional(**asked):
        if asked.pop("IfNoneMatch", None) and answer != "ignored":
            raise ClientError({"Error": {"Code": answer}}, "PutObject")
        return put(**asked)

    monkeypatch.setattr(client, "put_object", unconditional)
    in_bucket.probe()
    assert not in_bucket.refuses_overwrite


def test_a_new_upload_leaves_what_is_there(in_bucket):
    in_bucket.probe()
    assert in_bucket.refuses_overwrite
    in_bucket.write("videos/a.mp4", b"theirs", "video/mp4")
    upload = in_bucket.open_upload("videos/a.mp4", "video/mp4", MINE, new=True)
    upload.part(b"ours")
    with pytest.raises(ObjectExists):
        upload.complete()
    assert in_bucket.read("videos/a.mp4") == b"theirs"


def test_an_endpoint_that_does_not_verify_checksums_is_told(in_bucket):
    """The simulated S3 is one of these."""
    assert any("does not verify checksums" in warning for warning in in_bucket.probe())


def test_an_endpoint_that_refuses_a_wrong_checksum_is_no_warning(in_bucket, monkeypatch):
    client = s3_module.client(attempts=3)
    put = client.put_object

    def check(**asked):
        if "ChecksumCRC32" in asked:
            raise ClientError({"Error": {"Code": "BadDigest"}}, "PutObject")
        return put(**asked)

    monkeypatch.setattr(client, "put_object", check)
    assert in_bucket.probe() == ()


def test_an_endpoint_that_corrupts_is_refused(in_bucket, monkeypatch):
    """As one does that stores the framing of a body which is sent in chunks."""
    client = s3_module.client(attempts=3)
    put = client.put_object
    monkeypatch.setattr(client, "put_object", lambda **asked: put(**{**asked, "Body": b"400\r\n" + asked["Body"]}))
    with pytest.raises(ConfigurationError, match=r"1,029 bytes came back of 1,024\); set AWS_REQUEST_CHECKSUM"):
        in_bucket.probe()


def test_an_endpoint_that_forgets_metadata_is_told(in_bucket, monkeypatch):
    client = s3_module.client(attempts=3)
    put = client.put_object
    monkeypatch.setattr(client, "put_object", lambda **asked: put(**{**asked, "Metadata": {}}))
    assert any("does not keep metadata" in warning for warning in in_bucket.probe())


def test_a_bucket_that_is_not_there_is_refused(s3):
    with pytest.raises(ConfigurationError, match="there is no bucket nowhere-at-all; create it"):
        open_destination("s3://nowhere-at-all/x").probe()


@pytest.mark.parametrize(
    ("call", "action"),
    [
        ("put_object", r"writing .*s3:PutObject on arn:aws:s3:::clips-\w+/spring/clips/\*"),
        ("get_object", r"reading .*s3:GetObject on arn:aws:s3:::clips-\w+/spring/clips/\*"),
        ("list_objects_v2", r"listing s3://clips-\w+/spring/clips is denied; .*s3:ListBucket"),
    ],
)
def test_a_permission_that_lacks_is_named(in_bucket, monkeypatch, call, action):
    def deny(**_):
        raise ClientError({"Error": {"Code": "AccessDenied"}}, call)

    monkeypatch.setattr(s3_module.client(attempts=3), call, deny)
    with pytest.raises(ConfigurationError, match=action):
        in_bucket.probe()


def test_a_bucket_where_nothing_may_be_deleted_is_a_warning(in_bucket, monkeypatch):
    def deny(**_):
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "DeleteObject")

    monkeypatch.setattr(s3_module.client(attempts=3), "delete_object", deny)
    assert any("stays behind" in warning and "s3:DeleteObject" in warning for warning in in_bucket.probe())
    assert in_bucket.listing() == {}


def test_an_endpoint_that_does_not_answer_is_refused(in_bucket, monkeypatch):
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1 cannot be reached"):
        in_bucket.probe()


def test_missing_credentials_are_refused(in_bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="no usable AWS credentials"):
        in_bucket.probe()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="a file is where a folder should be"):
        open_destination(str(file / "out")).probe()

    def deny(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(ConfigurationError, match=r"not permitted; make .* writable"):
        open_destination(str(tmp_path / "out")).probe()


def test_a_nearly_full_disk_is_a_warning(in_folder, monkeypatch):
    real = os.statvfs

    def nearly_full(path):
        found = list(real(path))
        found[4] = 10
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", nearly_full)
    assert "are free" in in_folder.probe()[0]


# Trouble with the disk


@pytest.mark.parametrize(
    ("number", "told", "systemic"),
    [
        (errno.ENOSPC, "is full; make room", True),
        (errno.EDQUOT, "is full; make room", True),
        (errno.EROFS, "not permitted", True),
        (errno.EIO, "check the disk", True),
        (errno.ENAMETOOLONG, "shorter --name", False),
    ],
)
def test_trouble_with_the_disk_is_a_sentence_and_leaves_nothing(in_folder, monkeypatch, number, told, systemic):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    up = in_folder.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(b"film")
    with pytest.raises(StorageError, match=told) as caught:
        up.complete()
    up.abort()
    assert caught.value.systemic is systemic
    assert [path for path in in_folder.root.rglob("*") if path.is_file()] == []


def test_metadata_is_a_nicety_where_the_file_system_has_none(in_folder, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    upload(in_folder, "videos/a.mp4", b"film")
    assert in_folder.stat("videos/a.mp4").metadata == {}


def test_a_folder_where_a_clip_should_be_is_a_conflict(in_folder):
    (in_folder.root / "videos" / "a.mp4").mkdir(parents=True)
    with pytest.raises(ObjectConflict):
        in_folder.stat("videos/a.mp4")


def test_hidden_files_are_no_part_of_a_folder_s_listing(in_folder):
    in_folder.write("videos/a.mp4", b"film", "video/mp4")
    (in_folder.root / "videos" / ".DS_Store").write_bytes(b"x")
    (in_folder.root / ".git").mkdir()
    (in_folder.root / ".git" / "x").write_bytes(b"x")
    assert in_folder.listing() == {"videos/a.mp4": 4}


# Links and sweeping


def test_a_link_opens_the_object_without_credentials(place):
    place.write("videos/a b.mp4", b"film", "video/mp4")
    link = place.link("videos/a b.mp4", 10**9)
    with urlopen(link) as answer:  # noqa: S310 - this machine's own
        assert answer.read() == b"film"
    if isinstance(place, S3Destination):
        assert "X-Amz-Expires=604800" in link
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link


def test_a_link_is_signed_for_the_bucket_s_own_region(s3):
    name = f"far-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    assert "%2Feu-west-3%2Fs3%2F" in open_destination(f"s3://{name}").link("videos/a.mp4", 60)


def test_only_our_own_stale_uploads_are_swept(in_bucket, s3, monkeypatch):
    """The simulated S3 dates every upload to 2010."""
    for key in ("spring/clips/videos/a.mp4", "spring/clips/other/a.mp4", "elsewhere/videos/a.mp4"):
        s3.create_multipart_upload(Bucket=in_bucket.bucket, Key=key)
    s3.put_object(Bucket=in_bucket.bucket, Key="spring/clips/.reelsheet-probe-1")
    monkeypatch.setattr(s3_destination, "STALE", timedelta(days=365 * 100))
    assert in_bucket.sweep() == 0
    monkeypatch.setattr(s3_destination, "STALE", timedelta(days=-1))
    assert in_bucket.sweep() == 2
    assert sorted(unfinished(s3, in_bucket)) == ["elsewhere/videos/a.mp4", "spring/clips/other/a.mp4"]


def test_sweeping_where_nothing_may_be_listed_is_no_error(in_bucket, monkeypatch):
    def deny(_):
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "ListMultipartUploads")

    monkeypatch.setattr(s3_module.client(), "get_paginator", deny)
    assert open_destination("s3://nowhere-at-all").sweep() == 0
    assert in_bucket.sweep() == 0


def test_a_writer_that_is_killed_leaves_nothing_to_see(in_folder):
    code = (
        "import os, signal, sys; from reelsheet.storage.destination import open_destination\n"
        "up = open_destination(sys.argv[1]).open_upload('videos/a.mp4', 'video/mp4', {})\n"
        "up.part(bytes(1000)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, in_folder.address], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert in_folder.listing() == {}
    assert in_folder.stat("videos/a.mp4") is None
    (leftover,) = [path for path in in_folder.root.rglob("*") if path.is_file()]
    os.utime(leftover, (time.time() - 7200,) * 2)
    assert in_folder.sweep() == 1


def test_only_stale_leftovers_are_swept_from_a_folder(in_folder):
    old, new = in_folder.open_upload("videos/a.mp4", "", {}), in_folder.open_upload("videos/b.mp4", "", {})
    for up in (old, new):
        up.part(b"film")
    os.utime(old._temporary, (time.time() - 7200,) * 2)
    assert in_folder.sweep() == 1
    assert in_folder.sweep() == 0
    new.complete()
    old.abort()
    assert in_folder.listing() == {"videos/b.mp4": 4}
