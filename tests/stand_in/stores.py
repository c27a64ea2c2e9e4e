"""A small S3 that behaves as one kind of store does: what it refuses, verifies, forgets, delays or leaves out."""

import base64
import hashlib
import re
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

HASHES: dict[str, Callable[[bytes], bytes]] = {
    "content-md5": lambda body: hashlib.md5(body, usedforsecurity=False).digest(),
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
}
OPTIONAL = ("x-amz-checksum-crc32", "x-amz-checksum-sha256")


class Refusal(NamedTuple):
    status: int
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a store behaves. Without arguments: strict and complete, over http and https."""

    name: str = "strict"
    trailers: Refusal | None = None  # its answer to a body in chunks with a checksum at the end
    keeps_framing: bool = False  # it stores the framing of such a body
    checksums: Refusal | None = None  # its answer to x-amz-checksum-…
    verifies: frozenset[str] = frozenset(HASHES)
    echoes: bool = True  # repeats a checksum in its answer
    names_part_checksums: bool = False  # Amazon: Complete must name the parts' checksums, of the algorithm of Create
    has_md5_etags: bool = True
    conditions: Refusal | bool = True  # If-None-Match
    needs: tuple[str, str] | None = None  # header and value that its bucket's policy demands of each new object
    is_locked: bool = False  # Object Lock: each PUT needs a checksum
    unknown_headers: tuple[str, ...] = ()  # that it answers with NotImplemented
    keeps_metadata: bool = True
    may_delete: bool = True
    spoil: Callable[[bytes], bytes] = bytes  # what it keeps of a body
    visible_after_s: float = 0  # a new or changed object


@dataclass(slots=True)
class Object:
    content: bytes
    headers: dict[str, str]
    etag: str
    visible_at: float = 0
    earlier: "Object | None" = None


@dataclass(slots=True)
class Store:
    """One server. `damage`: elements with another text, or left out; `first`: refusals before the true answer."""

    kind: Kind = Kind()
    damage: dict[tuple[str, str], str | None] = field(default_factory=dict)  # operation, element
    first: dict[str, list[Refusal]] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)  # operations without an answer
    page: int = 1000
    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, tuple[str, dict[str, str], dict[int, tuple[bytes, str, str]]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # the operations
    headers: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # the same with what came
    stop: threading.Event = field(default_factory=threading.Event)

    def keys(self) -> list[str]:
        return sorted(self.objects)

    # What each operation does: status, headers, body

    def answer(self, operation: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> "Reply":
        self.asked.append(operation)
        self.headers.append((operation, headers))
        if operation in self.hangs:
            self.stop.wait(60)
        if self.first.get(operation):
            return refused(self.first[operation].pop(0))
        for name in self.kind.unknown_headers:
            if name in headers:
                text = f"Header '{name}' with value '{headers[name]}' not implemented"
                return refused(Refusal(501, "NotImplemented", text))
        reply = getattr(self, f"_{operation}")(key, query, headers, body)
        return reply.damaged({name: text for (damaged, name), text in self.damage.items() if damaged == operation})

    def _PutObject(self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> "Reply":  # noqa: N802
        if "x-amz-copy-source" in headers:
            return self._copy(key, headers)
        content, refusal = self._received(headers, body)
        refusal = refusal or self._policy(headers)
        if headers.get("if-none-match") and refusal is None:
            if isinstance(self.kind.conditions, Refusal):
                refusal = self.kind.conditions
            elif self.kind.conditions and key in self.objects:
                refusal = Refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
        if refusal:
            return refused(refusal)
        stored = self._store(key, content, headers)
        return Reply(200, {"ETag": stored.etag, **self._echo(headers)})

    def _copy(self, key: str, headers: dict[str, str]) -> "Reply":
        source = unquote(headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
        if refusal := self._policy(headers):
            return refused(refusal)
        if source not in self.objects:
            return refused(Refusal(404, "NoSuchKey"))
        stored = self._store(key, self.objects[source].content, headers)
        return Reply(200, {}, f"<CopyObjectResult><ETag>{stored.etag}</ETag></CopyObjectResult>".encode())

    def _GetObject(self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> "Reply":  # noqa: N802
        found = self.objects.get(key)
        while found and found.visible_at > time.monotonic():
            found = found.earlier
        if found is None:
            return refused(Refusal(404, "NoSuchKey", "The specified key does not exist."))
        kept = {name: value for name, value in found.headers.items() if name.startswith("x-amz-meta-")}
        shown = {"ETag": found.etag, "Last-Modified": http_date(), **(kept if self.kind.keeps_metadata else {})}
        return Reply(200, shown, found.content)

    _HeadObject = _GetObject

    def _DeleteObject(self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> "Reply":  # noqa: N802
        if not self.kind.may_delete:
            return refused(Refusal(403, "AccessDenied", "Access Denied"))
        self.objects.pop(key, None)
        return Reply(204)

    def _ListObjectsV2(self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> "Reply":  # noqa: N802
        keys = [found for found in self.keys() if found.startswith(query.get("prefix", ""))]
        keys = [found for found in keys if found > query.get("continuation-token", "")]
        shown = keys[: min(self.page, int(query.get("max-keys", 1000)))]
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[name].content)}</Size>"
            f"<LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in shown
        )
        more = len(shown) < len(keys)
        token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more and shown else ""
        page = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
        return Reply(200, {}, f"<ListBucketResult>{page}</ListBucketResult>".encode())

    def _ListMultipartUploads(  # noqa: N802
        self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> "Reply":
        entries = "".join(
            f"<Upload><Key>{escape(name)}</Key><UploadId>{number}</UploadId>"
            f"<Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>"
            for number, (name, _, _) in self.uploads.items()
            if name.startswith(query.get("prefix", ""))
        )
        return Reply(200, {}, f"<ListMultipartUploadsResult>{entries}</ListMultipartUploadsResult>".encode())

    def _CreateMultipartUpload(  # noqa: N802
        self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> "Reply":
        if refusal := self._policy(headers):
            return refused(refusal)
        if self.kind.checksums and "x-amz-checksum-algorithm" in headers:
            return refused(self.kind.checksums)
        number = f"u{len(self.asked)}"
        self.uploads[number] = key, headers, {}
        return Reply(200, {}, f"<R><UploadId>{number}</UploadId></R>".encode())

    def _UploadPart(self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> "Reply":  # noqa: N802
        if query["uploadId"] not in self.uploads:
            return refused(Refusal(404, "NoSuchUpload", "The specified upload does not exist."))
        _, begun, parts = self.uploads[query["uploadId"]]
        content, refusal = self._received(headers, body)
        given = next((name for name in OPTIONAL if name in headers), "")
        algorithm = begun.get("x-amz-checksum-algorithm", "").lower()
        if self.kind.names_part_checksums and given and given != f"x-amz-checksum-{algorithm}":
            text = f"Checksum Type mismatch occurred, expected checksum Type: {algorithm or 'null'}"
            refusal = Refusal(400, "InvalidRequest", text)
        if refusal:
            return refused(refusal)
        etag = self._etag(content)
        parts[int(query["partNumber"])] = content, etag, headers.get(given, "")
        return Reply(200, {"ETag": etag, **self._echo(headers)})

    def _CompleteMultipartUpload(  # noqa: N802
        self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> "Reply":
        if query["uploadId"] not in self.uploads:
            return refused(Refusal(404, "NoSuchUpload", "The specified upload does not exist."))
        _, begun, parts = self.uploads[query["uploadId"]]
        algorithm = begun.get("x-amz-checksum-algorithm", "")
        if self.kind.names_part_checksums and algorithm:
            named = re.findall(rf"<Checksum{algorithm}>([^<]*)<", body.decode())
            if named != [checksum for _, _, checksum in parts.values()]:
                text = (
                    f"The upload was created using a {algorithm.lower()} checksum. The complete request must include "
                )
                return refused(Refusal(400, "InvalidRequest", text + "the checksum for each part."))
        del self.uploads[query["uploadId"]]
        stored = self._store(key, b"".join(parts[number][0] for number in sorted(parts)), begun)
        stored.etag = f'"{hashlib.sha256(stored.content).hexdigest()[:32]}-{len(parts)}"'
        return Reply(200, {}, f"<R><ETag>{stored.etag}</ETag></R>".encode())

    def _AbortMultipartUpload(  # noqa: N802
        self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> "Reply":
        self.uploads.pop(query["uploadId"], None)
        return Reply(204)

    # What they share

    def _received(self, headers: dict[str, str], raw: bytes) -> tuple[bytes, Refusal | None]:
        """What is stored of a body, or why it is refused. Trailers become headers."""
        kind, body = self.kind, raw
        if "aws-chunked" in headers.get("content-encoding", ""):
            if kind.trailers:
                return b"", kind.trailers
            body, trailers = unframed(raw)
            headers |= trailers
        signed = headers.get("x-amz-content-sha256", "")
        if signed.isalnum() and signed != hashlib.sha256(body).hexdigest():  # else UNSIGNED-PAYLOAD
            return b"", Refusal(400, "XAmzContentSHA256Mismatch")
        if kind.checksums and any(name.startswith("x-amz-checksum-") for name in headers):
            return b"", kind.checksums
        if kind.is_locked and not any(name in headers for name in HASHES):
            text = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
            return b"", Refusal(400, "InvalidRequest", f"{text} parameters")
        for name in kind.verifies:
            if name in headers and headers[name] != base64.b64encode(HASHES[name](body)).decode():
                return b"", Refusal(400, "BadDigest", "The checksum you specified did not match what we received.")
        return kind.spoil(raw if kind.keeps_framing else body), None

    def _policy(self, headers: dict[str, str]) -> Refusal | None:
        if self.kind.needs is None or headers.get(self.kind.needs[0]) == self.kind.needs[1]:
            return None
        return Refusal(
            403,
            "AccessDenied",
            "User: arn:aws:iam::123456789012:user/reels is not authorized to perform: s3:PutObject on resource: "
            '"arn:aws:s3:::bucket/x" with an explicit deny in a resource-based policy',
        )

    def _etag(self, content: bytes) -> str:
        digest = HASHES["content-md5"](content) if self.kind.has_md5_etags else hashlib.sha256(content).digest()[:16]
        return f'"{digest.hex()}"'

    def _echo(self, headers: dict[str, str]) -> dict[str, str]:
        return {name: headers[name] for name in OPTIONAL if self.kind.echoes and name in headers}

    def _store(self, key: str, content: bytes, headers: dict[str, str]) -> Object:
        visible_at = time.monotonic() + self.kind.visible_after_s
        self.objects[key] = Object(content, headers, self._etag(content), visible_at, self.objects.get(key))
        return self.objects[key]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def damaged(self, elements: dict[str, str | None]) -> "Reply":
        """Headers and XML elements with another text; None leaves them out."""
        body, headers = self.body, dict(self.headers)
        for name, text in elements.items():
            inside = b"" if text is None else b"<%b>%b</%b>" % (name.encode(), text.encode(), name.encode())
            body = re.sub(rb"<%b>[^<]*</%b>" % (name.encode(), name.encode()), inside, body)
            if name in headers or name == "Content-Length":
                headers[name] = "" if text is None else text
        return Reply(self.status, headers, body)


def refused(refusal: Refusal) -> Reply:
    inner = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message><RequestId>R1</RequestId>"
    return Reply(refusal.status, {}, f"<Error>{inner}</Error>".encode())


def operation_of(method: str, key: str, query: dict[str, str]) -> str:
    if not key:
        return "ListMultipartUploads" if "uploads" in query else "ListObjectsV2"
    if "uploadId" in query:
        return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}[method]
    if method == "POST":
        return "CreateMultipartUpload"
    return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[method]


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


def http_date(moment: float | None = None) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(moment))


def handler_of(store: Store) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - the methods of one server
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            parts = urlsplit(self.path)
            key = unquote(parts.path.lstrip("/").partition("/")[2])
            query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            operation = operation_of(self.command, key, query)
            self.reply(store.answer(operation, key, query, headers, self.received()))

        do_GET = do_HEAD = do_POST = do_DELETE = do_PUT  # noqa: N815

        def received(self) -> bytes:
            """The body as HTTP carries it."""
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def reply(self, reply: Reply) -> None:
            self.send_response(reply.status)
            headers = {"Content-Length": str(len(reply.body))} | reply.headers
            self.close_connection |= not headers["Content-Length"]  # then nothing else ends the body
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        def handle_expect_100(self) -> bool:
            self.send_response_only(100)
            self.end_headers()
            return True

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


@contextmanager
def serving(store: Store, certificate: Path | None = None) -> Iterator[str]:
    """The store's address; over https with a certificate."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(store))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        store.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


