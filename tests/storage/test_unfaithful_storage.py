"""An S3 that is strict, and others that keep something else than what they were sent: none of it becomes a clip."""

import asyncio
import base64
import contextlib
import hashlib
import re
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from reelsheet.errors import ConfigurationError
from reelsheet.outcomes import ErrorCode
from reelsheet.storage import clip_copy
from reelsheet.storage.clip_copy import ClipError
from reelsheet.storage.destination import open_destination
from reelsheet.storage.errors import StorageError
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.web.guarded_http import guarded_client

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1"}
Spoil = Callable[[bytes], bytes]


class Storage:
    """Just enough of S3: objects, metadata, multipart uploads, checksums in headers and trailers."""

    def __init__(
        self,
        *,
        verifies: bool = True,
        unframes: bool = True,
        spoil: Spoil = bytes,
        forgets: bool = False,
        deletes: bool = True,
        echoes: bool = False,
    ):
        self.verifies, self.unframes, self.spoil = verifies, unframes, spoil
        self.forgets, self.deletes, self.echoes = forgets, deletes, echoes
        self.checksum: str | None = None  # the checksum that came with the last body
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.parts: dict[int, bytes] = {}
        self.begun: dict[str, str] = {}

    def kept(self, handler: BaseHTTPRequestHandler) -> bytes | None:
        """What is stored of a body; None where its checksum is wrong."""
        raw = received(handler)
        framed = "aws-chunked" in (handler.headers.get("Content-Encoding") or "")
        body, trailer = unframed(raw) if framed else (raw, {})
        checksum = trailer.get("x-amz-checksum-crc32") or handler.headers.get("x-amz-checksum-crc32")
        self.checksum = checksum
        if self.verifies and checksum not in {None, base64.b64encode(zlib.crc32(body).to_bytes(4)).decode()}:
            return None
        return self.spoil(body if self.unframes or not framed else raw)


def received(handler: BaseHTTPRequestHandler) -> bytes:
    """The body as HTTP carries it."""
    if "Content-Length" in handler.headers:
        return handler.rfile.read(int(handler.headers["Content-Length"]))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def unframed(raw: bytes) -> tuple[bytes, dict[str, str]]:
    """The content of an aws-chunked body, and its trailers."""
    body, at = b"", 0
    while True:
        end = raw.index(b"\r\n", at)
        size = int(raw[at:end].split(b";")[0], 16)
        if not size:
            lines = raw[end + 2 :].decode().split("\r\n")
            return body, dict(line.split(":", 1) for line in lines if ":" in line)
        body += raw[end + 2 : end + 2 + size]
        at = end + 4 + size


