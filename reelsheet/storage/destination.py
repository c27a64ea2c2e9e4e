"""Where clips and tables go: a bucket with a prefix, or a folder. Another kind of destination would be added here.

Keys are relative, with "/" ("videos/dress-3fa91c02.mp4"). An object becomes visible only when it is whole and as it was
meant. All methods block: call them in threads. What goes wrong is a StorageError with a sentence; `probe` and
`open_destination`, which run before any money moves, raise ConfigurationError.
"""

import base64
import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote, unquote, urlsplit

from reelsheet.errors import ConfigurationError, ReelsheetError
from reelsheet.storage import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART: Final = 8 * 2**20  # bytes held of one upload; smaller objects go up in one request
PIECE: Final = 2**20  # bytes read at once
STALE: Final = timedelta(days=1)  # after which an unfinished upload belongs to nobody
STALE_FILE: Final = timedelta(hours=1)
LINK_LIMIT: Final = 7 * 24 * 3600  # seconds; S3 signs no longer
PROOF: Final = ("identity", "attempt", "prediction-id")  # metadata that says whose clip an object is

_PROBE: Final = ".reelsheet-probe-"
_TEMPORARY: Final = ".reelsheet-"
_OURS: Final = ("videos/", "runs/", _PROBE)  # where `sweep` may tidy up
_XATTR: Final = "user.reelsheet"
_TAKEN: Final = frozenset({"PreconditionFailed", "412"})


class StorageError(ReelsheetError):
    """`systemic`: it concerns every row; `passing`: the same again, soon, may work."""

    exit_code = 3

    def __init__(self, message: str, *, systemic: bool = False, passing: bool = False) -> None:
        super().__init__(message)
        self.systemic = systemic
        self.passing = passing


class StorageConflict(StorageError):
    """Something else has the name; it is never overwritten."""


class StorageTaken(StorageError):
    """Something is there already, and was left as it is: look whose it is."""


class StorageSpoiled(StorageError):
    """What was stored is not what was sent."""


class StorageMissing(StorageError):
    """The object that should be copied is not there."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is there, whole. `modified` is UTC-aware."""

    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    modified: datetime | None = None

    def belongs_to(self, metadata: Mapping[str, str]) -> bool | None:
        """True: the very clip that `metadata` speaks of. False: another one. None: the object does not say."""
        if "identity" not in self.metadata:
            return None
        wanted = _portable(metadata)
        return all(self.metadata.get(name) == wanted[name] for name in PROOF if name in wanted)


class Upload(Protocol):
    """An object on its way; nothing is visible before `complete` returns."""

    def part(self, content: bytes) -> None: ...
    def complete(self, metadata: Mapping[str, str] | None = None) -> Stored:
        """Make it visible and prove that it is whole; `metadata` adds to what it was opened with, where possible."""
        ...

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `complete`. Never raises."""
        ...


class Destination(Protocol):
    """See the module's docstring."""

    @property
    def address(self) -> str:
        """Canonical, without a slash at the end; it identifies the destination in the ledger."""
        ...

    def probe(self) -> tuple[str, ...]:
        """Try everything that a run will need; warnings. Raises ConfigurationError for what cannot work."""
        ...

    def uri(self, key: str) -> str: ...
    def key_of(self, uri: str) -> str | None: ...
    def listing(self, under: str = "") -> dict[str, int]: ...
    def stat(self, key: str) -> Stored | None: ...
    def read(self, key: str) -> bytes | None: ...
    def chunks(self, key: str) -> Iterator[bytes]: ...
    def write(self, key: str, content: bytes, content_type: str) -> None: ...
    def open_upload(self, key: str, content_type: str, metadata: Mapping[str, str], *, new: bool = False) -> Upload:
        """`new`, only where it `refuses`: raises StorageTaken in place of overwriting."""
        ...

    @property
    def refuses(self) -> bool:
        """It is known to refuse to overwrite, when asked to: one need not look beforehand."""
        ...

    def copy_from(self, other: "Destination", key: str, to: str, metadata: Mapping[str, str]) -> Stored:
        """Fill this destination from another at no cost. Raises StorageMissing, StorageConflict, StorageError."""
        ...

    def link(self, key: str, expires: int) -> str: ...
    def sweep(self) -> int: ...


