"""The demo's bucket as files: what the simulated S3 forgets is there again the next time."""

import pytest

from reelsheet.cli import demo
from reelsheet.errors import ConfigurationError


@pytest.fixture
def out(tmp_path, monkeypatch):
    """The folder that the demo writes to."""
    monkeypatch.setattr(demo, "OUT", tmp_path)
    monkeypatch.setattr(demo._BucketFiles, "INDEX", tmp_path / "objects.json")
    return tmp_path


@pytest.fixture
def stored(s3, bucket, out):
    """Three objects, their files, and an emptied bucket; what is in it after the files were uploaded again."""
    for key, body in {"demo/videos/a b.mp4": b"clip", "demo/results.csv": b"id", "demo/gone.csv": b"x"}.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="video/mp4", Metadata={"identity": key[:6]})
    demo._BucketFiles(bucket).download()
    for item in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        s3.delete_object(Bucket=bucket, Key=item["Key"])

    def again():
        demo._BucketFiles(bucket).upload()
        found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {item["Key"]: s3.get_object(Bucket=bucket, Key=item["Key"]) for item in found}

    return again


def test_every_object_is_a_file_and_comes_back_with_type_and_metadata(stored, out, bucket):
    assert (out / bucket / "demo/videos/a b.mp4").read_bytes() == b"clip"
    objects = stored()
    assert len(objects) == 3
    clip = objects["demo/videos/a b.mp4"]
    assert (clip["Body"].read(), clip["ContentType"], clip["Metadata"]) == (
        b"clip",
        "video/mp4",
        {"identity": "demo/v"},
    )


def test_a_file_that_a_person_changed_loses_its_metadata_and_a_deleted_one_its_object(stored, out, bucket):
    (out / bucket / "demo/results.csv").write_bytes(b"other")
    (out / bucket / "demo/gone.csv").unlink()
    objects = stored()
    assert set(objects) == {"demo/videos/a b.mp4", "demo/results.csv"}
    changed = objects["demo/results.csv"]
    assert (changed["Body"].read(), changed["Metadata"]) == (b"other", {})


def test_the_first_time_there_is_nothing_to_upload(s3, bucket, out):
    demo._BucketFiles(bucket).upload()
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_an_index_that_a_kill_cut_short_is_the_same_as_none(s3, bucket, out):
    (out / "objects.json").write_text('{"demo/videos/a')
    demo._BucketFiles(bucket).upload()
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_damaged_aws_configuration_is_named_with_exit_2(tmp_path, monkeypatch, out, bucket):
    (tmp_path / "aws").write_text("[default\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    with pytest.raises(ConfigurationError, match="The S3 client cannot be set up") as error:
        demo._BucketFiles(bucket)
    assert error.value.exit_code == 2
