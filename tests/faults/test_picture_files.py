"""Pictures that are files: uploaded once, signed for each submission, known by their content, never paid twice."""

import asyncio
import csv
import hashlib
import io
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.client import BaseClient
from PIL import Image

from flows.embedded_server import EmbeddedServer
from reelsheet import settings
from reelsheet.cli import call, execute
from reelsheet.errors import ConfigurationError
from reelsheet.manifest.picture_file import PictureFile
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode
from reelsheet.planning import preparation
from reelsheet.planning.plan import RowGroup
from reelsheet.run import picture_uploads, shards
from reelsheet.run.resumption import resumed_preparation
from reelsheet.run.start import start_run
from reelsheet.storage.errors import StorageError
from reelsheet.storage.s3_destination import S3Destination
from tests.faults.conftest import Bench, walk
from tests.stand_in.faulty_sandbox import FaultySandbox

FLOW_RUN = "5f0c1d1e-0000-0000-0000-000000000002"


def jpeg(shade: int) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (320, 310), (shade, 60, 120)).save(made, "JPEG")
    return made.getvalue()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def shots(bench: Bench) -> Path:
    """Three pictures beside the sheet, in a folder of their own."""
    folder = bench.folder / "shots"
    folder.mkdir()
    for name, shade in {"cup.jpg": 10, "jug.jpg": 20, "mug.jpg": 30}.items():
        (folder / name).write_bytes(jpeg(shade))
    return folder


def sheet(bench: Bench, *names: str, name: str = "sheet.csv") -> Path:
    path = bench.folder / name
    lines = [f"row-{n},{image},prompt {n}" for n, image in enumerate(names)]
    path.write_text("\n".join(["sku,image,prompt", *lines]) + "\n", encoding="utf-8")
    return path


async def fetched(address: str) -> bytes:
    async with httpx.AsyncClient() as client:
        return (await client.get(address)).content


def table(s3: BaseClient, bucket: str, prefix: str = "c") -> list[dict[str, str]]:
    content = s3.get_object(Bucket=bucket, Key=f"{prefix}/results.csv")["Body"].read().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(content, newline="")))


def objects(s3: BaseClient, bucket: str, under: str = "c/inputs/") -> dict[str, Any]:
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=under).get("Contents", [])
    return {item["Key"].removeprefix(under): item for item in listed}


async def test_files_are_uploaded_once_and_the_provider_can_fetch_them(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, sandbox: FaultySandbox
):
    (shots / "same cup.jpeg").write_bytes((shots / "cup.jpg").read_bytes())
    source = sheet(bench, "shots/cup.jpg", "shots/jug.jpg", "shots\\same cup.jpeg")
    done = await bench.deliver(source, destination=f"s3://{bucket}/c")
    assert done.statuses() == ["succeeded"] * 3
    cup = sha(jpeg(10))
    stored = objects(s3, bucket)
    assert set(stored) == {f"{cup}.jpg", f"{sha(jpeg(20))}.jpg"}
    head = s3.head_object(Bucket=bucket, Key=f"c/inputs/{cup}.jpg")
    assert head["ContentType"] == "image/jpeg"
    rows = table(s3, bucket)
    assert [row["image"] for row in rows] == ["shots/cup.jpg", "shots/jug.jpg", "shots\\same cup.jpeg"]
    assert (rows[0]["image_sha256"], rows[0]["image_input"]) == (cup, f"s3://{bucket}/c/inputs/{cup}.jpg")
    assert (rows[2]["image_sha256"], rows[2]["image_input"]) == (cup, f"s3://{bucket}/c/inputs/{cup}.jpg")
    images = [charge["image"] for charge in sandbox.charges()]
    assert {sha(await fetched(image)) for image in images} == {cup, sha(jpeg(20))}
    assert all("X-Amz-Signature" in image for image in images)

    again = await bench.deliver(source, destination=f"s3://{bucket}/c")
    assert again.statuses() == ["succeeded"] * 3
    assert again.summary.cost_cents == 0
    assert {key: item["LastModified"] for key, item in objects(s3, bucket).items()} == {
        key: item["LastModified"] for key, item in stored.items()
    }


