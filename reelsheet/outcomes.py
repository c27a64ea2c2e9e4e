"""What a run can say of a row: its status, its error code, and its cells in the results.

A result column is added in RESULT_CELLS, and described in docs/results.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from reelsheet.money import usd


class Status(StrEnum):
    """The status of a row; MEANINGS says what each means."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNDELIVERED = "undelivered"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    INVALID = "invalid"


MEANINGS: Final[Mapping[Status, str]] = {
    Status.SUCCEEDED: "the clip is stored",
    Status.FAILED: "the provider refused it or could not make it",
    Status.UNDELIVERED: "paid, no complete clip stored yet; a rerun continues at no cost",
    Status.UNKNOWN: "may have been charged: no answer came",
    Status.SKIPPED: "not attempted in this run",
    Status.INVALID: "the row itself must be fixed; it cost nothing",
}


class ErrorCode(StrEnum):
    """Why a row did not succeed; stable across versions."""

    INVALID_ROW = "invalid_row"
    IMAGE_UNREACHABLE = "image_unreachable"
    IMAGE_UNSUPPORTED = "image_unsupported"
    REJECTED = "rejected"
    MODERATED = "moderated"
    GENERATION_FAILED = "generation_failed"
    SUBMIT_UNKNOWN = "submit_unknown"
    DEADLINE = "deadline"
    NO_OUTPUT = "no_output"
    ASSET_UNAVAILABLE = "asset_unavailable"
    ASSET_CORRUPT = "asset_corrupt"
    STORAGE = "storage"
    LOST = "lost"
    AUTH = "auth"
    NO_BALANCE = "no_balance"
    RATE_LIMITED = "rate_limited"
    PROVIDER_DOWN = "provider_down"
    OVER_BUDGET = "over_budget"
    OVER_LIMIT = "over_limit"
    INTERRUPTED = "interrupted"
    HIDDEN = "hidden"
    NOT_CHOSEN = "not_chosen"


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def iso(moment: datetime | None) -> str:
    """UTC-aware time → "2026-01-15T12:00:00Z"; None → ""."""
    if moment is None:
        return ""
    day = f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}"
    return f"{day}T{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d}Z"


@dataclass(slots=True)
class RowResult:
    """One row's line in the results. Money in cents, times UTC-aware, `seconds` from submission to completion."""

    status: Status
    error: str = ""
    error_code: ErrorCode | None = None
    warnings: tuple[str, ...] = ()
    cost_cents: int = 0
    total_cost_cents: int = 0
    at_risk_cents: int = 0
    video_uri: str = ""
    more_video_uris: tuple[str, ...] = ()
    prediction_id: str = ""
    attempt: int | None = None
    reused: bool = False
    identity: str = ""
    submitted_at: datetime | None = None
    completed_at: datetime | None = None
    video_bytes: int | None = None
    video_sha256: str = ""
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    run_id: str = ""
    review: str = ""
    prompt_sent: str = ""
    image_sha256: str = ""
    image_input: str = ""

    @property
    def seconds(self) -> float | None:
        """From submission to completion; never negative, though the provider's clock may be behind ours."""
        if not (self.completed_at and self.submitted_at):
            return None
        return max(0.0, (self.completed_at - self.submitted_at).total_seconds())


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _rounded(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


# Result column → its cell as text, before any escaping for spreadsheets. The order is that of results.csv.
RESULT_CELLS: Final[Mapping[str, Callable[[RowResult], str]]] = {
    "status": lambda result: result.status.value,
    "error": lambda result: result.error,
    "error_code": lambda result: result.error_code.value if result.error_code else "",
    "warnings": lambda result: " ".join(result.warnings),
    "cost_usd": lambda result: usd(result.cost_cents),
    "total_cost_usd": lambda result: usd(result.total_cost_cents),
    "at_risk_usd": lambda result: usd(result.at_risk_cents),
    "video_uri": lambda result: result.video_uri,
    "more_video_uris": lambda result: " ".join(result.more_video_uris),
    "prediction_id": lambda result: result.prediction_id,
    "attempt": lambda result: _text(result.attempt),
    "reused": lambda result: "true" if result.reused else "false",
    "identity": lambda result: result.identity,
    "submitted_at": lambda result: iso(result.submitted_at),
    "completed_at": lambda result: iso(result.completed_at),
    "seconds": lambda result: _rounded(result.seconds, 1),
    "video_bytes": lambda result: _text(result.video_bytes),
    "video_sha256": lambda result: result.video_sha256,
    "width": lambda result: _text(result.width),
    "height": lambda result: _text(result.height),
    "duration_s": lambda result: _rounded(result.duration_s, 2),
    "run_id": lambda result: result.run_id,
    "review": lambda result: result.review,
    "prompt_sent": lambda result: result.prompt_sent,
    "image_sha256": lambda result: result.image_sha256,
    "image_input": lambda result: result.image_input,
}
RESULT_COLUMNS: Final[tuple[str, ...]] = tuple(RESULT_CELLS)

CLIP: Final = "clip"  # a column of links that say PLAY, in the workbook only
PLAY: Final = "Play"
SEEN_COLUMNS: Final = ("status", "review", CLIP, "error", "warnings", "prompt_sent", "cost_usd", "at_risk_usd")
# The order in the workbook: first what a person looks at, then what is folded away.
WORKBOOK_COLUMNS: Final = (*SEEN_COLUMNS, *(name for name in RESULT_COLUMNS if name not in SEEN_COLUMNS))
