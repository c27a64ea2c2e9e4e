"""Pictures that are files, in the plan: read and checked, never uploaded; a results table knows them by their content."""

import asyncio
import io
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from PIL import Image

from reelsheet.errors import UsageError
from reelsheet.manifest.picture_file import uploaded
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning import pictures, preparation
from reelsheet.planning.plan import Plan, Step
from reelsheet.results import table
from reelsheet.settings import Settings
from tests.planning.desk import RUN_ID, edited, result_of

SETTINGS = Settings(base_url="http://127.0.0.1:9")


def jpeg(shade: int) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (320, 310), (shade, 60, 120)).save(made, "JPEG")
    return made.getvalue()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    (folder / "cup.jpg").write_bytes(jpeg(10))
    (folder / "jug.jpg").write_bytes(jpeg(20))
    return folder


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[Callable[..., Plan]]:
    """Plans a sheet in `tmp_path`."""
    made: list[preparation.Preparation] = []

    def plan(content: str, **options: Any) -> Plan:
        path = tmp_path / "sheet.csv"
        path.write_text(content, encoding="utf-8")
        asked = Options(**{"source": str(path)} | options)
        made.append(asyncio.run(preparation.prepare(asked, SETTINGS, spending=False)))
        return made[-1].plan

    yield plan
    for prepared in made:
        prepared.close()


def wrote(s3: BaseClient, bucket: str, plan: Plan, statuses: list[Status]) -> str:
    """The results table of a run of `plan`, and everything else that it left in the bucket."""
    results = []
    for row, status in zip(plan.manifest.rows, statuses, strict=True):
        assert row.picture is not None
        s3.put_object(Bucket=bucket, Key=f"c/{row.picture.key}", Body=bytes(row.picture.size_bytes))
        result = result_of(row, status, SETTINGS, image_sha256=row.picture.sha256, image_input=row.picture.uri)
        if status is Status.SUCCEEDED:
            key = result.video_uri
            s3.put_object(Bucket=bucket, Key=f"c/{key}", Body=b"clip")
            result.video_uri = f"s3://{bucket}/c/{key}"
        results.append(result)
    content = table.results_csv(plan.manifest, results)
    s3.put_object(Bucket=bucket, Key=f"c/runs/{RUN_ID}/results.csv", Body=content)
    return content.decode("utf-8-sig")


SHEET = "id,image,prompt\na,shots/cup.jpg,one\nb,shots/jug.jpg,two\n"


def test_a_plan_reads_files_and_uploads_nothing(plans, shots, s3, bucket):
    plan = plans(SHEET, destination=f"s3://{bucket}/c")
    assert len(plan.at_step(Step.SUBMIT)) == 2
    assert [note for note in plan.notes if "will be uploaded to" in note]
    assert not s3.list_objects_v2(Bucket=bucket).get("Contents")


def test_a_plan_without_a_destination_says_what_it_must_be(plans, shots):
    plan = plans(SHEET)
    assert (len(plan.at_step(Step.SUBMIT)), "needs --to s3://" in plan.notes[0]) == (2, True)


def test_pictures_of_a_sheet_elsewhere_are_looked_for_below_the_folder_that_is_named(plans, shots, s3, bucket):
    s3.put_object(Bucket=bucket, Key="sheet.csv", Body=SHEET.encode())
    named = plans("", source=f"s3://{bucket}/sheet.csv", destination=f"s3://{bucket}/c", pictures=str(shots.parent))
    assert len(named.at_step(Step.SUBMIT)) == 2
    without = plans("", source=f"s3://{bucket}/sheet.csv", destination=f"s3://{bucket}/c")
    assert all("--pictures" in row.problems[0] for row in without.manifest.rows)


@pytest.mark.parametrize("folder", ["nowhere", "sheet.csv", "s3://bucket/pictures"])
def test_a_folder_that_is_none_is_refused(plans, tmp_path, folder):
    with pytest.raises(UsageError, match="--pictures"):
        plans(SHEET, pictures=folder if "://" in folder else str(tmp_path / folder))


def test_a_word_that_is_the_name_of_a_file_is_that_file(plans, shots, tmp_path):
    (tmp_path / "red cup").write_bytes(jpeg(30))
    plan = plans("image,prompt\nred cup,one\nblue cup,two\ncdn.shop.example/a.jpg,three\n")
    red, blue, shop = plan.manifest.rows
    assert red.picture is not None
    assert "must begin with https://" in blue.problems[0]
    assert "did you mean 'https://cdn.shop.example/a.jpg'" in shop.problems[0]
    assert {row.problem_code for row in (blue, shop)} == {ErrorCode.INVALID_ROW}


