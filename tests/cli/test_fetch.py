"""`fetch`: a run's clips, results and gallery on this machine; only what is missing, nothing outside the folder."""

import hashlib
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reelsheet.cli import call
from reelsheet.manifest.rows import parse
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.results.gallery import gallery_html
from reelsheet.results.table import results_csv, summarise
from reelsheet.storage.destination import open_destination

RUN, LATER = "20260115-120000-1f3a9c", "20260116-120000-2b0000"
SHEET = b"sku,image\r\nmug,https://shop.test/mug.jpg\r\ndress,https://shop.test/dress.jpg\r\nlamp,https://shop.test/l.jpg\r\n"
CLIPS = {"videos/mug.mp4": b"mug" * 1000, "videos/spring/dress 1.mp4": b"dress" * 900}
ENDS = datetime(2026, 11, 30, tzinfo=UTC)


def publish(address, run_id=RUN, clips=CLIPS, uris=None):
    """A run's files as a run leaves them there. `uris`: what the table says instead of the clips' addresses."""
    place = open_destination(address)
    manifest = parse(SHEET, "products.csv")
    results = [
        RowResult(Status.SUCCEEDED, video_uri=uri, video_sha256=hashlib.sha256(content).hexdigest(), run_id=run_id)
        for uri, content in zip(uris or map(place.uri, clips), clips.values(), strict=True)
    ]
    results += [RowResult(Status.FAILED, "No.", ErrorCode.REJECTED, run_id=run_id)] * (3 - len(results))
    for key, content in clips.items():
        if place.stat(key) is None:
            place.write(key, content, "video/mp4")
    table = results_csv(manifest, results)
    summary = summarise(
        results, run_id=run_id, started_at=None, finished_at=None, seconds=1.0, flow_run_id=None, exit_code=1
    )
    links = {n: f"https://bucket.test/{n}.mp4?X-Amz-Signature=1&b=2" for n in range(len(clips))}
    page = gallery_html(manifest, results, summary=summary, links=links, title="t", expires_at=ENDS)
    for key, content in {"results.csv": table, "gallery.html": page, "results.xlsx": b"book"}.items():
        place.write(f"runs/{run_id}/{key}", content, "text/plain")
    place.write("results.csv", table, "text/csv")
    return place