@pytest.mark.charges(2)
async def test_a_moved_file_is_the_same_picture_and_a_changed_one_is_another(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, sandbox: FaultySandbox
):
    place = f"s3://{bucket}/c"
    await bench.deliver(sheet(bench, "shots/cup.jpg"), destination=place, deadline_seconds=86_400.0)
    assert "X-Amz-Expires=90000" in sandbox.charges()[0]["image"]  # the deadline and an hour
    moved = await bench.deliver(sheet(bench, "cup.jpg"), destination=place, pictures=str(shots))
    assert (moved.statuses(), moved.summary.cost_cents) == (["succeeded"], 0)
    (shots / "cup.jpg").write_bytes(jpeg(99))
    changed = await bench.deliver(sheet(bench, "cup.jpg", name="other.csv"), destination=place, pictures=str(shots))
    assert changed.statuses() == ["succeeded"]
    assert changed.summary.cost_cents > 0


@pytest.mark.charges(2)
async def test_a_results_file_takes_the_uploaded_pictures_where_the_files_are_not(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, sandbox: FaultySandbox, monkeypatch: pytest.MonkeyPatch
):
    place = f"s3://{bucket}/c"
    sandbox.fault("poll", prompt="prompt 1", status="failed", times=1)
    first = await bench.deliver(sheet(bench, "shots/cup.jpg", "shots/jug.jpg"), destination=place)
    assert first.statuses() == ["succeeded", "failed"]
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.folder / "another-laptop"))
    (bench.folder / "shots").rename(bench.folder / "elsewhere")
    copy = bench.folder / "downloads" / "results.csv"
    copy.parent.mkdir()
    copy.write_bytes(s3.get_object(Bucket=bucket, Key="c/results.csv")["Body"].read())
    second = await bench.deliver(copy, verb="retry", destination=place)
    assert second.statuses() == ["succeeded", "succeeded"]
    assert [result.image_sha256 for result in second.results] == [sha(jpeg(10)), sha(jpeg(20))]
    assert [result.image_input for result in second.results] == [result.image_input for result in first.results]
    third = await bench.deliver(f"{place}/results.csv", destination=place)
    assert (third.statuses(), third.summary.cost_cents) == (["succeeded", "succeeded"], 0)
    assert [result.image_sha256 for result in third.results] == [sha(jpeg(10)), sha(jpeg(20))]


@pytest.mark.parametrize("given", ["destination", "results-elsewhere"])
async def test_a_retry_finds_the_pictures_where_the_run_found_them(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, given: str
):
    place = f"s3://{bucket}/c"
    first = await bench.deliver(sheet(bench, "cup.jpg", "jug.jpg"), destination=place, pictures=str(shots), limit=1)
    assert first.statuses() == ["succeeded", "skipped"]
    copy = bench.folder / "downloads" / "results.csv"
    copy.parent.mkdir()
    copy.write_bytes(s3.get_object(Bucket=bucket, Key="c/results.csv")["Body"].read())
    second = await bench.deliver(place if given == "destination" else copy, verb="retry")
    assert second.statuses() == ["succeeded", "succeeded"]
    assert second.run.context.destination.address == place


async def test_a_retry_without_the_runs_pictures_says_that_their_folder_can_be_named(
    bench: Bench, shots: Path, bucket: str
):
    place = f"s3://{bucket}/c"
    await bench.deliver(sheet(bench, "cup.jpg", "jug.jpg"), destination=place, pictures=str(shots), limit=1)
    shots.rename(bench.folder / "elsewhere")
    again = await bench.deliver(place, verb="retry")
    assert again.statuses() == ["succeeded", "invalid"]
    assert "Name its folder with --pictures FOLDER" in again.results[1].error


