"""A review file of the gallery: which clips of a run a person found good, which are to be made again, and notes.

It is no manifest. Its words and notes are put into the results table of the run that it names, and that table is read
as if the person had written into it. A word counts for the identity and the attempt that its line names, and for no
other, so that no change to the file can order more than a redo in the table itself.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reelsheet.errors import ManifestError
from reelsheet.manifest import columns
from reelsheet.manifest import table as tables
from reelsheet.manifest.earlier import attempt_of
from reelsheet.redaction import clean
from reelsheet.results.table import inert, records_csv, unescaped
from reelsheet.words import listed

NOTE: Final = "review_note"  # the input column that carries notes on
NEEDED: Final = ("run_id", "identity", "attempt", "review")
SHOWN: Final = 3  # lines that an answer names


@dataclass(frozen=True, slots=True)
class Mark:
    """What a line of the file says of one clip: of this attempt (None: it was never attempted) of this identity."""

    line: int
    identity: str
    attempt: int | None
    review: str
    note: str


@dataclass(frozen=True, slots=True)
class Review:
    """`name` stands for the file in messages; `destination` is where it says that the run's clips are, or ""."""

    name: str
    run_id: str
    destination: str
    marks: tuple[Mark, ...]


def read_review(content: bytes, name: str, *, sheet: str | None = None, encoding: str | None = None) -> Review | None:
    """The review that a file holds; None where it is something else. Raises ManifestError where it cannot be used."""
    try:
        raw = tables.read(content, name, accepts=columns.is_review, sheet=sheet, encoding=encoding)
    except ManifestError:
        return None  # whoever reads it as a results table says what is wrong with it
    if not columns.is_review(raw.header):
        return None
    places = columns.review_places(raw.header)
    if missing := [column for column in NEEDED if column not in places]:
        raise ManifestError(
            f"{name} is a review file without the column {' and '.join(map(repr, missing))}, so reelsheet cannot tell "
            "which clips it means; download the review from the gallery again."
        )
    lines = [(line, {column: _cell(cells, place) for column, place in places.items()}) for line, cells in raw.records]
    run_ids = list(dict.fromkeys(cells["run_id"] for _, cells in lines if cells["run_id"]))
    if len(run_ids) != 1:
        raise ManifestError(
            f"{name} is a review file of several runs ({', '.join(clean(one, limit=40) for one in run_ids[:SHOWN])}); "
            "give the review of each run by itself."
            if run_ids
            else f"{name} is a review file that names no run; mark a clip in the gallery and download the review again."
        )
    destination = next((cells["destination"] for _, cells in lines if cells.get("destination")), "")
    return Review(name, run_ids[0], destination, tuple(_mark(line, cells) for line, cells in lines))


def apply_review(review: Review, content: bytes, table: str) -> tuple[bytes, list[str]]:
    """The results table `content` with the review in it, as CSV, and sentences on what is not followed.

    `table` stands for it in messages. Every row stays. Notes are in the column `review_note`. Raises ManifestError.
    """
    raw = tables.read(content, table, accepts=lambda header: bool(columns.result_block(header)))
    block = columns.result_block(raw.header, raw.records)
    if not {"identity", "attempt"} <= block.keys():
        raise ManifestError(
            f"{table} is not the results table of run {review.run_id}, so the review cannot be applied."
        )
    header = list(raw.header)
    review_at = block["review"] if "review" in block else _place_of("review", header)
    note_at = _place_of(NOTE, header) if any(mark.note for mark in review.marks) else -1
    records = [[*cells, *[""] * (len(header) - len(cells))] for _, cells in raw.records]
    places: dict[str, list[list[str]]] = defaultdict(list)
    for cells in records:
        places[unescaped(cells[block["identity"]])].append(cells)
    answers: dict[str, list[int]] = defaultdict(list)  # why lines are not followed, and which
    for mark in _agreed(review.marks, answers):
        rows = places.get(mark.identity, []) if mark.identity else []
        fitting = [cells for cells in rows if attempt_of(unescaped(cells[block["attempt"]])) == mark.attempt]
        if not rows:
            answers[f"names no clip of run {review.run_id}"].append(mark.line)
        elif not fitting:
            answers[_other_attempt(mark, rows[0][block["attempt"]], review.run_id)].append(mark.line)
        for cells in fitting:
            if mark.review:
                cells[review_at] = inert(mark.review)
            if mark.note:
                cells[note_at] = inert(mark.note)
    return records_csv(header, records), [
        f"Line {listed(list(map(str, lines)), SHOWN)} of {review.name} {why}; it is not followed and pays nothing."
        for why, lines in answers.items()
    ]


def _agreed(marks: Sequence[Mark], answers: dict[str, list[int]]) -> Iterator[Mark]:
    """The marks that say something, one for each clip; where two say different words, neither."""
    by_clip: Mapping[tuple[str, int | None], list[Mark]] = defaultdict(list)
    for mark in marks:
        if mark.review or mark.note:
            by_clip[mark.identity, mark.attempt].append(mark)
    for same in by_clip.values():
        words = {mark.review.casefold() for mark in same}
        if len(words) == 1:
            yield same[-1]
        else:
            answers["says something else of a clip than another line"] += [mark.line for mark in same]


def _other_attempt(mark: Mark, has: str, run_id: str) -> str:
    named = "no attempt" if mark.attempt is None else f"attempt {mark.attempt}"
    latest = f"attempt {clean(unescaped(has), limit=20)}" if unescaped(has) else "none"
    return f"names {named} of a clip that has {latest} in run {run_id}"


def _place_of(name: str, header: list[str]) -> int:
    """Where the column is; it is added at the end where it is missing."""
    if name not in header:
        header.append(name)
    return header.index(name)


def _mark(line: int, cells: Mapping[str, str]) -> Mark:
    attempt, note = attempt_of(cells["attempt"]), cells.get("note", "")
    return Mark(line, cells["identity"].casefold(), attempt, cells["review"], note)


def _cell(cells: Sequence[str], place: int) -> str:
    return unescaped(cells[place]) if place < len(cells) else ""
