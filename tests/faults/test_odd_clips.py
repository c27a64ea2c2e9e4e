"""What is odd about a clip is said in the table, and still in a report of the run."""

import contextlib

from reelsheet import settings
from reelsheet.ledger import Ledger
from reelsheet.run.rebuild import load_run


async def test_a_clip_of_another_shape_than_its_picture_is_pointed_out_in_a_report_as_well(bench):
    sheet = bench.folder / "sheet.csv"
    sheet.write_text(f"image,prompt\n{bench.sandbox.pictures}/harbour-night.jpg,tilt down\n")
    done = await bench.deliver(sheet, preflight=True)
    (warning,) = done.results[0].warnings
    assert "has another shape than its picture" in warning
    assert warning in done.table()[0]["warnings"]
    current = settings.load()
    with contextlib.closing(Ledger.open(current.ledger_url)) as ledger:
        again = load_run(ledger.run(done.run.run_id), ledger, current)
        assert again.results()[0].warnings == (warning,)
        again.close()
