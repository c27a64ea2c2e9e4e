"""The results as tables: `results.csv`, `failed.csv`, `manifest.csv`, and the sums of `summary.json`.

CSV here is UTF-8 without a byte order mark: with one, the first column would be called `\\ufeffimage` in every reader
that does not expect it. Records end in CRLF (RFC 4180), so that a lone CR or LF inside a cell is always quoted and
comes back as it was. Excel users have results.xlsx, which needs neither.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from reelsheet.manifest import prompt_sent
from reelsheet.manifest.rows import Manifest
from reelsheet.outcomes import RESULT_CELLS, RESULT_COLUMNS, ErrorCode, RowResult, Status, iso

if TYPE_CHECKING:
    import pandas as pd

_FORMULA_LEADS: Final = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the full-width forms start formulas too
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
# Excel where the list separator is a semicolon cuts there, and reads what follows as a cell of its own.
_AFTER_SEPARATOR: Final = re.compile(r"(;[\s\"]*)(?=[=+\-@＝＋－＠])")  # noqa: RUF001 - as above

ROWS_AT_ONCE: Final = 2_000
MONEY: Final = ("cost_usd", "total_cost_usd", "at_risk_usd")
NUMBERS: Final = ("attempt", "seconds", "video_bytes", "width", "height", "duration_s")
TIMES: Final = ("submitted_at", "completed_at")
# Only these may hold any text, and `prompt_sent`; the other columns hold words of ours, numbers and times.
FREE_TEXT: Final = (
    "error", "warnings", "video_uri", "more_video_uris", "prediction_id", "identity", "video_sha256", "run_id",
    "review", "image_sha256", "image_input",
)  # fmt: skip


def header(manifest: Manifest) -> list[str]:
    """The input's columns as they are, then the result columns."""
    return [*manifest.columns, *manifest.result_columns]


def results_frame(results: Sequence[RowResult]) -> "pd.DataFrame":
    """Results as a DataFrame of text: RESULT_COLUMNS in their order, a row for each result, no cell a formula."""
    import pandas as pd

    columns = {name: [cell(result) for result in results] for name, cell in RESULT_CELLS.items()}
    for name in FREE_TEXT:
        columns[name] = [text and inert(text) for text in columns[name]]
    columns["prompt_sent"] = [text and prompt_sent.to_cell(text) for text in columns["prompt_sent"]]
    return pd.DataFrame(columns, dtype=object)  # of str; dtype str costs a check of each cell and gains nothing here


def result_cells(results: Sequence[RowResult]) -> Iterator[tuple[str, ...]]:
    """The cells of `results_frame`, of so few rows at a time that they take little memory."""
    for start in range(0, len(results), ROWS_AT_ONCE):
        yield from _records(results_frame(results[start : start + ROWS_AT_ONCE]))


def results_csv(manifest: Manifest, results: Sequence[RowResult]) -> bytes:
    """Every input row in order, its cells unchanged, then its result; `results[i]` belongs to `rows[i]`."""
    _check_length(manifest, results)
    return _full_csv(manifest, manifest.table, results)


def failed_csv(manifest: Manifest, results: Sequence[RowResult]) -> bytes:
    """The rows that did not succeed, with the columns of results.csv: fix a cell and run it as it is."""
    _check_length(manifest, results)
    failed = [place for place, result in enumerate(results) if result.status is not Status.SUCCEEDED]
    return _full_csv(manifest, manifest.table.iloc[failed], [results[place] for place in failed])


def manifest_csv(manifest: Manifest) -> bytes:
    """The input alone, as it was read, so that a run can be rebuilt from its folder."""
    return records_csv(manifest.columns, manifest.records())


def results_only_csv(results: Sequence[RowResult]) -> bytes:
    """A table of RESULT_COLUMNS alone."""
    return records_csv(RESULT_COLUMNS, result_cells(results))


