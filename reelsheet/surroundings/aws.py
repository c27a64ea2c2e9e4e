"""AWS settings and credentials, as boto3 reads them. Its own errors rarely name the setting that is wrong."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from reelsheet.redaction import clean
from reelsheet.surroundings import network
from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.problems import Problem

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.credentials import Credentials

PROGRAM_S: Final = 60.0  # that a credential_process may take; somebody may have to type a code for it
CHOICES: Final = {  # of settings that reelsheet's own would hide from boto3
    "AWS_RETRY_MODE": ("legacy", "standard", "adaptive"),
    "AWS_REQUEST_CHECKSUM_CALCULATION": ("when_supported", "when_required"),
}
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SSO_ERRORS: Final = frozenset({"SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError", "SSOError"})
_ROLE_ERRORS: Final = frozenset({"InvalidConfigError", "InfiniteLoopConfigError", "UnknownCredentialError"})
_PROVIDERS: Final = {  # as botocore names where credentials come from
    "assume-role-with-web-identity": wrong.AWS_TOKEN_FILE,
    "custom-process": wrong.AWS_PROCESS,
    "container-role": wrong.AWS_CONTAINER,
    "assume-role": wrong.AWS_ROLE,
    "sso": wrong.AWS_SSO,
    "login": wrong.AWS_SSO,
}


def settings() -> Iterator[Problem]:
    """What can be told before a client is made."""
    yield from network.certificates_of_boto3()
    for name, choices in CHOICES.items():
        value = os.environ.get(name)
        if value and value.lower() not in choices:
            yield wrong.AWS_VALUE(name, reason=f"{value} is none of {', '.join(choices)}")
    attempts = os.environ.get("AWS_MAX_ATTEMPTS")
    if attempts and not (attempts.strip().isdecimal() and int(attempts) > 0):
        yield wrong.AWS_VALUE("AWS_MAX_ATTEMPTS", reason=f"{attempts} is no number above 0")
    for name in KEYS:
        value = os.environ.get(name, "")
        if value != value.strip() or not value.isprintable():
            yield wrong.AWS_VALUE(name, reason="it has a blank or a line end at its end, or a sign that no key has")
    name = endpoint_setting()
    if re.search(r"\s", address := os.environ.get(name, "")):
        yield wrong.AWS_ENDPOINT(name, address=f'"{network.shown(address)}"')


class _Program(subprocess.Popen[bytes]):
    """A credential_process, which botocore itself would wait for without an end."""

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:  # noqa: A002
        from botocore.exceptions import CredentialRetrievalError

        try:
            return super().communicate(input, PROGRAM_S if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            with self:  # not what it has started: in a group of its own it could not ask on the terminal
                self.kill()
            program = os.fsdecode(self.args[0]) if isinstance(self.args, list) else ""
            why = f"{program} did not end within {PROGRAM_S:g} s"
            raise CredentialRetrievalError(provider="custom-process", error_msg=why) from None


@cache
def limit_programs() -> None:
    """Let botocore wait for no credential_process longer than PROGRAM_S; it has no setting for that."""
    from botocore import credentials

    credentials.ProcessProvider = partial(credentials.ProcessProvider, popen=_Program)  # type: ignore[assignment,misc]


def mfa(session: "Session", credentials: "Credentials | None") -> Iterator[Problem]:
    """A role that asks for a code, where nobody could type it."""
    if credentials is None or credentials.method != "assume-role" or _has_terminal():
        return
    profiles = session._session.full_config.get("profiles", {})  # noqa: SLF001 - boto3 offers no other way
    name, seen = profile_name(), set[str]()
    while name and name not in seen:
        seen.add(name)
        settings_of = profiles.get(name, {})
        if "mfa_serial" in settings_of:
            yield wrong.AWS_MFA(_set("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), profile=name)
            return
        name = settings_of.get("source_profile", "")


def _has_terminal() -> bool:
    """Where a code is asked for: the terminal itself, whatever stdin is."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True


