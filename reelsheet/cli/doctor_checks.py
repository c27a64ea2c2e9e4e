"""The checks of `doctor`, one function each. Each returns what it found about one part of the setup."""

import asyncio
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reelsheet import messages, settings
from reelsheet.outcomes import utc
from reelsheet.redaction import clean, clean_url, visible
from reelsheet.surroundings import aws, machine, network, prefect_setup
from reelsheet.surroundings.problems import Problem
from reelsheet.words import counted

if TYPE_CHECKING:
    from reelsheet.provider.client import KeyCheck
    from reelsheet.settings import Settings

CLOCK_WARNING_S: Final = 60.0
CLOCK_BROKEN_S: Final = 900.0  # S3 refuses every signature beyond
DISK_WARNING_BYTES: Final = 1_000_000_000
DISK_BROKEN_BYTES: Final = 100_000_000
HTTP_TIMEOUT_S: Final = 10.0
NETWORK_DISKS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "lustre"})
UNKNOWN_SHOWN: Final = 10  # rows
_PICTURES_NEED_S3: Final = "a sheet whose pictures are files needs --to s3://bucket/prefix, to upload them there"
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
    for name in settings.refused_in_dotenv():
        yield warning("Settings", f".env cannot set {visible(name)}", f"It can set only {settings.DOTENV_RULE}")
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
    elif key.state is KeyState.SILENT:
        yield broken(
            "API key", f"{shown} could not be checked{reason}", "Check VIBEDREAM_BASE_URL, or try again later."
        )
    else:
        fix = "Check VIBEDREAM_BASE_URL, or run `reelsheet doctor` again."
        yield warning("API key", f"{shown} could not be checked{reason}", fix)


def masked(key: str) -> str:
    """ "sk-a…9f (40 characters)"; of a short key its length alone."""
    length = f"{len(key)} characters"
    return f"{visible(key[:4])}…{visible(key[-2:])} ({length})" if len(key) >= 20 else f"a key of {length}"


def destination(to: str) -> Iterator[Finding]:
    """Writes, reads and deletes a small object there."""
    from reelsheet.images.picture_rows import takes_pictures
    from reelsheet.storage.destination import open_destination

    place = open_destination(to)
    notes = place.probe()
    yield fine("Destination", f"{place.address} can be written, read and deleted from")
    if not takes_pictures(place):
        yield fine("Destination", f"it is a folder: {_PICTURES_NEED_S3}")
    yield from (warning("Destination", note) for note in notes)


def aws_credentials() -> Iterator[Finding]:
    """Whether S3 could be used at all; no request is made to it."""
    import boto3

    found = list(aws.settings())
    try:
        session = boto3.session.Session()
        credentials, region = session.get_credentials(), session.region_name
        session.client("s3")
        found += aws.mfa(session, credentials)
    except Exception as error:  # noqa: BLE001 - whatever boto3 makes of its settings
        found.append(aws.problem_of(error))
    if found:
        # a folder as --to needs none of it, unless pictures are files
        yield from (warning("S3", f"{problem.setting}: {problem.seen}", problem.fix) for problem in found)
        return
    if credentials is None:
        fix = (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE. A folder as --to needs none, but "
            f"{_PICTURES_NEED_S3}."
        )
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
    from reelsheet.ledger import Ledger, durability
    from reelsheet.run.unsettled import unsettled_rows

    if (current.ledger_url or "").startswith("postgres") and importlib.util.find_spec("psycopg") is None:
        yield broken("Ledger", "the PostgreSQL client is not installed", 'pip install "reelsheet[postgres]"')
        return
    opened = Ledger.open(current.ledger_url)
    try:
        counts, today, now = opened.counts(), opened.today().day, opened.now()
        unknown = unsettled_rows(opened, current.base_url)
    finally:
        opened.close()
    clips = counted(counts.attempts, "clip")
    yield fine("Ledger", f"{opened.shown} ({counted(counts.runs, 'run')}, {clips} that cost or may have cost money)")
    if unknown:
        message = f"{counted(len(unknown), 'clip')} may have been charged, but the answer was lost"
        yield warning("Ledger", message, messages.SETTLE_UNKNOWN)
        yield from (warning("Ledger", row.description, row.command) for row in unknown[:UNKNOWN_SHOWN])
        if len(unknown) > UNKNOWN_SHOWN:
            yield warning("Ledger", f"and {len(unknown) - UNKNOWN_SHOWN:,} more", "`reelsheet status --json` has all.")
    if today > f"{utc(now):%Y-%m-%d}":
        message = (
            f"its clock was ahead when something was paid for: the daily cap counts {today} until that day is over"
        )
        yield warning("Ledger", message, "Correct the clock; raise REELSHEET_DAILY_CAP_USD where it is used up.")
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
    """Whether its server answers, or whether a server of our own could start; and whether it takes its settings."""
    from importlib.metadata import version

    from flows import prefect_settings, working_folder

    if problems := [*prefect_setup.settings(), *network.certificates(), *network.proxies()]:
        yield from _broken("Prefect", problems)
        return
    working_folder.ignore()
    prefect_settings.check()
    installed, profile = version("prefect"), prefect_setup.active_profile()
    url = profile.value("PREFECT_API_URL")
    if not url:
        log = prefect_setup.prefect_home() / "reelsheet-server.log"
        yield fine("Prefect", f"{installed}, a server of its own for each command; log: {log}")
        return
    if problems := prefect_setup.server_in_time():
        yield from _broken("Prefect", problems)
        return
    shown, running = clean_url(url), prefect_setup.server_version(profile)
    if running and running.split(".")[:2] != installed.split(".")[:2]:
        message = f"{shown} runs {visible(running)}, this is {installed}"
        yield warning("Prefect", message, "Use the same version on both sides.")
    else:
        yield fine("Prefect", f"{installed}, server {shown}")
    yield from _problems_of_server(url, profile)


