"""The destination on a stranger: OpenStack Swift with its S3 interface, over http and https."""

import asyncio
import hashlib
import os
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.storage import clip_copy
from reelsheet.storage.destination import copy_between, open_destination
from reelsheet.storage.errors import ObjectConflict, ObjectMissing, StorageError
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.storage.stored_object import StoredObject
from reelsheet.web.guarded_http import guarded_client

# a minute, and an installation on first use
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1", "cost-cents": "54", "run-id": "été"}
OTHERS = MINE | {"identity": "2" * 64}
LARGE = 20_000_000  # three parts


@pytest.fixture
def place(stranger: str) -> S3Destination:
    found = open_destination(f"s3://{stranger}/spring")
    assert isinstance(found, S3Destination)
    return found


def upload(place: S3Destination, key: str, content: bytes) -> StoredObject:
    up = place.open_upload(key, "video/mp4", MINE)
    for at in range(0, len(content), 2**20):
        up.part(content[at : at + 2**20])
    return up.complete(hashlib.sha256(content).hexdigest())


def parts_left(place: S3Destination) -> list[str]:
    return [one["Key"] for one in boto3.client("s3").list_multipart_uploads(Bucket=place.bucket).get("Uploads", ())]


def test_the_probe_is_content_and_leaves_nothing(place):
    assert all("metadata" not in warning for warning in place.probe())
    assert place.listing() == {}
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket=place.bucket)


@pytest.mark.parametrize("size", [1, 100_000, LARGE])
def test_a_clip_comes_back_as_it_went_with_the_proof_whose_it_is(place, size):
    content = os.urandom(size)
    upload(place, "videos/a.mp4", content)
    assert b"".join(place.chunks("videos/a.mp4")) == content
    assert place.listing("videos/") == {"videos/a.mp4": size}
    stored = place.stat("videos/a.mp4")
    assert stored is not None
    assert stored.size_bytes == size
    assert stored.belongs_to(MINE)
    assert stored.belongs_to(OTHERS) is False
    assert not parts_left(place)


def test_an_upload_that_is_given_up_leaves_no_object_and_no_parts(place):
    up = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(os.urandom(9_000_000))
    assert place.stat("videos/a.mp4") is None
    assert parts_left(place) == ["spring/videos/a.mp4"]
    up.abort()
    assert place.stat("videos/a.mp4") is None
    assert not parts_left(place)


def test_a_table_is_written_over_and_read(place):
    assert place.read("results.csv") is None
    place.write("results.csv", b"a,b", "text/csv")
    place.write("results.csv", b"a,b,c", "text/csv")
    assert place.read("results.csv") == b"a,b,c"


@pytest.mark.parametrize("size", [100_000, LARGE])
def test_another_prefix_is_filled_by_copying(place, size):
    content = os.urandom(size)
    upload(place, "videos/a.mp4", content)
    winter = open_destination(f"s3://{place.bucket}/winter")
    copy_between(place, "videos/a.mp4", winter, "videos/b.mp4", MINE)
    assert b"".join(winter.chunks("videos/b.mp4")) == content
    stored = winter.stat("videos/b.mp4")
    assert stored is not None
    assert stored.belongs_to(MINE)
    with pytest.raises(ObjectConflict):
        copy_between(place, "videos/a.mp4", winter, "videos/b.mp4", OTHERS)
    with pytest.raises(ObjectMissing):
        copy_between(place, "videos/nothing.mp4", winter, "videos/c.mp4", MINE)


def test_a_folder_is_filled_from_it(place, tmp_path):
    content = os.urandom(LARGE)
    upload(place, "videos/a.mp4", content)
    folder = open_destination(str(tmp_path))
    copy_between(place, "videos/a.mp4", folder, "videos/a.mp4", MINE)
    assert (tmp_path / "videos" / "a.mp4").read_bytes() == content


def test_a_presigned_link_works_for_who_has_no_key(place, swift):
    upload(place, "videos/a.mp4", b"film")
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=swift["ca"])),
    )
    with direct.open(place.presign_get("videos/a.mp4", 60).url) as answer:
        assert answer.read() == b"film"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("AWS_SECRET_ACCESS_KEY", "wrong", "key is not accepted"), ("AWS_ACCESS_KEY_ID", "nobody", "S3: ")],
)
def test_a_wrong_key_is_reported_before_anything_is_spent(place, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=message):
        place.probe()
    with pytest.raises(StorageError):
        place.stat("videos/a.mp4")


def test_a_missing_bucket_is_reported(stranger):
    with pytest.raises(ConfigurationError, match="there is no bucket"):
        open_destination("s3://nothere/x").probe()


def test_the_sweep_leaves_uploads_of_today_alone(place):
    up = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(os.urandom(9_000_000))
    assert place.sweep() == 0
    assert parts_left(place)
    up.abort()


@pytest.fixture
def film(tmp_path) -> Iterator[tuple[str, bytes]]:
    """A true MP4 of 20 MB at an address on this machine."""
    from reelsheet.sandbox.clips import Clips

    async def make() -> bytes:
        maker = Clips(tmp_path)
        try:
            return await maker.tiny(LARGE, "swift")
        finally:
            maker.close()

    content = asyncio.run(make())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "video/mp4")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/a.mp4", content
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_clip_is_copied_proven_and_adopted(place, film):
    """Twice: the second time what is there is read back, and nothing is written."""
    address, content = film

    async def copied() -> clip_copy.Clip:
        async with guarded_client(allow_private=True) as web:
            return await clip_copy.copy(address, place, "videos/a.mp4", client=web, metadata=MINE)

    once = asyncio.run(copied())
    before = place.stat("videos/a.mp4")
    again = asyncio.run(copied())
    assert once.sha256 == again.sha256 == hashlib.sha256(content).hexdigest()
    assert once.bytes == LARGE
    assert before == place.stat("videos/a.mp4")
    assert b"".join(place.chunks("videos/a.mp4")) == content