def open_destination(address: str) -> Destination:
    """ "s3://bucket/prefix" or a folder (`~` is understood). Nothing is touched. Raises ConfigurationError."""
    address = address.strip()
    if not address or "\0" in address:
        raise ConfigurationError("There is no destination: give a folder, or s3://bucket/prefix.")
    scheme, separator, rest = address.partition(":")
    if scheme.lower() == "s3" and separator:
        return _open_bucket(address, rest)
    if scheme.lower() == "file" and rest.startswith("/"):
        return FolderDestination(Path(unquote(urlsplit(address).path)))
    if separator and rest.startswith("//"):
        hint = _as_bucket(address)
        raise ConfigurationError(
            f"{scheme}:// is no destination that reelsheet can write to; give s3://bucket/prefix or a folder"
            + (f" (perhaps {hint})." if hint else ".")
        )
    try:
        return FolderDestination(Path(address).expanduser())
    except RuntimeError as error:
        raise ConfigurationError(f"The home folder in {address!r} is not known; write the folder in full.") from error


# S3


class S3Destination:
    """Objects under one prefix of a bucket; metadata of a clip proves its delivery."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._base = f"{prefix}/" if prefix else ""
        self.refuses = False  # until `probe` has seen it
        self.verifies = False  # the same: whether a checksum in an answer is more than an echo

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def probe(self) -> tuple[str, ...]:
        """Put, get, compare, overwrite and delete a small object; whether a wrong checksum is noticed."""
        key = f"{self._base}{_PROBE}{secrets.token_hex(8)}"
        client = s3_client.client(attempts=3)  # a wrong endpoint should be told at once
        warnings: list[str] = []
        try:
            with self._asking("s3:ListBucket", self._base):
                client.list_objects_v2(Bucket=self.bucket, Prefix=self._base, MaxKeys=1)
            for content in (secrets.token_bytes(1024), secrets.token_bytes(1000)):
                self._probe_once(client, key, content, warnings)
            self.refuses = self._probe_refusal(client, key)
            self.verifies = self._probe_checksum(client, key)
            if not self.verifies:
                warnings.append(
                    f"{s3_client.endpoint()} does not verify checksums of uploads; "
                    "every clip is checked after it is stored."
                )
        except StorageError as error:
            raise ConfigurationError(str(error)) from error
        finally:
            warnings += self._probe_end(client, key)
        return tuple(dict.fromkeys(warnings))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._full(key)}"

    def key_of(self, uri: str) -> str | None:
        start = f"s3://{self.bucket}/{self._base}"
        return uri.removeprefix(start) if uri.startswith(start) and len(uri) > len(start) else None

    def listing(self, under: str = "") -> dict[str, int]:
        """Key → size in bytes of everything below `under`."""
        start = self._base + (f"{under.strip('/')}/" if under.strip("/") else "")
        found: dict[str, int] = {}
        with self._asking("s3:ListBucket", start):
            pages = s3_client.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
            for page in pages:
                for item in page.get("Contents", ()):
                    name = item["Key"].removeprefix(self._base)
                    if not name.endswith("/") and not name.startswith(_PROBE):
                        found[name] = item["Size"]
        return found

    def stat(self, key: str) -> Stored | None:
        full = self._full(key)
        try:
            with self._asking("s3:GetObject", full):
                head = s3_client.client().head_object(Bucket=self.bucket, Key=full)
        except StorageMissing:
            return None
        return Stored(
            size=head["ContentLength"],
            metadata=_portable(head.get("Metadata", {})),
            etag=head.get("ETag", "").strip('"'),
            modified=head.get("LastModified"),
        )

    def read(self, key: str) -> bytes | None:
        full = self._full(key)
        try:
            with self._asking("s3:GetObject", full):
                return s3_client.client().get_object(Bucket=self.bucket, Key=full)["Body"].read()
        except StorageMissing:
            return None

    def chunks(self, key: str) -> Iterator[bytes]:
        full = self._full(key)
        with self._asking("s3:GetObject", full):
            body = s3_client.client().get_object(Bucket=self.bucket, Key=full)["Body"]
            with contextlib.closing(body):
                yield from body.iter_chunks(PIECE)

    def write(self, key: str, content: bytes, content_type: str) -> None:
        self._put(key, content, content_type, {})

    def open_upload(self, key: str, content_type: str, metadata: Mapping[str, str], *, new: bool = False) -> Upload:
        return S3Upload(self, key, content_type, metadata, new=new)

    def copy_from(self, other: Destination, key: str, to: str, metadata: Mapping[str, str]) -> Stored:
        """Within S3 the server copies; else the bytes come through this machine, a part at a time."""
        if (stored := _already(self, to, other, key, metadata)) is not None:
            return stored
        if isinstance(other, S3Destination) and (copied := self._server_copy(other, key, to, metadata)):
            return copied
        return _stream_copy(other, key, self, to, metadata)

    def link(self, key: str, expires: int) -> str:
        """A presigned GET, good for `expires` seconds (a week at most, and no longer than the credentials)."""
        full = self._full(key)
        with self._asking("s3:GetObject", full):
            return s3_client.client(s3_client.region_of(self.bucket)).generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket, "Key": full}, ExpiresIn=min(expires, LINK_LIMIT)
            )

    def sweep(self) -> int:
        """Abort multipart uploads of ours, and delete probes, that are older than a day; how many. Never raises."""
        before = datetime.now(UTC) - STALE
        # what may not be listed or deleted here stays for the bucket's own lifecycle rule
        with contextlib.suppress(StorageError):
            return sum(self._sweep_uploads(under, before) for under in _OURS) + self._sweep_probes(before)
        return 0

    def _sweep_uploads(self, under: str, before: datetime) -> int:
        client, start = s3_client.client(), self._base + under
        with self._asking("s3:ListBucketMultipartUploads", start):
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=start)
            stale = [one for page in pages for one in page.get("Uploads", ()) if one["Initiated"] < before]
        for one in stale:
            with contextlib.suppress(StorageMissing), self._asking("s3:AbortMultipartUpload", one["Key"]):
                client.abort_multipart_upload(Bucket=self.bucket, Key=one["Key"], UploadId=one["UploadId"])
        return len(stale)

    def _sweep_probes(self, before: datetime) -> int:
        client = s3_client.client()
        with self._asking("s3:ListBucket", self._base):
            found = client.list_objects_v2(Bucket=self.bucket, Prefix=self._base + _PROBE).get("Contents", ())
        stale = [item["Key"] for item in found if item["LastModified"] < before]
        for key in stale:
            with self._asking("s3:DeleteObject", key):
                client.delete_object(Bucket=self.bucket, Key=key)
        return len(stale)

    def _full(self, key: str) -> str:
        return self._base + _checked(key)

    def _put(
        self, key: str, content: bytes | bytearray, content_type: str, metadata: Mapping[str, str], *, new: bool = False
    ) -> Stored:
        """One request, then proof that what is there is what was sent."""
        full = self._full(key)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if new else {}
        with self._asking("s3:PutObject", full):
            answer = s3_client.client().put_object(
                Bucket=self.bucket,
                Key=full,
                Body=bytes(content),
                ContentType=content_type,
                Metadata=_portable(metadata),
                **condition,
            )
        if not _confirmed(answer, content, verifies=self.verifies):
            self._read_back(key, len(content), hashlib.sha256(content).hexdigest())
        return Stored(len(content), _portable(metadata), str(answer.get("ETag", "")).strip('"'), datetime.now(UTC))

    def _read_back(self, key: str, size: int, sha256: str) -> None:
        digest = hashlib.sha256()
        found = 0
        for chunk in self.chunks(key):
            digest.update(chunk)
            found += len(chunk)
        if found != size or digest.hexdigest() != sha256:
            first = "" if self._discard(key) else "delete it, "
            raise StorageSpoiled(
                f"S3: {self.uri(key)} does not hold what was sent ({found:,} of {size:,} bytes came back); "
                f"{first}repeat the command, and use another endpoint if it persists.",
                passing=True,
            )

    def _discard(self, key: str) -> bool:
        """Take away what was just written and is not what was sent: by its metadata it would pass for the clip."""
        full = self._full(key)
        with contextlib.suppress(StorageError), self._asking("s3:DeleteObject", full):
            s3_client.client().delete_object(Bucket=self.bucket, Key=full)
            return True
        return False

    def _server_copy(self, other: "S3Destination", key: str, to: str, metadata: Mapping[str, str]) -> Stored | None:
        """None where the server cannot do it: the caller streams instead."""
        source = other.stat(key)
        if source is None:
            raise StorageMissing(f"S3: {other.uri(key)} is not there any more, so that it cannot be copied.")
        full = self._full(to)
        try:
            with self._asking("s3:PutObject", full):
                s3_client.client().copy_object(
                    Bucket=self.bucket,
                    Key=full,
                    CopySource={"Bucket": other.bucket, "Key": other._full(key)},  # noqa: SLF001 - of the same class
                    MetadataDirective="REPLACE",
                    Metadata=_portable({**source.metadata, **metadata}),
                    ContentType="video/mp4",
                )
        except StorageError:
            return None
        stored = self.stat(to)
        if stored is None or stored.size != source.size or not stored.belongs_to(metadata):
            return None
        both_plain = all(re.fullmatch(r"[0-9a-f]{32}", etag) for etag in (stored.etag, source.etag))
        return None if both_plain and stored.etag != source.etag else stored

    def _probe_once(self, client: "S3Client", key: str, content: bytes, warnings: list[str]) -> None:
        everything = f"{self._base}*"  # what a permission must cover
        with self._asking("s3:PutObject", everything):
            client.put_object(Bucket=self.bucket, Key=key, Body=content, Metadata={"identity": "probe"})
        with self._asking("s3:GetObject", everything):
            answer = client.get_object(Bucket=self.bucket, Key=key)
            came = answer["Body"].read()
        if came != content:
            raise ConfigurationError(
                f"{s3_client.endpoint()} stores something else than what is sent ({len(came):,} bytes came back of "
                f"{len(content):,}); set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, or use another endpoint."
            )
        if answer.get("Metadata", {}).get("identity") != "probe":
            warnings.append(f"{s3_client.endpoint()} does not keep metadata: the bucket alone cannot prove deliveries.")

    def _probe_refusal(self, client: "S3Client", key: str) -> bool:
        """Whether `If-None-Match: *` keeps what is there; some endpoints ignore it, some do not take it."""
        try:
            client.put_object(Bucket=self.bucket, Key=key, Body=b"probe", IfNoneMatch="*")
        except s3_client.failures() as error:
            return s3_client.code_of(error) in _TAKEN
        return False

    def _probe_checksum(self, client: "S3Client", key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            client.put_object(Bucket=self.bucket, Key=key, Body=b"probe", ChecksumCRC32="AAAAAA==")
        except ClientError:
            return True
        except s3_client.failures() as error:
            raise StorageError(s3_client.explain(error, "s3:PutObject", self.bucket, key)) from error
        return False

    def _probe_end(self, client: "S3Client", key: str) -> list[str]:
        try:
            with self._asking("s3:DeleteObject", f"{self._base}*"):
                client.delete_object(Bucket=self.bucket, Key=key)
        except StorageError as error:
            return [f"A small test object stays behind. {error}"]
        return []

    @contextlib.contextmanager
    def _asking(self, action: str, full: str) -> Iterator[None]:
        """botocore's exceptions become StorageErrors."""
        try:
            yield
        except s3_client.failures() as error:
            if s3_client.code_of(error) in _TAKEN:
                raise StorageTaken(s3_client.explain(error, action, self.bucket, full)) from error
            if s3_client.is_missing(error):
                # an upload in parts can vanish as well, when somebody tidies up: it may be begun again
                raise StorageMissing(s3_client.explain(error, action, self.bucket, full), passing=True) from error
            raise StorageError(
                s3_client.explain(error, action, self.bucket, full),
                systemic=s3_client.is_fatal(error),
                passing=s3_client.is_connection(error) or s3_client.is_garbled(error),
            ) from error


