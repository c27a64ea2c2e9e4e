"""Requests to one S3 bucket. What S3 refuses, and an answer that lacks what is needed, becomes a StorageError.

Keys are complete here: they include the destination's prefix.
"""

import base64
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from reelsheet import s3_extra_args
from reelsheet.storage import s3_client, s3_errors
from reelsheet.storage.errors import ObjectCorrupted, ObjectExists, ObjectMissing, StorageError
from reelsheet.storage.stored_object import CHUNK_BYTES, Content, StoredObject, measure, portable_metadata

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

VISIBLE_S: Final = 5.0  # that an object may take to be seen
T = TypeVar("T")
EXISTS: Final = frozenset(("PreconditionFailed", "412"))

# What each request needs, as IAM names it.
_PERMISSIONS: Final = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "CopyObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}


class Checksum(StrEnum):
    """A checksum that goes along with the bytes, as boto3 names it."""

    SHA256 = "ChecksumSHA256"
    MD5 = "ContentMD5"


_MAKES_OBJECTS: Final = frozenset(("PutObject", "CreateMultipartUpload", "CopyObject"))


@dataclass(frozen=True, slots=True)
class Answer:
    """S3's answer to `operation` at `place`, or one entry of a list in it."""

    operation: str
    place: str
    elements: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """An element that reelsheet can do without."""
        return self.elements.get(name, default)

    def need(self, name: str) -> Any:
        """An element that every S3 sends. Raises StorageError where it is not there."""
        if (value := self.elements.get(name)) is None:
            raise _unusable(f"has no {name}", self.operation, self.place)
        return value

    def entries(self, name: str) -> "list[Answer]":
        """The entries of a list; S3 leaves out an empty list."""
        return [Answer(self.operation, self.place, entry) for entry in self.get(name) or ()]


