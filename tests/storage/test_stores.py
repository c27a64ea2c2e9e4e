"""The destination on each kind of store, over https; docs/storage.md has the table of what was tried."""

import hashlib
import json
import os

import pytest

from reelsheet import s3_extra_args
from reelsheet.storage.destination import copy_between, open_destination
from reelsheet.storage.errors import ObjectExists, StorageError
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.storage.s3_upload import PART_BYTES
from tests.stand_in.stores import KINDS, Kind, Refusal, Store

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1"}
CLIP = os.urandom(300_000)
LARGE = os.urandom(PART_BYTES + 1)  # two parts


@pytest.fixture
def scheme() -> str:
    """Where boto3 by itself would send trailers; the simulated S3 of the other tests is on http."""
    return "https"


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def store(request) -> Store:
    return Store(request.param, page=2)


@pytest.fixture
def place(store, serve, monkeypatch) -> S3Destination:
    """With what the store's policy demands."""
    if store.kind.needs:
        extra = {"ACL" if "acl" in store.kind.needs[0] else "ServerSideEncryption": store.kind.needs[1]}
        monkeypatch.setenv(s3_extra_args.NAME, json.dumps(extra))
    return serve(store)


def upload(place: S3Destination, key: str, content: bytes, *, new: bool = False) -> None:
    up = place.open_upload(key, "video/mp4", MINE, new=new)
    try:
        for at in range(0, len(content), 2**18):
            up.part(content[at : at + 2**18])
        up.complete(hashlib.sha256(content).hexdigest())
    finally:
        up.abort()


@pytest.mark.parametrize(("content", "is_probed"), [(CLIP, True), (CLIP, False), (LARGE, True)])
def test_clips_and_tables_are_stored_and_proven(store, place, content, is_probed):
    if is_probed:
        warnings = place.probe()
        assert bool(warnings) == (not store.kind.verifies)
    upload(place, "videos/a.mp4", content)
    place.write("results.csv", b"a,b", "text/csv")
    assert b"".join(place.chunks("videos/a.mp4")) == content
    stored = place.stat("videos/a.mp4")
    assert stored is not None
    assert stored.belongs_to(MINE)
    assert place.read("results.csv") == b"a,b"
    assert store.keys() == ["spring/results.csv", "spring/videos/a.mp4"]
    assert not store.uploads
    if is_probed and store.kind.verifies:
        assert "GetObject" not in store.asked[store.asked.index("DeleteObject") : -3]  # nothing was read back


def test_an_object_that_is_there_is_known_before_or_refused(store, place):
    place.probe()
    upload(place, "videos/a.mp4", CLIP)
    if place.refuses_overwrite:
        with pytest.raises(ObjectExists):
            upload(place, "videos/a.mp4", CLIP, new=True)
    else:
        assert place.stat("videos/a.mp4") is not None
    assert not store.uploads


def test_listings_and_copies(place):
    for number in range(5):
        upload(place, f"videos/{number}.mp4", CLIP)
    assert place.listing("videos/") == {f"videos/{number}.mp4": len(CLIP) for number in range(5)}
    winter = open_destination("s3://bucket/winter")
    copy_between(place, "videos/1.mp4", winter, "videos/b.mp4", MINE)
    assert b"".join(winter.chunks("videos/b.mp4")) == CLIP
    assert place.sweep() == 0


def test_nothing_is_sent_that_a_store_may_refuse_unknown(store, place):
    """Trailers, and checksums that it was not seen to verify."""
    place.probe()
    probed = len(store.headers)
    upload(place, "videos/a.mp4", CLIP)
    for _, headers in store.headers[probed:]:
        assert "aws-chunked" not in headers.get("content-encoding", "")
        if store.kind.checksums or "x-amz-checksum-sha256" not in store.kind.verifies:
            assert not any(name.startswith("x-amz-checksum-") and name != "x-amz-checksum-mode" for name in headers)


def test_a_user_can_forbid_checksums_in_headers(serve, monkeypatch):
    store = Store()
    place = serve(store)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    place.probe()
    upload(place, "videos/a.mp4", CLIP)
    assert not any("x-amz-checksum-sha256" in headers for _, headers in store.headers)
    assert all("content-md5" in headers for operation, headers in store.headers[-1:] if operation == "PutObject")


def test_a_store_that_verifies_no_checksum_but_refuses_a_wrong_md5_is_believed(serve):
    """Amazon with KMS keys has ETags that are no MD5; what it verified need not be read back."""
    store = Store(Kind(has_md5_etags=False, checksums=Refusal(400, "InvalidArgument", "Unsupported header")))
    place = serve(store)
    assert place.probe() == ()
    probed = len(store.asked)
    upload(place, "videos/a.mp4", CLIP)
    assert store.asked[probed:] == ["PutObject"]


@pytest.mark.slow
def test_an_object_that_is_seen_later_is_waited_for(serve):
    """In the probe, after an upload in parts, and where what was sent is read back."""
    store = Store(Kind(visible_after_s=1.5, verifies=frozenset(), has_md5_etags=False))
    place = serve(store)
    place.probe()
    upload(place, "videos/a.mp4", CLIP)
    upload(place, "videos/b.mp4", LARGE)
    assert store.keys() == ["spring/videos/a.mp4", "spring/videos/b.mp4"]


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_a_conflict_with_another_request_is_tried_again(serve, code):
    conflict = Refusal(409, code, "A conflicting conditional operation is currently in progress.")
    operations = ("ListObjectsV2", "PutObject", "CreateMultipartUpload", "UploadPart", "DeleteObject")
    store = Store(first={operation: [conflict] for operation in operations})
    place = serve(store)
    place.probe()
    store.first["PutObject"] = [conflict, conflict]
    upload(place, "videos/a.mp4", CLIP, new=True)
    upload(place, "videos/b.mp4", LARGE)
    assert store.keys() == ["spring/videos/a.mp4", "spring/videos/b.mp4"]


def test_the_end_of_an_upload_in_parts_that_meets_a_conflict_begins_it_again(serve):
    store = Store(first={"CompleteMultipartUpload": [Refusal(409, "ConditionalRequestConflict", "Try again.")]})
    place = serve(store)
    with pytest.raises(StorageError, match=r'another request changes the same object .*"Try again\."') as caught:
        upload(place, "videos/a.mp4", LARGE)
    assert caught.value.transient  # `clip_copy.copy` fetches the clip again
    assert store.asked.count("CompleteMultipartUpload") == 1
    assert not store.uploads
    upload(place, "videos/a.mp4", LARGE)
    assert store.asked.count("CreateMultipartUpload") == 2
