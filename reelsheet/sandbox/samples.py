"""The sample manifest and its pictures, in a checkout as well as in an installed package."""

from pathlib import Path
from typing import Final

ADDRESS: Final = "http://127.0.0.1:8780"  # where `data/manifest.csv` expects the sandbox to serve its pictures
_CHECKOUT: Final = Path(__file__).resolve().parents[2] / "data"
DATA: Final = _CHECKOUT if _CHECKOUT.is_dir() else Path(__file__).resolve().parent / "data"


def demo_manifest(base_url: str = ADDRESS) -> str:
    """The sample manifest as CSV, its pictures on the sandbox at `base_url` (http://127.0.0.1:PORT)."""
    return (DATA / "manifest.csv").read_text(encoding="utf-8").replace(ADDRESS, base_url)


def starter_manifest() -> str:
    """The sample manifest as CSV, its pictures as files in a folder `pictures` beside it."""
    return demo_manifest().replace(f"{ADDRESS}/", "")


def pictures() -> list[Path]:
    """The files of the sample pictures."""
    return sorted((DATA / "pictures").glob("*.jpg"))


def picture(name: str) -> Path | None:
    """The file of a sample picture; None where there is none of that name (`perfume-dusk.jpg`)."""
    return next((path for path in pictures() if path.name == name), None)
