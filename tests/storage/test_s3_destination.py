"""Buckets: uploads and their proof, server copies, probing, links and sweeping."""

import hashlib
import json
import os
import threading
import uuid
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from reelsheet import s3_extra_args
from reelsheet.errors import ConfigurationError
from reelsheet.storage import s3_bucket, s3_destination
from reelsheet.storage import s3_client as s3_module
from reelsheet.storage.destination import copy_between, open_destination
from reelsheet.storage.errors import ObjectExists, StorageError
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.storage.s3_upload import PART_BYTES, part_bytes

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1", "cost-cents": "54", "run-id": "r"}


def test_an_object_of_exactly_one_part_is_one_request_with_its_sha256(in_bucket, s3, upload):
    content = os.urandom(PART_BYTES)
    upload(in_bucket, "videos/a.mp4", content, piece=PART_BYTES)
    head = s3.head_object(Bucket=in_bucket.bucket, Key="spring/clips/videos/a.mp4")
    assert "-" not in head["ETag"]
    assert head["ContentType"] == "video/mp4"
    assert head["Metadata"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_part_that_fails_leaves_nothing(in_bucket, s3, monkeypatch, unfinished):
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
    assert unfinished(in_bucket) == []


def test_a_completion_whose_answer_is_lost_is_settled_by_what_is_there(in_bucket, s3, monkeypatch, upload):
    client = s3_module.client()
    complete = client.complete_multipart_upload

    def lose(**asked):
        complete(**asked)
        raise EndpointConnectionError(endpoint_url="https://s3.example.com")

    monkeypatch.setattr(client, "complete_multipart_upload", lose)
    assert upload(in_bucket, "videos/a.mp4", bytes(PART_BYTES + 1)).size_bytes == PART_BYTES + 1


def test_a_completion_that_never_happened_is_an_error(in_bucket, s3, monkeypatch, unfinished):
    def fail(**_):
        raise EndpointConnectionError(endpoint_url="https://s3.example.com")

    monkeypatch.setattr(s3_module.client(), "complete_multipart_upload", fail)
    up = in_bucket.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(bytes(PART_BYTES + 1))
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        up.complete("0" * 64)
    assert caught.value.transient
    up.abort()
    assert unfinished(in_bucket) == []


@pytest.mark.parametrize("length", [100, PART_BYTES + 100])
def test_an_answer_that_proves_nothing_is_followed_by_reading_back(in_bucket, s3, monkeypatch, length, upload):
    """An endpoint with its own kind of ETag and no checksums: what is there is compared."""
    monkeypatch.setattr(s3_bucket, "VISIBLE_S", 0.0)
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
    monkeypatch.setattr(s3_bucket, "VISIBLE_S", 0.0)
    client = s3_module.client()
    put = client.put_object
    monkeypatch.setattr(client, "put_object", lambda **asked: put(**{**asked, "Body": b"1000\r\n" + asked["Body"]}))
    with pytest.raises(StorageError, match="does not hold what was sent") as caught:
        in_bucket.write("results.csv", b"a,b", "text/csv")
    assert caught.value.transient


def test_an_abort_from_another_thread_waits_for_the_part_under_way(in_bucket, s3, monkeypatch, unfinished):
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
    assert unfinished(in_bucket) == []


def test_ten_thousand_parts_are_always_enough():
    assert part_bytes(0) == PART_BYTES
    assert sum(part_bytes(done) for done in range(10_000)) > 400 * 2**30


def test_copying_within_s3_moves_no_bytes_through_this_machine(in_bucket, monkeypatch, upload):
    other = open_destination(f"s3://{in_bucket.bucket}/winter")
    upload(other, "videos/a.mp4", b"film")
    monkeypatch.setattr(S3Destination, "chunks", lambda *_: pytest.fail("downloaded"))
    copy_between(other, "videos/a.mp4", in_bucket, "videos/a.mp4", MINE)
    assert in_bucket.stat("videos/a.mp4").metadata["identity"] == MINE["identity"]


def test_where_the_server_cannot_copy_the_bytes_are_streamed(in_bucket, monkeypatch, upload):
    other = open_destination(f"s3://{in_bucket.bucket}/winter")
    upload(other, "videos/a.mp4", b"film")

    def refuse(**_):
        raise ClientError({"Error": {"Code": "NotImplemented"}}, "CopyObject")

    monkeypatch.setattr(s3_module.client(), "copy_object", refuse)
    assert copy_between(other, "videos/a.mp4", in_bucket, "videos/a.mp4", MINE).size_bytes == 4
    assert in_bucket.read("videos/a.mp4") == b"film"


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
        upload.complete(hashlib.sha256(b"ours").hexdigest())
    assert in_bucket.read("videos/a.mp4") == b"theirs"


def test_an_endpoint_that_does_not_verify_checksums_is_a_warning(in_bucket):
    """The simulated S3 is one of these."""
    assert any("does not verify checksums" in warning for warning in in_bucket.probe())


def test_an_endpoint_that_corrupts_is_refused(in_bucket, monkeypatch):
    monkeypatch.setattr(s3_bucket, "VISIBLE_S", 0.0)
    client = s3_module.client(attempts=3)
    put = client.put_object
    monkeypatch.setattr(client, "put_object", lambda **asked: put(**{**asked, "Body": b"400\r\n" + asked["Body"]}))
    with pytest.raises(ConfigurationError, match=r"1,029 bytes came back of 1,024\); use another"):
        in_bucket.probe()


def test_an_endpoint_that_forgets_metadata_is_a_warning(in_bucket, monkeypatch):
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
def test_a_missing_permission_is_named(in_bucket, monkeypatch, call, action):
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


def test_a_link_is_signed_for_the_bucket_s_own_region(s3):
    name = f"far-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    assert "%2Feu-west-3%2Fs3%2F" in open_destination(f"s3://{name}").presign_get("videos/a.mp4", 60).url


def test_only_our_own_stale_uploads_are_swept(in_bucket, s3, monkeypatch, unfinished):
    """The simulated S3 dates every upload to 2010."""
    for key in ("spring/clips/videos/a.mp4", "spring/clips/other/a.mp4", "elsewhere/videos/a.mp4"):
        s3.create_multipart_upload(Bucket=in_bucket.bucket, Key=key)
    s3.put_object(Bucket=in_bucket.bucket, Key="spring/clips/.reelsheet-probe-1")
    monkeypatch.setattr(s3_destination, "STALE", timedelta(days=365 * 100))
    assert in_bucket.sweep() == 0
    monkeypatch.setattr(s3_destination, "STALE", timedelta(days=-1))
    assert in_bucket.sweep() == 2
    assert sorted(unfinished(in_bucket)) == ["elsewhere/videos/a.mp4", "spring/clips/other/a.mp4"]


def test_sweeping_where_nothing_may_be_listed_is_no_error(in_bucket, monkeypatch):
    def deny(_):
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "ListMultipartUploads")

    monkeypatch.setattr(s3_module.client(), "list_multipart_uploads", lambda **_: deny(_))
    assert open_destination("s3://nowhere-at-all").sweep() == 0
    assert in_bucket.sweep() == 0


def test_requests_get_the_arguments_that_they_take(in_bucket, s3, monkeypatch):
    given = {"ServerSideEncryption": "AES256", "Tagging": "team=video", "ExpectedBucketOwner": "123456789012"}
    monkeypatch.setenv(s3_extra_args.NAME, json.dumps(given))
    place = open_destination(in_bucket.address)
    place.probe()
    place.write("results.csv", b"a,b", "text/csv")
    tags = s3.get_object_tagging(Bucket=in_bucket.bucket, Key="spring/clips/results.csv")["TagSet"]
    assert tags == [{"Key": "team", "Value": "video"}]
    assert place.read("results.csv") == b"a,b"
    assert "Expected" not in place.presign_get("results.csv", 60).url  # a browser sends no header