class S3Upload:
    """Up to PART bytes: one PUT, its sha256 in the metadata. More: multipart, whose metadata is fixed when it begins.

    The sha256 of a multipart object is not added by copying the object onto itself: that would pay for a second write,
    leave a second version in a versioned bucket, and change the object after it was proven. The results have it.
    """

    def __init__(
        self, destination: S3Destination, key: str, content_type: str, metadata: Mapping[str, str], *, new: bool
    ) -> None:
        self._to = destination
        self._new = new
        self._key = key
        self._full = destination._full(key)  # noqa: SLF001 - two halves of one thing
        self._content_type = content_type
        self._metadata = dict(metadata)
        self._buffer = bytearray()
        self._id: str | None = None
        self._parts: list[tuple[int, str]] = []  # number, ETag
        self._sha256 = hashlib.sha256()  # of the parts that were sent
        self._size = 0
        self._confirmed = True  # every part so far was confirmed by its answer
        self._done = False
        self._lock = threading.Lock()  # an abort may come from another thread, while a part is still on its way

    def part(self, content: bytes) -> None:
        with self._lock:
            if self._done:
                raise StorageError(f"The upload of {self._to.uri(self._key)} was given up.")
            self._size += len(content)
            self._buffer += content
            while len(self._buffer) > (length := part_size(len(self._parts))):
                self._send(bytes(self._buffer[:length]))
                del self._buffer[:length]

    def complete(self, metadata: Mapping[str, str] | None = None) -> Stored:
        with self._lock:
            if self._done:
                raise StorageError(f"The upload of {self._to.uri(self._key)} was given up.")
            merged = {**self._metadata, **(metadata or {})}
            if self._id is None:
                stored = self._to._put(self._key, self._buffer, self._content_type, merged, new=self._new)  # noqa: SLF001
            else:
                self._send(bytes(self._buffer))
                stored = self._join()
            self._buffer.clear()
            self._done = True
            return stored

    def abort(self) -> None:
        with self._lock:
            self._buffer.clear()
            if self._id is not None and not self._done:
                # what cannot be aborted now is swept later
                with contextlib.suppress(StorageError), self._to._asking("s3:AbortMultipartUpload", self._full):  # noqa: SLF001
                    s3_client.client().abort_multipart_upload(Bucket=self._to.bucket, Key=self._full, UploadId=self._id)
            self._done = True

    def _send(self, content: bytes) -> None:
        if (
            self._id is None and self._new and self._to.stat(self._key) is not None
        ):  # parts have no condition everywhere
            raise StorageTaken(f"S3: {self._to.uri(self._key)} is there already.")
        client = s3_client.client()
        with self._to._asking("s3:PutObject", self._full):  # noqa: SLF001
            if self._id is None:
                self._id = client.create_multipart_upload(
                    Bucket=self._to.bucket,
                    Key=self._full,
                    ContentType=self._content_type,
                    Metadata=_portable(self._metadata),
                )["UploadId"]
            number = len(self._parts) + 1
            answer = client.upload_part(
                Bucket=self._to.bucket, Key=self._full, UploadId=self._id, PartNumber=number, Body=content
            )
        self._parts.append((number, answer["ETag"]))
        self._sha256.update(content)
        self._confirmed = self._confirmed and _confirmed(answer, content, verifies=self._to.verifies)

    def _join(self) -> Stored:
        """CompleteMultipartUpload; where its answer is lost, what is there decides."""
        trouble: StorageError | None = None
        try:
            with self._to._asking("s3:PutObject", self._full):  # noqa: SLF001
                s3_client.client().complete_multipart_upload(
                    Bucket=self._to.bucket,
                    Key=self._full,
                    UploadId=self._id or "",
                    MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in self._parts]},
                )
        except StorageError as error:
            trouble = error
        stored = self._to.stat(self._key)
        whole = stored is not None and stored.size == self._size and stored.belongs_to(self._metadata) is not False
        if trouble is not None and not whole:
            raise trouble
        if stored is None or not whole:
            if stored is not None and stored.belongs_to(self._metadata):
                self._to._discard(self._key)  # noqa: SLF001 - two halves of one thing
            raise StorageSpoiled(
                f"S3: {self._to.uri(self._key)} has {stored.size if stored else 0:,} bytes instead of {self._size:,} "
                "after its upload; repeat the command.",
                passing=True,
            )
        if not self._confirmed:
            self._to._read_back(self._key, self._size, self._sha256.hexdigest())  # noqa: SLF001
        return stored


