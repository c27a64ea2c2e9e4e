"""Every setting, read in one place: the environment first, then `.env` in the working folder.

A flag beats the environment beats `.env`. AWS_* and PREFECT_* are read by boto3 and Prefect themselves.
"""

import hashlib
import ipaddress
import logging
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AliasChoices, AliasGenerator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reelsheet import s3_extra_args
from reelsheet.errors import ConfigurationError, ReelsheetError
from reelsheet.money import QUOTE_LIMIT_CENTS, cents
from reelsheet.redaction import clean_url, register_secret, visible

log = logging.getLogger("reelsheet")

DOTENV = Path(".env")
DOTENV_NAMES: Final = re.compile(
    r"(VIBEDREAM|REELSHEET)_\w+|PREFECT_API_(?!DATABASE_|SERVICES_)\w+"  # those are of Prefect's server
    r"|AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|(DEFAULT_)?(REGION|PROFILE)|ENDPOINT_URL(_\w+)?)"
)
DOTENV_RULE: Final = (
    "VIBEDREAM_*, REELSHEET_*, PREFECT_API_*, and AWS keys, region, endpoint and profile. "
    "Set other names in the environment."
)
_SENT_TO: Final = (  # an address, and what is sent there
    ("VIBEDREAM_BASE_URL", "VIBEDREAM_API_KEY"),
    ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS"),
    ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"),
    ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID"),
)
_warned: set[str] = set()
_from_dotenv: set[str] = set()
_QUOTES: Final = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_AROUND_KEY: Final = re.compile(
    rf"\A(?:[\s{_QUOTES}]+|(?:Authorization\s*:|VIBEDREAM_API_KEY\s*=|Bearer(?=[\s{_QUOTES}]|\Z)))|[\s{_QUOTES}]+\Z",
    re.IGNORECASE,
)


_ENV_NAMES: Final = {
    "api_key": "VIBEDREAM_API_KEY",
    "base_url": "VIBEDREAM_BASE_URL",
    "daily_cap_cents": "REELSHEET_DAILY_CAP_USD",
}


def env_name(field: str) -> str:
    """The environment variable of a field of Settings."""
    return _ENV_NAMES.get(field, f"REELSHEET_{field.upper()}")


def _aliases(field: str) -> AliasChoices:
    return AliasChoices(env_name(field), field)  # the second one for callers in Python


class Settings(BaseSettings):
    """The settings of this process. `env_name` says how a field is named in the environment."""

    model_config = SettingsConfigDict(
        alias_generator=AliasGenerator(validation_alias=_aliases),
        case_sensitive=True,  # else MODEL or API_KEY of another program would be read
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    api_key: SecretStr | None = None
    base_url: str = "https://api.vibedream.ai"
    model: str = Field("i2v-pro", pattern=r"^[\w.:-]+$")
    ledger_url: str | None = None
    price_cents: int = Field(54, ge=1, le=QUOTE_LIMIT_CENTS)  # with a price of 0 no cap would hold before a quote
    daily_cap_cents: int | None = None
    submit_timeout: float = Field(60, gt=0)
    notify_url: SecretStr | None = None
    allow_private_hosts: bool = False
    s3_extra_args: str | None = None  # a JSON object; storage reads it from the environment, as boto3 reads AWS_*

    @property
    def is_play_money(self) -> bool:
        """The API is a sandbox on this machine, whose prices nobody pays."""
        return is_loopback_url(self.base_url)

    @property
    def account(self) -> str:
        """A hash of the API's address and key: processes with the same one use the same account."""
        key = self.api_key.get_secret_value() if self.api_key else ""
        return hashlib.sha256(f"{self.base_url} {key}".encode("utf-8", "surrogatepass")).hexdigest()

    @field_validator("api_key", mode="before")
    @classmethod
    def _bare_key(cls, value: object) -> object:
        """Without the quotes or the "Bearer " that were copied with it."""
        if not isinstance(value, str):
            return value
        bare = bare_key(value)
        if bare != value.strip():
            _warn("VIBEDREAM_API_KEY has quotes around it, or words before it; only the key itself is used.")
        return bare or None

    @field_validator("base_url")
    @classmethod
    def _https_or_loopback(cls, value: str) -> str:
        parts = urlsplit(value.strip().rstrip("/"))
        if not _is_plain(parts):
            raise ValueError("VIBEDREAM_BASE_URL must be an address like https://api.vibedream.ai")
        if parts.path.endswith("/api/v1"):  # it would be in each address twice, and every row refused
            raise ValueError("VIBEDREAM_BASE_URL must be given without the /api/v1 at its end")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ValueError("VIBEDREAM_BASE_URL must start with https:// (http:// is accepted on this machine only)")
        return normal_api(value)

    @field_validator("s3_extra_args")
    @classmethod
    def _arguments(cls, value: str | None) -> str | None:
        if value is not None:
            s3_extra_args.parse(value)
        return value

    @field_validator("daily_cap_cents", mode="before")
    @classmethod
    def _cents(cls, dollars: str | None) -> int | None:
        try:
            return None if dollars is None else cents(dollars)
        except ReelsheetError as error:
            raise ValueError(str(error).rstrip(".")) from None


def bare_key(text: str) -> str:
    """An API key without what people copy with it: "Bearer KEY", 'KEY', Authorization: Bearer KEY."""
    bare = ""
    while bare != text:
        bare, text = text, _AROUND_KEY.sub("", text)
    return bare


def normal_api(url: str) -> str:
    """An API's address as it counts: origin in small letters without its usual port, path without a slash at its end.

    https://API.vibedream.ai:443/ → https://api.vibedream.ai
    """
    parts = urlsplit(url.strip())
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(usual)}{parts.path.rstrip('/')}"