def test_credentials_that_end_before_the_provider_has_fetched_a_picture_are_said(plans, shots, s3, bucket, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of a role, whose end nobody says")
    said = [
        any("credentials end in" in note for note in plans(SHEET, destination=f"s3://{bucket}/c", **more).notes)
        for more in ({}, {"deadline_seconds": 86_400.0})
    ]
    assert said == [False, True]


def test_a_table_knows_its_pictures_where_their_files_are_gone(plans, shots, s3, bucket):
    content = wrote(s3, bucket, plans(SHEET, destination=f"s3://{bucket}/c"), [Status.SUCCEEDED, Status.FAILED])
    (shots / "cup.jpg").unlink()
    (shots / "jug.jpg").unlink()
    plan = plans(content, verb="retry", destination=f"s3://{bucket}/c", preflight=False)
    assert [row.row.id for row in plan.at_step(Step.SUBMIT)] == ["b"]
    assert [row.row.id for row in plan.at_step(Step.DONE)] == ["a"]


def test_a_file_with_another_content_is_an_edited_cell(plans, shots, s3, bucket):
    content = wrote(s3, bucket, plans(SHEET, destination=f"s3://{bucket}/c"), [Status.SUCCEEDED, Status.FAILED])
    for name in ("cup.jpg", "jug.jpg"):
        (shots / name).write_bytes(jpeg(99))
    plan = plans(content, verb="retry", destination=f"s3://{bucket}/c")
    (paying,) = plan.at_step(Step.SUBMIT)
    assert (paying.row.id, paying.row.picture.size_bytes) == ("b", len(jpeg(99)))
    (kept,) = plan.at_step(Step.DONE)
    assert any("the file 'shots/cup.jpg' holds another picture now" in warning for warning in kept.row.warnings)


def test_a_cell_that_names_another_file_does_not_get_the_picture_of_the_one_before(plans, shots, s3, bucket):
    content = wrote(s3, bucket, plans(SHEET, destination=f"s3://{bucket}/c"), [Status.FAILED, Status.SUCCEEDED])
    content = edited(content, lambda records: [record.update(image="shots/other.jpg") for record in records] and None)
    plan = plans(content, verb="retry", destination=f"s3://{bucket}/c", preflight=False)
    assert not plan.at_step(Step.SUBMIT)
    assert plan.manifest.rows[0].problem_code is ErrorCode.IMAGE_UNREACHABLE
    assert "what was uploaded is shots/cup.jpg" in plan.manifest.rows[0].problems[0]
    assert [group.row.id for group in plan.at_step(Step.DONE)] == ["b"]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/secrets/prod.env", "s3://bucket/inputs/" + "0" * 64 + ".jpg", "https://a.example/inputs/x.jpg", "",
        "s3://bucket/inputs/../" + "a" * 64 + ".jpg", "s3://bucket/inputs/" + "a" * 64 + ".env",
    ],
)  # fmt: skip
def test_a_forged_input_is_no_picture(uri):
    assert uploaded("cup.jpg", "a" * 64, uri) is None
    assert uploaded("cup.jpg", "a" * 64, "s3://bucket/x/inputs/" + "a" * 64 + ".jpg") is not None


def test_the_identity_is_the_content_and_no_cell_can_pretend_to_it(plans, shots, s3, bucket):
    plan = plans(SHEET, destination=f"s3://{bucket}/c")
    row = plan.manifest.rows[0]
    assert row.picture is not None
    forged = plans(f"image,prompt\n{row.picture.identity},one\n")
    assert forged.manifest.rows[0].problems
    elsewhere = replace(row, picture=replace(row.picture, name="x.jpg", uri="s3://other/inputs/x.jpg", folder="/x"))
    from reelsheet.manifest.identity import identity_of

    assert identity_of(elsewhere, SETTINGS) == identity_of(row, SETTINGS)


@pytest.mark.parametrize(
    ("url", "resolves_to", "private"),
    [
        ("http://127.0.0.1:9000", "127.0.0.1", True), ("http://localhost:9000", "127.0.0.1", True),
        ("http://[::1]:9000", "::1", True), ("http://10.1.2.3", "10.1.2.3", True),
        ("https://minio.internal", "192.168.0.9", True), ("https://minio.example", "fd12::9", True),
        ("https://s3.example.com", "93.184.215.14", False),
        ("https://s3.eu-west-1.amazonaws.com", "10.1.2.3", False),  # a VPC endpoint
    ],
)  # fmt: skip
def test_what_only_a_private_network_reaches_is_known(monkeypatch, url, resolves_to, private):
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (resolves_to, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    assert pictures._is_private(url) is private


def test_rows_that_share_a_file_count_as_one_picture(plans, shots):
    plan = plans("image,prompt\nshots/cup.jpg,one\nshots/cup.jpg,two\nshots/jug.jpg,three\n")
    assert len(plan.at_step(Step.SUBMIT)) == 3
    assert plan.notes[0].startswith("2 pictures of the sheet are files")
    assert (
        plans("image,prompt\nshots/cup.jpg,one\nshots/cup.jpg,two\n").notes[0].startswith("1 picture of the sheet is")
    )
