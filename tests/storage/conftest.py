"""Destinations that the tests of storage share."""

import contextlib
import errno
import hashlib
import ipaddress
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from reelsheet.storage import s3_client
from reelsheet.storage.destination import open_destination
from reelsheet.storage.folder_destination import FolderDestination
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.storage.stored_object import StoredObject
from tests.stand_in.stores import Store, serving

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
        return up.complete(hashlib.sha256(content).hexdigest())

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


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """For 127.0.0.1, signed by itself; with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
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
def serve(scheme, certificate, monkeypatch) -> Iterator[Callable[[Store], S3Destination]]:
    """`serve(store)` is a destination on it; the environment points there."""
    with contextlib.ExitStack() as running:

        def start(store: Store) -> S3Destination:
            for name, value in {
                "AWS_ENDPOINT_URL_S3": running.enter_context(
                    serving(store, certificate if scheme == "https" else None)
                ),
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_CA_BUNDLE": str(certificate),
            }.items():
                monkeypatch.setenv(name, value)
            return S3Destination.parse("s3://bucket/spring")

        yield start
