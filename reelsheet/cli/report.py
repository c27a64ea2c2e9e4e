"""`report`: a run's results and gallery, written again from the ledger and the destination."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reelsheet import settings
from reelsheet.cli import print_json
from reelsheet.cli.status import find_run
from reelsheet.display.waiting import Waiting
from reelsheet.outcomes import Status

if TYPE_CHECKING:
    from reelsheet.results.publication import Files


def report(run_id: str, *, results: str | None, as_json: bool) -> int:
    """Write the files again. The run's own exit code, or that of its rows where it was killed or stopped."""
    from reelsheet.ledger import Ledger
    from reelsheet.run.rebuild import rebuild

    current = settings.load()
    with closing(Ledger.open(current.ledger_url)) as ledger:
        record = find_run(run_id, ledger)
        with Waiting("Writing the results"):
            rebuilt = asyncio.run(rebuild(record, ledger, current, results=results))
    summary = rebuilt.summary.as_json()
    if as_json:
        print_json(summary)
    else:
        sys.stdout.write("\n".join(_lines(record.run_id, summary, rebuilt.files)) + "\n")
    return rebuilt.exit_code


def _lines(run_id: str, summary: Mapping[str, Any], files: "Files") -> Iterator[str]:
    from reelsheet.results.gallery_link import about

    counts = ", ".join(f"{summary[status]:,} {status}" for status in map(str, Status) if summary[status])
    yield f"Run {run_id}, {summary['rows']:,} rows as they stand now: {counts}."
    risk = summary["at_risk_usd"]
    yield f"${summary['cost_usd']:,.2f} spent in this run" + (f"; ${risk:,.2f} at risk." if risk else ".")
    if files.fallback:
        yield f"Results  {files.fallback} (they could not be written to the destination)"
        return
    yield f"Results  {files.results}"
    yield f"Gallery  {files.gallery}"
    if files.link is not None:
        yield f"Link     {files.link.url}"
        yield f"         ({about(files.link, datetime.now(UTC), run_id)})"
