"""How the sandbox is started, and how the stand-in provider behaves."""

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reelsheet.errors import UsageError

KEY: Final = "sandbox-key"
BUCKET: Final = "reelsheet-demo"
DAY_S: Final = 86_400
MOST: Final = 1_000_000  # of what is counted


class Behaviour(BaseModel):
    """Queueing, price and clips. `POST /sandbox/settings` changes any of these while it runs."""

    model_config = ConfigDict(extra="forbid", strict=True)  # text and true are no numbers

    latency: float = Field(
        6.0, ge=0, le=DAY_S, description="Seconds from acceptance to completion (the median, with a sigma)."
    )
    latency_sigma: float = Field(0.0, ge=0, le=3, description="Spread of a log-normal latency; 0 makes it constant.")
    capacity: int | None = Field(
        None, ge=0, le=MOST, description="Most predictions in flight; beyond it 429 with Retry-After."
    )
    per_minute: int | None = Field(
        None, ge=0, le=MOST, description="Submissions a minute, refilled evenly; beyond it 429."
    )
    burst: int = Field(1, ge=1, le=MOST, description="Most submissions at once, with a limit per minute.")
    fail_rate: float = Field(0.0, ge=0, le=1, description="Share of the predictions that end as failed.")
    cost_cents: int = Field(54, ge=0, le=MOST, description="What a prediction costs, in US cents.")
    clips: Literal["real", "tiny"] = Field(
        "real", description="Rendered from the row's picture, or one small MP4 for all."
    )
    clip_bytes: int = Field(400_000, ge=1, le=10**9, description="Size of a tiny clip.")

    @field_validator("*", mode="before")
    @classmethod
    def _as_json_counts(cls, value: object) -> object:
        """JSON has one kind of number: 5.0 is the whole number 5."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class Configuration(Behaviour):
    """All that a sandbox is started with. A port of 0 is a free one."""

    model_config = ConfigDict(extra="forbid", strict=False)  # a path may come as text

    port: int = Field(0, ge=0, le=65535)
    s3_port: int = Field(0, ge=0, le=65535)
    assets_port: int = Field(0, ge=0, le=65535)
    key: str = KEY
    bucket: str = BUCKET
    state: Path | None = None  # a folder: predictions and the API's port outlive the process
    cache: Path | None = None  # rendered clips; by default $XDG_CACHE_HOME/reelsheet
    seed: int = 0
    ends_with_stdin: bool = False

    def behaviour(self) -> Behaviour:
        """The part of it that can be changed later."""
        return Behaviour(**self.model_dump(include=set(Behaviour.model_fields)))


def configuration(**options: object) -> Configuration:
    """Raises UsageError that names the flag, where an option makes no sense."""
    try:
        return Configuration.model_validate(options)
    except ValidationError as error:
        problems = [f"--{'.'.join(map(str, item['loc'])).replace('_', '-')}: {item['msg']}" for item in error.errors()]
        raise UsageError("; ".join(problems)) from None