def handler_of(storage: Storage) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - the methods of one server
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def metadata(self) -> dict[str, str]:
            return {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}

        def do_PUT(self) -> None:
            parts = urlsplit(self.path)
            body = storage.kept(self)
            if body is None:
                self.answer(400, b"<Error><Code>BadDigest</Code></Error>")
                return
            number = parse_qs(parts.query).get("partNumber")
            if number:
                storage.parts[int(number[0])] = body
            else:
                storage.objects[parts.path] = body, self.metadata()
            echo = {"x-amz-checksum-crc32": storage.checksum} if storage.echoes and storage.checksum else {}
            self.answer(200, headers={"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'} | echo)

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "uploads" in parts.query:
                storage.begun = self.metadata()
                storage.parts.clear()
                self.answer(200, b"<R><UploadId>u</UploadId></R>")
            else:
                storage.objects[parts.path] = b"".join(storage.parts[n] for n in sorted(storage.parts)), storage.begun
                self.answer(200, b"<R><ETag>joined</ETag></R>")

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path.count("/") == 1:
                self.answer(200, b"<ListBucketResult></ListBucketResult>")
            elif parts.path not in storage.objects:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                body, metadata = storage.objects[parts.path]
                self.answer(200, body, {} if storage.forgets else metadata)

        do_HEAD = do_GET  # noqa: N815 - http.server's own name

        def do_DELETE(self) -> None:
            parts = urlsplit(self.path)
            if "uploadId" in parts.query:
                storage.parts.clear()
            elif storage.deletes:
                storage.objects.pop(parts.path, None)
            else:
                self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
                return
            self.answer(204)

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def handle_expect_100(self) -> bool:
            self.send_response_only(100)
            self.end_headers()
            return True

    return Handler


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """For 127.0.0.1, signed by itself; with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    import ipaddress

    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture(params=["http", "https"])
def scheme(request):
    return request.param


@pytest.fixture
def serve(scheme, certificate, monkeypatch) -> Iterator[Callable[[Storage], S3Destination]]:
    """`serve(storage)` is a destination on it."""
    with contextlib.ExitStack() as running:

        def start(storage: Storage) -> S3Destination:
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(storage))
            if scheme == "https":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate)
                server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            running.callback(thread.join)
            running.callback(server.server_close)
            running.callback(server.shutdown)
            for name, value in {
                "AWS_ENDPOINT_URL_S3": f"{scheme}://127.0.0.1:{server.server_port}",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_CA_BUNDLE": str(certificate),
            }.items():
                monkeypatch.setenv(name, value)
            found = open_destination("s3://bucket/spring")
            assert isinstance(found, S3Destination)
            return found

        yield start


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1]) if body else body


def flipped_if_large(body: bytes) -> bytes:
    return flipped(body) if len(body) > 100_000 else body


def test_a_strict_endpoint_is_no_warning(serve):
    storage = Storage()
    assert serve(storage).probe() == ()
    assert storage.objects == {}


@pytest.mark.parametrize("spoil", [flipped, lambda body: body[:-1], lambda body: body + b"\n", lambda _body: b""])
def test_an_endpoint_that_keeps_something_else_is_refused_before_anything_is_spent(serve, spoil):
    with pytest.raises(ConfigurationError, match="does not store what is sent"):
        serve(Storage(spoil=spoil)).probe()


def test_an_endpoint_that_stores_the_framing_of_a_body_is_refused_and_the_way_out_works(serve, scheme, monkeypatch):
    """Over https boto3 sends bodies in chunks with a trailing checksum; some store all of that."""
    place = serve(Storage(unframes=False))
    if scheme == "https":
        with pytest.raises(ConfigurationError, match="AWS_REQUEST_CHECKSUM_CALCULATION=when_required"):
            place.probe()
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    place.probe()


def test_an_endpoint_that_ignores_checksums_is_a_warning(serve):
    assert any("does not verify checksums" in warning for warning in serve(Storage(verifies=False)).probe())


def test_an_endpoint_that_forgets_metadata_is_a_warning(serve):
    assert any("does not keep metadata" in warning for warning in serve(Storage(forgets=True)).probe())


@pytest.mark.parametrize("echoes", [False, True])
@pytest.mark.parametrize("size", [200_000, 9_000_000])
def test_what_is_spoiled_on_its_way_is_no_clip_and_does_not_stay(serve, size, echoes):
    """The probe is small and goes through whole; a clip does not. A checksum that is only repeated proves nothing."""
    storage = Storage(verifies=False, spoil=flipped_if_large, echoes=echoes)
    place = serve(storage)
    place.probe()
    upload = place.open_upload("videos/a.mp4", "video/mp4", MINE)
    upload.part(b"film" * (size // 4))
    with pytest.raises(StorageError, match="does not hold what was sent"):
        upload.complete()
    assert storage.objects == {}


@pytest.mark.parametrize("deletes", [True, False])
@pytest.mark.parametrize("size", [400_000, 9_000_000])
async def test_a_spoiled_clip_is_never_adopted_by_the_next_try(serve, size, deletes, elsewhere_film):
    """Its boxes are right and its metadata is ours: only the bytes are not."""
    storage = Storage(verifies=False, spoil=flipped_if_large, deletes=deletes)
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
