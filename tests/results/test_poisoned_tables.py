"""A destination's tables are read before a run spends: whatever stands in them is no crash, and no money."""

import csv
import io
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelsheet.ledger import Ledger
from reelsheet.outcomes import RESULT_COLUMNS, Status
from reelsheet.results import earlier
from reelsheet.storage.destination import open_destination

IDENTITY = "ab" * 32
ODD = ["", "0", "-1", "1e300", "9" * 400, "nan", "inf", "0x10", "=1+1", "'", "\0", "٣", "1,5", "true", "a\nb"]
TIMES = [
    *("", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30", "now", "2026-01-01T00:00:00Z"),
    *("0001-01-01", "1e9", "-1"),
]
cells = st.sampled_from(ODD) | st.text(max_size=20)
rows = st.fixed_dictionaries(
    {
        "identity": st.just(IDENTITY),
        "status": st.sampled_from([*Status, "", "odd"]),
        "attempt": cells | st.just("1"),
        "prediction_id": st.sampled_from(["p-1", "p-2", "../x", "a" * 300, ""]),
        "total_cost_usd": cells,
        "at_risk_usd": cells,
        "error_code": cells,
        "error": cells,
        "video_uri": st.sampled_from(["s3://x/y", "/etc/passwd", "../../x", "videos/a.mp4", ""]) | cells,
        "more_video_uris": cells,
        "submitted_at": st.sampled_from(TIMES) | cells,
        "completed_at": st.sampled_from(TIMES) | cells,
        "video_bytes": cells,
        "video_sha256": cells,
        "width": cells,
        "height": cells,
        "duration_s": cells,
        "run_id": cells,
    }
)


def table(records: list[dict[str, str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(RESULT_COLUMNS)
    writer.writerows([record.get(name, "") for name in RESULT_COLUMNS] for record in records)
    return out.getvalue().encode("utf-8", "replace")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows, min_size=1, max_size=3))
def test_no_table_keeps_a_run_from_beginning(tmp_path_factory, migrated, records):
    home = tmp_path_factory.mktemp("poisoned")
    shutil.copy(migrated, home / "ledger.db")
    ledger = Ledger.open(f"sqlite:///{home / 'ledger.db'}")
    try:
        earlier.import_table(ledger, table(records), "results.csv", open_destination(str(home)))
        assert all(day.confirmed_cents == 0 for day in ledger.days())  # others' money counts in no day of ours
        for history in ledger.histories([IDENTITY]).values():
            assert all(attempt.paid_cents >= 0 for attempt in history.attempts)
            assert all(not one.key.startswith(("/", "..")) for one in history.deliveries)
    finally:
        ledger.close()


@pytest.mark.parametrize("content", [b"", b"\0", b"a,b\n1", b"\xff\xfe", b'"' * 1000, b"status\n" * 10])
def test_what_is_no_table_tells_nothing(content):
    assert earlier.past_results(content, "results.csv") == []
