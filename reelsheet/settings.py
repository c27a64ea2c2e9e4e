"""Every setting, read in one place: the environment first, then `.env` in the working folder.

A flag beats the environment beats `.env`. AWS_* and PREFECT_* are read by boto3 and Prefect themselves.
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AliasChoices, AliasGenerator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reelsheet.errors import ConfigurationError, ReelsheetError
from reelsheet.money import cents

DOTENV = Path(".env")


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
    price_cents: int = Field(54, ge=0)
    daily_cap_cents: int | None = None
    submit_timeout: float = Field(60, gt=0)
    notify_url: SecretStr | None = None
    allow_private_hosts: bool = False

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
        return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path}"

    @field_validator("daily_cap_cents", mode="before")
    @classmethod
    def _cents(cls, dollars: str | None) -> int | None:
        try:
            return None if dollars is None else cents(dollars)
        except ReelsheetError as error:
            raise ValueError(str(error).rstrip(".")) from None


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
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); fix or remove it.") from error
    for name, value in values.items():
        if value:
            os.environ.setdefault(name, value)


def load() -> Settings:
    """Read them. Raises ConfigurationError, one sentence with everything that is wrong."""
    load_dotenv()
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"The settings cannot be used: {problems}.") from None


def env_names() -> frozenset[str]:
    """Every environment variable that Settings reads."""
    return frozenset(map(env_name, Settings.model_fields))


def state_home() -> Path:
    """$XDG_STATE_HOME/reelsheet, by default ~/.local/state/reelsheet."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "reelsheet"
