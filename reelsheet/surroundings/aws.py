"""AWS settings and credentials, as boto3 reads them. Its own errors rarely name the setting that is wrong."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from reelsheet.redaction import clean
from reelsheet.surroundings import aws_values, network
from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.problems import Problem

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.credentials import Credentials

PROGRAM_S: Final = 60.0  # that a credential_process may take; somebody may have to type a code for it
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SSO_ERRORS: Final = frozenset({"SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError", "SSOError"})
_ROLE_ERRORS: Final = frozenset({"InvalidConfigError", "InfiniteLoopConfigError", "UnknownCredentialError"})
_LINES_OF_ROLES: Final = ("role_arn", "source_profile", "credential_source")
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
    yield from aws_values.problems()
    for name in KEYS:
        value = os.environ.get(name, "")
        if value != value.strip() or not value.isprintable():
            yield wrong.AWS_VALUE(name, reason="it has a blank or a line end at its end, or a sign that no key has")
    endpoint = _endpoint()
    if re.search(r"\s", endpoint.value):
        yield wrong.AWS_ENDPOINT(endpoint.place, address=f'"{network.shown(endpoint.value)}"')


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
    name, seen = aws_values.profile_name(), set[str]()
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
    profile = aws_values.profile_name()
    in_profile = _set("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    if name == "ProfileNotFound":
        return wrong.AWS_PROFILE(in_profile, profile=details.get("profile", profile))
    if name in {"ConfigParseError", "UnicodeDecodeError"}:
        path = str(details.get("path", "")) or os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config"
        is_credentials = path == os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or path.endswith("credentials")
        return wrong.AWS_FILE(
            "AWS_SHARED_CREDENTIALS_FILE" if is_credentials else "AWS_CONFIG_FILE", path=path, reason="it is damaged"
        )
    if name == "PartialCredentialsError":
        return wrong.AWS_INCOMPLETE(str(details.get("cred_var", "AWS_SECRET_ACCESS_KEY")).upper())
    if name == "InvalidRegionError":
        region = aws_values.setting(wrong.AWS_REGION.settings, "region")
        return wrong.AWS_REGION(region.place, region=details.get("region_name", ""))
    if name == "ValueError" and "Invalid endpoint: " in why:
        address = why.partition("Invalid endpoint: ")[2]
        return wrong.AWS_ENDPOINT(endpoint_setting(), address=network.shown(address))
    if problem := problem_of_provider(error):
        return problem
    if name in _SSO_ERRORS:
        return wrong.AWS_SSO(in_profile, profile=profile, reason=why)
    given = [*aws_values.in_environment(), *aws_values.in_profile()]
    named = [setting.place for setting in given if _is_named(setting, why)]
    if name in _ROLE_ERRORS and not named:
        return wrong.AWS_ROLE(in_profile, reason=why)
    if any(setting.name == "credential_process" for setting in given):
        return wrong.AWS_PROCESS(profile=profile, reason=why)
    values = [setting for setting in given if setting.name.upper() not in KEYS and setting.value]
    named = named or [setting.place for setting in values if setting.value in why]
    return wrong.AWS_VALUE(" or ".join(named) or "The AWS settings", reason=why)


def problem_of_provider(error: BaseException) -> Problem | None:
    """Where botocore says which of its providers gives no credentials; None where it does not."""
    provider = str(getattr(error, "kwargs", {}).get("provider", ""))
    kind = _PROVIDERS.get(provider)
    return None if kind is None else kind(_set(*kind.settings), profile=aws_values.profile_name(), reason=_words(error))


def _is_named(setting: aws_values.Setting, why: str) -> bool:
    """Whether botocore's words name it, as a variable or as a line; the name of a role's setting says less."""
    line_name = setting.name.removeprefix("AWS_").lower()
    is_of_role = setting.name in wrong.AWS_ROLE.settings or line_name in _LINES_OF_ROLES
    return not is_of_role and (setting.name in why or ("_" in line_name and line_name in why))


def endpoint_setting() -> str:
    """Where a person finds the address of the S3 in use."""
    return _endpoint().place


def _endpoint() -> aws_values.Setting:
    return aws_values.setting(wrong.AWS_ENDPOINT.settings, "endpoint_url", "services")


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
