"""An object on its way into a bucket, in one request or in parts."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from reelsheet.storage.errors import ObjectCorrupted, ObjectExists, StorageError
from reelsheet.storage.s3_bucket import Bucket, Checksum, eventually
from reelsheet.storage.stored_object import Content, StoredObject, portable_metadata

PART_BYTES: Final = 8 * 2**20  # held of one upload; smaller objects are sent in one request


class S3Upload:
    """Up to PART_BYTES: one PUT, with the sha256 in the metadata. More: multipart, with metadata fixed at its start.

    The sha256 of a multipart object is not added by copying the object onto itself: that would pay for a second write,
    leave a second version in a versioned bucket, and change the object after it was proven. The results have it.
    """

    def __init__(self, bucket: Bucket, key: str, content_type: str, metadata: Mapping[str, str], *, new: bool) -> None:
        self._bucket = bucket
        self._key = key
        self._content_type = content_type
        self._metadata = dict(metadata)
        self._new = new
        self._pieces: list[bytes] = []  # that are not sent yet
        self._held_bytes = 0
        self._upload_id: str | None = None  # set once parts are sent
        self._parts: list[dict[str, Any]] = []  # that were sent, as their completion names them
        self._size_bytes = 0
        self._proven = True  # each part so far, by the answer to it
        self._closed = False
        self._lock = threading.Lock()  # an abort may come from another thread while a part is on its way

    def part(self, *pieces: bytes) -> None:
        with self._open():
            self._pieces += pieces
            added_bytes = sum(map(len, pieces))
            self._size_bytes += added_bytes
            self._held_bytes += added_bytes
            while self._held_bytes > (length := part_bytes(len(self._parts))):
                self._send(self._take(length))

    def complete(self, sha256: str) -> StoredObject:
        with self._open():
            content = self._take(self._held_bytes)
            if self._upload_id is None:
                merged = {**self._metadata, "sha256": sha256}
                stored = self._bucket.put(self._key, content, self._content_type, merged, sha256=sha256, new=self._new)
            else:
                self._send(content)
                stored = self._join(self._upload_id, sha256)
            self._closed = True
            return stored

    def abort(self) -> None:
        with self._lock:
            self._pieces.clear()
            if self._upload_id is not None and not self._closed:
                with contextlib.suppress(StorageError):  # what cannot be aborted now is swept later
                    self._bucket.call("AbortMultipartUpload", Key=self._key, UploadId=self._upload_id)
            self._closed = True

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StorageError(f"The upload of {self._bucket.uri(self._key)} was given up.")
            yield

    def _send(self, content: bytes) -> None:
        bucket = self._bucket
        # not every S3 knows a condition for multipart uploads
        if self._upload_id is None and self._new and bucket.stat(self._key) is not None:
            raise ObjectExists(f"S3: {bucket.uri(self._key)} exists already.")
        checksum = bucket.verifies is Checksum.SHA256
        algorithm: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"} if checksum else {}
        if self._upload_id is None:
            self._upload_id = bucket.call(
                "CreateMultipartUpload",
                Key=self._key,
                ContentType=self._content_type,
                Metadata=portable_metadata(self._metadata),
                **algorithm,
            ).need("UploadId")
        number = len(self._parts) + 1
        answer, is_proven = bucket.send(
            "UploadPart", content, Key=self._key, UploadId=self._upload_id, PartNumber=number
        )
        self._parts.append({"PartNumber": number, "ETag": answer.need("ETag")})
        if checksum:
            self._parts[-1]["ChecksumSHA256"] = answer.need("ChecksumSHA256")
        self._proven = self._proven and is_proven

    def _take(self, length: int) -> bytes:
        """The next `length` bytes in one piece: the only copy that is made of them."""
        taken, left = [], length
        for piece in self._pieces:
            taken.append(piece[:left])
            left -= len(taken[-1])
            if not left:
                break
        rest = self._pieces[len(taken) - 1][len(taken[-1]) :] if taken else b""
        self._pieces[: len(taken)] = [rest] if rest else []
        self._held_bytes -= length
        return b"".join(taken)

    def _join(self, upload_id: str, sha256: str) -> StoredObject:
        """CompleteMultipartUpload; where its answer is lost, what is stored decides."""
        bucket, failure = self._bucket, None
        try:
            bucket.call(
                "CompleteMultipartUpload", Key=self._key, UploadId=upload_id, MultipartUpload={"Parts": self._parts}
            )
        except StorageError as error:
            failure = error
        stored = eventually(lambda: bucket.stat(self._key), lambda found: found is not None or failure is not None)
        is_ours = stored.belongs_to(self._metadata) if stored else False
        if stored is None or stored.size_bytes != self._size_bytes or is_ours is False:
            if failure is not None:
                raise failure
            if is_ours:
                bucket.discard(self._key)
            raise ObjectCorrupted(
                f"S3: {bucket.uri(self._key)} has {stored.size_bytes if stored else 0:,} bytes instead of "
                f"{self._size_bytes:,} after its upload; repeat the command.",
                transient=True,
            )
        if not self._proven:
            bucket.read_back(self._key, Content(self._size_bytes, sha256))
        return stored


def part_bytes(parts_sent: int) -> int:
    """Of the next part: 8 MiB, doubled after every 2,000, so that S3's limit of 10,000 parts is never met."""
    return PART_BYTES << (parts_sent // 2000)