class Bucket:
    """One bucket. What its S3 is able to do is known after a probe, and assumed absent before."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.extra_args = s3_extra_args.current()
        self.verifies: Checksum | None = None  # a wrong one is refused

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}".rstrip("/")

    def call(
        self, operation: str, *, client: "S3Client | None" = None, shown: str | None = None, **parameters: Any
    ) -> Answer:
        """One request, named as S3 names it ("PutObject"). Raises StorageError; `shown` is the key that it names."""
        from botocore import xform_name

        key = parameters.get("Key", parameters.get("Prefix", "")) if shown is None else shown
        client = client or s3_client.client()
        parameters = self._accepted(client, operation) | parameters
        with self.errors(operation, key):
            try:
                answer = getattr(client, xform_name(operation))(Bucket=self.name, **parameters)
                return Answer(operation, self.uri(key), answer)
            except ValueError as error:  # botocore does not expect damaged numbers and times
                raise _unusable("cannot be read", operation, self.uri(key)) from error

    def _accepted(self, client: "S3Client", operation: str) -> dict[str, Any]:
        """Of REELSHEET_S3_EXTRA_ARGS, those that this operation takes; most only belong to a new object."""
        if not self.extra_args:
            return {}
        shape: Any = client.meta.service_model.operation_model(operation).input_shape
        accepted = {name: value for name, value in self.extra_args.items() if name in shape.members}
        if operation == "CopyObject" and "Tagging" in accepted:
            accepted["TaggingDirective"] = "REPLACE"
        return accepted

    @contextlib.contextmanager
    def errors(self, operation: str, key: str) -> Iterator[None]:
        """Turn boto3's errors into StorageErrors."""
        try:
            yield
        except s3_errors.failures() as error:
            endpoint = s3_client.client().meta.endpoint_url
            message = s3_errors.explain(error, _PERMISSIONS[operation], self.name, key, endpoint=endpoint)
            if self.extra_args and operation in _MAKES_OBJECTS and s3_errors.response_of(error):
                message += f" (Sent with {', '.join(self.extra_args)} of {s3_extra_args.NAME}.)"
            code = s3_errors.code_of(error) if hasattr(error, "response") else ""
            if code in EXISTS:
                raise ObjectExists(message, code=code) from error
            if s3_errors.is_missing(error):
                # an upload in parts vanishes too, when somebody cleans up: another try begins a new one
                raise ObjectMissing(message, transient=True, code=code) from error
            raise StorageError(
                message,
                systemic=s3_errors.is_systemic(error),
                transient=s3_errors.is_passing(error),
                code=code,
            ) from error

    def stat(self, key: str) -> StoredObject | None:
        """None where there is no such object."""
        try:
            head = self.call("HeadObject", Key=key)
        except ObjectMissing:
            return None
        return StoredObject(
            size_bytes=head.need("ContentLength"),
            metadata=portable_metadata(head.get("Metadata", {})),
            etag=head.get("ETag", "").strip('"'),
            modified=head.get("LastModified"),
        )

    def chunks(self, key: str) -> Iterator[bytes]:
        """An object's content. Raises ObjectMissing, and StorageError where it may be cut."""
        answer = self.call("GetObject", Key=key)
        with contextlib.closing(answer.need("Body")) as body:
            headers = answer.need("ResponseMetadata").get("HTTPHeaders", {})
            if "chunked" not in headers.get("transfer-encoding", ""):
                answer.need("ContentLength")  # else nothing would notice that the end is missing
            with self.errors("GetObject", key):
                yield from body.iter_chunks(CHUNK_BYTES)

    def put(
        self,
        key: str,
        content: bytes,
        content_type: str,
        metadata: Mapping[str, str],
        *,
        sha256: str | None = None,
        new: bool = False,
    ) -> StoredObject:
        """Store an object in one request, and prove it. `sha256`: of the content, hex, where it is known already."""
        metadata = portable_metadata(metadata)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if new else {}
        answer, is_proven = self.send(
            "PutObject", content, sha256, Key=key, ContentType=content_type, Metadata=metadata, **condition
        )
        if not is_proven:
            self.read_back(key, Content(len(content), sha256) if sha256 else measure([content]))
        return StoredObject(len(content), metadata, str(answer.get("ETag", "")).strip('"'), datetime.now(UTC))

    def send(self, operation: str, content: bytes, sha256: str | None = None, **parameters: Any) -> tuple[Answer, bool]:
        """PutObject or UploadPart with a checksum; whether the answer proves that all of `content` arrived.

        It does where this S3 is known to verify the checksum, or where its ETag is the MD5.
        """
        if self.verifies is Checksum.SHA256:
            digest = bytes.fromhex(sha256) if sha256 else hashlib.sha256(content).digest()
            return self.call(operation, Body=content, ChecksumSHA256=_base64(digest), **parameters), True
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        answer = self.call(operation, Body=content, ContentMD5=_base64(digest), **parameters)
        etag = str(answer.get("ETag", "")).strip('"').lower()
        return answer, self.verifies is Checksum.MD5 or etag == digest.hex()

    def read_back(self, key: str, sent: Content) -> None:
        """Compare what is stored with what was sent. Raises ObjectCorrupted, after deleting what differs."""
        stored = eventually(lambda: self._measured(key), lambda found: found == sent)
        if stored != sent:
            first = "" if self.discard(key) else "delete it, "
            raise ObjectCorrupted(
                f"S3: {self.uri(key)} does not hold what was sent ({stored.size_bytes:,} of {sent.size_bytes:,} bytes "
                f"came back); {first}repeat the command, and use another endpoint if it persists.",
                transient=True,
            )

    def _measured(self, key: str) -> Content:
        try:
            return measure(self.chunks(key))
        except ObjectMissing:
            return Content(0, "")

    def discard(self, key: str) -> bool:
        """Delete what was just written wrongly, since its metadata says that it is the clip; False where it stays."""
        with contextlib.suppress(StorageError):
            self.call("DeleteObject", Key=key)
            return True
        return False


def eventually(look: Callable[[], T], is_there: Callable[[T], bool]) -> T:
    """What `look` finds, asked again for a few seconds: some stores show a new object, or a changed one, only later."""
    pause_s, until = 0.1, time.monotonic() + VISIBLE_S
    while not is_there(found := look()) and time.monotonic() < until:
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)
    return found


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _unusable(what: str, operation: str, place: str) -> StorageError:
    return StorageError(
        f"S3: the answer to {operation} for {place} {what}; repeat the command, and if that persists, use another "
        f"endpoint than {s3_client.endpoint()}, or ask whoever runs it.",
        transient=True,
    )
