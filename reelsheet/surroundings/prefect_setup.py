"""Prefect's server, profile and home, read as Prefect reads them but before it is imported, which takes seconds."""

import base64
import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from reelsheet.redaction import clean
from reelsheet.settings import tell_of_key
from reelsheet.surroundings import network
from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.machine import why_unusable
from reelsheet.surroundings.network import reason, shown
from reelsheet.surroundings.problems import Problem, UnusableSurroundings, within

if TYPE_CHECKING:
    import ssl

    import httpx

LIMIT_S: Final = 10.0  # for all questions to a server
DATABASE_CONNECT_S: Final = 5.0
BUILT_IN_PROFILES: Final = frozenset({"ephemeral", "local", "test", "cloud"})
_SQLITE: Final = b"SQLite format 3\0"
_REFUSALS: Final = ("28P01", "28000", "3D000")  # of a password, a login, a database
_REFUSED: Final = re.compile(
    "password|does not exist"
)  # 28000 may also be a want of TLS, which has settings of its own
_DATABASES: Final = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")


def prefect_home() -> Path:
    """Where Prefect keeps its database, as Prefect itself finds it. Raises UnusableSurroundings."""
    try:
        return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    except RuntimeError:
        raise UnusableSurroundings([wrong.HOME_UNKNOWN()]) from None


def prefect_profiles() -> Path:
    """The file with Prefect's profiles, which need not exist."""
    return Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml").expanduser()


@dataclass(frozen=True, slots=True)
class Profile:
    """Prefect's active profile: its name, its settings as text, and the file that names it."""

    name: str
    path: Path
    settings: dict[str, str] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """A setting, as the environment or else the profile has it; "" without one."""
        return os.environ.get(name) or self.settings.get(name, "")

    def where(self, name: str) -> str:
        """The setting's name, and the profile where it comes from there."""
        return name if os.environ.get(name) or name not in self.settings else f"{name} (profile {self.name})"


def active_profile() -> Profile:
    """Raises UnusableSurroundings where the file cannot be read, or the profile in use does not exist."""
    import tomllib

    path = prefect_profiles()
    chosen = os.environ.get("PREFECT_PROFILE", "")
    content: dict[str, Any] = {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # it need not exist; a home that is no folder is told elsewhere
        pass
    except (OSError, ValueError) as error:
        if not os.environ.get("PREFECT_PROFILES_PATH") and (why := why_unusable(prefect_home())):
            raise UnusableSurroundings([wrong.PREFECT_HOME(path=prefect_home(), reason=why)]) from None
        raise UnusableSurroundings([wrong.PROFILES_FILE(path=path, reason=reason(error))]) from None
    profiles = content.get("profiles", {})
    name = chosen or content.get("active", "") or "ephemeral"
    if not isinstance(profiles, dict) or not isinstance(name, str):
        raise UnusableSurroundings([wrong.PROFILES_FILE(path=path, reason="it is no file of profiles")])
    if name not in {*profiles, *BUILT_IN_PROFILES} and not os.environ.get("PREFECT_API_URL"):
        raise UnusableSurroundings([wrong.PROFILE_UNKNOWN(profile=name, path=path)])
    settings = profiles.get(name, {})
    if not isinstance(settings, dict):
        raise UnusableSurroundings([wrong.PROFILES_FILE(path=path, reason=f"the profile {name} is no table")])
    return Profile(name, path, {key.upper(): str(value) for key, value in settings.items()})


def settings() -> Iterator[Problem]:
    """What can be told without asking a server, also of what an embedded one needs."""
    try:
        profile = active_profile()
        yield from _logging(profile)
        name, block = storage_block(profile)
        if block and not re.fullmatch("[^/]+/[^/]+", block):
            yield wrong.PREFECT_STORAGE(profile.where(name), block=block, reason="its name is not TYPE/NAME")
        if not profile.value("PREFECT_API_URL"):
            yield from embedded(profile)
    except UnusableSurroundings as error:
        yield from error.problems


def server_in_time() -> list[Problem]:
    """What is wrong with the server that is configured, within LIMIT_S."""
    profile = active_profile()
    url = profile.value("PREFECT_API_URL")
    setting = profile.where("PREFECT_API_URL")
    late = wrong.SERVER_SILENT(setting, address=shown(url), seconds=f"{LIMIT_S:g}")
    return within(LIMIT_S, lambda: server(profile), late)


def _logging(profile: Profile) -> Iterator[Problem]:
    name = next((name for name in wrong.PREFECT_LOGGING.settings if profile.value(name)), "")
    if not name:
        return
    import yaml

    path = Path(profile.value(name)).expanduser()
    try:
        if not isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict):
            yield wrong.PREFECT_LOGGING(profile.where(name), path=path, reason="it holds no configuration")
    except (OSError, ValueError, yaml.YAMLError) as error:
        yield wrong.PREFECT_LOGGING(profile.where(name), path=path, reason=reason(error))


