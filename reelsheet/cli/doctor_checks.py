"""The checks of `doctor`, one function each. Each returns what it found about one part of the setup."""

import asyncio
import importlib.util
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reelsheet import settings
from reelsheet.redaction import clean, clean_url, visible

if TYPE_CHECKING:
    from reelsheet.provider.client import KeyCheck
    from reelsheet.settings import Settings

CLOCK_WARNING_S: Final = 60.0
CLOCK_BROKEN_S: Final = 900.0  # S3 refuses every signature beyond
DISK_WARNING_BYTES: Final = 1_000_000_000
DISK_BROKEN_BYTES: Final = 100_000_000
HTTP_TIMEOUT_S: Final = 10.0
NETWORK_DISKS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "lustre"})
USE_POSTGRESQL: Final = "set REELSHEET_LEDGER_URL=postgresql://…"


class Level(StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    WARNING = "warning"
    BROKEN = "broken"  # a run could not work like this


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, how it is, and how to fix it."""

    about: str
    level: Level
    message: str
    fix: str = ""


Check = Callable[[], Iterable[Finding]]


def fine(about: str, message: str) -> Finding:
    return Finding(about, Level.FINE, message)


def warning(about: str, message: str, fix: str = "") -> Finding:
    return Finding(about, Level.WARNING, message, fix)


def broken(about: str, message: str, fix: str = "") -> Finding:
    return Finding(about, Level.BROKEN, message, fix)


def configuration(current: "Settings") -> Iterator[Finding]:
    """Where settings come from, and names that are no setting."""
    file = settings.DOTENV
    where = f"the environment and {file.resolve()}" if file.is_file() else "the environment (there is no .env here)"
    yield fine("Settings", where)
    if file.is_file() and file.stat().st_mode & 0o077:
        yield warning("Settings", ".env can be read by others on this machine", f"chmod 600 {file}")
    known = settings.env_names()
    for name in sorted(name for name in os.environ if name.startswith(("VIBEDREAM_", "REELSHEET_"))):
        if name not in known:
            yield warning("Settings", f"{name} is not a setting of reelsheet", _suggestion(name, known))
    if current.allow_private_hosts and not settings.is_loopback_url(current.base_url):
        yield warning(
            "Settings",
            "REELSHEET_ALLOW_PRIVATE_HOSTS lets a sheet reach hosts in this network",
            "Unset it, unless your pictures are on hosts of your own.",
        )


def _suggestion(name: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.8)
    return f"Did you mean {close[0]}?" if close else "Remove it."


def provider(current: "Settings") -> Iterator[Finding]:
    """Whether the API's address answers (it is not sent the key), and whether its clock agrees with this machine's."""
    import httpx

    address = clean_url(current.base_url)
    try:
        response = httpx.get(current.base_url, timeout=HTTP_TIMEOUT_S, follow_redirects=False)
    except (httpx.HTTPError, OSError) as error:
        reason = clean(str(error) or type(error).__name__, limit=160)
        fix = "Check the network, the proxy and VIBEDREAM_BASE_URL."
        yield broken("Provider", f"{address} cannot be reached ({reason})", fix)
        return
    if settings.is_loopback_url(current.base_url):
        message = f"{address} is on this machine: a sandbox, which charges nothing"
        yield warning("Provider", message, "Unset VIBEDREAM_BASE_URL to use the real provider.")
    else:
        yield fine("Provider", f"{address} answers")
    yield from _clock(response.headers.get("date", ""), address)


def _clock(date: str, address: str) -> Iterator[Finding]:
    try:
        ahead_s = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError):
        return
    if abs(ahead_s) <= CLOCK_WARNING_S:
        yield fine("Clock", "agrees with the provider's")
        return
    side = "ahead of" if ahead_s > 0 else "behind"
    message = f"{abs(ahead_s) / 60:,.0f} minutes {side} the clock of {address}"
    fix = "Set the clock (timedatectl set-ntp true); S3 refuses requests that are 15 minutes off."
    yield broken("Clock", message, fix) if abs(ahead_s) > CLOCK_BROKEN_S else warning("Clock", message, fix)


def api_key(current: "Settings") -> Iterator[Finding]:
    """Whether the provider accepts the key; asking costs nothing."""
    from reelsheet.provider.client import KeyState, Provider

    if current.api_key is None:
        yield broken("API key", "there is none", "Set VIBEDREAM_API_KEY in .env or in the environment.")
        return

    async def check() -> "KeyCheck":
        async with Provider(current, connections=1) as client:
            return await client.check_key()

    key = asyncio.run(check())
    shown = masked(current.api_key.get_secret_value())
    reason = f" ({key.message})" if key.message else ""
    if key.state is KeyState.GOOD:
        yield fine("API key", f"{shown} is accepted")
    elif key.state is KeyState.REFUSED:
        fix = "Create a new key at the provider and put it into VIBEDREAM_API_KEY."
        yield broken("API key", f"{shown} is refused{reason}", fix)
    else:
        yield warning("API key", f"{shown} could not be checked{reason}", "Run `reelsheet doctor` again.")


def masked(key: str) -> str:
    """ "sk-a…9f (40 characters)"; of a short key its length alone."""
    length = f"{len(key)} characters"
    return f"{visible(key[:4])}…{visible(key[-2:])} ({length})" if len(key) >= 20 else f"a key of {length}"


def destination(to: str) -> Iterator[Finding]:
    """Writes, reads and deletes a small object there."""
    from reelsheet.storage.destination import open_destination

    place = open_destination(to)
    notes = place.probe()
    yield fine("Destination", f"{place.address} can be written, read and deleted from")
    yield from (warning("Destination", note) for note in notes)


def aws_credentials() -> Iterator[Finding]:
    """Whether S3 could be used at all; no request is made."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.session.Session()
        credentials, region = session.get_credentials(), session.region_name
    except BotoCoreError as error:
        yield warning("S3", clean(str(error), limit=200), "Check AWS_PROFILE and the AWS configuration.")
        return
    if credentials is None:
        fix = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a folder as --to needs none."
        yield warning("S3", "there are no AWS credentials", fix)
        return
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    where = clean_url(endpoint) if endpoint else f"region {region}" if region else "no region"
    hint = "`reelsheet doctor --to s3://bucket/prefix` tries a bucket"
    yield fine("S3", f"credentials by {credentials.method}, {where}; {hint}")
    if not endpoint and not region:
        yield warning("S3", "there is no region", "Set AWS_DEFAULT_REGION to the bucket's.")


def ledger(current: "Settings") -> Iterator[Finding]:
    """Whether it opens, what it holds, and whether its disk is safe for it."""
    from reelsheet.display.terminal import counted
    from reelsheet.ledger import Ledger, durability

    if (current.ledger_url or "").startswith("postgres") and importlib.util.find_spec("psycopg") is None:
        yield broken("Ledger", "the PostgreSQL client is not installed", 'pip install "reelsheet[postgres]"')
        return
    opened = Ledger.open(current.ledger_url)
    try:
        counts = opened.counts()
    finally:
        opened.close()
    clips = counted(counts.attempts, "clip")
    yield fine("Ledger", f"{opened.shown} ({counted(counts.runs, 'run')}, {clips} that cost or may have cost money)")
    if counts.unknown:
        message = f"{counted(counts.unknown, 'clip')} may have been charged, but the answer was lost"
        yield warning("Ledger", message, "`reelsheet status` names them, `reelsheet resolve` settles them.")
    file = durability.file_of(current.ledger_url)
    if file is None:
        return
    disk = durability.disk_of(file)
    if disk in NETWORK_DISKS:
        message = f"it is on a network disk ({disk}), where SQLite cannot lock safely"
        yield warning("Ledger", message, f"Put it on a local disk, or {USE_POSTGRESQL}")
    elif not durability.is_persistent(file):
        message = "it is on this container's own disk, and is lost with the container"
        yield broken("Ledger", message, f"Mount a volume there, or {USE_POSTGRESQL}")


def prefect() -> Iterator[Finding]:
    """Whether its server answers, or whether a server of our own could start."""
    from importlib.metadata import version

    from flows.embedded_server import EmbeddedServer, prefect_home

    installed = version("prefect")
    if not EmbeddedServer.needed():
        yield _prefect_server(installed, os.environ.get("PREFECT_API_URL", ""))
        return
    home = prefect_home()
    fix = f"Set PREFECT_HOME (now {home}) to a folder that can be written."
    try:
        home.mkdir(parents=True, exist_ok=True)
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
    except OSError as error:
        yield broken("Prefect", f"its embedded server cannot start ({error.strerror or error})", fix)
        return
    if not os.access(home, os.W_OK):
        yield broken("Prefect", f"{home} cannot be written", fix)
        return
    yield fine("Prefect", f"{installed}, a server of its own for each command; log: {home}/reelsheet-server.log")


def _prefect_server(installed: str, url: str) -> Finding:
    import httpx

    if not url:
        return fine("Prefect", f"{installed}, with the server of its active profile")
    shown = clean_url(url)
    key = os.environ.get("PREFECT_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(timeout=HTTP_TIMEOUT_S, headers=headers) as client:
            client.get(f"{url.rstrip('/')}/health").raise_for_status()
            answer = client.get(f"{url.rstrip('/')}/admin/version")
    except (httpx.HTTPError, OSError, httpx.InvalidURL) as error:
        message = f"{shown} does not answer ({clean(str(error), limit=120)})"
        return broken("Prefect", message, "Start it (prefect server start), correct PREFECT_API_URL, or unset it.")
    running = str(answer.json()) if answer.is_success else ""
    if running and running.split(".")[:2] != installed.split(".")[:2]:
        message = f"{shown} runs {visible(running)}, this is {installed}"
        return warning("Prefect", message, "Use the same version on both sides.")
    return fine("Prefect", f"{installed}, server {shown}")


def disk() -> Iterator[Finding]:
    """Whether the state folder can be written and has room."""
    state = settings.state_home()
    existing = next(folder for folder in (state, *state.parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    message = f"{free_bytes / 1e9:,.1f} GB free for {state}"
    if not os.access(existing, os.W_OK):
        yield broken("Disk", f"{existing} cannot be written", "Set XDG_STATE_HOME to a folder that can be.")
    elif free_bytes < DISK_WARNING_BYTES:
        level = Level.BROKEN if free_bytes < DISK_BROKEN_BYTES else Level.WARNING
        yield Finding("Disk", level, message, "Free some space, or set XDG_STATE_HOME to another disk.")
    else:
        yield fine("Disk", message)


def notification(current: "Settings") -> Iterator[Finding]:
    """Whether Apprise understands the address; nothing is sent."""
    if current.notify_url is None:
        yield fine("Notification", "none is sent (REELSHEET_NOTIFY_URL is not set)")
        return
    from reelsheet.results.notification import services

    names = services(current.notify_url.get_secret_value())
    if names:
        yield fine("Notification", f"to {', '.join(names)}; nothing was sent now")
    else:
        message = "REELSHEET_NOTIFY_URL is not an address that Apprise understands"
        yield warning("Notification", message, "Write it like slack://…, mailto://… or json://host/path.")


def optional_parts(current: "Settings") -> Iterator[Finding]:
    """Extras that are not installed, and what needs them."""
    extras = {
        "postgres": (("psycopg",), "a PostgreSQL ledger"),
        "sandbox": (("av", "fastapi", "moto", "numpy", "uvicorn"), "`reelsheet demo` and `reelsheet sandbox`"),
    }
    for extra, (modules, users) in extras.items():
        is_missing = any(importlib.util.find_spec(name) is None for name in modules)
        if is_missing and not (extra == "postgres" and current.ledger_url):
            yield fine("Parts", f"reelsheet[{extra}] is not installed; only {users} need it")


def package_names(our_folder: Path = Path(__file__).parents[2]) -> Iterator[Finding]:
    """Another distribution that brings a package named `flows` or `tasks`, as reelsheet does."""
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    for name in ("flows", "tasks"):
        others = ", ".join(sorted(set(owners.get(name, ())) - {"reelsheet"}))
        spec = importlib.util.find_spec(name)
        is_ours = spec is not None and spec.origin is not None and Path(spec.origin).parents[1] == our_folder
        if not is_ours or others:
            message = f"{others or 'another project'} has a package named {name}, as reelsheet does"
            fix = "Install reelsheet into an environment of its own: `pipx install` or `uv tool install` does that."
            yield Finding("Packages", Level.WARNING if is_ours else Level.BROKEN, message, fix)
