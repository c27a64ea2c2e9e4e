"""Tables at a destination: read whatever people and spreadsheets have done to them, and never paid for twice."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelsheet.ledger import Known, Ledger, State
from reelsheet.outcomes import RESULT_COLUMNS, RowResult, Status
from reelsheet.results import earlier
from reelsheet.results.table import results_only_csv
from reelsheet.storage.folder_destination import FolderDestination

A, B = "a" * 64, "b" * 64


def table(*rows, before=("image", "prompt"), names=RESULT_COLUMNS):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([*before, *names])
    for row in rows:
        writer.writerow([*("x" for _ in before), *(row.get(name, "") for name in RESULT_COLUMNS)])
    return out.getvalue().encode()


def paid(identity=A, status="succeeded", **more):
    return {
        "status": status, "identity": identity, "attempt": "1", "prediction_id": f"p-{identity[:4]}",
        "total_cost_usd": "0.54", "cost_usd": "0.54", "submitted_at": "2026-01-15T12:00:00Z", "run_id": "r-1",
    } | more  # fmt: skip


def import_table(ledger, content, place):
    return earlier.import_table(ledger, content, "results.csv", place)


@pytest.fixture
def place(tmp_path):
    return FolderDestination(tmp_path / "dest")


@pytest.fixture
def ledger(ledger_url):
    opened = Ledger.open(ledger_url)
    yield opened
    opened.close()


def test_a_table_tells_ids_verdicts_and_unknowns(ledger, place):
    video = place.uri("videos/a.mp4")
    rows = [
        paid(A, video_uri=video, video_bytes="10", video_sha256="0" * 64),
        paid(B, "unknown", prediction_id="", total_cost_usd="0.00", at_risk_usd="0.54"),
        paid("c" * 64, "failed", error_code="moderated", error="no"),
        paid("d" * 64, "undelivered", error_code="deadline"),
        paid("e" * 64, "failed", prediction_id="", total_cost_usd="0.00", error_code="rejected"),
        paid("f" * 64, "skipped", prediction_id="", total_cost_usd="0.00"),
    ]
    assert import_table(ledger, table(*rows), place) == 4
    found = {identity[0]: one.latest for identity, one in ledger.histories(row["identity"] for row in rows).items()}
    assert {name: one.state for name, one in found.items()} == {
        "a": State.COMPLETED, "b": State.UNKNOWN, "c": State.FAILED, "d": State.SUBMITTED,
    }  # fmt: skip
    assert (found["a"].paid_cents, found["b"].risk_cents, found["c"].error_code) == (54, 54, "moderated")
    assert ledger.history(A).delivered(place.address)[0].key == "videos/a.mp4"


def test_money_on_a_duplicates_row_is_not_counted_again(ledger, place):
    import_table(ledger, table(paid(A), paid(A, total_cost_usd="0.00")), place)
    assert ledger.history(A).total_cents == 54


def test_a_second_attempt_costs_what_it_adds(ledger, place):
    import_table(ledger, table(paid(A)), place)
    second = paid(A, attempt="2", prediction_id="p-2", total_cost_usd="1.14")
    import_table(ledger, table(second), place)
    assert [attempt.paid_cents for attempt in ledger.history(A).attempts] == [54, 60]


@pytest.mark.parametrize("prefix", ["reelsheet_", "REELSHEET_"])
def test_columns_that_had_to_be_called_otherwise_are_recognised(ledger, place, prefix):
    names = [f"{prefix}{name}" if name in {"status", "error"} else name for name in RESULT_COLUMNS]
    before = ("image", "status", "error")
    assert import_table(ledger, table(paid(A), before=before, names=names), place) == 1


@pytest.mark.parametrize("deleted", RESULT_COLUMNS)
def test_a_table_without_one_of_the_columns_still_tells(ledger, place, deleted):
    content = table(paid(A), paid(B, "unknown", prediction_id="", at_risk_usd="0.54"))
    lines = list(csv.reader(io.StringIO(content.decode(), newline="")))
    at = lines[0].index(deleted)
    out = io.StringIO(newline="")
    csv.writer(out).writerows([cells[:at] + cells[at + 1 :] for cells in lines])
    told = import_table(ledger, out.getvalue().encode(), place)
    if deleted not in {"identity", "prediction_id"}:
        assert told == 2
    assert [ledger.history(one) is not None for one in (A, B)] == {
        "identity": [False, False],
        "prediction_id": [False, True],
    }.get(deleted, [True, True])


def test_a_table_of_somebody_else_is_none(ledger, place):
    assert import_table(ledger, b"image,prompt,status,prediction_id\nx,y,succeeded,p-1\n", place) == 0
    assert import_table(ledger, b"", place) == 0
    assert import_table(ledger, b"\xff\xfe\x00garbage", place) == 0


def test_a_record_that_is_cut_short_is_read_as_far_as_it_goes(ledger, place):
    content = table(paid(A)).decode().splitlines()
    cut = "\n".join([content[0], content[1].rsplit(",", 8)[0]]).encode()
    assert import_table(ledger, cut, place) == 1


def test_the_sign_that_keeps_spreadsheets_from_calculating_is_taken_off(ledger, place):
    import_table(ledger, table(paid(A, prediction_id="'-odd-id")), place)
    assert ledger.history(A).latest.prediction_id == "-odd-id"


@pytest.mark.parametrize("prompt", ["a slow turn", "- turn\n- =fade; +light", "'=1", "two\r\nlines"])
def test_the_prompt_that_was_sent_comes_back_as_it_was(prompt):
    content = results_only_csv([RowResult(Status.SUCCEEDED, identity=A, prompt_sent=prompt)])
    assert earlier.read_cells(content, "results.csv")["prompt_sent"].tolist() == [prompt]


def test_a_spreadsheets_commas_for_points_are_understood(ledger, place):
    import_table(ledger, table(paid(A, total_cost_usd="0,60")), place)
    assert ledger.history(A).total_cents == 60


def test_a_clip_under_another_destination_is_no_delivery_here(ledger, place, tmp_path):
    import_table(ledger, table(paid(A, video_uri=str(tmp_path / "elsewhere" / "a.mp4"))), place)
    assert ledger.history(A).deliveries == ()


def test_an_id_that_was_kept_beside_the_ledger_is_read_like_a_table(ledger, place):
    key = f"runs/r-9/{earlier.RECOVERY}-{A[:16]}-1.csv"
    place.write(key, earlier.recovery_table(A, 1, "rescued", 60, "r-9"), "text/csv")
    assert earlier.import_from_destination(ledger, place) == 1
    latest = ledger.history(A).latest
    assert (latest.prediction_id, latest.state, latest.paid_cents) == ("rescued", State.SUBMITTED, 60)


def test_an_id_that_was_kept_of_a_later_attempt_costs_what_that_attempt_cost(ledger, place):
    import_table(ledger, table(paid(A)), place)
    before = ledger.history(A).total_cents
    key = f"runs/r-9/{earlier.RECOVERY}-{A[:16]}-2.csv"
    place.write(key, earlier.recovery_table(A, 2, "rescued", 60, "r-9"), "text/csv")
    assert earlier.import_from_destination(ledger, place) == 1
    assert ledger.history(A).latest.paid_cents == 60
    assert ledger.history(A).total_cents == before + 60


def test_what_another_ledger_paid_for_a_row_that_failed_here_counts_in_full(ledger, place):
    """Two ledgers, one destination, and both call it their first attempt."""
    made = paid(A, prediction_id="p-2", video_uri=place.uri("videos/a.mp4"))
    place.write("runs/1/results.csv", table(paid(A, "failed")), "text/csv")
    place.write("runs/2/results.csv", table(made), "text/csv")
    assert earlier.import_from_destination(ledger, place) == 2
    failed, made = ledger.history(A).attempts
    assert (failed.state, made.state, made.prediction_id) == (State.FAILED, State.COMPLETED, "p-2")
    assert made.paid_cents == failed.paid_cents > 0
    assert ledger.history(A).delivered(place.address)


def test_tables_are_read_from_the_oldest_and_only_while_they_may_change(ledger, place, monkeypatch):
    place.write("runs/1/results.csv", table(paid(A, "undelivered", error_code="deadline")), "text/csv")
    place.write("runs/2/results.csv", table(paid(A)), "text/csv")
    read: list[str] = []
    inner = FolderDestination.read

    def reading(self, key):
        read.append(key)
        return inner(self, key)

    monkeypatch.setattr(FolderDestination, "read", reading)
    earlier.import_from_destination(ledger, place)
    assert read == ["runs/1/results.csv", "runs/2/results.csv"]
    assert ledger.history(A).latest.state == State.COMPLETED
    earlier.import_from_destination(ledger, place)
    assert read[2:] == ["runs/1/results.csv"]  # a row of it was not at its end


ANYTHING = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["1e400", "-1", "NaN", "Infinity", "1e30", "99999999999999999999", "2026-99-99", "9999-12-31T23:59:59+14:00",
     "0001-01-01", "succeeded", "unknown", "failed", "undelivered", A, B, "p-1", "p-2", "'=1+1", "\0", "x" * 5000]
)  # fmt: skip


@given(rows=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(RESULT_COLUMNS, ANYTHING)), max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_table_is_read_or_left_out(ledger, place, rows):
    rows = [row | {"identity": A} if n % 2 else row for n, row in enumerate(rows)]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(RESULT_COLUMNS)
    writer.writerows([row.get(name, "") for name in RESULT_COLUMNS] for row in rows)
    import_table(ledger, out.getvalue().encode("utf-8", "replace"), place)
    ledger.histories([A, B])


def test_what_a_table_says_is_paid_is_never_claimed(ledger, place, registers):
    import_table(ledger, table(paid(A), paid(B, "unknown", prediction_id="")), place)
    registers(ledger, "r1")
    for identity in (A, B):
        assert isinstance(ledger.claim(identity, run_id="r1", price_cents=54), Known)


@pytest.mark.parametrize("name", ["<Image>", "<!-- the image -->", "GIF89a", "PK\3\4"])
def test_a_workbooks_column_names_do_not_hide_what_was_paid_for(ledger, place, name):
    assert import_table(ledger, table(paid(), before=(name, "image")), place) == 1


def test_a_workbook_of_the_most_columns_does_not_hide_what_was_paid_for(ledger, place):
    assert import_table(ledger, table(paid(), before=[f"c{n}" for n in range(16_384)]), place) == 1


def test_a_table_that_is_larger_than_a_manifest_may_be_is_read(ledger, place, monkeypatch):
    content = table(paid())
    monkeypatch.setattr("reelsheet.manifest.table.LIMIT", len(content) - 1)
    assert import_table(ledger, content, place) == 1