def _is_plain(parts: SplitResult) -> bool:
    """Only a scheme, a host, a port and a path: nothing that would change who gets the request, or with which key."""
    try:
        port = parts.port
    except ValueError:
        return False
    has_host = bool(parts.hostname) and port != 0 and "@" not in parts.netloc
    return has_host and not (parts.query or parts.fragment or re.search(r"[\s\\]", parts.netloc + parts.path))


def is_loopback(host: str) -> bool:
    """True for localhost and literal loopback addresses; no name is resolved."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback_url(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


def load_dotenv(path: Path = DOTENV) -> None:
    """Add what `.env` says to the environment, where it is not set yet, so that boto3 and Prefect see it as well."""
    written = _dotenv(path)
    refused = [name for name in refused_in_dotenv(path) if os.environ.get(name) != written[name]]
    if refused:
        _warn(f"{path} cannot set {visible(', '.join(refused))}. It can set only {DOTENV_RULE}")
    new = {name: value for name, value in written.items() if name not in os.environ}
    for address, *keys in _SENT_TO:
        elsewhere = [key for key in keys if os.environ.get(key)]
        if address in new and elsewhere:
            names = " and ".join(elsewhere)
            _warn(
                f"{address} comes from {path}: {clean_url(new[address])}. {names} from the environment is used there."
            )
    os.environ.update({name: value for name, value in new.items() if DOTENV_NAMES.fullmatch(name)})
    _from_dotenv.update(new)


def tell_of_key(address: str, key: str) -> None:
    """Where an address comes from `.env`: say that a key from elsewhere, such as a profile, is sent there."""
    if address in _from_dotenv:
        _warn(f"{address} comes from {DOTENV}: {clean_url(os.environ.get(address, ''))}. {key} is used there.")


def tell_of_endpoints(key: str) -> None:
    """The same for each address of an AWS service, one of which also gets a role's token."""
    for name in sorted(_from_dotenv):
        if name.startswith("AWS_ENDPOINT_URL"):
            tell_of_key(name, key)


def refused_in_dotenv(path: Path = DOTENV) -> list[str]:
    """The names in `.env` that it cannot set: they could make a program run, or send something elsewhere."""
    return [name for name in _dotenv(path) if not DOTENV_NAMES.fullmatch(name)]


def _dotenv(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); fix or remove it.") from error
    if any("\0" in f"{name}{value}" for name, value in values.items()):
        raise ConfigurationError(f"{path} is not UTF-8 text; save it as UTF-8, or remove it.")
    return {name: value for name, value in values.items() if value}


def _warn(message: str) -> None:
    """Once in a process: settings are loaded several times."""
    if message not in _warned:
        _warned.add(message)
        log.warning("%s", message)


def load() -> Settings:
    """Read them. Raises ConfigurationError, one sentence with everything that is wrong."""
    load_dotenv()
    try:
        settings = Settings()
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        told = "; ".join(_problem(str(problem["loc"][0]), problem["msg"]) for problem in problems)
        raise ConfigurationError(f"The settings cannot be used: {told}.") from None
    if settings.api_key is not None:
        register_secret(settings.api_key.get_secret_value())
    return settings


def _problem(name: str, words: str) -> str:
    """What is wrong with one setting; our own sentences begin with its name."""
    words = words.removeprefix("Value error, ")
    return words if words.startswith(f"{name} ") else f"{name}: {words}"


def env_names() -> frozenset[str]:
    """Every environment variable that Settings reads."""
    return frozenset(map(env_name, Settings.model_fields))


def state_home() -> Path:
    """$XDG_STATE_HOME/reelsheet, by default ~/.local/state/reelsheet. Raises ConfigurationError without a home."""
    base = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "state") / "reelsheet"
    except RuntimeError:
        raise ConfigurationError(
            "HOME is not set, and this user has no home folder; set HOME, or XDG_STATE_HOME and PREFECT_HOME."
        ) from None
