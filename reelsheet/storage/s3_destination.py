"""Objects under one prefix of an S3 bucket. Each upload is proven; the metadata of a clip proves its delivery."""

import base64
import contextlib
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from reelsheet.errors import ConfigurationError
from reelsheet.storage import s3_client
from reelsheet.storage.errors import ObjectMissing, StorageError
from reelsheet.storage.s3_bucket import EXISTS, Answer, Bucket, Checksum, eventually
from reelsheet.storage.s3_upload import S3Upload
from reelsheet.storage.stored_object import (
    NO_METADATA,
    PROBE_PREFIX,
    Link,
    StoredObject,
    checked_key,
    joined,
    portable_metadata,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STALE: Final = timedelta(days=1)  # an unfinished upload that is older belongs to no run

_PROBE: Final = b"probe"
_OUR_PREFIXES: Final = ("videos/", "inputs/", "runs/", PROBE_PREFIX)  # where `sweep` may remove uploads


class S3Destination:
    """A bucket and a prefix in it. What this S3 is able to do is known after `probe`, and assumed absent before."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._base = f"{prefix}/" if prefix else ""
        self._requests = Bucket(bucket)
        self.refuses_overwrite = False

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
            self._requests.call("ListObjectsV2", client=client, Prefix=self._base, MaxKeys=1)
            try:
                for size in (1024, 1000):
                    warnings += self._probe_content(client, key, secrets.token_bytes(size))
                self.refuses_overwrite = self._probe_refusal(client, key, IfNoneMatch="*") in EXISTS
                self._requests.verifies = self._probe_checksums(client, key)
            finally:
                try:
                    self._requests.call("DeleteObject", client=client, shown=f"{self._base}*", Key=key)
                except StorageError as error:
                    warnings.append(f"A small test object stays behind. {error}")
        except StorageError as error:
            raise ConfigurationError(str(error)) from error
        if self._requests.verifies is None:
            warnings.append(
                f"{s3_client.endpoint()} does not verify checksums of uploads; "
                "every clip is checked after it is stored."
            )
        return tuple(dict.fromkeys(warnings))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.full_key(key)}"

    def key_of(self, uri: str) -> str | None:
        start = f"s3://{self.bucket}/{self._base}"
        return uri.removeprefix(start) if uri.startswith(start) and len(uri) > len(start) else None

    def listing(self, under: str = "") -> dict[str, int]:
        start = self._base + (f"{under.strip('/')}/" if under.strip("/") else "")
        sizes: dict[str, int] = {}
        for page in self._pages(start):
            for item in page.entries("Contents"):
                key = str(item.need("Key")).removeprefix(self._base)
                if not key.endswith("/") and not key.startswith(PROBE_PREFIX):
                    sizes[key] = item.need("Size")
        return sizes

    def stat(self, key: str) -> StoredObject | None:
        return self._requests.stat(self.full_key(key))

    def read(self, key: str) -> bytes | None:
        try:
            return joined(self.chunks(key), self.uri(key))
        except ObjectMissing:
            return None

    def chunks(self, key: str) -> Iterator[bytes]:
        return self._requests.chunks(self.full_key(key))

    def write(self, key: str, content: bytes, content_type: str, metadata: Mapping[str, str] = NO_METADATA) -> None:
        self._requests.put(self.full_key(key), content, content_type, metadata)

    def open_upload(self, key: str, content_type: str, metadata: Mapping[str, str], *, new: bool = False) -> S3Upload:
        return S3Upload(self._requests, self.full_key(key), content_type, metadata, new=new)

    def server_copy(
        self, source_uri: str, source: StoredObject, key: str, metadata: Mapping[str, str]
    ) -> StoredObject | None:
        """From any bucket of the same S3."""
        scheme, _, place = source_uri.partition("://")
        if scheme != "s3":
            return None
        source_bucket, _, source_key = place.partition("/")
        try:
            self._requests.call(
                "CopyObject",
                Key=self.full_key(key),
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

    def presign_get(self, key: str, seconds: float) -> Link:
        payer = {name: str(value) for name, value in self._requests.extra_args.items() if name == "RequestPayer"}
        with self._requests.errors("GetObject", self.full_key(key)):
            return s3_client.presign_get(self.bucket, self.full_key(key), seconds, **payer)

    def sweep(self) -> int:
        """Abort our multipart uploads and delete our probes that are older than a day."""
        before, swept = datetime.now(UTC) - STALE, 0
        # what may not be listed or deleted here stays for the bucket's own lifecycle rule
        for start in (self._base + prefix for prefix in _OUR_PREFIXES):
            with contextlib.suppress(StorageError):
                for upload in self._requests.call("ListMultipartUploads", Prefix=start).entries("Uploads"):
                    if _is_older(upload.get("Initiated"), before):
                        key, upload_id = upload.need("Key"), upload.need("UploadId")
                        with contextlib.suppress(ObjectMissing):
                            self._requests.call("AbortMultipartUpload", Key=key, UploadId=upload_id)
                        swept += 1
        with contextlib.suppress(StorageError):
            for probe in self._requests.call("ListObjectsV2", Prefix=self._base + PROBE_PREFIX).entries("Contents"):
                if _is_older(probe.get("LastModified"), before):
                    self._requests.call("DeleteObject", Key=probe.need("Key"))
                    swept += 1
        return swept

    def _pages(self, start: str) -> Iterator[Answer]:
        """Of the listing of every key that begins with `start`."""
        page = self._requests.call("ListObjectsV2", Prefix=start)
        yield page
        tokens: set[str] = set()
        while page.get("IsTruncated"):
            token = page.need("NextContinuationToken")
            if token in tokens:
                raise StorageError(f"S3: the listing of {page.place} has no end; use another endpoint.", systemic=True)
            tokens.add(token)
            page = self._requests.call("ListObjectsV2", Prefix=start, ContinuationToken=token)
            yield page

    def _probe_content(self, client: "S3Client", key: str, content: bytes) -> list[str]:
        """Warnings. Raises ConfigurationError where something else comes back."""
        everything = f"{self._base}*"  # what a permission must cover
        self._requests.send(
            "PutObject", content, client=client, shown=everything, Key=key, Metadata={"identity": "probe"}
        )

        def look() -> tuple[bytes, dict[str, str]]:
            try:
                answer = self._requests.call("GetObject", client=client, shown=everything, Key=key)
                with self._requests.errors("GetObject", everything):
                    return answer.need("Body").read(), answer.get("Metadata", {})
            except ObjectMissing:
                return b"", {}

        returned, metadata = eventually(look, lambda found: found[0] == content)
        if returned != content:
            raise ConfigurationError(
                f"{s3_client.endpoint()} does not store what is sent ({len(returned):,} bytes came back of "
                f"{len(content):,}); use another endpoint."
            )
        if metadata.get("identity") != "probe":
            return [f"{s3_client.endpoint()} does not keep metadata: the bucket alone cannot prove deliveries."]
        return []

    def _probe_checksums(self, client: "S3Client", key: str) -> Checksum | None:
        """The checksum that this S3 verifies: it refuses a wrong one, and not the right one as well."""
        checksums = (Checksum.SHA256, Checksum.MD5) if s3_client.sends_checksums() else (Checksum.MD5,)
        for checksum in checksums:
            wrong, right = (_checksum(checksum, content) for content in (b"another", _PROBE))
            if self._probe_refusal(client, key, **wrong) and not self._probe_refusal(client, key, **right):
                return checksum
        return None

    def _probe_refusal(self, client: "S3Client", key: str, **parameter: Any) -> str:
        """S3's error code for a PUT with this parameter; "" where the object was stored, as some endpoints do."""
        try:
            self._requests.call("PutObject", client=client, Key=key, Body=_PROBE, **parameter)
        except StorageError as error:
            if not error.code:
                raise
            return error.code
        return ""

    def full_key(self, key: str) -> str:
        """The object's key in the bucket. Raises ValueError for one that would leave the prefix."""
        return self._base + checked_key(key)


def _checksum(checksum: Checksum, content: bytes) -> dict[str, str]:
    digest = hashlib.sha256(content) if checksum is Checksum.SHA256 else hashlib.md5(content, usedforsecurity=False)
    return {checksum: base64.b64encode(digest.digest()).decode()}


def _is_older(moment: datetime | None, before: datetime) -> bool:
    """False also where S3 does not say how old something is."""
    return moment is not None and moment < before


def suggest_address(web_address: str) -> str:
    """The s3:// address that a web address of S3 means; "" for any other."""
    parts = urlsplit(web_address)
    host, path = parts.hostname or "", parts.path.strip("/")
    if named := re.fullmatch(r"(.+?)\.s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?", host):
        return f"s3://{named[1]}/{path}".rstrip("/")
    if re.fullmatch(r"s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?", host) and path:
        return f"s3://{path}"
    return ""