def _problems_of_server(url: str, profile: prefect_setup.Profile) -> Iterator[Finding]:
    """Automations that are off, and runs that no worker begins. A run by hand works all the same."""
    import asyncio

    from flows.health import problems_of_server

    try:
        key, password = profile.value("PREFECT_API_KEY"), profile.value("PREFECT_API_AUTH_STRING")
        problems = asyncio.run(problems_of_server(url, api_key=key or None, auth_string=password or None))
    except Exception as error:  # noqa: BLE001 - whatever a server of another kind answers
        yield warning("Prefect", f"its automations and runs could not be checked ({type(error).__name__})")
        return
    for problem in problems:
        yield warning("Prefect", problem)


def network_settings(current: "Settings") -> Iterator[Finding]:
    """Proxies and certificates, and the way to the provider."""
    problems = [*network.certificates(), *network.proxies()]
    if not problems and not current.is_play_money:
        problems += network.way_to(current.base_url)
    yield from _broken("Network", problems)
    if problems:
        return
    proxy = None if current.is_play_money else network.proxy_to(current.base_url)
    yield fine("Network", f"by the proxy {clean_url(proxy[0])} ({proxy[1]})" if proxy else "no proxy to the provider")


def machine_settings() -> Iterator[Finding]:
    """Limits, time zone, temporary folder and open files."""
    problems = [*machine.limits(), *machine.threads(), *machine.time_zone(), *machine.temporary_folder()]
    problems += machine.open_files(machine.FILES_OF_A_LARGE_RUN)
    yield from _broken("Machine", problems)
    if not problems:
        yield fine("Machine", "limits, time zone, temporary folder and open files are as a run needs them")


def _broken(about: str, problems: Iterable[Problem]) -> Iterator[Finding]:
    for problem in problems:
        yield broken(about, f"{problem.setting}: {problem.seen}", problem.fix)


def disk() -> Iterator[Finding]:
    """Whether the state folder can be written and has room."""
    if problems := list(machine.state_folder()):
        yield from _broken("Disk", problems)
        return
    state = settings.state_home()
    free_bytes = shutil.disk_usage(state).free
    message = f"{free_bytes / 1e9:,.1f} GB free for {state}"
    if free_bytes < DISK_WARNING_BYTES:
        level = Level.BROKEN if free_bytes < DISK_BROKEN_BYTES else Level.WARNING
        yield Finding("Disk", level, message, "Free some space, or set XDG_STATE_HOME to another disk.")
    else:
        yield fine("Disk", message)


def notification(current: "Settings") -> Iterator[Finding]:
    """Whether Apprise understands the address; nothing is sent."""
    if current.notify_url is None:
        yield fine("Notification", "none is sent (REELSHEET_NOTIFY_URL is not set)")
        return
    from reelsheet.results.notification import problems, services

    names = services(current.notify_url.get_secret_value())
    if names:
        yield fine("Notification", f"to {', '.join(names)}; nothing was sent now")
    yield from _broken("Notification", problems(current.notify_url))


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