def storage_block(profile: Profile) -> tuple[str, str]:
    """The setting that says where Prefect keeps results, and its value; "" for both without one."""
    name = next((name for name in wrong.PREFECT_STORAGE.settings if profile.value(name)), "")
    return name, name and profile.value(name)


# A server that is configured


def server(profile: Profile) -> Iterator[Problem]:
    """Is it there, is it Prefect's API, does it let us in, is it of this version? The first problem speaks."""
    import httpx

    url, setting = profile.value("PREFECT_API_URL").rstrip("/"), profile.where("PREFECT_API_URL")
    address = shown(url)
    if why := _why_no_address(url):
        yield wrong.SERVER_ADDRESS(setting, address=address, reason=why)
        return
    if not re.fullmatch("[!-~]*", profile.value("PREFECT_API_KEY")):
        why = "it has a blank, a line end or another sign that no key has"
        yield wrong.PREFECT_VALUE(profile.where("PREFECT_API_KEY"), reason=why)
        return
    certificate_file = profile.value("PREFECT_API_SSL_CERT_FILE")
    found = [*network.certificates_of_prefect(certificate_file), *network.way_to(url)]
    if found:
        yield from found
        return
    try:
        with httpx.Client(
            headers=_headers(profile), timeout=LIMIT_S, verify=_trust(profile), follow_redirects=False
        ) as client:
            yield from _questions(client, url, profile)
    except httpx.ProxyError as error:
        yield network.refused_by_proxy(url, error)
    except httpx.TimeoutException:
        yield wrong.SERVER_SILENT(setting, address=address, seconds=f"{LIMIT_S:g}")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        yield network.untrusted(url, error, certificate_file and "PREFECT_API_SSL_CERT_FILE") or (
            wrong.SERVER_UNREACHABLE(setting, address=address, reason=reason(error))
        )


def _questions(client: "httpx.Client", url: str, profile: Profile) -> Iterator[Problem]:
    setting, address = profile.where("PREFECT_API_URL"), shown(url)
    health = client.get(f"{url}/health")
    told = client.get(f"{url}/admin/version")  # unlike health, it wants the login
    for answer in (health, told):
        status = answer.status_code
        if status in {401, 403}:
            name = next((name for name in wrong.SERVER_KEY.settings if profile.value(name)), "")
            kind = wrong.SERVER_KEY if name else wrong.SERVER_NO_KEY
            yield kind(name and profile.where(name), address=address, status=status)
            return
        if status >= 500 or status in {408, 429}:
            yield wrong.SERVER_UNWELL(setting, address=address, status=status)
            return
    if 300 <= health.status_code < 400:
        target = shown(health.headers.get("location", "")).removesuffix("/health")
        yield wrong.SERVER_ELSEWHERE(setting, address=address, reason=f"it sends elsewhere, to {target}")
    elif health.status_code != 200 or _json(health) is not True:
        why = f"HTTP {health.status_code}" if health.status_code != 200 else "its answer is none of Prefect's"
        yield wrong.SERVER_ELSEWHERE(setting, address=address, reason=why)
    elif told.status_code == 200:
        running, installed = _json(told), version("prefect")
        if not isinstance(running, str) or not re.match(r"\d+\.", running):
            yield wrong.SERVER_ELSEWHERE(setting, address=address, reason="it does not say its version")
        elif running.partition(".")[0] != installed.partition(".")[0]:
            yield wrong.SERVER_VERSION(setting, address=address, running=running, installed=installed)
            return
        name, block = storage_block(profile)
        block_type, _, block_name = block.partition("/")
        place = f"{url}/block_types/slug/{block_type}/block_documents/name/{block_name}"
        if name and client.get(place).status_code == 404:
            yield wrong.PREFECT_STORAGE(profile.where(name), block=block, reason="HTTP 404")


def server_version(profile: Profile) -> str:
    """What a server that works says of itself; "" for Prefect Cloud, which says nothing."""
    import httpx

    url = profile.value("PREFECT_API_URL").rstrip("/")
    with httpx.Client(headers=_headers(profile), timeout=LIMIT_S, verify=_trust(profile)) as client:
        answer = client.get(f"{url}/admin/version")
    return clean(str(_json(answer)), limit=40) if answer.status_code == 200 else ""


