"""The sample manifest and pictures: what a newcomer sees first."""

import csv
from pathlib import Path

from PIL import Image

from reelsheet.sandbox import samples

DATA = Path(__file__).resolve().parents[2] / "data"


def test_the_manifest_in_data_is_the_one_that_the_code_writes():
    assert (DATA / "manifest.csv").read_text(encoding="utf-8") == samples.demo_manifest()


def test_the_demo_manifest_points_at_the_sandbox_it_is_given():
    rows = list(csv.DictReader(samples.demo_manifest("http://127.0.0.1:4711").splitlines()))
    assert 6 <= len(rows) <= 8
    assert all(row["image"].startswith("http://127.0.0.1:4711/pictures/") for row in rows)
    assert samples.demo_manifest("http://127.0.0.1:4711/pictures") == samples.demo_manifest("http://127.0.0.1:4711")


def test_two_sample_rows_ask_for_the_same_clip():
    asked = [(image, prompt) for _, image, prompt, _ in samples.ROWS]
    assert len(asked) - len(set(asked)) == 1


def test_every_sample_picture_is_there_large_enough_and_small_on_disk():
    files = [samples.picture(f"{name}.jpg") for _, name, _, _ in samples.ROWS]
    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "JPEG"
            assert min(picture.size) >= 1080
    assert sum(file.stat().st_size for file in set(files)) < 2 * 2**20
    assert {file.name for file in files} == {path.name for path in (DATA / "pictures").iterdir()}


def test_no_name_reaches_another_file():
    for name in ("../manifest.csv", "perfume-dusk", "PERFUME-DUSK.JPG", "", "a/../perfume-dusk.jpg"):
        assert samples.picture(name) is None
