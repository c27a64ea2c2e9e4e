"""A ledger and a folder as a finished run and a killed run leave them."""

import contextlib

import pytest

from reelsheet import settings
from reelsheet.ledger import Delivery, Ledger, Sheet
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import parse

RUN = "20260115-120000-1f3a9c"
SHEET = b"sku,image,prompt\r\nmug,https://shop.test/mug.jpg,turn\r\ndress,https://shop.test/dress.jpg,walk\r\nbad,,\r\n"
PROVIDER = {"base_url": "https://api.vibedream.ai", "model": "i2v-pro"}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """The ledger that the command line finds."""
    url = f"sqlite:///{tmp_path / 'books.db'}"
    monkeypatch.setenv("REELSHEET_LEDGER_URL", url)
    monkeypatch.chdir(tmp_path)
    opened = Ledger.open(url)
    yield opened
    opened.close()


@pytest.fixture
def opened_again(ledger, tmp_path):
    """Opens the same ledger as another owner."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Ledger.open(f"sqlite:///{tmp_path / 'books.db'}")))


@pytest.fixture
def home(tmp_path):
    """A destination's folder."""
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


@pytest.fixture
def ids():
    """identity of mug, dress."""
    return [identity_of(row, settings.Settings()) for row in parse(SHEET, "m.csv").rows if not row.problems]


@pytest.fixture
def ran(ledger, home, ids, registers):
    """A run that was killed: mug is stored, dress's answer was lost."""

    def run(run_id=RUN):
        rows = Sheet((2, 3, 4), ("mug", "dress", "bad"), (*ids, ""))
        registers(ledger, run_id, destination=str(home), options=PROVIDER, rows=3, sheet=rows, cap_cents=200)
        folder = home / "runs" / run_id
        folder.mkdir(parents=True)
        (folder / "manifest.csv").write_bytes(SHEET)
        return run_id

    run()
    mug, dress = (ledger.claim(identity, run_id=RUN, price_cents=54).attempt for identity in ids)
    mug = ledger.record_completed(ledger.record_id(mug, "pred-mug", 54), None)
    (home / "videos").mkdir()
    (home / "videos" / "mug.mp4").write_bytes(b"clip")
    ledger.record_deliveries(mug, [Delivery(1, str(home), 0, 1, "videos/mug.mp4", 4, "ab", 640, 360, 5.0)])
    ledger.record_unknown(dress, "The answer was lost.")
    return run


@pytest.fixture
def killed(ran, ledger, expires):
    """The same run, after its process has ended."""
    expires(ledger, ledger)
    ledger.lease.owner = type(ledger.lease.owner)("another", "", "", 1, "")  # this one only looks on
    ledger.heartbeat()
    return ran
