"""Objects under one prefix of an S3 bucket. Each upload is proven; the metadata of a clip proves its delivery."""

import base64
import contextlib
import hashlib
import re
import secrets
import threading
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from reelsheet.errors import ConfigurationError
from reelsheet.storage import s3_client
from reelsheet.storage.errors import ObjectCorrupted, ObjectExists, ObjectMissing, StorageError
from reelsheet.storage.stored_object import (
    CHUNK_BYTES,
    PROBE_PREFIX,
    Content,
    StoredObject,
    checked_key,
    measure,
    portable_metadata,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART_BYTES: Final = 8 * 2**20  # held of one upload; smaller objects are sent in one request
LONGEST_LINK_S: Final = 7 * 24 * 3600  # S3 signs for a week at most
STALE: Final = timedelta(days=1)  # an unfinished upload that is older belongs to no run

_OUR_PREFIXES: Final = ("videos/", "runs/", PROBE_PREFIX)  # where `sweep` may remove uploads
_EXISTS: Final = frozenset(("PreconditionFailed", "412"))


class S3Destination:
    """A bucket and a prefix in it. What this S3 is able to do is known after `probe`, and assumed absent before."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._base = f"{prefix}/" if prefix else ""
        self.refuses_overwrite = False
        self.verifies_checksums = False  # else a checksum in an answer is only an echo

    @classmethod
    def parse(cls, address: str) -> "S3Destination":
        """From "s3://bucket/prefix". Raises ConfigurationError."""
        rest = address[len("s3:") :]
        if not rest.startswith("//"):
            raise ConfigurationError(f"{address!r} lacks the slashes of an S3 address; write s3://bucket/prefix.")
        bucket, _, prefix = rest[2:].partition("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket):
            raise ConfigurationError(f"{address!r} names no bucket; write s3://bucket/prefix.")
        prefix = prefix.strip("/")
        parts = prefix.split("/") if prefix else []
        if any(part in ("", ".", "..") for part in parts) or not prefix.isprintable():
            raise ConfigurationError(f"The prefix in {address!r} has empty or dotted parts; write s3://bucket/clips.")
        if len(prefix.encode()) > 250:
            raise ConfigurationError(f"The prefix {prefix[:40]}… is too long: at most 250 characters.")
        return cls(bucket, prefix)

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def probe(self) -> tuple[str, ...]:
        """Write, read, compare, overwrite and delete a small object; learn what this S3 refuses and verifies."""
        key = f"{self._base}{PROBE_PREFIX}{secrets.token_hex(8)}"
        client = s3_client.client(attempts=3)  # a wrong endpoint is reported soon
        warnings: list[str] = []
        try:
            with self.request("s3:ListBucket", self._base):
                client.list_objects_v2(Bucket=self.bucket, Prefix=self._base, MaxKeys=1)
            for size in (1024, 1000):
                warnings += self._probe_content(client, key, secrets.token_bytes(size))
            self.refuses_overwrite = self._probe_refusal(client, key, IfNoneMatch="*") in _EXISTS
            self.verifies_checksums = bool(self._probe_refusal(client, key, ChecksumCRC32="AAAAAA=="))
            if not self.verifies_checksums:
                warnings.append(
                    f"{s3_client.endpoint()} does not verify checksums of uploads; "
                    "every clip is checked after it is stored."
                )
        except StorageError as error:
            raise ConfigurationError(str(error)) from error
        finally:
            try:
                with self.request("s3:DeleteObject", f"{self._base}*"):
                    client.delete_object(Bucket=self.bucket, Key=key)
            except StorageError as error:
                warnings.append(f"A small test object stays behind. {error}")
        return tuple(dict.fromkeys(warnings))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.full_key(key)}"

    def key_of(self, uri: str) -> str | None:
        start = f"s3://{self.bucket}/{self._base}"
        return uri.removeprefix(start) if uri.startswith(start) and len(uri) > len(start) else None

    def listing(self, under: str = "") -> dict[str, int]:
        start = self._base + (f"{under.strip('/')}/" if under.strip("/") else "")
        sizes: dict[str, int] = {}
        with self.request("s3:ListBucket", start):
            pages = s3_client.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
            for page in pages:
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._base)
                    if not key.endswith("/") and not key.startswith(PROBE_PREFIX):
                        sizes[key] = item["Size"]
        return sizes

    def stat(self, key: str) -> StoredObject | None:
        try:
            with self.request("s3:GetObject", self.full_key(key)) as location:
                head = s3_client.client().head_object(**location)
        except ObjectMissing:
            return None
        return StoredObject(
            size_bytes=head["ContentLength"],
            metadata=portable_metadata(head.get("Metadata", {})),
            etag=head.get("ETag", "").strip('"'),
            modified=head.get("LastModified"),
        )

    def read(self, key: str) -> bytes | None:
        try:
            return b"".join(self.chunks(key))
        except ObjectMissing:
            return None

    def chunks(self, key: str) -> Iterator[bytes]:
        with self.request("s3:GetObject", self.full_key(key)) as location:
            body = s3_client.client().get_object(**location)["Body"]
            with contextlib.closing(body):
                yield from body.iter_chunks(CHUNK_BYTES)

    def write(self, key: str, content: bytes, content_type: str) -> None:
        self.put(key, content, content_type, {})

    def open_upload(self, key: str, content_type: str, metadata: Mapping[str, str], *, new: bool = False) -> "S3Upload":
        return S3Upload(self, key, content_type, metadata, new=new)

    def server_copy(
        self, source_uri: str, source: StoredObject, key: str, metadata: Mapping[str, str]
    ) -> StoredObject | None:
        """From any bucket of the same S3."""
        scheme, _, place = source_uri.partition("://")
        if scheme != "s3":
            return None
        source_bucket, _, source_key = place.partition("/")
        try:
            with self.request("s3:PutObject", self.full_key(key)) as location:
                s3_client.client().copy_object(
                    **location,
                    CopySource={"Bucket": source_bucket, "Key": source_key},
                    MetadataDirective="REPLACE",
                    Metadata=portable_metadata(metadata),
                    ContentType="video/mp4",
                )
        except StorageError:
            return None
        copy = self.stat(key)
        if copy is None or copy.size_bytes != source.size_bytes or not copy.belongs_to(metadata):
            return None
        etags_are_md5 = all(re.fullmatch(r"[0-9a-f]{32}", etag) for etag in (copy.etag, source.etag))
        return None if etags_are_md5 and copy.etag != source.etag else copy

    def link(self, key: str, expires_s: int) -> str:
        """A presigned GET; it ends after a week at most, and not later than the credentials that sign it."""
        with self.request("s3:GetObject", self.full_key(key)) as location:
            return s3_client.client(s3_client.region_of(self.bucket)).generate_presigned_url(
                "get_object", Params=location, ExpiresIn=min(expires_s, LONGEST_LINK_S)
            )

    def sweep(self) -> int:
        """Abort our multipart uploads and delete our probes that are older than a day."""
        client, before, swept = s3_client.client(), datetime.now(UTC) - STALE, 0
        # what may not be listed or deleted here stays for the bucket's own lifecycle rule
        with contextlib.suppress(StorageError):
            for start in (self._base + prefix for prefix in _OUR_PREFIXES):
                with self.request("s3:ListBucketMultipartUploads", start):
                    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=start)
                    uploads = [upload for page in pages for upload in page.get("Uploads", ())]
                for full, upload_id in ((up["Key"], up["UploadId"]) for up in uploads if up["Initiated"] < before):
                    with contextlib.suppress(ObjectMissing), self.request("s3:AbortMultipartUpload", full) as location:
                        client.abort_multipart_upload(**location, UploadId=upload_id)
                    swept += 1
            with self.request("s3:ListBucket", self._base):
                probes = client.list_objects_v2(Bucket=self.bucket, Prefix=self._base + PROBE_PREFIX)
            for full in (item["Key"] for item in probes.get("Contents", ()) if item["LastModified"] < before):
                with self.request("s3:DeleteObject", full) as location:
                    client.delete_object(**location)
                swept += 1
        return swept

    def _probe_content(self, client: "S3Client", key: str, content: bytes) -> list[str]:
        """Warnings. Raises ConfigurationError where something else comes back."""
        everything = f"{self._base}*"  # what a permission must cover
        with self.request("s3:PutObject", everything):
            client.put_object(Bucket=self.bucket, Key=key, Body=content, Metadata={"identity": "probe"})
        with self.request("s3:GetObject", everything):
            answer = client.get_object(Bucket=self.bucket, Key=key)
            returned = answer["Body"].read()
        if returned != content:
            raise ConfigurationError(
                f"{s3_client.endpoint()} does not store what is sent ({len(returned):,} bytes came back of "
                f"{len(content):,}); set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, or use another endpoint."
            )
        if answer.get("Metadata", {}).get("identity") != "probe":
            return [f"{s3_client.endpoint()} does not keep metadata: the bucket alone cannot prove deliveries."]
        return []

    def _probe_refusal(self, client: "S3Client", key: str, **parameter: Any) -> str:
        """S3's error code for a PUT with this parameter; "" where the object was stored, as some endpoints do."""
        from botocore.exceptions import ClientError

        with self.request("s3:PutObject", key):
            try:
                client.put_object(Bucket=self.bucket, Key=key, Body=b"probe", **parameter)
            except ClientError as error:
                return s3_client.code_of(error)
        return ""

    # What `S3Upload` uses as well

    def full_key(self, key: str) -> str:
        """The object's key in the bucket. Raises ValueError for one that would leave the prefix."""
        return self._base + checked_key(key)

    def put(
        self, key: str, content: bytes | bytearray, content_type: str, metadata: Mapping[str, str], *, new: bool = False
    ) -> StoredObject:
        """Store an object in one request, and prove it. Raises StorageError."""
        metadata = portable_metadata(metadata)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if new else {}
        with self.request("s3:PutObject", self.full_key(key)) as location:
            answer = s3_client.client().put_object(
                **location, Body=bytes(content), ContentType=content_type, Metadata=metadata, **condition
            )
        if not self.proves(answer, content):
            self.read_back(key, measure([bytes(content)]))
        return StoredObject(len(content), metadata, str(answer.get("ETag", "")).strip('"'), datetime.now(UTC))

    def proves(self, answer: Mapping[str, Any], content: bytes | bytearray) -> bool:
        """The answer to a PUT proves what arrived: its checksum was verified, or its ETag is the MD5."""
        crc = base64.b64encode(zlib.crc32(content).to_bytes(4)).decode()
        if self.verifies_checksums and answer.get("ChecksumCRC32") == crc:
            return True
        etag = str(answer.get("ETag", "")).strip('"').lower()
        return etag == hashlib.md5(content, usedforsecurity=False).hexdigest()

    def read_back(self, key: str, sent: Content) -> None:
        """Compare what is stored with what was sent. Raises ObjectCorrupted, after deleting what differs."""
        stored = measure(self.chunks(key))
        if stored != sent:
            first = "" if self.discard(key) else "delete it, "
            raise ObjectCorrupted(
                f"S3: {self.uri(key)} does not hold what was sent ({stored.size_bytes:,} of {sent.size_bytes:,} bytes "
                f"came back); {first}repeat the command, and use another endpoint if it persists.",
                transient=True,
            )

    def discard(self, key: str) -> bool:
        """Delete what was just written wrongly, since its metadata says that it is the clip; False where it stays."""
        with contextlib.suppress(StorageError), self.request("s3:DeleteObject", self.full_key(key)) as location:
            s3_client.client().delete_object(**location)
            return True
        return False

    @contextlib.contextmanager
    def request(self, action: str, full_key: str) -> Iterator[dict[str, Any]]:
        """Bucket and key as boto3 names them, for one request whose errors become StorageErrors.

        `action` is the name of the permission that it needs, "s3:PutObject".
        """
        try:
            yield {"Bucket": self.bucket, "Key": full_key}
        except s3_client.failures() as error:
            message = s3_client.explain(error, action, self.bucket, full_key)
            if s3_client.code_of(error) in _EXISTS:
                raise ObjectExists(message) from error
            if s3_client.is_missing(error):
                # an upload in parts vanishes too, when somebody cleans up: another try begins a new one
                raise ObjectMissing(message, transient=True) from error
            raise StorageError(
                message,
                systemic=s3_client.is_systemic(error),
                transient=s3_client.is_connection(error) or s3_client.is_garbled(error),
            ) from error


class S3Upload:
    """Up to PART_BYTES: one PUT, with the sha256 in the metadata. More: multipart, with metadata fixed at its start.

    The sha256 of a multipart object is not added by copying the object onto itself: that would pay for a second write,
    leave a second version in a versioned bucket, and change the object after it was proven. The results have it.
    """

    def __init__(
        self, destination: S3Destination, key: str, content_type: str, metadata: Mapping[str, str], *, new: bool
    ) -> None:
        self._destination = destination
        self._key = key
        self._full_key = destination.full_key(key)
        self._content_type = content_type
        self._metadata = dict(metadata)
        self._new = new
        self._buffer = bytearray()
        self._upload_id: str | None = None  # set once parts are sent
        self._etags: list[str] = []  # of the parts that were sent, in order
        self._sha256 = hashlib.sha256()  # over the same
        self._size_bytes = 0
        self._proven = True  # each part so far, by the answer to it
        self._closed = False
        self._lock = threading.Lock()  # an abort may come from another thread while a part is on its way

    def part(self, content: bytes) -> None:
        with self._open():
            self._size_bytes += len(content)
            self._buffer += content
            while len(self._buffer) > (length := part_bytes(len(self._etags))):
                self._send(bytes(self._buffer[:length]))
                del self._buffer[:length]

    def complete(self, metadata: Mapping[str, str] | None = None) -> StoredObject:
        with self._open():
            if self._upload_id is None:
                merged = {**self._metadata, **(metadata or {})}
                stored = self._destination.put(self._key, self._buffer, self._content_type, merged, new=self._new)
            else:
                self._send(bytes(self._buffer))
                stored = self._join(self._upload_id)
            self._buffer.clear()
            self._closed = True
            return stored

    def abort(self) -> None:
        with self._lock:
            self._buffer.clear()
            if self._upload_id is not None and not self._closed:
                # what cannot be aborted now is swept later
                with (
                    contextlib.suppress(StorageError),
                    self._destination.request("s3:AbortMultipartUpload", self._full_key) as location,
                ):
                    s3_client.client().abort_multipart_upload(**location, UploadId=self._upload_id)
            self._closed = True

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StorageError(f"The upload of {self._destination.uri(self._key)} was given up.")
            yield

    def _send(self, content: bytes) -> None:
        to, client = self._destination, s3_client.client()
        # not every S3 knows a condition for multipart uploads
        if self._upload_id is None and self._new and to.stat(self._key) is not None:
            raise ObjectExists(f"S3: {to.uri(self._key)} exists already.")
        with to.request("s3:PutObject", self._full_key) as location:
            if self._upload_id is None:
                self._upload_id = client.create_multipart_upload(
                    **location, ContentType=self._content_type, Metadata=portable_metadata(self._metadata)
                )["UploadId"]
            answer = client.upload_part(
                **location, UploadId=self._upload_id, PartNumber=len(self._etags) + 1, Body=content
            )
        self._etags.append(answer["ETag"])
        self._sha256.update(content)
        self._proven = self._proven and to.proves(answer, content)

    def _join(self, upload_id: str) -> StoredObject:
        """CompleteMultipartUpload; where its answer is lost, what is stored decides."""
        to, failure = self._destination, None
        try:
            with to.request("s3:PutObject", self._full_key) as location:
                s3_client.client().complete_multipart_upload(
                    **location,
                    UploadId=upload_id,
                    MultipartUpload={
                        "Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, 1)]
                    },
                )
        except StorageError as error:
            failure = error
        stored = to.stat(self._key)
        is_ours = stored.belongs_to(self._metadata) if stored else False
        if stored is None or stored.size_bytes != self._size_bytes or is_ours is False:
            if failure is not None:
                raise failure
            if is_ours:
                to.discard(self._key)
            raise ObjectCorrupted(
                f"S3: {to.uri(self._key)} has {stored.size_bytes if stored else 0:,} bytes instead of "
                f"{self._size_bytes:,} after its upload; repeat the command.",
                transient=True,
            )
        if not self._proven:
            to.read_back(self._key, Content(self._size_bytes, self._sha256.hexdigest()))
        return stored


def part_bytes(parts_sent: int) -> int:
    """Of the next part: 8 MiB, doubled after every 2,000, so that S3's limit of 10,000 parts is never met."""
    return PART_BYTES << (parts_sent // 2000)


def suggest_address(web_address: str) -> str:
    """The s3:// address that a web address of S3 means; "" for any other."""
    parts = urlsplit(web_address)
    host, path = parts.hostname or "", parts.path.strip("/")
    if named := re.fullmatch(r"(.+?)\.s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?", host):
        return f"s3://{named[1]}/{path}".rstrip("/")
    if re.fullmatch(r"s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?", host) and path:
        return f"s3://{path}"
    return ""
