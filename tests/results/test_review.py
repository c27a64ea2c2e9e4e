"""A gallery's review file, as it is downloaded and as programs and people leave it."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reelsheet.errors import ManifestError
from reelsheet.manifest import rows
from reelsheet.results import earlier
from reelsheet.results.review import NOTE, apply_review, read_review
from tests.planning.programs import workbook

RUN = "20260115-120000-abc123"
ONE, TWO = "1" * 64, "2" * 64
HEADER = "run_id,identity,attempt,review,note,destination"
FILE = f"{HEADER}\n{RUN},{ONE},1,ok,,s3://b/d\n{RUN},{TWO},2,redo,too dark; sky café,s3://b/d\n"
TABLE = (
    "sku,image,prompt,status,identity,attempt,video_uri,run_id,review\n"
    f"A,https://x.example/a.png,go,succeeded,{ONE},1,s3://b/d/videos/a.mp4,{RUN},\n"
    f'B,https://x.example/b.png,"=a,\nb",succeeded,{TWO},2,s3://b/d/videos/b.mp4,{RUN},\n'
    f"C,,x,invalid,,,,{RUN},\n"
).encode()


def read(text: str | bytes, **more):
    return read_review(text if isinstance(text, bytes) else text.encode(), "review.csv", **more)


def applied(text: str | bytes, table: bytes = TABLE):
    review = read(text)
    assert review is not None
    content, answers = apply_review(review, content=table, table="results.csv")
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""))), answers


def saved(change) -> bytes:
    cells = list(csv.reader(io.StringIO(FILE)))
    return change(cells)


def delimited(delimiter: str, encoding: str = "utf-8"):
    def change(cells):
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(cells)
        return out.getvalue().encode(encoding)

    return change


@pytest.mark.parametrize(
    "change",
    [
        delimited(","),
        delimited(";"),
        delimited("\t", "utf-16"),
        delimited(";", "cp1252"),
        delimited(",", "utf-8-sig"),
        workbook,
        lambda cells: delimited(";")([record[::-1] for record in cells]),
        lambda cells: delimited(",")([record[:5] for record in cells]),
        lambda cells: delimited(",")([[*record, "", "x"] for record in cells]),
        lambda cells: delimited(",")([[cell.replace("1", "1.0") if cell == "1" else cell for cell in r] for r in cells]),
        lambda cells: delimited(",")([[name.replace("_", " ").title() for name in cells[0]], *cells[1:]]),
        lambda cells: delimited(",")([*cells, [""] * 6]),
    ],
    ids=[
        "as-it-is", "semicolons", "utf-16-tabs", "cp1252", "mark", "workbook", "other-order", "no-destination",
        "more-columns", "decimals", "other-case", "blank-line",
    ],
)  # fmt: skip
def test_a_review_is_read_however_it_was_saved(change):
    rows_, answers = applied(saved(change))
    assert [row["review"] for row in rows_] == ["ok", "redo", ""]
    assert [row[NOTE] for row in rows_] == ["", "too dark; sky café", ""]
    assert answers == []


def test_the_table_keeps_every_row_and_cell():
    content, _ = apply_review(read(FILE), TABLE, "results.csv")
    before, after = rows.parse(TABLE, "a"), rows.parse(content, "b")
    assert [(r.image, r.prompt, r.id, r.line, r.problems) for r in before.rows] == [
        (r.image, r.prompt, r.id, r.line, r.problems) for r in after.rows
    ]
    assert after.columns == (*before.columns, NOTE)
    assert [one.identity for one in earlier.past_results(content, "b")] == [ONE, TWO]


def test_without_notes_there_is_no_column_for_them():
    rows_, _ = applied(FILE.replace("too dark; sky café", ""))
    assert NOTE not in rows_[0]


def test_a_later_note_takes_the_place_of_an_earlier_one_and_no_note_leaves_it():
    once, _ = apply_review(read(FILE), TABLE, "results.csv")
    rows_, _ = applied(FILE.replace(",ok,,", ",redo,=better,").replace("too dark; sky café", ""), once)
    assert [row[NOTE] for row in rows_] == ["'=better", "too dark; sky café", ""]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((TWO, "3" * 64), f"Line 3 of review.csv names no clip of run {RUN}"),
        ((TWO, ""), "names no clip of run"),
        ((TWO, "2.2E+63"), "names no clip of run"),
        ((",2,redo", ",1,redo"), "names attempt 1 of a clip that has attempt 2 in run"),
        ((",2,redo", ",99,redo"), "names attempt 99 of a clip that has attempt 2"),
        ((",2,redo", ",,redo"), "names no attempt of a clip that has attempt 2"),
        ((",2,redo", ",two,redo"), "names no attempt of a clip that has attempt 2"),
        ((f"{RUN},{TWO},2,redo", f"{RUN},{TWO},2,ok,\n{RUN},{TWO},2,redo"), "says something else of a clip"),
    ],
)
def test_what_the_run_does_not_have_is_answered_and_not_followed(change, said):
    rows_, answers = applied(FILE.replace(*change))
    assert [row["review"] for row in rows_] == ["ok", "", ""]
    assert len(answers) == 1
    assert said in answers[0]
    assert "not followed and pays nothing" in answers[0]


def test_many_lines_are_answered_in_one_sentence():
    lines = "".join(f"{RUN},{n:064x},1,redo,,\n" for n in range(40))
    _, answers = applied(f"{HEADER}\n{lines}")
    assert answers == [
        f"Line 2, 3, 4 and 37 more of review.csv names no clip of run {RUN}; it is not followed and pays nothing."
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace("attempt", "try"), "without the column 'attempt'"),
        (FILE.replace("identity", "hash"), "without the column 'identity'"),
        (FILE.replace("review", "Urteil"), "without the column 'review'"),
        (FILE.replace("run_id", "x"), "without the column 'run_id'"),
        (FILE.replace(f"{RUN},{TWO}", f"20260116-120000-abc123,{TWO}"), "several runs"),
        (f"{HEADER}\n", "names no run"),
        (f"{HEADER}\n,,,redo,,\n", "names no run"),
    ],
)
def test_a_review_that_cannot_be_used_says_why(text, said):
    with pytest.raises(ManifestError, match=said):
        read(text)


@pytest.mark.parametrize("text", [TABLE, b"image,prompt\nx,y\n", b"", b"\x89PNG\r\n\x1a\n", b"a,note,review\n1,2,3\n"])
def test_other_files_are_no_reviews(text):
    assert read(text) is None


def test_a_review_given_as_a_sheet_is_named():
    with pytest.raises(ManifestError, match="is a review file of a gallery, not a sheet: give it to `reelsheet retry`"):
        rows.parse(FILE.encode(), "review.csv")


@given(st.binary(max_size=60), st.integers(0, len(FILE)), st.integers(0, 20))
@example(b"\0", 5, 3)
@example(b'"', 60, 0)
@settings(max_examples=60)
def test_any_bytes_are_a_review_or_a_sentence(noise, at, cut):
    whole = FILE.encode()
    try:
        review = read(whole[:at] + noise + whole[at + cut :])
        if review is not None:
            content, _ = apply_review(review, TABLE, "results.csv")
            assert [row.position for row in rows.parse(content, "x").rows] == [0, 1, 2]
            assert [one.attempt for one in earlier.past_results(content, "x")] == [1, 2]
    except ManifestError as error:
        assert str(error).endswith(".")  # noqa: PT017 - most files are none