def _why_no_address(url: str) -> str:
    import httpx

    try:
        parts, _ = urlsplit(url), httpx.URL(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        return network.BROKEN
    if parts.scheme not in {"http", "https"}:
        return "it does not begin with http:// or https://"
    return "" if has_host and not re.search(r"\s", url) else "it has no host"


def _headers(profile: Profile) -> dict[str, str]:
    """As Prefect's client logs in. A login of the profile for an address from `.env` is said first."""
    if profile.settings.get("PREFECT_API_URL") != os.environ.get("PREFECT_API_URL"):
        for name in (*wrong.SERVER_KEY.settings, "PREFECT_CLIENT_CUSTOM_HEADERS"):
            if not os.environ.get(name) and profile.settings.get(name):
                tell_of_key("PREFECT_API_URL", profile.where(name))
    headers: dict[str, str] = {}
    custom = profile.value("PREFECT_CLIENT_CUSTOM_HEADERS")
    if custom:
        try:
            given = json.loads(custom)
        except ValueError:
            given = {}  # Prefect itself says so when it is imported
        headers |= {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    login, key = profile.value("PREFECT_API_AUTH_STRING"), profile.value("PREFECT_API_KEY")
    if login:
        headers |= login_header(login)
    elif key:
        headers["Authorization"] = f"Bearer {key}"
    return headers


def login_header(login: str) -> dict[str, str]:
    """As Prefect's client sends a USER:PASSWORD."""
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _trust(profile: Profile) -> "ssl.SSLContext | bool":
    import ssl

    import certifi

    if not profile.value("PREFECT_API_URL").startswith("https:"):
        return False  # nothing to verify; making a context takes time
    if profile.value("PREFECT_API_TLS_INSECURE_SKIP_VERIFY").lower() in {"1", "true", "t", "yes", "y", "on"}:
        return False
    return ssl.create_default_context(cafile=profile.value("PREFECT_API_SSL_CERT_FILE") or certifi.where())


def _json(answer: "httpx.Response") -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


# A server of our own


def embedded(profile: Profile) -> Iterator[Problem]:
    """Its folder and its database."""
    home = prefect_home()
    if why := why_unusable(home):
        yield wrong.PREFECT_HOME(path=home, reason=why)
        return
    name = database_setting(profile)
    if name:
        if why := _why_unusable_database(profile.value(name)):
            address = shown(profile.value(name))
            yield wrong.PREFECT_DATABASE(profile.where(name), address=address, reason=why)
        return
    database = home / "prefect.db"
    try:
        with database.open("rb") as file:
            beginning = file.read(len(_SQLITE))
        if beginning not in {b"", _SQLITE}:
            yield wrong.PREFECT_DATABASE_FILE(path=database)
        elif not os.access(database, os.W_OK):
            yield wrong.PREFECT_HOME(path=database, reason="it cannot be written")
    except FileNotFoundError:
        pass
    except OSError as error:
        yield wrong.PREFECT_HOME(path=database, reason=reason(error))


def _why_refused(address: SplitResult) -> str:
    """PostgreSQL's words where it knows no such login or database; the embedded server would need half a minute."""
    import asyncio

    import asyncpg  # as Prefect's server does

    async def connect() -> None:
        connection = await asyncpg.connect(
            host=address.hostname,
            port=address.port,
            user=unquote(address.username) if address.username else None,
            password=unquote(address.password) if address.password else None,
            database=unquote(address.path[1:]) or None,
            timeout=DATABASE_CONNECT_S,
        )
        await connection.close()

    try:
        asyncio.run(connect())
    except asyncpg.PostgresError as error:
        if error.sqlstate in _REFUSALS and _REFUSED.search(str(error)):
            return clean(str(error), limit=160)
    except (OSError, ValueError, asyncpg.InterfaceError):  # the server meets it as well, and says so
        pass
    return ""


def database_setting(profile: Profile) -> str:
    """The setting that names the database; "" where it is a file in PREFECT_HOME."""
    return next((name for name in _DATABASES if profile.value(name)), "")


def _why_unusable_database(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return network.BROKEN
    if parts.scheme not in {"sqlite+aiosqlite", "postgresql+asyncpg"}:
        return "it must begin with sqlite+aiosqlite:// or postgresql+asyncpg://"
    if parts.scheme.startswith("postgresql") and host:
        try:
            socket.create_connection((host, port or 5432), DATABASE_CONNECT_S).close()
        except OSError as error:
            return reason(error)
        return _why_refused(parts)
    file = Path(parts.path[1:])
    if parts.scheme.startswith("sqlite") and file.is_absolute() and not file.parent.is_dir():
        return "there is no such folder"
    return ""
