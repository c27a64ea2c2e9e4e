"""What can be said of a row: its status, its error code, and its line in the results.

The order of `RESULT_COLUMNS` is the order in results.csv; CONTRACT of the columns is docs/results.md.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from reelsheet.money import usd


class Status(StrEnum):
    """Where a row stands."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the provider refused or failed it
    UNDELIVERED = "undelivered"  # paid, no whole clip stored yet; a rerun goes on at no cost
    UNKNOWN = "unknown"  # maybe paid
    SKIPPED = "skipped"  # not attempted: cap, limit, stop
    INVALID = "invalid"  # a bad row


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


RESULT_COLUMNS: tuple[str, ...] = (
    "status",
    "error",
    "error_code",
    "warnings",
    "cost_usd",
    "total_cost_usd",
    "at_risk_usd",
    "video_uri",
    "more_video_uris",
    "prediction_id",
    "attempt",
    "reused",
    "identity",
    "submitted_at",
    "completed_at",
    "seconds",
    "video_bytes",
    "video_sha256",
    "width",
    "height",
    "duration_s",
    "run_id",
    "review",
)


def iso(moment: datetime | None) -> str:
    """UTC-aware time → "2026-01-15T12:00:00Z"; None → ""."""
    return "" if moment is None else f"{moment.isoformat()[:19]}Z"


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
    review: str = field(default="")

    @property
    def seconds(self) -> float | None:
        """From submission to completion; never less than nothing, though the provider's clock may go after ours."""
        if not (self.completed_at and self.submitted_at):
            return None
        return max(0.0, (self.completed_at - self.submitted_at).total_seconds())

    def cells(self) -> tuple[str, ...]:
        """The cells of RESULT_COLUMNS, as text, before any escaping for spreadsheets."""
        return (
            str(self.status),
            self.error,
            str(self.error_code or ""),
            " ".join(self.warnings),
            usd(self.cost_cents),
            usd(self.total_cost_cents),
            usd(self.at_risk_cents),
            self.video_uri,
            " ".join(self.more_video_uris),
            self.prediction_id,
            "" if self.attempt is None else str(self.attempt),
            "true" if self.reused else "false",
            self.identity,
            iso(self.submitted_at),
            iso(self.completed_at),
            "" if self.seconds is None else f"{self.seconds:.1f}",
            "" if self.video_bytes is None else str(self.video_bytes),
            self.video_sha256,
            "" if self.width is None else str(self.width),
            "" if self.height is None else str(self.height),
            "" if self.duration_s is None else f"{self.duration_s:.2f}",
            self.run_id,
            self.review,
        )