async def test_what_is_wrong_with_a_file_is_its_rows_alone(bench: Bench, shots: Path, s3: BaseClient, bucket: str):
    (bench.folder / ".env").write_text("VIBEDREAM_API_KEY=vdk-secret")
    (bench.folder.parent / "outside.jpg").write_bytes(jpeg(1))
    (shots / "link.jpg").symlink_to(shots / "cup.jpg")
    names = ["shots/cup.jpg", "shots/none.jpg", ".env", "../outside.jpg", "shots/link.jpg", "red cup"]
    done = await bench.deliver(sheet(bench, *names), destination=f"s3://{bucket}/c")
    assert done.statuses() == ["succeeded", *["invalid"] * 5]
    codes = ["", "image_unreachable", "image_unsupported", "invalid_row", "invalid_row", "invalid_row"]
    assert done.codes() == codes
    assert f"there is no file {shots}/none.jpg" in done.results[1].error
    assert "must begin with https://" in done.results[5].error
    assert len(objects(s3, bucket)) == 1
    assert [row["error_code"] for row in table(s3, bucket)] == codes
    assert sum(bench.posted().values()) == 1


async def test_an_upload_that_fails_costs_nothing_and_is_made_up_for(
    bench: Bench, shots: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    write = S3Destination.write

    def refuse(self: S3Destination, key: str, content: bytes, *about: Any) -> None:
        if content == jpeg(20):
            raise StorageError("S3 refused s3:PutObject.")
        write(self, key, content, *about)

    source = sheet(bench, "shots/cup.jpg", "shots/jug.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(S3Destination, "write", refuse)
        first = await bench.deliver(source, destination=f"s3://{bucket}/c")
    assert (first.statuses(), first.codes()) == (["succeeded", "skipped"], ["", "storage"])
    assert "S3 refused s3:PutObject" in first.results[1].error
    assert (first.results[1].image_sha256, first.results[1].image_input) == (sha(jpeg(20)), "")
    assert bench.charged() == {"prompt 0": 1}
    second = await bench.deliver(source, destination=f"s3://{bucket}/c")
    assert second.statuses() == ["succeeded", "succeeded"]


async def test_five_uploads_that_fail_in_a_row_stop_the_run(
    bench: Bench, shots: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    write = S3Destination.write

    def refuse(self: S3Destination, key: str, *content: Any) -> None:
        if key.startswith("inputs/"):
            raise StorageError("S3 refused s3:PutObject.")
        write(self, key, *content)

    for shade in range(40, 60):
        (shots / f"{shade}.jpg").write_bytes(jpeg(shade))
    monkeypatch.setattr(S3Destination, "write", refuse)
    done = await bench.deliver(sheet(bench, *[f"shots/{n}.jpg" for n in range(40, 60)]), destination=f"s3://{bucket}/c")
    assert set(done.codes()) == {"storage"}
    assert done.exit_code == 3
    assert not bench.posted()


async def test_a_run_that_stops_while_a_row_waits_for_its_picture_pays_for_nothing(
    bench: Bench, shots: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    """As a row does that waited for another run's claim first, and comes to its POST only then."""

    async def stopped_meanwhile(self: picture_uploads.PictureUploads, group: RowGroup) -> bool:
        self._stops.stop(ErrorCode.STORAGE, "S3 refused s3:PutObject.")
        return True

    monkeypatch.setattr(picture_uploads.PictureUploads, "ready", stopped_meanwhile)
    done = await bench.deliver(sheet(bench, "shots/cup.jpg"), destination=f"s3://{bucket}/c")
    assert (done.statuses(), done.codes(), done.exit_code) == (["skipped"], ["storage"], 3)
    assert not bench.posted()


async def test_a_file_that_changes_after_the_plan_is_not_uploaded(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    begin = picture_uploads.PictureUploads.begin

    def change(self: picture_uploads.PictureUploads) -> None:
        (shots / "jug.jpg").write_bytes(b"SECRET=1")
        begin(self)

    monkeypatch.setattr(picture_uploads.PictureUploads, "begin", change)
    done = await bench.deliver(sheet(bench, "shots/cup.jpg", "shots/jug.jpg"), destination=f"s3://{bucket}/c")
    assert done.statuses() == ["succeeded", "invalid"]
    assert "was changed after the plan" in done.results[1].error
    assert len(objects(s3, bucket)) == 1


async def test_what_replaced_an_uploaded_picture_is_not_sent_to_the_provider(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, sandbox: FaultySandbox
):
    """It has the picture's name and size; without a hash in its metadata, size is all that is known of it."""
    cup, other = jpeg(10), bytes(len(jpeg(10)))
    place, key = f"s3://{bucket}/c", f"c/inputs/{sha(cup)}.jpg"
    s3.put_object(Bucket=bucket, Key=key, Body=other, Metadata={"sha256": sha(other)})
    await bench.deliver(sheet(bench, "shots/cup.jpg"), destination=place)
    assert sha(await fetched(sandbox.charges()[0]["image"])) == sha(cup)
    stored = s3.head_object(Bucket=bucket, Key=key)
    assert stored["Metadata"] == {"sha256": sha(cup)}


async def test_a_place_that_the_provider_cannot_fetch_from_is_refused_before_any_upload(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    source = sheet(bench, "shots/cup.jpg")
    with pytest.raises(ConfigurationError, match=r"1 picture of the sheet is a file.*--to s3://bucket/prefix"):
        await bench.deliver(source)
    monkeypatch.setenv("VIBEDREAM_BASE_URL", "https://192.0.32.8")
    with pytest.raises(ConfigurationError, match=r"cannot fetch them from http://127\.0\.0\.1"):
        await bench.deliver(source, destination=f"s3://{bucket}/c", max_cost_usd=0.0)
    assert not objects(s3, bucket)


async def test_a_run_that_another_machine_continues_needs_no_files(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    options = Options(source=str(sheet(bench, "shots/cup.jpg", "red cup")), destination=f"s3://{bucket}/c")
    prepared = await preparation.prepare(options, settings.load())
    run = await start_run(prepared, flow_run_id=FLOW_RUN)
    async with run.session():
        await run.writer.begin(run.results())
        await run.uploads.finish()
    packed = shards._pack(run.context.manifest, run.to_do())
    run.close()
    prepared.close()
    shots.rename(bench.folder / "elsewhere")

    (group,) = shards._unpack(packed, settings.load()).groups.values()
    uri = f"s3://{bucket}/c/inputs/{sha(jpeg(10))}.jpg"
    assert (group.row.image, group.image_input) == (uri, uri)

    resumed = await asyncio.to_thread(resumed_preparation, FLOW_RUN, settings.load())
    assert resumed is not None
    again = await start_run(resumed, flow_run_id=FLOW_RUN)
    async with again.session():
        await walk(again)
    assert [result.status for result in again.results()] == ["succeeded", "invalid"]
    assert again.results()[0].image_input == uri
    assert "must begin with https://" in again.results()[1].error
    again.close()
    resumed.close()


async def test_many_files_are_uploaded_some_at_once_and_counted(
    bench: Bench, shots: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    going, most, sent = 0, 0, []
    lock = threading.Lock()

    def send(self: picture_uploads.PictureUploads, picture: PictureFile) -> None:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
        sent.append(picture.name)
        with lock:
            going -= 1

    content = jpeg(1)
    names = [f"shots/{n}.jpg" for n in range(300)]
    for n, name in enumerate(names):
        (bench.folder / name).write_bytes(content + str(n).encode())
    monkeypatch.setattr(picture_uploads.PictureUploads, "_send", send)
    options = Options(source=str(sheet(bench, *names)), destination=f"s3://{bucket}/c")
    prepared = await preparation.prepare(options, settings.load())
    assert any("300 pictures" in note for note in prepared.plan.notes)
    run = await start_run(prepared, flow_run_id=None)
    run.uploads.begin()
    await run.uploads.finish()
    assert (run.monitor.uploads, len(set(sent))) == ((300, 300), 300)
    assert most <= picture_uploads.UPLOADS_AT_ONCE
    assert all(group.image_input for group in run.to_do())
    await run.uploads.close()
    run.close()
    prepared.close()


@pytest.mark.parametrize(("cap_usd", "clips"), [(1.2, 2), (0.5, 0)])
async def test_only_pictures_that_the_cap_pays_for_are_uploaded(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, cap_usd: float, clips: int
):
    pictures = [jpeg(shade) for shade in range(40, 100, 10)]  # neighbouring shades can be one file
    assert len(set(pictures)) == 6
    for n, picture in enumerate(pictures):
        (shots / f"{n}.jpg").write_bytes(picture)
    source = sheet(bench, *[f"shots/{n}.jpg" for n in range(6)])
    done = await bench.deliver(source, destination=f"s3://{bucket}/c", max_cost_usd=cap_usd)
    assert done.statuses() == ["succeeded"] * clips + ["skipped"] * (6 - clips)
    assert set(done.codes()[clips:]) == {"over_budget"}
    assert done.exit_code == 4
    assert set(objects(s3, bucket)) == {f"{sha(picture)}.jpg" for picture in pictures[:clips]}
    assert done.run.monitor.uploads == (clips, clips)
    uploads = [note for note in done.run.plan.notes if "will be uploaded" in note]
    assert [note.split(" (")[0] for note in uploads] == ([f"{clips} pictures"] if clips else [])


async def test_money_that_a_refused_row_leaves_pays_for_the_next_picture(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, sandbox: FaultySandbox
):
    sandbox.fault("submit", prompt="prompt 0", answer={"status": 422, "body": {"error": "no"}})
    source = sheet(bench, "shots/cup.jpg", "shots/jug.jpg", "shots/mug.jpg")
    done = await bench.deliver(source, destination=f"s3://{bucket}/c", max_cost_usd=0.54)
    assert done.statuses() == ["failed", "succeeded", "skipped"]
    assert set(objects(s3, bucket)) == {f"{sha(jpeg(10))}.jpg", f"{sha(jpeg(20))}.jpg"}
    assert bench.charged() == {"prompt 1": 1}


async def test_a_daily_cap_that_is_used_up_uploads_nothing(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REELSHEET_DAILY_CAP_USD", "0.40")
    done = await bench.deliver(sheet(bench, "shots/cup.jpg"), destination=f"s3://{bucket}/c")
    assert (done.statuses(), done.codes(), done.exit_code) == (["skipped"], ["over_budget"], 4)
    assert "REELSHEET_DAILY_CAP_USD" in done.results[0].error
    assert not objects(s3, bucket)


def test_a_run_that_can_pay_for_nothing_starts_no_prefect(
    bench: Bench, shots: Path, s3: BaseClient, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(EmbeddedServer, "start", lambda _self: pytest.fail("Prefect's server was started."))
    source = str(sheet(bench, "shots/cup.jpg", "shots/jug.jpg"))
    words = ["run", source, "--to", f"s3://{bucket}/c", "--max-cost", "0.50", "--json"]
    assert call(words) == 4
    summary = json.loads(capsys.readouterr().out)
    assert (summary["skipped"], summary["cost_usd"]) == (2, 0)
    assert {row["error_code"] for row in table(s3, bucket)} == {"over_budget"}
    assert not objects(s3, bucket)


def test_a_run_with_paid_clips_to_store_asks_although_the_day_has_no_money_left(
    bench: Bench, shots: Path, bucket: str, sandbox: FaultySandbox, monkeypatch: pytest.MonkeyPatch
):
    """While it stores them, the next day may begin, or another run give money back."""
    place, asked = f"s3://{bucket}/c", []
    sandbox.fault("asset", prompt="prompt 0", answer={"status": 404}, times=-1)
    source = sheet(bench, "shots/cup.jpg", "shots/jug.jpg")
    first = asyncio.run(bench.deliver(source, destination=place, limit=1))
    assert first.statuses() == ["undelivered", "skipped"]

    async def is_usable(_self: object, *, has_work: bool) -> bool:
        return has_work

    monkeypatch.setenv("REELSHEET_DAILY_CAP_USD", "0.54")
    monkeypatch.setattr(execute._Prefect, "start", lambda _self: None)
    monkeypatch.setattr(execute._Prefect, "is_usable", is_usable)
    monkeypatch.setattr(execute, "_can_ask", lambda: True)
    monkeypatch.setattr(execute, "_agreed", asked.append)
    assert call(["run", str(source), "--to", place]) == 2
    assert asked == [54]
    assert bench.charged() == {"prompt 0": 1}
