#!/usr/bin/env python3
"""Draw the sample pictures of data/ anew, and write the sample manifest beside them."""

from pathlib import Path

from reelsheet.sandbox import pictures, samples

DATA = Path(__file__).resolve().parents[1] / "data"

for path in pictures.draw(DATA / "pictures"):
    print(f"{path.stat().st_size:>9,}  {path.relative_to(DATA.parent)}")
(DATA / "manifest.csv").write_text(samples.demo_manifest(), encoding="utf-8")
