"""AWS settings by value: in the environment and in the files of profiles, and those that botocore cannot mean.

botocore takes a mistyped boolean for False, never looks at what reelsheet sets itself, and names no file.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.problems import Problem

CHECKSUMS: Final = ("when_supported", "when_required")
REGIONAL: Final = ("legacy", "regional")
CHOICES: Final = {  # as botocore names the settings
    "retry_mode": ("legacy", "standard", "adaptive"),
    "request_checksum_calculation": CHECKSUMS,
    "response_checksum_validation": CHECKSUMS,
    "sts_regional_endpoints": REGIONAL,
    "us_east_1_regional_endpoint": REGIONAL,
    "addressing_style": ("auto", "virtual", "path"),
    "ec2_metadata_service_endpoint_mode": ("ipv4", "ipv6"),
    "defaults_mode": ("legacy", "auto", "standard", "in-region", "cross-region", "mobile"),
    "account_id_endpoint_mode": ("preferred", "disabled", "required"),
}
FALSE: Final = ("false", "0", "no", "off")  # botocore takes everything but "true" for it
SECTIONS: Final = ("s3", "api_versions", "proxies_config")
READ_DIRECTLY: Final = "AWS_EC2_METADATA_DISABLED"  # true or false; botocore has it in none of its tables
_FILES: Final = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One that is set: the name of its variable or line (`s3.addressing_style`), where people find it, its value."""

    name: str
    place: str
    value: str


def problems() -> Iterator[Problem]:
    """Values that botocore cannot mean."""
    from botocore import configprovider

    given = [*in_environment(), *in_profile()]  # the environment counts before the files
    for line in given:
        if line.name in SECTIONS:
            yield wrong.AWS_VALUE(line.place, reason="it is a heading: indent its lines, NAME = VALUE, below it")
    of_s3 = configprovider.DEFAULT_S3_CONFIG_VARS.items()
    for name, (line_names, variable, _, convert) in (*configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES.items(), *of_s3):
        names = {*_listed(variable), *_listed(line_names)}
        setting = next((setting for setting in given if setting.name in names), None)
        if setting and setting.value and (why := _why_unusable(name, setting.value, convert)):
            yield wrong.AWS_VALUE(setting.place, reason=f"{setting.value} is {why}")

    value = os.environ.get(READ_DIRECTLY, "")
    if value and (why := _why_unusable("", value, bool)):
        yield wrong.AWS_VALUE(READ_DIRECTLY, reason=f"{value} is {why}")


def _why_unusable(name: str, value: str, convert: Callable[..., Any] | None) -> str:
    if choices := CHOICES.get(name):
        return "" if value.lower() in choices else f"none of {', '.join(choices)}"
    if convert is int:
        return "" if value.strip().isdecimal() and int(value) > 0 else "no number above 0"
    if convert is not None:
        return "" if value.lower() in {"true", *FALSE} else "neither true nor false"
    return ""


def _listed(names: Any) -> list[str]:
    """botocore's names of one setting: none, one or several; those in a section are tuples."""
    several = names if isinstance(names, list) else [names]
    return [name if isinstance(name, str) else ".".join(name) for name in several if name]


def in_environment() -> list[Setting]:
    return [Setting(name, name, value) for name, value in sorted(os.environ.items()) if name.startswith("AWS_")]


def in_profile() -> Iterator[Setting]:
    """The lines of the profile in use, as far as its files can be read."""
    from botocore.configloader import load_config, raw_config_parse
    from botocore.exceptions import BotoCoreError

    for variable, usual in _FILES.items():
        path, profile = os.environ.get(variable) or usual, profile_name()
        try:
            content = load_config(path)["profiles"] if variable == "AWS_CONFIG_FILE" else raw_config_parse(path)
        except (BotoCoreError, UnicodeDecodeError):
            continue
        for name, value in _flat(content.get(profile, {})):
            yield Setting(name, f"{name} (profile {profile} in {path})", value)


def _flat(content: dict[str, Any], start: str = "") -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{start}{name}.")
        else:
            yield f"{start}{name}", str(value)


def profile_name() -> str:
    return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or "default"


def setting(variables: tuple[str, ...], *line_names: str) -> Setting:
    """Where a value comes from: a variable, else a line; the first variable, without a value, where none is set."""
    for name in variables:
        if value := os.environ.get(name):
            return Setting(name, name, value)
    found = [line for line in in_profile() if line.name in line_names]
    return found[0] if found else Setting(variables[0], variables[0], "")