def problem_of(error: BaseException) -> Problem:
    """What is wrong where credentials cannot be had, or a client cannot be made."""
    name, why = type(error).__name__, _words(error)
    details: dict[str, Any] = getattr(error, "kwargs", {})
    profile = profile_name()
    in_profile = _set("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    if name == "ProfileNotFound":
        return wrong.AWS_PROFILE(in_profile, profile=details.get("profile", profile))
    if name in {"ConfigParseError", "UnicodeDecodeError"}:
        path = str(details.get("path", "")) or _file_of_profiles()
        is_credentials = path == os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or path.endswith("credentials")
        return wrong.AWS_FILE(
            "AWS_SHARED_CREDENTIALS_FILE" if is_credentials else "AWS_CONFIG_FILE", path=path, reason="it is damaged"
        )
    if name == "PartialCredentialsError":
        return wrong.AWS_INCOMPLETE(str(details.get("cred_var", "AWS_SECRET_ACCESS_KEY")).upper())
    if name == "InvalidRegionError":
        return wrong.AWS_REGION(_set(*wrong.AWS_REGION.settings), region=details.get("region_name", ""))
    if name == "ValueError" and "endpoint" in why:
        setting = endpoint_setting()
        return wrong.AWS_ENDPOINT(setting, address=network.shown(os.environ.get(setting, "")))
    if problem := problem_of_provider(error):
        return problem
    if name in _SSO_ERRORS:
        return wrong.AWS_SSO(in_profile, profile=profile, reason=why)
    if name in _ROLE_ERRORS and not _named_in(why):
        return wrong.AWS_ROLE(in_profile, reason=why)
    if "credential_process" in _profile_settings():
        return wrong.AWS_PROCESS(profile=profile, reason=why)
    named = _named_in(why) or [name for name, value in _of_environment() if value and value in why]
    return wrong.AWS_VALUE(" or ".join(named) or "The AWS settings", reason=why)


def problem_of_provider(error: BaseException) -> Problem | None:
    """Where botocore says which of its providers gives no credentials; None where it does not."""
    provider = str(getattr(error, "kwargs", {}).get("provider", ""))
    kind = _PROVIDERS.get(provider)
    return None if kind is None else kind(_set(*kind.settings), profile=profile_name(), reason=_words(error))


def _named_in(why: str) -> list[str]:
    """The settings that botocore's words name, as a variable or as a line of the configuration file."""
    names = [name for name, _ in _of_environment() if name not in wrong.AWS_ROLE.settings]
    return [name for name in names if name in why or ("_" in (line := name[4:].lower()) and line in why)]


def _of_environment() -> list[tuple[str, str]]:
    return sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))


def endpoint_setting() -> str:
    """The name under which the address of the S3 in use is set."""
    return _set(*wrong.AWS_ENDPOINT.settings)


def profile_name() -> str:
    return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or "default"


def _profile_settings() -> dict[str, Any]:
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    try:
        return dict(get_session().get_scoped_config())
    except BotoCoreError:
        return {}


def _file_of_profiles() -> str:
    return os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config"


def _set(*names: str) -> str:
    """The first of them that is set; the first, where none is."""
    return next((name for name in names if os.environ.get(name)), names[0])


def _words(error: BaseException) -> str:
    details: dict[str, Any] = getattr(error, "kwargs", {})
    words = details.get("error_msg")
    if isinstance(error, OSError):
        named = f": {error.filename}" if error.filename else ""
        return clean(f"{network.reason(error)}{named}", limit=160)
    if isinstance(error, ValueError) and type(error).__name__ == "JSONDecodeError":
        return "its answer is no JSON"
    if isinstance(error, KeyError):
        return f"its answer lacks {error}"
    return clean(str(error if words is None else words).strip() or "it gives no reason", limit=160)