def part_size(done: int) -> int:
    """Bytes of the next part after `done` parts: 8 MiB, doubled every 2,000, so that 10,000 parts are never too few."""
    return PART << (done // 2000)


# A folder


class FolderDestination:
    """Files below one folder, each written beside its place and renamed into it."""

    refuses = False

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @property
    def address(self) -> str:
        return str(self.root)

    def probe(self) -> tuple[str, ...]:
        """Make the folder; write, read, overwrite and delete a small file in it."""
        key = f"{_PROBE}{secrets.token_hex(8)}"
        try:
            for content in (secrets.token_bytes(1024), secrets.token_bytes(1000)):
                self.write(key, content, "application/octet-stream")
                if self.read(key) != content:
                    raise ConfigurationError(f"{self.root} does not keep what is written into it; use another folder.")
            free = os.statvfs(self.root)
        except StorageError as error:
            raise ConfigurationError(str(error)) from error
        finally:
            with contextlib.suppress(OSError):
                (self.root / key).unlink(missing_ok=True)
        if (left := free.f_bavail * free.f_frsize) < 2**30:
            return (f"Only {left / 10**6:,.0f} MB are free in {self.root}; a clip takes 1 to 8 MB.",)
        return ()

    def uri(self, key: str) -> str:
        return str(self._path(key))

    def key_of(self, uri: str) -> str | None:
        path = Path(unquote(urlsplit(uri).path) if uri.startswith("file://") else uri)
        if not path.is_absolute() or ".." in path.parts or not path.is_relative_to(self.root):
            return None
        key = path.relative_to(self.root).as_posix()
        return None if key == "." else key

    def listing(self, under: str = "") -> dict[str, int]:
        """Key → size in bytes of every file below `under`; hidden ones are not looked at."""
        found: dict[str, int] = {}
        top = self.root / under.strip("/")
        with self._asking("reading", top):
            for folder, folders, files in os.walk(top, onerror=_only_missing):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in files:
                    if not name.startswith("."):
                        path = Path(folder, name)
                        with contextlib.suppress(FileNotFoundError):  # gone since, or a link to nowhere
                            found[path.relative_to(self.root).as_posix()] = path.stat().st_size
        return found

    def stat(self, key: str) -> Stored | None:
        path = self._path(key)
        with self._asking("reading", path):
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not path.is_file():
                raise StorageConflict(f"{path} is no file, where one should be; move it away and repeat the command.")
            return Stored(
                size=status.st_size,
                metadata=_noted(path),
                etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
                modified=datetime.fromtimestamp(status.st_mtime, UTC),
            )

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        with self._asking("reading", path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def chunks(self, key: str) -> Iterator[bytes]:
        path = self._path(key)
        try:
            with self._asking("reading", path), path.open("rb") as file:
                while chunk := file.read(PIECE):
                    yield chunk
        except FileNotFoundError as error:
            raise StorageMissing(f"{path} is not there any more.") from error

    def write(self, key: str, content: bytes, content_type: str) -> None:  # noqa: ARG002 - a file's name tells its type
        upload = FolderUpload(self, key, {})
        try:
            upload.part(content)
            upload.complete()
        finally:
            upload.abort()

    def open_upload(
        self,
        key: str,
        content_type: str,  # noqa: ARG002 - as above
        metadata: Mapping[str, str],
        *,
        new: bool = False,  # noqa: ARG002 - never asked for: to look at a file costs nothing
    ) -> Upload:
        return FolderUpload(self, key, metadata)

    def copy_from(self, other: Destination, key: str, to: str, metadata: Mapping[str, str]) -> Stored:
        stored = _already(self, to, other, key, metadata)
        return stored if stored is not None else _stream_copy(other, key, self, to, metadata)

    def link(self, key: str, expires: int) -> str:  # noqa: ARG002 - a file's address does not expire
        return self._path(key).as_uri()

    def sweep(self) -> int:
        """Delete unfinished files of ours that nobody has written to for an hour; how many."""
        swept = 0
        before = time.time() - STALE_FILE.total_seconds()
        for folder, _, files in os.walk(self.root):
            for name in files:
                if name.startswith(_TEMPORARY):
                    path = Path(folder, name)
                    with contextlib.suppress(OSError):
                        if path.stat().st_mtime < before:
                            path.unlink()
                            swept += 1
        return swept

    def _path(self, key: str) -> Path:
        return self.root / _checked(key)

    @contextlib.contextmanager
    def _asking(self, doing: str, path: Path) -> Iterator[None]:
        """OSErrors become StorageErrors, except FileNotFoundError while reading."""
        try:
            yield
        except OSError as error:
            if doing == "reading" and isinstance(error, FileNotFoundError):
                raise
            raise _disk_error(error, doing, path, self.root) from error


class FolderUpload:
    """A hidden file in the same folder, synced to the disk and then renamed."""

    def __init__(self, destination: FolderDestination, key: str, metadata: Mapping[str, str]) -> None:
        self._root = destination.root
        self._path = destination._path(key)  # noqa: SLF001 - two halves of one thing
        self._metadata = dict(metadata)
        self._temporary = self._path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}.part")
        self._file: FileIO | None = None
        self._size = 0
        self._done = False
        self._lock = threading.Lock()

    def part(self, content: bytes) -> None:
        with self._lock, self._asking():
            file = self._opened()
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            self._size += len(content)

    def complete(self, metadata: Mapping[str, str] | None = None) -> Stored:
        with self._lock, self._asking():
            file = self._opened()
            noted = _portable({**self._metadata, **(metadata or {})})
            if noted:
                _note(file.fileno(), noted)
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
            if size != self._size:
                raise StorageError(f"{self._path} has {size:,} bytes instead of {self._size:,}.", passing=True)
            file.close()
            self._temporary.replace(self._path)
            self._done = True
            _sync_folder(self._path.parent)
            return Stored(size, noted, modified=datetime.now(UTC))

    def abort(self) -> None:
        with self._lock:
            if not self._done and self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
                with contextlib.suppress(OSError):
                    self._temporary.unlink(missing_ok=True)
            self._done = True

    def _opened(self) -> FileIO:
        if self._done:
            raise StorageError(f"The writing of {self._path} was given up.")
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self._temporary, "x")
        return self._file

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _disk_error(error, "writing", self._path, self._root) from error


