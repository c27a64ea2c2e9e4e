"""The mirror: a bucket as plain files, there by the time S3 has answered, and read again at the next start."""

import json
import threading

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.sandbox import storage
from reelsheet.sandbox.clips import padding

BUCKET = "clips"


class Server:
    """A simulated S3 with a mirror, in this process; moto keeps its buckets in globals, so each start empties them."""

    def __init__(self, mirror) -> None:
        storage.get_backend("s3")[storage.ACCOUNT]["aws"].reset()
        self._server = storage.serve(port=0, buckets=[BUCKET], mirror=mirror)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._server.port}",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def close(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def start(tmp_path):
    """Starts a server over the same mirror, ending the one before."""
    running = []

    def begin() -> Server:
        for server in running:
            server.close()
        running[:] = [Server(tmp_path)]
        return running[0]

    yield begin
    for server in running:
        server.close()


def test_an_object_is_a_file_as_soon_as_it_is_put(start, tmp_path):
    client = start().client
    client.put_object(Bucket=BUCKET, Key="demo/videos/a b.mp4", Body=b"one")
    assert (tmp_path / BUCKET / "demo/videos/a b.mp4").read_bytes() == b"one"
    client.put_object(Bucket=BUCKET, Key="demo/videos/a b.mp4", Body=b"two")
    assert (tmp_path / BUCKET / "demo/videos/a b.mp4").read_bytes() == b"two"


def test_a_deleted_object_takes_its_file_and_empty_folders_along(start, tmp_path):
    client = start().client
    for key in ("a/b/1", "a/b/2", "a/3"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    client.delete_object(Bucket=BUCKET, Key="a/b/1")
    assert not (tmp_path / BUCKET / "a/b/1").exists()
    client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "a/b/2"}]})
    assert not (tmp_path / BUCKET / "a/b").exists()
    assert (tmp_path / BUCKET / "a/3").exists()


def test_copies_and_multipart_uploads_are_mirrored(start, tmp_path):
    client = start().client
    part = b"x" * 5 * 1024 * 1024
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(Bucket=BUCKET, Key="big", UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in ((1, part), (2, b"end"))
    ]
    assert not (tmp_path / BUCKET / "big").exists()
    client.complete_multipart_upload(Bucket=BUCKET, Key="big", UploadId=upload, MultipartUpload={"Parts": parts})
    assert (tmp_path / BUCKET / "big").read_bytes() == part + b"end"
    client.copy_object(Bucket=BUCKET, Key="copy/of", CopySource={"Bucket": BUCKET, "Key": "big"})
    assert (tmp_path / BUCKET / "copy/of").read_bytes() == part + b"end"


def test_a_new_start_finds_every_object_with_type_metadata_tag_and_time(start):
    client = start().client
    client.put_object(
        Bucket=BUCKET,
        Key="v/ü.mp4",
        Body=b"clip",
        ContentType="video/mp4",
        Metadata={"identity": "abc", "prediction-id": "p"},
        ChecksumAlgorithm="SHA256",
    )
    before = client.head_object(Bucket=BUCKET, Key="v/ü.mp4", ChecksumMode="ENABLED")
    client = start().client
    after = client.head_object(Bucket=BUCKET, Key="v/ü.mp4", ChecksumMode="ENABLED")
    for name in ("ContentType", "Metadata", "ETag", "LastModified", "ContentLength", "ChecksumSHA256"):
        assert after[name] == before[name]
    assert client.get_object(Bucket=BUCKET, Key="v/ü.mp4")["Body"].read() == b"clip"


def test_a_file_that_a_person_changed_is_served_but_no_longer_vouched_for(start, tmp_path):
    client = start().client
    client.put_object(Bucket=BUCKET, Key="a.csv", Body=b"one", ContentType="x/y", Metadata={"sha256": "1"})
    (tmp_path / BUCKET / "a.csv").write_bytes(b"other")
    (tmp_path / BUCKET / "new.png").write_bytes(b"png")
    client = start().client
    changed = client.get_object(Bucket=BUCKET, Key="a.csv")
    assert (changed["Body"].read(), changed["Metadata"], changed["ContentType"]) == (b"other", {}, "text/csv")
    assert client.head_object(Bucket=BUCKET, Key="new.png")["ContentType"] == "image/png"


def test_a_file_that_a_person_removed_is_no_object(start, tmp_path):
    client = start().client
    client.put_object(Bucket=BUCKET, Key="a", Body=b"one")
    (tmp_path / BUCKET / "a").unlink()
    assert "Contents" not in start().client.list_objects_v2(Bucket=BUCKET)


def test_a_torn_last_line_of_the_index_loses_nothing_else(start, tmp_path):
    client = start().client
    client.put_object(Bucket=BUCKET, Key="a", Body=b"one", Metadata={"n": "1"})
    with (tmp_path / storage.INDEX).open("ab") as index:
        index.write(json.dumps({"bucket": BUCKET, "key": "b"}).encode()[:-3])
    assert start().client.head_object(Bucket=BUCKET, Key="a")["Metadata"] == {"n": "1"}


ODD = ["../../escape", "/rooted", "a//b", ".hidden", "a/../b", "x" * 400, "dir/", "%2e%2e/x", "a b+c&d=e?f#g", "ü/é"]


def test_no_key_writes_outside_its_bucket_and_every_key_comes_back(start, tmp_path):
    client = start().client
    for key in ODD:
        client.put_object(Bucket=BUCKET, Key=key, Body=key.encode(), Metadata={"k": "v"})
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != storage.INDEX]
    assert sorted(path.read_bytes() for path in files) == sorted(key.encode() for key in ODD)
    assert all(path.resolve().is_relative_to(tmp_path / BUCKET) for path in files)
    client = start().client
    assert {item["Key"] for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]} == set(ODD)
    for key in ODD:
        found = client.get_object(Bucket=BUCKET, Key=key)
        assert (found["Body"].read(), found["Metadata"]) == (key.encode(), {"k": "v"})


def test_a_key_may_be_a_file_where_another_needs_a_folder(start):
    client = start().client
    for key in ("a/b", "a", "a/b/c"):
        client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    client = start().client
    for key in ("a/b", "a", "a/b/c"):
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()


def test_conditional_writes_are_honoured(start):
    client = start().client
    client.put_object(Bucket=BUCKET, Key="once", Body=b"1", IfNoneMatch="*")
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=BUCKET, Key="once", Body=b"2", IfNoneMatch="*")
    assert client.get_object(Bucket=BUCKET, Key="once")["Body"].read() == b"1"


@given(size=st.integers(min_value=40, max_value=5000), stamp=st.text(max_size=8))
def test_padding_is_one_free_box_of_exactly_that_size(size, stamp):
    box = padding(size, stamp)
    assert len(box) == size
    assert int.from_bytes(box[:4], "big") == size
    assert box[4:8] == b"free"