def records_csv(header: Iterable[str], records: Iterable[Sequence[str]]) -> bytes:
    """A table of these cells, as they are."""
    buffer = io.BytesIO()
    # a lone surrogate cannot have been read from a file; should one turn up, the table is still written
    with io.TextIOWrapper(buffer, "utf-8", errors="replace", newline="") as text:
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(header)
        writer.writerows(records)
        text.flush()
        return buffer.getvalue()


def unescaped(cell: str) -> str:
    """A cell of ours without blanks around it and without the `'` that `inert` put before a formula."""
    cell = cell.strip()
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA_LEADS) else cell


def inert(text: str) -> str:
    """`text` on one line, with `'` before whatever would make a spreadsheet calculate it.

    Only for cells that we add: an input cell is the user's, and stays as it was.
    """
    if not text.isprintable():
        text = _LONE_SURROGATE.sub("\ufffd", _UNPRINTABLE.sub(" ", text))
    text = text.strip()
    if ";" in text:
        text = _AFTER_SEPARATOR.sub(r"\1'", text)
    return f"'{text}" if text.startswith(_FORMULA_LEADS) else text


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in figures. Money in cents, `seconds` of wall time, times UTC-aware.

    `wasted_cents` is what this run paid for nothing: for predictions that failed, and for those that are lost for good.
    What is only undelivered is not wasted: a rerun still fetches it. What is at risk stands by itself.
    """

    run_id: str
    rows: int
    succeeded: int
    failed: int
    undelivered: int
    unknown: int
    skipped: int
    invalid: int
    reused: int
    cost_cents: int
    at_risk_cents: int
    wasted_cents: int
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float
    flow_run_id: str | None
    exit_code: int | None

    def as_json(self) -> dict[str, Any]:
        """The object of summary.json; money as numbers of US dollars with at most two decimals."""
        return {
            "run_id": self.run_id,
            "rows": self.rows,
            **{str(status): getattr(self, status) for status in Status},
            "reused": self.reused,
            "cost_usd": self.cost_cents / 100,
            "at_risk_usd": self.at_risk_cents / 100,
            "wasted_usd": self.wasted_cents / 100,
            "started_at": iso(self.started_at) or None,
            "finished_at": iso(self.finished_at) or None,
            "seconds": round(self.seconds, 1),
            "flow_run_id": self.flow_run_id,
            "exit_code": self.exit_code,
        }


def summarise(
    results: Sequence[RowResult],
    *,
    run_id: str,
    started_at: datetime | None,
    finished_at: datetime | None,
    seconds: float,
    flow_run_id: str | None,
    exit_code: int | None,
) -> Summary:
    """The sums over all rows; what is not known yet while a run is going is None."""
    count = Counter(result.status for result in results)
    return Summary(
        run_id=run_id,
        rows=len(results),
        **{str(status): count[status] for status in Status},
        reused=sum(result.reused for result in results),
        cost_cents=sum(result.cost_cents for result in results),
        at_risk_cents=sum(result.at_risk_cents for result in results),
        wasted_cents=sum(result.cost_cents for result in results if is_wasted(result)),
        started_at=started_at,
        finished_at=finished_at,
        seconds=seconds,
        flow_run_id=flow_run_id,
        exit_code=exit_code,
    )


def is_wasted(result: RowResult) -> bool:
    """True where what was paid for the row can never become a clip."""
    return result.status is Status.FAILED or result.error_code is ErrorCode.LOST


def _check_length(manifest: Manifest, results: Sequence[RowResult]) -> None:
    if len(manifest.rows) != len(results):
        raise ValueError(f"There are {len(manifest.rows)} rows, but {len(results)} results.")


def _full_csv(manifest: Manifest, table: "pd.DataFrame", results: Sequence[RowResult]) -> bytes:
    records = zip(_records(table), result_cells(results), strict=True)
    return records_csv(header(manifest), (own + added for own, added in records))


def _records(frame: "pd.DataFrame") -> Iterator[tuple[str, ...]]:
    # takes three quarters of the time of to_csv
    return zip(*(frame.iloc[:, place].tolist() for place in range(frame.shape[1])), strict=True)