# What both kinds share


def same_content(destination: Destination, key: str, size: int, sha256: str) -> bool:
    """What is stored under `key` has this size and digest."""
    digest = hashlib.sha256()
    found = 0
    for chunk in destination.chunks(key):
        digest.update(chunk)
        found += len(chunk)
    return found == size and digest.hexdigest() == sha256


def conflict(destination: Destination, key: str) -> StorageConflict:
    return StorageConflict(
        f"{destination.uri(key)} is already there and belongs to something else, so that it is left as it is; "
        "move it away, or give the clips other names with --name, and repeat the command at no cost."
    )


def _already(
    destination: Destination, to: str, other: Destination, key: str, metadata: Mapping[str, str]
) -> Stored | None:
    """What `to` holds, if that is the clip; None where nothing is there. Raises StorageConflict."""
    stored = destination.stat(to)
    if stored is None:
        return None
    source = other.stat(key)
    match stored.belongs_to(metadata):
        case True if source is None or source.size == stored.size:
            return stored
        case True:
            return None  # ours, but not whole: written again
        case None if source is not None and source.size == stored.size:
            if same_content(other, key, stored.size, _digest(destination, to)):
                return stored
        case _:
            pass
    raise conflict(destination, to)


def _digest(destination: Destination, key: str) -> str:
    digest = hashlib.sha256()
    for chunk in destination.chunks(key):
        digest.update(chunk)
    return digest.hexdigest()


