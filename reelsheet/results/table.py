"""The results as tables: `results.csv`, `failed.csv`, `manifest.csv`, and the sums of `summary.json`.

CSV here is UTF-8 without a byte order mark: with one, the first column would be called `\\ufeffimage` in every reader
that does not expect it. Records end in CRLF (RFC 4180), so that a lone CR or LF inside a cell is always quoted and
comes back as it was. Excel users have results.xlsx, which needs neither.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from reelsheet.manifest.rows import Manifest
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, RowResult, Status, iso

_FORMULA_LEADS: Final = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the full-width forms start formulas too
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
# Excel where the list separator is a semicolon cuts there, and reads what follows as a cell of its own.
_AFTER_SEPARATOR: Final = re.compile(r"(;[\s\"]*)(?=[=+\-@＝＋－＠])")  # noqa: RUF001 - as above

# The others are words of ours, numbers or times, and begin with a letter or a digit by what they are.
_FREE_TEXT: Final = tuple(
    RESULT_COLUMNS.index(name)
    for name in (
        "error",
        "warnings",
        "video_uri",
        "more_video_uris",
        "prediction_id",
        "identity",
        "video_sha256",
        "run_id",
        "review",
    )
)


def header(manifest: Manifest) -> list[str]:
    """The input's columns as they are, then the result columns."""
    return [*manifest.columns, *manifest.result_columns]


def results_csv(manifest: Manifest, results: Sequence[RowResult]) -> bytes:
    """Every input row in order, its cells unchanged, then what became of it; `results[i]` belongs to `rows[i]`."""
    pairs = zip(manifest.records(), results, strict=True)
    return _csv(header(manifest), ((*cells, *added_cells(result)) for cells, result in pairs))


def failed_csv(manifest: Manifest, results: Sequence[RowResult]) -> bytes:
    """The rows that did not succeed, with the columns of results.csv: mend a cell and run it as it is."""
    pairs = zip(manifest.records(), results, strict=True)
    wanted = ((cells, result) for cells, result in pairs if result.status is not Status.SUCCEEDED)
    return _csv(header(manifest), ((*cells, *added_cells(result)) for cells, result in wanted))


def manifest_csv(manifest: Manifest) -> bytes:
    """The input alone, as it was read, so that a run can be rebuilt from its folder."""
    return _csv(manifest.columns, manifest.records())


def added_cells(result: RowResult) -> tuple[str, ...]:
    """The cells of RESULT_COLUMNS, none of which a spreadsheet takes for a formula."""
    cells = list(result.cells())
    for at in _FREE_TEXT:
        if cells[at]:
            cells[at] = inert(cells[at])
    return tuple(cells)


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


def _csv(columns: Sequence[str], records: Iterable[Sequence[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(records)
    # a lone surrogate cannot have been read from a file; should one turn up, the table is still written
    return buffer.getvalue().encode("utf-8", "replace")
