"""The demo: its bucket as files, which are there again the next time, and its review loop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest

from reelsheet.cli import demo, verbs
from reelsheet.errors import ConfigurationError, UsageError


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


@pytest.mark.parametrize("is_in_its_way", ["out", "out/.sandbox"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_starts(is_in_its_way, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(is_in_its_way).parent.mkdir(exist_ok=True)
    Path(is_in_its_way).touch()
    with pytest.raises(UsageError, match=r"^\./out cannot be written \("):
        verbs.demo()


def test_a_clip_that_cannot_be_written_is_named(s3, bucket, out):
    s3.put_object(Bucket=bucket, Key="demo/videos/a.mp4", Body=b"clip")
    (out / bucket / "demo/videos/a.mp4").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot be written \(a\.mp4: Is a directory\)"):
        demo._BucketFiles(bucket).download()


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
    with pytest.raises(ConfigurationError, match="AWS_CONFIG_FILE: ") as error:
        demo._BucketFiles(bucket)
    assert error.value.exit_code == 2


# The review loop


@pytest.fixture
def tables(stored, out, bucket):
    """A demo's tables: one as it was left, and a workbook."""
    folder = out / bucket / "demo"
    (folder / "results.xlsx").write_bytes(b"a workbook")
    left = {path.name: demo._sha256(path.read_bytes()) for path in folder.glob("results.*")}
    entries = {f"demo/{name}": {"sha256": sha256} for name, sha256 in left.items()}
    demo._BucketFiles.INDEX.write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize("name", ["results.csv", "results.xlsx"])
def test_the_table_that_a_person_marked_is_retried(tables, name):
    (tables / name).write_bytes(b"marked")
    assert demo._marked_file() == tables / name


def test_of_two_marked_tables_the_last_is_retried(tables):
    for name, when in (("results.csv", 2_000_000_000), ("results.xlsx", 1_000_000_000)):
        (tables / name).write_bytes(b"marked")
        os.utime(tables / name, (when, when))
    assert demo._marked_file() == tables / "results.csv"


def test_where_nothing_is_marked_it_says_what_to_mark(tables):
    with pytest.raises(UsageError, match=r"Open .*results\.xlsx, write redo into the review column"):
        demo._marked_file()


def test_without_a_demo_there_is_nothing_to_retry(out):
    with pytest.raises(UsageError, match=r"run `.* demo` first"):
        demo._marked_file()


def test_a_results_file_without_retry_is_refused():
    with pytest.raises(UsageError, match="demo --retry"):
        verbs.demo("results.csv")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_row_marked_redo_gets_one_new_clip_and_nothing_else_is_made_again(tmp_path):
    command = Path(sys.executable).with_name("reelsheet")

    def reelsheet(*words):
        done = subprocess.run([command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = reelsheet("demo")
    [workbook] = tmp_path.glob("out/*/demo/runs/*/results.xlsx")
    assert str(workbook.relative_to(tmp_path)) in said
    book = openpyxl.load_workbook(workbook)
    sheet = book.worksheets[0]
    column = next(cell.column for cell in sheet[1] if cell.value == "review")
    sheet.cell(2, column, "redo")
    book.save(workbook)
    summary = json.loads(reelsheet("demo", "--retry", "--json"))
    assert (summary["succeeded"], summary["cost_usd"]) == (8, 0.54)
    assert len(list(tmp_path.glob("out/*/demo/videos/*-2.mp4"))) == 1
    assert json.loads(reelsheet("demo", "--json"))["cost_usd"] == 0