def _stream_copy(
    source: Destination, key: str, destination: Destination, to: str, metadata: Mapping[str, str]
) -> Stored:
    """A part at a time; sizes, and the sha256 where `metadata` or the source knows it, must agree."""
    found = source.stat(key)
    if found is None:
        raise StorageMissing(f"{source.uri(key)} is not there any more, so that it cannot be copied.")
    merged = {**found.metadata, **metadata}
    upload = destination.open_upload(to, "video/mp4", merged)
    try:
        digest, size = hashlib.sha256(), 0
        for chunk in source.chunks(key):
            digest.update(chunk)
            size += len(chunk)
            upload.part(chunk)
        known = merged.get("sha256")
        if size != found.size or (known and known != digest.hexdigest()):
            raise StorageError(
                f"{source.uri(key)} does not hold what was stored there (its size or checksum differs), "
                "so that it is not copied; the clip is fetched from the provider again where it still has it."
            )
        return upload.complete({"sha256": digest.hexdigest()})
    finally:
        upload.abort()


def _confirmed(answer: Mapping[str, Any], content: bytes | bytearray, *, verifies: bool) -> bool:
    """Whether an answer to a PUT proves what arrived: an ETag that is the MD5, or a checksum that was checked."""
    crc = base64.b64encode(zlib.crc32(content).to_bytes(4)).decode()
    if verifies and answer.get("ChecksumCRC32") == crc:
        return True
    etag = str(answer.get("ETag", "")).strip('"').lower()
    return etag == hashlib.md5(content, usedforsecurity=False).hexdigest()


