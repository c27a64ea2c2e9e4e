"""Events that automations and other flows wait for. A lost event never ends a run."""

import logging
from typing import Any

from prefect.events import emit_event

from flows.reporting.names import short
from reelsheet.redaction import clean_url
from reelsheet.results.table import Summary
from reelsheet.run.context import RunContext

log = logging.getLogger("reelsheet")

FINISHED = "reelsheet.run.finished"
BUDGET_WARNING = "reelsheet.budget.warning"


def finished(context: RunContext, summary: Summary) -> None:
    """The run's table is written, however it went."""
    emit(context, FINISHED, summary.as_json() | {"destination": clean_url(context.destination.address)})


def budget_warning(context: RunContext, cap: str, spent_cents: int, cap_cents: int) -> None:
    """A cap is nearly used up. `cap`: "run" or "day"."""
    emit(context, BUDGET_WARNING, {"cap": cap, "spent_usd": spent_cents / 100, "cap_usd": cap_cents / 100})


def emit(context: RunContext, event: str, payload: dict[str, Any]) -> None:
    flow_run_id = context.record.flow_run_id
    related = []
    if flow_run_id is not None:
        resource = f"prefect.flow-run.{flow_run_id}"
        related.append({"prefect.resource.id": resource, "prefect.resource.role": "flow-run"})
    try:
        emit_event(
            event=event,
            resource={
                "prefect.resource.id": f"reelsheet.run.{context.run_id}",
                "prefect.resource.name": short(context.manifest.source),
                "reelsheet.destination": clean_url(context.destination.address),
            },
            related=related,
            payload=payload,
        )
    except Exception as error:  # noqa: BLE001 - an event that nobody hears costs nobody a clip
        log.info("The event %s was not sent (%s).", event, type(error).__name__)
