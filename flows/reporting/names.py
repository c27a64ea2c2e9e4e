"""What runs are named in Prefect, their tags, and texts of others that must not become markup."""

import contextlib
import logging
import re
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from reelsheet.manifest.rows import Manifest
from reelsheet.redaction import clean, clean_url
from reelsheet.run.context import RunContext
from tasks import this_run

log = logging.getLogger("reelsheet")

MAX_CAMPAIGN_TAGS = 3

_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>$:])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def run_name() -> str:
    """ "spring.csv → s3://clips/spring", from the flow run's own parameters."""
    parameters = flow_run.parameters
    source = short(str(parameters.get("manifest") or parameters.get("results") or "?"))
    destination = parameters.get("destination")
    return f"{source} → {clean_url(str(destination))}"[:200] if destination else source


def shard_name() -> str:
    parameters = flow_run.parameters
    return f"{parameters.get('run_id')} shard {parameters.get('shard')}"


def short(address: str) -> str:
    """The last part of a path or address, without anything that signs it."""
    path = urlsplit(address).path if "://" in address else address
    return clean(unquote(PurePosixPath(path.rstrip("/")).name)) or clean(clean_url(address))


def artifact_key(context: RunContext) -> str:
    """An artifact key of the manifest: its versions are the runs."""
    slug = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(short(context.manifest.source)).stem.lower()).strip("-")
    return slug[:60] or "manifest"


def description(context: RunContext) -> str:
    return f"{plain(short(context.manifest.source))}, run {plain(context.run_id)}"


def plain(text: str) -> str:
    """`text` as Markdown that shows it and nothing else: no link, no image, no markup."""
    one_line = _CONTROL.sub(" ", text).strip()
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;")
    return _MARKS.sub(r"\\\1", escaped)


def code(text: str) -> str:
    """An address to copy, without what signs it; never a link."""
    return f"`{_CONTROL.sub(' ', clean_url(text)).replace('`', '')}`"


async def tag(context: RunContext) -> None:
    """Tags that a person filters by (manifest; campaign, where the sheet has one), and the run in the ledger."""
    if context.record.flow_run_id is None:
        return
    flow_run_id = UUID(context.record.flow_run_id)
    manifest = context.manifest
    tags = [f"manifest:{short(manifest.source)}", *(f"campaign:{name}" for name in campaigns(manifest))]
    tags.append(f"{this_run.RUN_TAG}{context.run_id}")
    async with never_raising("tags"), get_client() as client:
        known = await client.read_flow_run(flow_run_id)
        await client.update_flow_run(flow_run_id, tags=sorted({*known.tags, *tags}))


def campaigns(manifest: Manifest) -> list[str]:
    """The distinct cells of a column named campaign, where they are few."""
    column = next((i for i, name in enumerate(manifest.columns) if name.strip().casefold() == "campaign"), None)
    if column is None:
        return []
    cells = dict.fromkeys(clean(name, limit=60) for name in manifest.table.iloc[:, column].unique())
    names = [name for name in cells if name]
    return names if len(names) <= MAX_CAMPAIGN_TAGS else []


@contextlib.asynccontextmanager
async def never_raising(what: str) -> AsyncIterator[None]:
    """Shown in Prefect or not, the run goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - as the docstring says
        log.info("Prefect did not take the %s (%s).", what, type(error).__name__)
