"""Answers of an S3 that lack something or cannot be read: a sentence that names the operation, never a stack trace."""

import hashlib
import threading
from collections.abc import Callable

import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.storage import destination
from reelsheet.storage.destination import tidy
from reelsheet.storage.errors import StorageError
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.storage.s3_upload import PART_BYTES
from tests.stand_in.stores import Kind, Store

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1"}
LARGE = bytes(PART_BYTES + 1)
Use = Callable[[S3Destination], object]


@pytest.fixture
def scheme() -> str:
    return "http"


def upload(place: S3Destination) -> None:
    up = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    try:
        up.part(LARGE)
        up.complete(hashlib.sha256(LARGE).hexdigest())
    finally:
        up.abort()


@pytest.mark.parametrize(
    ("operation", "element", "shown", "use"),
    [
        ("HeadObject", "Content-Length", "ContentLength", lambda place: place.stat("results.csv")),
        ("GetObject", "Content-Length", "ContentLength", lambda place: place.read("results.csv")),
        ("ListObjectsV2", "Key", "Key", lambda place: place.listing()),
        ("ListObjectsV2", "Size", "Size", lambda place: place.listing()),
        ("ListObjectsV2", "NextContinuationToken", "NextContinuationToken", lambda place: place.listing()),
        ("CreateMultipartUpload", "UploadId", "UploadId", upload),
        ("UploadPart", "ETag", "ETag", upload),
    ],
)
def test_what_an_answer_lacks_is_named_with_its_operation(serve, operation, element, shown, use):
    store = Store(page=1)
    place = serve(store)
    for name in ("results.csv", "videos/b.mp4", "videos/c.mp4"):
        place.write(name, b"a,b", "text/csv")
    store.damage[operation, element] = None
    with pytest.raises(
        StorageError, match=rf"^S3: the answer to {operation} for s3://bucket/spring\S* has no {shown};"
    ):
        use(place)
    assert not store.uploads or operation == "CreateMultipartUpload"  # that one is swept a day later


@pytest.mark.parametrize(
    ("operation", "element", "use"),
    [
        ("HeadObject", "Content-Length", lambda place: place.stat("results.csv")),
        ("ListObjectsV2", "Size", lambda place: place.listing()),
        ("ListObjectsV2", "LastModified", lambda place: place.listing()),
    ],
)
@pytest.mark.parametrize("text", ["soon", "-"])
def test_a_number_or_time_that_is_none_is_named_with_its_operation(serve, operation, element, use, text):
    store = Store()
    place = serve(store)
    place.write("results.csv", b"a,b", "text/csv")
    store.damage[operation, element] = text
    with pytest.raises(StorageError, match=rf"^S3: the answer to {operation} for s3://bucket/spring\S* cannot be read"):
        use(place)


@pytest.mark.parametrize("element", ["ETag", "Last-Modified"])
def test_what_reelsheet_can_do_without_may_be_missing(serve, element):
    store = Store(Kind(verifies=frozenset()), damage={("PutObject", element): None, ("HeadObject", element): None})
    place = serve(store)
    place.write("results.csv", b"a,b", "text/csv")
    found = place.stat("results.csv")
    assert found is not None
    assert found.size_bytes == 3


def test_a_listing_without_an_end_is_given_up(serve):
    store = Store(page=1, damage={("ListObjectsV2", "NextContinuationToken"): "spring/a"})
    place = serve(store)
    for name in ("a", "b", "c"):
        place.write(name, b"", "text/csv")
    with pytest.raises(StorageError, match="the listing of s3://bucket/spring has no end"):
        place.listing()


@pytest.mark.parametrize("operation", ["ListObjectsV2", "CreateMultipartUpload"])
def test_an_answer_that_is_no_xml_is_a_sentence(serve, monkeypatch, operation):
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    store = Store()
    place = serve(store)
    real = store.answer

    def answer(asked, *args):
        reply = real(asked, *args)
        return type(reply)(200, {}, b"<html><p>Welcome") if asked == operation else reply

    monkeypatch.setattr(Store, "answer", lambda _, *args: answer(*args))
    with pytest.raises(StorageError, match=r"^S3: .*s3://bucket/spring"):
        place.listing() if operation == "ListObjectsV2" else upload(place)


@pytest.mark.parametrize("element", ["Initiated", "UploadId", "Key"])
@pytest.mark.parametrize("text", [None, "soon"])
def test_tidying_does_without_what_it_does_not_know(serve, element, text):
    store = Store(damage={("ListMultipartUploads", element): text})
    place = serve(store)
    store.uploads["u1"] = "spring/videos/a.mp4", {}, {}
    place.sweep()
    assert place.probe() == ()


@pytest.mark.parametrize("operation", ["ListMultipartUploads", "AbortMultipartUpload"])
def test_tidying_that_hangs_does_not_hold_up_a_run(serve, monkeypatch, operation):
    store = Store(hangs={operation})
    place = serve(store)
    store.uploads["u1"] = "spring/videos/a.mp4", {}, {}
    monkeypatch.setattr(destination, "TIDYING_LIMIT_S", 0.1)
    tidy(place)  # would take minutes
    assert not store.stop.is_set()
    store.stop.set()
    for thread in threading.enumerate():
        if thread.name == "reelsheet-sweep":
            thread.join(10)


def test_a_probe_of_an_s3_that_leaves_out_what_is_needed_is_a_matter_of_configuration(serve):
    store = Store(damage={("GetObject", "Content-Length"): None})
    place = serve(store)
    assert place.probe() == ()  # small, and compared
    store.damage = {("ListObjectsV2", "Key"): None}
    place.write("videos/a.mp4", b"film", "video/mp4")
    with pytest.raises((ConfigurationError, StorageError)):
        place.listing()