@pytest.fixture(params=["folder", "s3"])
def dest(request, tmp_path, monkeypatch):
    """The address of a destination with one run, of which no ledger knows; the working folder is another one."""
    address = (
        str(tmp_path / "spring") if request.param == "folder" else f"s3://{request.getfixturevalue('bucket')}/spring"
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    publish(address)
    return address


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def fetch(capsys, *words, code=0):
    assert call(["fetch", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def page_of(folder):
    return json.loads(re.search(r'id="data">(.*?)</script>', (folder / "gallery.html").read_text(), re.DOTALL)[1])


def test_the_latest_run_of_a_destination_comes_complete_and_its_gallery_plays_it(dest, capsys):
    done = fetch(capsys, dest)
    folder = Path("spring-clips").resolve()
    assert (done["run_id"], done["folder"], done["fetched"], done["missing"]) == (RUN, str(folder), 2, {})
    assert {key: (folder / key).read_bytes() for key in CLIPS} == CLIPS
    assert (folder / "results.csv").read_bytes() == open_destination(dest).read(f"runs/{RUN}/results.csv")
    assert (folder / "results.xlsx").read_bytes() == b"book"
    page = page_of(folder)
    assert [row.get("v") for row in page["rows"]] == ["videos/mug.mp4", "videos/spring/dress%201.mp4", None]
    assert page["expires"] is None
    assert "X-Amz" not in (folder / "gallery.html").read_text()
    assert "work until" not in (folder / "gallery.html").read_text()
    assert done["rows_without_clip"] == 1


def test_only_what_is_missing_or_differs_is_fetched_again(dest, capsys):
    fetch(capsys, dest, "out")
    assert fetch(capsys, dest, "out")["fetched"] == 0
    Path("out/videos/mug.mp4").write_bytes(b"gum" * 1000)  # of the same size
    Path("out/videos/spring/dress 1.mp4").unlink()
    done = fetch(capsys, f"{dest}/runs/{RUN}", "out")
    assert (done["fetched"], done["present"]) == (2, 0)
    assert Path("out/videos/mug.mp4").read_bytes() == CLIPS["videos/mug.mp4"]
    assert not list(Path("out").rglob("*.part"))


def test_a_table_that_a_person_changed_is_kept_and_the_new_one_stands_beside_it(dest, capsys):
    fetch(capsys, dest, "out")
    table = Path("out/results.csv")
    new = table.read_bytes()
    table.write_bytes(new + b"mine")
    assert call(["fetch", dest, "out"]) == 0
    printed = capsys.readouterr()
    beside = Path(f"out/results-{RUN}.csv")
    assert "was changed by a person" in printed.err
    assert beside.name in printed.err
    assert beside.name in printed.out
    assert (table.read_bytes(), beside.read_bytes()) == (new + b"mine", new)
    beside.write_bytes(b"this one as well")
    assert fetch(capsys, dest, "out")["kept"] == {"results.csv": f"results-{RUN}-2.csv"}
    assert (table.read_bytes(), beside.read_bytes()) == (new + b"mine", b"this one as well")


def test_the_last_line_says_how_to_open_the_gallery_whatever_went_wrong(dest, capsys, monkeypatch):
    fetch(capsys, dest, "out")
    Path("out/results.csv").write_bytes(b"mine")
    open_destination(dest).write("videos/mug.mp4", b"other", "video/mp4")
    monkeypatch.setattr("sys.stderr", sys.stdout)
    assert call(["fetch", dest, "out"]) == 1
    words = capsys.readouterr().out
    parts = "was changed by a person", "Not fetched:", "Clips ", "Results ", "Gallery "
    assert sorted(map(words.index, parts)) == [words.index(part) for part in parts]
    assert words.splitlines()[-1].startswith("Gallery ")


def test_a_table_that_nobody_changed_gives_way_to_that_of_a_later_run(dest, capsys):
    fetch(capsys, dest, "out")
    place = publish(dest, LATER)
    done = fetch(capsys, dest, "out")
    assert (done["run_id"], done["kept"], done["fetched"]) == (LATER, {}, 0)
    assert Path("out/results.csv").read_bytes() == place.read(f"runs/{LATER}/results.csv")


def test_a_clip_that_is_gone_or_damaged_is_named_and_the_rest_comes(dest, s3, tmp_path, capsys):
    place = open_destination(dest)
    place.write("videos/mug.mp4", b"other", "video/mp4")
    uri = place.uri("videos/mug.mp4")
    done = fetch(capsys, dest, "out", code=1)
    assert (list(done["missing"]), done["fetched"]) == ([uri], 1)
    assert not Path("out/videos/mug.mp4").exists()
    assert page_of(Path("out"))["rows"][0]["v"].startswith("https://bucket.test/")
    assert page_of(Path("out"))["expires"]
    if dest.startswith("s3"):
        s3.delete_object(Bucket=place.bucket, Key=place.full_key("videos/mug.mp4"))
    else:
        (tmp_path / "spring/videos/mug.mp4").unlink()
    assert "not there any more" in fetch(capsys, dest, "out", code=1)["missing"][uri]


@pytest.mark.parametrize(
    "uri",
    [
        "{dest}/videos/../../../evil.mp4",
        "{dest}/videos//etc/evil.mp4",
        "{dest}/../evil.mp4",
        "/etc/evil.mp4",
        "{dest}/results.csv",
        "{dest}/.reelsheet-fetch.json",
        "https://x.test/videos/..\\evil.mp4",
        "{dest}/videos/evil.html",
        "{dest}/videos/mug.mp4/run.desktop",
    ],
)
def test_nothing_is_written_outside_the_folder_whatever_the_table_says(here, tmp_path, uri, capsys):
    home = str(tmp_path / "home")
    publish(home, clips={"videos/mug.mp4": b"mug"}, uris=[uri.format(dest=home)])
    before = set(tmp_path.rglob("*"))
    assert len(fetch(capsys, home, "out", code=1)["missing"]) == 1
    added = {path.relative_to(here) for path in tmp_path.rglob("*") if path not in before}
    names = {"results.csv", "results.xlsx", "gallery.html", ".reelsheet-fetch.json"}
    assert added == {Path("out"), *(Path("out", name) for name in names)}


def test_nothing_is_written_through_a_link(dest, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.csv").write_bytes(b"mine")
    Path("out").mkdir()
    Path("out/videos").symlink_to(elsewhere)
    assert call(["fetch", dest, "out"]) == 2
    assert "is a link" in capsys.readouterr().err
    Path("out/videos").unlink()
    Path("out/results.csv").symlink_to(elsewhere / "mine.csv")
    assert "results.csv" in fetch(capsys, dest, "out")["kept"]
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == {"mine.csv": b"mine"}
    assert Path("out/results.csv").is_symlink()


def test_a_run_of_the_ledger_is_named_by_its_id_or_its_beginning(ledger, registers, tmp_path, capsys):
    home = str(tmp_path / "spring")
    publish(home)
    publish(home, LATER, clips={"videos/mug.mp4": CLIPS["videos/mug.mp4"]})
    registers(ledger, RUN, destination=home)
    assert fetch(capsys, RUN[:12], "out")["run_id"] == RUN
    assert call(["fetch", "20310101", "out"]) == 2
    assert "run's destination" in capsys.readouterr().err


def test_a_copy_of_a_destination_is_fetched_though_its_table_names_the_first_one(here, tmp_path, capsys):
    publish(str(tmp_path / "copy"), uris=[f"s3://gone/spring/{key}" for key in CLIPS])
    assert fetch(capsys, str(tmp_path / "copy"))["fetched"] == 2


def test_a_run_without_a_gallery_says_how_to_get_one(here, tmp_path, capsys):
    publish(str(tmp_path / "spring"))
    (tmp_path / f"spring/runs/{RUN}/gallery.html").unlink()
    assert call(["fetch", str(tmp_path / "spring")]) == 0
    assert f"reelsheet report {RUN}" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["<script>alert(1)</script>{}", "<!doctype html>{}", "{}<meta>"])
def test_a_page_that_somebody_else_wrote_is_not_put_on_this_machine(here, tmp_path, change, capsys):
    publish(str(tmp_path / "spring"))
    page = tmp_path / f"spring/runs/{RUN}/gallery.html"
    first, policy, rest = page.read_text().partition('<meta http-equiv="Content-Security-Policy"')
    page.write_text(change.format(first) + policy + rest)
    assert fetch(capsys, str(tmp_path / "spring"), "out")["gallery"] is None
    assert not (here / "out/gallery.html").exists()
    assert call(["fetch", str(tmp_path / "spring"), "out"]) == 0
    assert f"reelsheet report {RUN}" in capsys.readouterr().out


def test_a_page_with_another_policy_is_not_put_on_this_machine(here, tmp_path, capsys):
    publish(str(tmp_path / "spring"))
    page = tmp_path / f"spring/runs/{RUN}/gallery.html"
    page.write_text(page.read_text().replace("script-src &#39;", "script-src &#39;unsafe-inline&#39; &#39;", 1))
    assert "unsafe-inline" in page.read_text()
    assert fetch(capsys, str(tmp_path / "spring"), "out")["gallery"] is None


def test_wrong_places_are_a_sentence_and_cost_nothing(here, tmp_path, bucket, capsys):
    publish(str(tmp_path / "spring"))
    (here / "file").write_bytes(b"")
    for words, named in {
        (str(tmp_path / "nowhere"),): "no results of a run",
        (f"s3://{bucket}/nothing",): "no results of a run",
        (f"s3://no-{bucket}/x",): "bucket",
        (str(tmp_path / "spring"), "file"): "is a file",
        (str(tmp_path / "spring"), str(tmp_path / "spring/copy")): "destination itself",
        ("ftp://x.test/y",): "s3://bucket/prefix",
        (f"{tmp_path}/spring/runs/{LATER}",): f"reelsheet report {LATER}",
    }.items():
        assert call(["fetch", *words]) == 2
        assert named in capsys.readouterr().err
    assert {path.name for path in here.iterdir()} == {"file"}


def test_storage_that_goes_away_ends_the_fetch_and_the_same_command_goes_on(here, tmp_path, monkeypatch, capsys):
    from reelsheet.storage import folder_destination
    from reelsheet.storage.errors import StorageError

    home = str(tmp_path / "spring")
    publish(home)
    usual = folder_destination.FolderDestination.chunks

    def away(self, key):
        if key.endswith("mug.mp4"):
            raise StorageError("The network is away.", systemic=True)
        return usual(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(folder_destination.FolderDestination, "chunks", away)
        assert call(["fetch", home, "out"]) == 3
    assert "The network is away. What was fetched stays" in capsys.readouterr().err
    assert not list(Path("out").rglob("*.part"))
    assert fetch(capsys, home, "out")["present"] + 1 <= 2


def test_an_interrupt_leaves_no_unfinished_file(tmp_path):
    from reelsheet.storage.errors import StorageError
    from reelsheet.storage.local_copy import LocalCopy

    source = open_destination(str(tmp_path / "home"))
    copy = LocalCopy(tmp_path / "out")

    class Cut(type(source)):
        def chunks(self, key):
            yield b"half"
            assert list((tmp_path / "out/videos").iterdir())
            copy.abort()  # as from the handler of a signal
            yield b"of it"

    with pytest.raises(StorageError):
        copy.download(Cut(source.root), "videos/a.mp4", "videos/a.mp4", 9)
    assert not list((tmp_path / "out/videos").iterdir())
