"""How the stand-in behaves: every field can be changed while it runs."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reelsheet.money import quoted_cents


class Behaviour(BaseModel):
    """Queueing, prices and clips. `POST /sandbox/settings` takes any of these fields."""

    model_config = ConfigDict(extra="forbid")

    latency: float = Field(6.0, ge=0, description="Seconds from acceptance to completion (the median, with a sigma).")
    latency_sigma: float = Field(0.0, ge=0, le=3, description="Spread of a log-normal latency; 0 makes it constant.")
    capacity: int | None = Field(None, ge=0, description="Most predictions in flight; beyond it 429 with Retry-After.")
    per_minute: int | None = Field(None, ge=0, description="Most accepted submissions in any 60 s; beyond it 429.")
    retry_after: float | None = Field(
        None, ge=0, description="A fixed Retry-After in seconds instead of a computed one."
    )
    fail_rate: float = Field(0.0, ge=0, le=1, description="Share of the predictions that end as failed.")
    cost_cents: Any = Field(54, description="What `costCents` says; any JSON value, to try what clients make of it.")
    clips: Literal["real", "tiny"] = Field(
        "real", description="Rendered from the row's picture, or one small MP4 for all."
    )
    clip_bytes: int | None = Field(None, ge=1, description="Size of a tiny clip, by default about 400 kB.")
    distinct: bool = Field(
        default=True, description="A tiny clip carries its prediction's id, so that no two are equal."
    )


class Changes(Behaviour):
    """Any of these fields; what is not given stays as it is."""

    model_config = ConfigDict(json_schema_extra={"example": {"latency": 2.5, "capacity": 8}})


PRICE_CENTS = 54


def charged_cents(quote: Any) -> int:
    """What the books charge for a quote: its own number of cents, or the price where the quote says nothing usable."""
    cents = quoted_cents(quote)
    return PRICE_CENTS if cents is None else cents
