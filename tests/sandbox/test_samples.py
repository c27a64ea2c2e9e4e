"""The sample manifest and pictures: what a newcomer sees first."""

import csv

from PIL import Image

from reelsheet.sandbox import samples


def rows(*base: str) -> list[dict[str, str]]:
    return list(csv.DictReader(samples.demo_manifest(*base).splitlines()))


def test_the_demo_manifest_points_at_the_sandbox_it_is_given():
    assert 6 <= len(rows()) <= 8
    assert all(row["image"].startswith("http://127.0.0.1:4711/pictures/") for row in rows("http://127.0.0.1:4711"))


def test_two_sample_rows_ask_for_the_same_clip():
    asked = [(row["image"], row["prompt"]) for row in rows()]
    assert len(asked) - len(set(asked)) == 1


def test_every_sample_picture_is_there_large_enough_and_small_on_disk():
    files = {samples.picture(row["image"].rpartition("/")[2]) for row in rows()}
    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "JPEG"
            assert min(picture.size) >= 1080
    assert sum(file.stat().st_size for file in files) < 2 * 2**20
    assert files == set((samples.DATA / "pictures").iterdir())


def test_no_name_reaches_another_file():
    for name in ("../manifest.csv", "perfume-dusk", "PERFUME-DUSK.JPG", "", "a/../perfume-dusk.jpg"):
        assert samples.picture(name) is None
