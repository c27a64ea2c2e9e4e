"""The sample manifest and its pictures, in a checkout as well as in an installed package."""

import csv
import io
from functools import cache
from pathlib import Path
from typing import Final

PORT: Final = 8780  # where `data/manifest.csv` expects the sandbox to serve its pictures
S3_PORT: Final = 8781
ASSETS_PORT: Final = 8782
ADDRESS: Final = f"http://127.0.0.1:{PORT}"
COLUMNS: Final = ("sku", "image", "prompt", "campaign")
ROWS: Final = (
    ("PRF-01", "perfume-dusk", "Slow push in on the bottle, the last light glowing in the glass", "Autumn launch"),
    ("MUG-07", "morning-mug", "Gentle tilt up, following the steam in the morning light", "Autumn launch"),
    ("CHR-12", "reading-corner", "Orbit around the armchair, warm lamplight", "Living room"),
    ("TRM-03", "tram-blue-hour", "Pan right along the tram, rain at the blue hour", "City cards"),
    ("BLN-05", "balloons-dawn", "Pull out slowly, more and more of the dunes at dawn", "Travel"),
    ("SKY-09", "harbour-night", "Tilt down from the moon to the water", "City cards"),
    ("ALP-02", "alpine-sunset", "A beautiful sunset over mountains with golden light", "Travel"),
    # The same picture and prompt once more: paid once, delivered twice.
    ("PRF-01-W", "perfume-dusk", "Slow push in on the bottle, the last light glowing in the glass", "Winter sale"),
)


def demo_manifest(base_url: str = ADDRESS) -> str:
    """The sample manifest as CSV, its pictures on the sandbox at `base_url` (http://127.0.0.1:PORT)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    base = base_url.rstrip("/").removesuffix("/pictures")
    for sku, name, prompt, campaign in ROWS:
        writer.writerow((sku, f"{base}/pictures/{name}.jpg", prompt, campaign))
    return text.getvalue()


def picture(name: str) -> Path | None:
    """The file of a sample picture; None where there is none of that name (`perfume-dusk.jpg`)."""
    if name.removesuffix(".jpg") not in {row[1] for row in ROWS} or not name.endswith(".jpg"):
        return None
    path = folder() / name
    return path if path.is_file() else None


@cache
def folder() -> Path:
    """Where the sample pictures are: in the checkout, in the package, or drawn once into the cache."""
    here = Path(__file__).resolve()
    for place in (here.parents[2] / "data" / "pictures", here.parent / "data" / "pictures"):
        if place.is_dir() and any(place.glob("*.jpg")):
            return place
    from reelsheet.sandbox import pictures
    from reelsheet.sandbox.clips import cache_home

    drawn = cache_home() / "pictures"
    if not all((drawn / f"{row[1]}.jpg").is_file() for row in ROWS):
        pictures.draw(drawn)
    return drawn
