"""`doctor`: what a run needs, looked at before there is one; each trouble with what mends it. Spends nothing."""

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reelsheet import __version__, settings
from reelsheet.errors import ConfigurationError, ReelsheetError
from reelsheet.redaction import clean, clean_url, visible

if TYPE_CHECKING:
    from reelsheet.settings import Settings

PATIENCE: Final = 25.0  # seconds for all checks, which run beside each other
SKEW: Final = 60.0  # seconds by which a clock may differ without a word
SIGNED_SKEW: Final = 900.0  # beyond which S3 refuses every signature
SCARCE: Final = 1_000_000_000  # bytes left on the disk
TIGHT: Final = 100_000_000
PARTS: Final = {
    "postgres": (("psycopg",), "a PostgreSQL ledger"),
    "sandbox": (("av", "fastapi", "moto", "numpy", "uvicorn"), "`reelsheet demo` and `reelsheet sandbox`"),
}
_NETWORK_DISKS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "lustre"})
_CONTAINER_DISKS: Final = frozenset({"overlay", "aufs", "tmpfs"})
_OURS: Final = ("VIBEDREAM_", "REELSHEET_")


class Level(StrEnum):
    """How bad it is."""

    FINE = "fine"
    WARNING = "warning"
    BROKEN = "broken"  # a run could not work like this


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what mends it."""

    about: str
    level: Level
    told: str
    mend: str = ""


def examine(to: str | None, *, as_json: bool) -> int:
    """Look at everything that a run needs, and at `to` where it is given. 2 where a run could not work, else 0."""
    found = checkup(to)
    broken = any(finding.level is Level.BROKEN for finding in found)
    if as_json:
        told = {"ok": not broken, "version": __version__, "checks": [asdict(finding) for finding in found]}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        _show(found)
    return 2 if broken else 0


def checkup(to: str | None = None) -> list[Finding]:
    """Every finding, in the order in which people would mend them."""
    try:
        told = settings.load()
    except ConfigurationError as error:
        wrong = Finding("Settings", Level.BROKEN, str(error), "Correct them in the environment or in .env.")
        return [wrong, *_beside({"Prefect": _prefect, "Disk": _disk})]
    return _beside(
        {
            "Settings": lambda: _settings(told),
            "Provider": lambda: _provider(told),
            "Destination" if to else "S3": lambda: _storage(to),
            "Ledger": lambda: _ledger(told),
            "Prefect": _prefect,
            "Disk": _disk,
            "Notification": lambda: _notifications(told),
            "Parts": lambda: _parts(told),
            "Packages": _packages,
        }
    )


Check = Callable[[], Iterator[Finding]]


def _beside(checks: Mapping[str, Check], patience: float = PATIENCE) -> list[Finding]:
    """All checks at once; one that hangs is left alone, and the others are told."""
    found: dict[str, list[Finding]] = {}

    def look(about: str, check: Check) -> None:
        try:
            found[about] = list(check())
        except ReelsheetError as error:
            found[about] = [Finding(about, Level.BROKEN, str(error))]
        except Exception as error:  # noqa: BLE001 - a doctor does not faint
            said = clean(f"{type(error).__name__}: {error}", limit=200)
            found[about] = [Finding(about, Level.BROKEN, f"could not be looked at ({said})")]

    threads = [threading.Thread(target=look, args=named, daemon=True) for named in checks.items()]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"no answer within {patience:g} s"
    return [
        finding
        for about in checks
        for finding in found.get(about, [Finding(about, Level.BROKEN, late, "Check the network.")])
    ]


# What is looked at


def _settings(told: "Settings") -> Iterator[Finding]:
    file = settings.DOTENV
    where = f"the environment and {file.resolve()}" if file.is_file() else "the environment (there is no .env here)"
    yield Finding("Settings", Level.FINE, where)
    if file.is_file() and file.stat().st_mode & 0o077:
        yield Finding("Settings", Level.WARNING, ".env can be read by others on this machine", f"chmod 600 {file}")
    known = _known_names()
    for name in sorted(name for name in os.environ if name.startswith(_OURS) and name not in known):
        yield Finding("Settings", Level.WARNING, f"{name} is no setting of reelsheet", _meant(name, known))
    if told.allow_private_hosts and not _is_here(told.base_url):
        yield Finding(
            "Settings",
            Level.WARNING,
            "REELSHEET_ALLOW_PRIVATE_HOSTS lets a sheet reach into this network",
            "Unset it, unless pictures lie on hosts of your own.",
        )


def _known_names() -> frozenset[str]:
    fields = settings.Settings.model_fields.values()
    return frozenset(
        choice
        for field in fields
        for choice in getattr(field.validation_alias, "choices", ())
        if isinstance(choice, str) and choice.isupper()
    )


def _meant(name: str, known: frozenset[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else "Remove it."


def _provider(told: "Settings") -> Iterator[Finding]:
    answered = asyncio.run(_asked(told))
    yield from _address(told, answered)
    yield from _key(told, answered)
    yield from _clock(answered, told.base_url)


@dataclass(frozen=True, slots=True)
class _Answered:
    """What the API's own origin said. `skew` in seconds, positive where this machine's clock is ahead."""

    unreached: str = ""
    skew: float | None = None
    key: str = "untested"
    told: str = ""


async def _asked(told: "Settings") -> _Answered:
    import httpx

    from reelsheet.provider.client import Provider

    try:
        async with httpx.AsyncClient(timeout=10.0, follow_redirects=False) as client:
            response = await client.get(told.base_url)
            skew = _skew(response.headers.get("date", ""))
    except (httpx.HTTPError, OSError) as error:
        return _Answered(unreached=clean(str(error) or type(error).__name__, limit=160))
    if told.api_key is None:
        return _Answered(skew=skew)
    async with Provider(told, connections=1) as provider:
        key = await provider.check_key()
    return _Answered(skew=skew, key=str(key.state), told=key.message)


def _skew(date: str) -> float | None:
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError):
        return None


def _address(told: "Settings", answered: _Answered) -> Iterator[Finding]:
    shown = clean_url(told.base_url)
    if answered.unreached:
        mend = "Check the network, the proxy and VIBEDREAM_BASE_URL."
        yield Finding("Provider", Level.BROKEN, f"{shown} cannot be reached ({answered.unreached})", mend)
    elif _is_here(told.base_url):
        yield Finding("Provider", Level.WARNING, f"{shown} is on this machine: a sandbox, which charges nothing",
                      "Unset VIBEDREAM_BASE_URL for the real provider.")  # fmt: skip
    else:
        yield Finding("Provider", Level.FINE, f"{shown} answers")


def _key(told: "Settings", answered: _Answered) -> Iterator[Finding]:
    if told.api_key is None:
        yield Finding("API key", Level.BROKEN, "there is none", "Set VIBEDREAM_API_KEY in .env or in the environment.")
        return
    shown = masked(told.api_key.get_secret_value())
    match answered.key:
        case "good":
            yield Finding("API key", Level.FINE, f"{shown} is accepted")
        case "refused":
            said = f" ({answered.told})" if answered.told else ""
            mend = "Make a new key at the provider and put it into VIBEDREAM_API_KEY."
            yield Finding("API key", Level.BROKEN, f"{shown} is refused{said}", mend)
        case _:
            said = f" ({answered.told})" if answered.told else ""
            yield Finding(
                "API key", Level.WARNING, f"{shown} could not be tried{said}", "Run `reelsheet doctor` again."
            )


def masked(key: str) -> str:
    """ "sk-a…9f (40 characters)"; of a short key its length alone."""
    length = f"{len(key)} characters"
    return f"{visible(key[:4])}…{visible(key[-2:])} ({length})" if len(key) >= 20 else f"a key of {length}"


def _clock(answered: _Answered, base_url: str) -> Iterator[Finding]:
    skew = answered.skew
    if skew is None:
        return
    if abs(skew) <= SKEW:
        yield Finding("Clock", Level.FINE, "agrees with the provider's")
        return
    by = f"{abs(skew) / 60:,.0f} minutes {'ahead of' if skew > 0 else 'behind'} the clock of {clean_url(base_url)}"
    level = Level.BROKEN if abs(skew) > SIGNED_SKEW else Level.WARNING
    yield Finding("Clock", level, by, "Set the clock (timedatectl set-ntp true); S3 refuses signatures 15 minutes off.")


def _storage(to: str | None) -> Iterator[Finding]:
    if to is None:
        yield from _credentials()
        return
    from reelsheet.storage.destination import open_destination

    try:
        destination = open_destination(to)
        notes = destination.probe()
    except ReelsheetError as error:
        yield Finding("Destination", Level.BROKEN, str(error))
        return
    yield Finding("Destination", Level.FINE, f"{destination.address} takes, gives back and deletes an object")
    for note in notes:
        yield Finding("Destination", Level.WARNING, note)


def _credentials() -> Iterator[Finding]:
    """Whether S3 could be used at all; it is asked nothing."""
    import boto3
    from botocore.exceptions import BotoCoreError

    asked = "`reelsheet doctor --to s3://bucket/prefix` tries a bucket"
    try:
        session = boto3.session.Session()
        credentials = session.get_credentials()
        region = session.region_name
    except BotoCoreError as error:
        yield Finding("S3", Level.WARNING, clean(str(error), limit=200), "Check AWS_PROFILE and the AWS configuration.")
        return
    if credentials is None:
        mend = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a folder as --to needs none."
        yield Finding("S3", Level.WARNING, "there are no AWS credentials", mend)
        return
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    where = clean_url(endpoint) if endpoint else f"region {region}" if region else "no region"
    yield Finding("S3", Level.FINE, f"credentials by {credentials.method}, {where}; {asked}")
    if not endpoint and not region:
        yield Finding("S3", Level.WARNING, "there is no region", "Set AWS_DEFAULT_REGION to the bucket's.")


def _ledger(told: "Settings") -> Iterator[Finding]:
    from reelsheet.display.terminal import counted
    from reelsheet.ledger import Ledger

    if told.ledger_url and told.ledger_url.startswith("postgres") and importlib.util.find_spec("psycopg") is None:
        yield Finding(
            "Ledger", Level.BROKEN, "PostgreSQL's client is not installed", 'pip install "reelsheet[postgres]"'
        )
        return
    ledger = Ledger.open(told.ledger_url)
    try:
        held = ledger.counts()
    finally:
        ledger.close()
    contents = f"{counted(held.runs, 'run')}, {counted(held.attempts, 'paid or perhaps paid clip')}"
    yield Finding("Ledger", Level.FINE, f"{ledger.shown} ({contents})")
    if held.unknown:
        yield Finding("Ledger", Level.WARNING, f"{counted(held.unknown, 'clip')} perhaps paid for, without an answer",
                      "`reelsheet status` names them, `reelsheet resolve` settles them.")  # fmt: skip
    if not ledger.is_sqlite:
        return
    disk = disk_of(Path(ledger.shown).parent)
    if disk in _NETWORK_DISKS:
        yield Finding("Ledger", Level.WARNING, f"it lies on a network disk ({disk}), where SQLite cannot lock safely",
                      "Put it on a local disk, or set REELSHEET_LEDGER_URL=postgresql://…")  # fmt: skip
    elif disk in _CONTAINER_DISKS and _in_container():
        yield Finding("Ledger", Level.BROKEN, "it lies in this container, and dies with it",
                      "Mount a volume there, or set REELSHEET_LEDGER_URL=postgresql://…")  # fmt: skip


def _prefect() -> Iterator[Finding]:
    from importlib.metadata import version

    from flows.embedded_server import EmbeddedServer, prefect_home

    ours = version("prefect")
    if not EmbeddedServer.needed():
        yield from _prefect_server(ours, os.environ.get("PREFECT_API_URL", ""))
        return
    home = prefect_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        writable = os.access(home, os.W_OK)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
    except OSError as error:
        yield Finding("Prefect", Level.BROKEN, f"its embedded server cannot start ({error.strerror or error})",
                      f"Set PREFECT_HOME (now {home}) to a folder that can be written.")  # fmt: skip
        return
    if not writable:
        yield Finding("Prefect", Level.BROKEN, f"{home} cannot be written", "Set PREFECT_HOME to a folder that can be.")
        return
    yield Finding(
        "Prefect", Level.FINE, f"{ours}, a server of its own for each command; log: {home}/reelsheet-server.log"
    )


def _prefect_server(ours: str, url: str) -> Iterator[Finding]:
    import httpx

    if not url:
        yield Finding("Prefect", Level.FINE, f"{ours}, with the server that its active profile names")
        return
    shown = clean_url(url)
    key = os.environ.get("PREFECT_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(timeout=10.0, headers=headers) as client:
            health = client.get(f"{url.rstrip('/')}/health")
            health.raise_for_status()
            theirs = client.get(f"{url.rstrip('/')}/admin/version")
    except (httpx.HTTPError, OSError, httpx.InvalidURL) as error:
        yield Finding("Prefect", Level.BROKEN, f"{shown} does not answer ({clean(str(error), limit=120)})",
                      "Start it (prefect server start), correct PREFECT_API_URL, or unset it.")  # fmt: skip
        return
    known = theirs.json() if theirs.is_success else ""
    if known and str(known).split(".")[:2] != ours.split(".")[:2]:
        yield Finding("Prefect", Level.WARNING, f"{shown} runs {visible(str(known))}, this is {ours}",
                      "Use the same version on both sides.")  # fmt: skip
        return
    yield Finding("Prefect", Level.FINE, f"{ours}, server {shown}")


def _disk() -> Iterator[Finding]:
    state = settings.state_home()
    there = next(folder for folder in (state, *state.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    told = f"{free / 1e9:,.1f} GB free for {state}"
    if not os.access(there, os.W_OK):
        yield Finding("Disk", Level.BROKEN, f"{there} cannot be written", "Set XDG_STATE_HOME to a folder that can be.")
    elif free < SCARCE:
        level = Level.BROKEN if free < TIGHT else Level.WARNING
        yield Finding("Disk", level, told, "Make room, or set XDG_STATE_HOME to another disk.")
    else:
        yield Finding("Disk", Level.FINE, told)


def _notifications(told: "Settings") -> Iterator[Finding]:
    if told.notify_url is None:
        yield Finding("Notification", Level.FINE, "none is sent (REELSHEET_NOTIFY_URL is not set)")
        return
    from reelsheet.results.notification import services

    names = services(told.notify_url.get_secret_value())
    if names:
        yield Finding("Notification", Level.FINE, f"to {', '.join(names)}; nothing was sent now")
    else:
        yield Finding("Notification", Level.WARNING, "REELSHEET_NOTIFY_URL is no address that Apprise understands",
                      "Write it like slack://…, mailto://… or json://host/path.")  # fmt: skip


def _parts(told: "Settings") -> Iterator[Finding]:
    for extra, (modules, needed) in PARTS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing and not (extra == "postgres" and told.ledger_url):
            yield Finding("Parts", Level.FINE, f"without reelsheet[{extra}], which only {needed} needs")


def _packages(ours: Path = Path(__file__).parents[2]) -> Iterator[Finding]:
    """Another distribution that brings a package named `flows` or `tasks`, as reelsheet does."""
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    for name in ("flows", "tasks"):
        others = ", ".join(sorted(set(owners.get(name, ())) - {"reelsheet"}))
        spec = importlib.util.find_spec(name)
        ours_is_imported = spec is not None and spec.origin is not None and Path(spec.origin).parents[1] == ours
        if not ours_is_imported or others:
            yield Finding(
                "Packages",
                Level.WARNING if ours_is_imported else Level.BROKEN,
                f"{others or 'another project'} has a package named {name}, as reelsheet does",
                "Install reelsheet into an environment of its own: `pipx install` or `uv tool install` does that.",
            )


# Small things


def _is_here(url: str) -> bool:
    from urllib.parse import urlsplit

    return settings.is_loopback(urlsplit(url).hostname or "")


def disk_of(folder: Path, mounts: str | None = None) -> str:
    """The kind of file system that `folder` lies on ("ext4", "nfs4"); "" where that cannot be told."""
    try:
        lines = (Path("/proc/mounts").read_text(encoding="utf-8") if mounts is None else mounts).splitlines()
    except OSError:
        return ""
    held: Mapping[str, str] = {parts[1]: parts[2] for line in lines if len(parts := line.split()) > 2}
    return next((held[str(place)] for place in (folder, *folder.parents) if str(place) in held), "")


def _in_container() -> bool:
    return (
        Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "KUBERNETES_SERVICE_HOST" in os.environ
    )


def _show(found: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from reelsheet.display.terminal import counted, safe, show

    signs = {Level.FINE: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.BROKEN: ("✗", "red")}
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for finding in found:
        sign, colour = signs[finding.level]
        told = safe(finding.told, "" if finding.level is Level.FINE else colour)
        if finding.mend:
            told.append("\n").append_text(safe(finding.mend))
        table.add_row(Text(sign, style=colour), finding.about, told)
    show(table, sys.stdout)
    broken = sum(finding.level is Level.BROKEN for finding in found)
    end = f"{counted(broken, 'thing')} to mend before a run can work." if broken else "A run can work."
    show(Text(f"\n{end}", style="bold"), sys.stdout)
