"""A run of more rows than one gallery or workbook should hold: the files are those of its parts."""

import json
import re
from io import BytesIO

import openpyxl
import pytest

from reelsheet.images import thumbnails
from reelsheet.manifest.rows import parse
from reelsheet.outcomes import RowResult, Status
from reelsheet.results import parts
from reelsheet.results.publication import ResultsWriter
from reelsheet.results.run_copy import RunCopy, run_table
from reelsheet.results.table import summarise
from reelsheet.storage.destination import open_destination
from reelsheet.storage.local_copy import LocalCopy

RUN = "20260115-120000-1f3a9c"
ROWS = 5


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", 2)


@pytest.fixture(params=["folder", "s3"])
async def published(request, tmp_path):
    """The destination of a run of five rows."""
    address = str(tmp_path / "to") if request.param == "folder" else f"s3://{request.getfixturevalue('bucket')}/to"
    return await publish(open_destination(address))


async def publish(place):
    lines = [f"row {n},https://shop.test/{n}.jpg" for n in range(ROWS)]
    manifest = parse("\n".join(["sku,image", *lines]).encode(), "products.csv")
    results = []
    for n in range(ROWS):
        place.write(f"videos/{n}.mp4", b"clip", "video/mp4")
        results.append(RowResult(Status.SUCCEEDED, video_uri=place.uri(f"videos/{n}.mp4"), run_id=RUN, identity=str(n)))
    summary = summarise(
        results, run_id=RUN, started_at=None, finished_at=None, seconds=1.0, flow_run_id=None, exit_code=0
    )

    async def in_thread(function, *arguments):
        return function(*arguments)

    writer = ResultsWriter(
        RUN, manifest, place, ledger=None, album=thumbnails.album_of((), allow_private=False), in_thread=in_thread
    )
    await writer.finish_tables(results, is_complete=False)
    await writer.finish_pages(results, summary)
    return place


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.decode(), re.DOTALL)[1])


def names(page):
    return [row["n"] for row in data_of(page)["rows"]]


def gallery(place, number):
    return place.read(f"runs/{RUN}/{parts.part_name('gallery.html', number)}")


async def test_each_row_is_in_one_gallery_and_one_workbook(published):
    assert [names(gallery(published, number)) for number in (1, 2, 3)] == [
        ["row 0", "row 1"],
        ["row 2", "row 3"],
        ["row 4"],
    ]
    books = [published.read(f"runs/{RUN}/results{number}.xlsx") for number in ("", "-2", "-3")]
    sheets = [openpyxl.load_workbook(BytesIO(book))["Results"] for book in books]
    assert [[cell.value for cell in sheet["A"][1:]] for sheet in sheets] == [
        ["row 0", "row 1"],
        ["row 2", "row 3"],
        ["row 4"],
    ]
    assert published.read(f"runs/{RUN}/gallery-4.html") is None


async def test_every_page_leads_to_the_others_and_plays_its_own_rows(published):
    pages = [gallery(published, number).decode() for number in (1, 2, 3)]
    for number, page in enumerate(pages, 1):
        links = dict(re.findall(r'<a href="(gallery[^"]*)" data-link="([^"]*)">', page))
        assert set(links) == {parts.part_name("gallery.html", other) for other in {1, 2, 3} - {number}}
        assert all(link.startswith("http") for link in links.values()) == published.address.startswith("s3:")
    assert data_of(gallery(published, 2))["rows"][1]["f"] == "../../videos/3.mp4"


async def test_marks_of_one_page_are_kept_apart_from_those_of_another(published):
    assert [data_of(gallery(published, number))["part"] for number in (1, 2, 3)] == [1, 2, 3]


async def test_a_fetched_run_has_every_part_and_each_plays_the_clips_here(published, tmp_path):
    copied = RunCopy(published, run_table(published, RUN), LocalCopy(tmp_path / "here")).copy()
    assert {"gallery.html", "gallery-2.html", "gallery-3.html", "results-3.xlsx"} <= set(copied.files)
    third = (tmp_path / "here" / "gallery-3.html").read_bytes()
    assert [row["v"] for row in data_of(third)["rows"]] == ["videos/4.mp4"]


async def test_a_run_that_fits_into_one_part_has_the_usual_files_and_no_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", ROWS)
    place = await publish(open_destination(str(tmp_path / "to")))
    assert b'class="pages"' not in gallery(place, 1)
    assert sorted(key for key in place.listing("runs/") if "gallery" in key or "xlsx" in key) == [
        f"runs/{RUN}/gallery.html",
        f"runs/{RUN}/results.xlsx",
    ]
