"""Every setting, read in one place: the environment first, then `.env` in the working folder.

A flag beats the environment beats `.env`. AWS_* and PREFECT_* are read by boto3 and Prefect themselves.
"""

import ipaddress
import os
import re
from functools import cached_property
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reelsheet.errors import ConfigurationError, ReelsheetError

DOTENV = Path(".env")


class Settings(BaseSettings):
    """What reelsheet is told by its surroundings. `vibedream_api_key` never shows in a repr."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True, env_ignore_empty=True)

    api_key: SecretStr | None = Field(None, validation_alias=AliasChoices("VIBEDREAM_API_KEY", "api_key"))
    base_url: str = Field("https://api.vibedream.ai", validation_alias=AliasChoices("VIBEDREAM_BASE_URL", "base_url"))
    model: str = Field("i2v-pro", validation_alias=AliasChoices("REELSHEET_MODEL", "model"), pattern=r"^[\w.:-]+$")
    ledger_url: str | None = Field(None, validation_alias=AliasChoices("REELSHEET_LEDGER_URL", "ledger_url"))
    price_cents: int = Field(54, ge=0, validation_alias=AliasChoices("REELSHEET_PRICE_CENTS", "price_cents"))
    daily_cap_usd: str | None = Field(None, validation_alias=AliasChoices("REELSHEET_DAILY_CAP_USD", "daily_cap_usd"))
    submit_timeout: float = Field(60, gt=0, validation_alias=AliasChoices("REELSHEET_SUBMIT_TIMEOUT", "submit_timeout"))
    notify_url: SecretStr | None = Field(None, validation_alias=AliasChoices("REELSHEET_NOTIFY_URL", "notify_url"))
    allow_private_hosts: bool = Field(
        False, validation_alias=AliasChoices("REELSHEET_ALLOW_PRIVATE_HOSTS", "allow_private_hosts")
    )

    @field_validator("base_url")
    @classmethod
    def _https_or_loopback(cls, value: str) -> str:
        parts = urlsplit(value.strip().rstrip("/"))
        if not _is_plain(parts):
            raise ValueError("VIBEDREAM_BASE_URL must be an address like https://api.vibedream.ai")
        if parts.path.endswith("/api/v1"):  # it would be asked for twice, and every row refused
            raise ValueError("VIBEDREAM_BASE_URL must be given without the /api/v1 at its end")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ValueError("VIBEDREAM_BASE_URL must start with https:// (http:// is accepted on this machine only)")
        return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path}"

    @field_validator("daily_cap_usd")
    @classmethod
    def _is_money(cls, value: str | None) -> str | None:
        from reelsheet.money import cents

        try:
            _ = value is None or cents(value)
        except ReelsheetError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return value

    @cached_property
    def daily_cap_cents(self) -> int | None:
        """REELSHEET_DAILY_CAP_USD in cents; None where there is none."""
        from reelsheet.money import cents

        return None if self.daily_cap_usd is None else cents(self.daily_cap_usd)


def _is_plain(parts: SplitResult) -> bool:
    """Scheme, host, perhaps a port and a path; nothing that would change who is asked, or with which key."""
    try:
        port = parts.port
    except ValueError:
        return False
    there = bool(parts.hostname) and port != 0 and "@" not in parts.netloc
    return there and not (parts.query or parts.fragment or re.search(r"[\s\\]", parts.netloc + parts.path))


def is_loopback(host: str) -> bool:
    """True for localhost and literal loopback addresses; no name is resolved."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_dotenv(path: Path = DOTENV) -> None:
    """Put `.env` into the environment, below what is there, so that boto3 and Prefect see it as well."""
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); mend or remove it.") from error
    for name, value in values.items():
        if value:
            os.environ.setdefault(name, value)


def load() -> Settings:
    """Settings of this process. Raises ConfigurationError with every complaint in one sentence."""
    load_dotenv()
    try:
        return Settings()
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"The settings cannot be used: {told}.") from None


def state_home() -> Path:
    """$XDG_STATE_HOME/reelsheet, by default ~/.local/state/reelsheet."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "reelsheet"