def _checked(key: str) -> str:
    """A key that stays below the destination on every system; names are made so, this only makes sure."""
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or any(ord(letter) < 32 for letter in key):
        raise ValueError(f"not a key below a destination: {key!r}")
    return key


def _portable(metadata: Mapping[str, str]) -> dict[str, str]:
    """Lower-case names and printable ASCII values, as every S3 keeps them; all else is percent-encoded."""
    return {
        name.lower(): quote(value, safe="!#$&'()*+,/:;=?@[]~ \"<>^`{|}%").strip()[:500]
        for name, value in metadata.items()
        if value
    }


def _open_bucket(address: str, rest: str) -> S3Destination:
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
    return S3Destination(bucket, prefix)


def _as_bucket(address: str) -> str:
    """The s3:// address that a web address of S3 means; "" for any other."""
    parts = urlsplit(address)
    host, path = parts.hostname or "", parts.path.strip("/")
    if named := re.fullmatch(r"(.+?)\.s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?", host):
        return f"s3://{named[1]}/{path}".rstrip("/")
    if re.fullmatch(r"s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?", host) and path:
        return f"s3://{path}"
    return ""


def _only_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _note(descriptor: int, metadata: Mapping[str, str]) -> None:
    """Metadata beside a file's content, where system and file system know such a thing; nothing depends on it."""
    if hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, _XATTR, json.dumps(dict(metadata)).encode())


def _noted(path: Path) -> dict[str, str]:
    if hasattr(os, "getxattr"):
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(os.getxattr(path, _XATTR))
            if isinstance(told, dict):
                return {str(name): str(value) for name, value in told.items()}
    return {}


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a power cut; some file systems cannot, and need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _disk_error(error: OSError, doing: str, path: Path, root: Path) -> StorageError:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return StorageError(
                f"The disk of {root} is full; make room, or choose another destination, and repeat the command.",
                systemic=True,
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return StorageError(
                f"{doing.capitalize()} {path} is not permitted; make {root} writable, or choose another destination.",
                systemic=True,
            )
        case errno.ENAMETOOLONG:
            return StorageError(f"The name {path.name[:40]}… is too long for this disk; give a shorter --name.")
        case errno.ENOTDIR | errno.EEXIST | errno.EISDIR:
            return StorageConflict(f"{path} cannot be written: a file is where a folder should be, or vice versa.")
        case _:
            told = error.strerror or type(error).__name__
            return StorageError(f"{doing.capitalize()} {path} failed ({told}); check the disk.", systemic=True)
