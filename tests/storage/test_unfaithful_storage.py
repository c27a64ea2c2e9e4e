"""An S3 that is strict, and others that keep something else than what they were sent: none of it becomes a clip."""

import asyncio
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.outcomes import ErrorCode
from reelsheet.storage import clip_copy, s3_bucket
from reelsheet.storage.clip_copy import ClipError
from reelsheet.storage.errors import StorageError
from reelsheet.web.guarded_http import guarded_client
from tests.stand_in.stores import Kind, Store

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1"}
NOTHING: frozenset[str] = frozenset()


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    """For what will never come."""
    monkeypatch.setattr(s3_bucket, "VISIBLE_S", 0.0)


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1]) if body else body


def flipped_if_large(body: bytes) -> bytes:
    return flipped(body) if len(body) > 100_000 else body


def test_a_strict_endpoint_is_no_warning(serve):
    storage = Store()
    assert serve(storage).probe() == ()
    assert storage.objects == {}


@pytest.mark.parametrize("spoil", [flipped, lambda body: body[:-1], lambda body: body + b"\n", lambda _body: b""])
def test_an_endpoint_that_keeps_something_else_is_refused_before_anything_is_spent(serve, spoil):
    with pytest.raises(ConfigurationError, match="does not store what is sent"):
        serve(Store(Kind(spoil=spoil))).probe()


def test_an_endpoint_that_stores_the_framing_of_a_body_is_sent_none(serve):
    """boto3 by itself sends bodies over https in chunks with a trailing checksum; some store all of that."""
    storage = Store(Kind(keeps_framing=True))
    serve(storage).write("results.csv", b"a,b", "text/csv")
    assert storage.objects["spring/results.csv"].content == b"a,b"


def test_an_endpoint_that_ignores_checksums_is_a_warning(serve):
    assert any("does not verify checksums" in warning for warning in serve(Store(Kind(verifies=NOTHING))).probe())


def test_an_endpoint_that_forgets_metadata_is_a_warning(serve):
    assert any("does not keep metadata" in warning for warning in serve(Store(Kind(keeps_metadata=False))).probe())


@pytest.mark.parametrize("echoes", [False, True])
@pytest.mark.parametrize("size", [200_000, 9_000_000])
def test_what_is_spoiled_on_its_way_is_no_clip_and_does_not_stay(serve, size, echoes):
    """The probe is small and goes through whole; a clip does not. A checksum that is only repeated proves nothing."""
    storage = Store(Kind(verifies=NOTHING, spoil=flipped_if_large, echoes=echoes))
    place = serve(storage)
    place.probe()
    upload = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    content = b"film" * (size // 4)
    upload.part(content)
    with pytest.raises(StorageError, match="does not hold what was sent"):
        upload.complete(hashlib.sha256(content).hexdigest())
    assert storage.objects == {}


@pytest.mark.parametrize("deletes", [True, False])
@pytest.mark.parametrize("size", [400_000, 9_000_000])
async def test_a_spoiled_clip_is_never_adopted_by_the_next_try(serve, size, deletes, elsewhere_film):
    """Its boxes are right and its metadata is ours: only the bytes are not."""
    storage = Store(Kind(verifies=NOTHING, spoil=flipped_if_large, may_delete=deletes))
    place = serve(storage)

    async def at_once(_seconds: float) -> None:
        return

    async with guarded_client(allow_private=True) as web:
        with pytest.raises(ClipError) as wrong:
            await clip_copy.copy(
                elsewhere_film(size), place, "videos/a.mp4", client=web, metadata=MINE, attempts=3, sleep=at_once
            )
    assert wrong.value.code is ErrorCode.STORAGE
    assert re.search("does not hold what was sent", str(wrong.value))
    if deletes:
        assert storage.objects == {}
    else:
        assert "delete it, repeat the command" in str(wrong.value)


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> dict[int, bytes]:
    """True MP4s, by their size in bytes."""
    from reelsheet.sandbox.clips import Clips

    async def made() -> dict[int, bytes]:
        return {size: await maker.tiny(size, "spoiled") for size in (400_000, 9_000_000)}

    maker = Clips(tmp_path_factory.mktemp("films"))
    try:
        return asyncio.run(made())
    finally:
        maker.close()


@pytest.fixture
def elsewhere_film(films) -> Iterator[Callable[[int], str]]:
    """`elsewhere_film(size)` is the address of a film of that many bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = films[int(self.path[1:])]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "video/mp4")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield lambda size: f"http://127.0.0.1:{server.server_port}/{size}"
    server.shutdown()
    server.server_close()
    thread.join()