AMAZON = Kind("Amazon S3", names_part_checksums=True)
_NO_TRAILERS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

# Behaviours as their makers and users describe them; the name is what docs/storage.md calls it.
KINDS = (
    AMAZON,
    Kind(
        "Amazon S3, its policy demands encryption",
        names_part_checksums=True,
        has_md5_etags=False,
        needs=("x-amz-server-side-encryption", "aws:kms"),
    ),
    Kind(
        "Amazon S3, its policy demands an ACL",
        names_part_checksums=True,
        needs=("x-amz-acl", "bucket-owner-full-control"),
    ),
    Kind("Amazon S3 with Object Lock", names_part_checksums=True, is_locked=True),
    Kind(
        "Cloudflare R2",
        trailers=Refusal(501, "NotImplemented", f"{_NO_TRAILERS} not implemented"),
        unknown_headers=("x-amz-acl",),
    ),
    Kind(
        "Backblaze B2",
        trailers=Refusal(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-crc32' received."),
        checksums=Refusal(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received."),
        conditions=Refusal(501, "NotImplemented", "A header you provided implies functionality not implemented."),
    ),
    Kind(
        "Google Cloud Storage, interoperability",
        trailers=Refusal(403, "SignatureDoesNotMatch", "Access denied."),
        verifies=frozenset(("content-md5",)),
        echoes=False,
        conditions=False,
    ),
    Kind(
        "Ceph",
        trailers=Refusal(400, "XAmzContentSHA256Mismatch"),
        verifies=frozenset(("content-md5",)),
        echoes=False,
    ),
    Kind("MinIO"),
    Kind("a careless S3", keeps_framing=True, verifies=frozenset(), conditions=False),
)
