"""Destinations that the tests of storage share."""

import errno
import hashlib
import os

import pytest

from reelsheet.storage import s3_client
from reelsheet.storage.destination import open_destination
from reelsheet.storage.folder_destination import FolderDestination
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.storage.stored_object import StoredObject

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1", "cost-cents": "54", "run-id": "r"}


@pytest.fixture(autouse=True)
def one_client(monkeypatch):
    """The same environment in every test, so that the client is built once."""
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")


@pytest.fixture(autouse=True)
def file_metadata(monkeypatch, tmp_path):
    """Extended attributes, also if this machine's temporary folder does not support them."""
    try:
        os.setxattr(tmp_path, "user.reelsheet.test", b"1")
    except (AttributeError, OSError):
        kept = {}

        def get(path, _):
            if (inode := os.stat(path).st_ino) not in kept:  # noqa: PTH116 - as in `put`
                raise OSError(errno.ENODATA, "no data")
            return kept[inode]

        def put(file, _, value):
            kept[os.stat(file).st_ino] = value  # noqa: PTH116 - a descriptor, perhaps

        monkeypatch.setattr(os, "setxattr", put, raising=False)
        monkeypatch.setattr(os, "getxattr", get, raising=False)


@pytest.fixture
def in_bucket(bucket) -> S3Destination:
    return open_destination(f"s3://{bucket}/spring/clips")


@pytest.fixture
def in_folder(tmp_path) -> FolderDestination:
    return open_destination(str(tmp_path / "out"))


@pytest.fixture(params=["bucket", "folder"])
def place(request):
    """Every kind of destination in turn; add new kinds here."""
    return request.getfixturevalue(f"in_{request.param}")


@pytest.fixture
def upload():
    """Store a clip in pieces."""

    def stored(place, key: str, content: bytes, metadata: dict[str, str] = MINE, piece: int = 2**20) -> StoredObject:
        up = place.open_upload(key, "video/mp4", metadata)
        for at in range(0, len(content), piece):
            up.part(content[at : at + piece])
        return up.complete({"sha256": hashlib.sha256(content).hexdigest()})

    return stored


@pytest.fixture
def unfinished():
    """What an upload must not leave behind."""

    def left(place) -> list[str]:
        if isinstance(place, S3Destination):
            uploads = s3_client.client().list_multipart_uploads(Bucket=place.bucket).get("Uploads", ())
            return [one["Key"] for one in uploads]
        return [str(path) for path in place.root.rglob("*") if path.name.startswith(".")]

    return left
