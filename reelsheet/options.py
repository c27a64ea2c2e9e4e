"""What can be asked of a run: one model, with bounds and a sentence for each, for the command line and for Prefect."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from reelsheet.redaction import clean_url

MaxCost = Annotated[
    float | None,
    Field(ge=0, le=1_000_000, description="The most that this run may spend, in US dollars; empty: the plan's total."),
]
Limit = Annotated[int | None, Field(ge=1, description="Only the first so many rows that need work; empty: all.")]
Concurrency = Annotated[
    int | None,
    Field(ge=1, le=10_000, description="A ceiling for predictions in flight; empty: as many as the account allows."),
]
Deadline = Annotated[
    float, Field(ge=0, le=86_400, description="Seconds to wait for one prediction before it is left for a later run.")
]
Fresh = Annotated[bool, Field(description="Pay again, once, for rows that were paid for before; old clips are kept.")]
RetryUnknown = Annotated[
    bool, Field(description="Submit rows again whose earlier answer was lost; they may then be charged twice.")
]
Preflight = Annotated[bool, Field(description="Look at every picture before anything is spent.")]
Sheet = Annotated[str | None, Field(description="The sheet of a workbook, by its name; empty: the first.")]
ImageColumn = Annotated[str | None, Field(description="The column that holds the pictures' addresses.")]
PromptColumn = Annotated[str | None, Field(description="The column that holds the prompts.")]
IdColumn = Annotated[str | None, Field(description="The column that names the rows for people.")]
Name = Annotated[
    str | None, Field(description="A template over the columns for the clips' names, such as {campaign}/{sku}.")
]
ShardSize = Annotated[
    int, Field(ge=1, le=10_000, description="Rows in one shard; a larger manifest is split into several.")
]
ApproveAbove = Annotated[
    float | None,
    Field(ge=0, description="Pause for a person's approval where the plan costs more US dollars; empty: never."),
]

DEADLINE_SECONDS = 1800.0
SHARD_SIZE = 2000


class Options(BaseModel):
    """A run's options. `source` is a manifest, or for `retry` a results file, a run or a destination."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: str = "run"
    source: str
    destination: str | None = None
    max_cost_usd: MaxCost = None
    limit: Limit = None
    concurrency: Concurrency = None
    deadline_seconds: Deadline = DEADLINE_SECONDS
    fresh: Fresh = False
    retry_unknown: RetryUnknown = False
    preflight: Preflight = True
    sheet: Sheet = None
    image_column: ImageColumn = None
    prompt_column: PromptColumn = None
    id_column: IdColumn = None
    name: Name = None
    shard_size: ShardSize = SHARD_SIZE
    approve_above_usd: ApproveAbove = None
    results: str | None = None

    def shown(self) -> "Options":
        """These options as they may be kept: a web address without its signature."""
        on_the_web = self.source.strip().lower().startswith(("http://", "https://"))
        return self.model_copy(update={"source": clean_url(self.source)}) if on_the_web else self

    def parameters(self) -> "Options":
        """What a flow is told of them, when the command line calls it: not where else the results go."""
        return self.shown().model_copy(update={"results": None})
