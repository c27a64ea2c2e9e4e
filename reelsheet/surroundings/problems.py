"""Everything that is known to go wrong around a run, with its fix. Each is a row of docs/troubleshooting.md."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from reelsheet.errors import ConfigurationError
from reelsheet.redaction import clean

NOTHING_SPENT: Final = "Nothing was spent."


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong thing: the setting's name, what is seen, how to fix it."""

    setting: str
    seen: str
    fix: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.seen}. {self.fix}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. `seen` has {placeholders}; `settings` are the names that it can have."""

    settings: tuple[str, ...]
    seen: str
    fix: str

    def __call__(self, setting: str = "", /, **values: object) -> Problem:
        """The problem itself; `values` fill the placeholders, without secrets. `setting`: the first name, if none."""
        shown = {name: clean(str(value), limit=160).rstrip(". ") for name, value in values.items()}
        return Problem(setting or self.settings[0], self.seen.format(**shown), self.fix.format(**shown))


class UnusableSurroundings(ConfigurationError):
    """Something around the run is wrong; `problems` says what."""

    def __init__(self, problems: list[Problem], *, ending: str = NOTHING_SPENT) -> None:
        super().__init__(" ".join((*map(str, problems), *([ending] if ending else []))))
        self.problems = problems


def demand(*checks: Iterable[Problem], ending: str = NOTHING_SPENT) -> None:
    """Raises UnusableSurroundings where a check finds something; the first such check speaks.

    `ending` is the last sentence: none where a run may be under way.
    """
    for check in checks:
        if problems := list(dict.fromkeys(check)):
            raise UnusableSurroundings(problems, ending=ending)


def within(limit_s: float, check: Callable[[], Iterable[Problem]], late: Problem) -> list[Problem]:
    """What `check` finds; `late` where it takes longer. Its thread is then left alone: a look-up cannot be ended."""
    results: list[list[Problem] | Exception] = []

    def run() -> None:
        try:
            results.append(list(check()))
        except Exception as error:  # noqa: BLE001 - raised below
            results.append(error)

    thread = threading.Thread(target=run, name="reelsheet-surroundings", daemon=True)
    thread.start()
    thread.join(limit_s)
    found = results[0] if results else [late]
    if isinstance(found, Exception):
        raise found
    return found


_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_CERTIFICATES_OF_PREFECT: Final = "PREFECT_API_SSL_CERT_FILE"

# Prefect

SERVER_ADDRESS: Final = Kind(
    ("PREFECT_API_URL",),
    "{address} is no address of a server ({reason})",
    "Write it like http://HOST:4200/api, or unset it.",
)
SERVER_UNREACHABLE: Final = Kind(
    ("PREFECT_API_URL",),
    "{address} cannot be reached ({reason})",
    "Start that server (`prefect server start`), correct the address, or unset it.",
)
SERVER_SILENT: Final = Kind(
    ("PREFECT_API_URL",),
    "{address} does not answer within {seconds} s",
    "Restart that server, correct the address, or unset it.",
)
SERVER_ELSEWHERE: Final = Kind(
    ("PREFECT_API_URL",),
    "{address} is not Prefect's API ({reason})",
    "Give the address of the API, which ends in /api (http://HOST:4200/api), or unset it.",
)
SERVER_UNWELL: Final = Kind(
    ("PREFECT_API_URL",),
    "{address} answers HTTP {status}",
    "Look at that server and what is in front of it, or unset the setting.",
)
SERVER_KEY: Final = Kind(
    ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"),
    "{address} refuses it (HTTP {status})",
    "Correct it: a server of your own takes PREFECT_API_AUTH_STRING, Prefect Cloud takes PREFECT_API_KEY.",
)
SERVER_NO_KEY: Final = Kind(
    ("PREFECT_API_AUTH_STRING",),
    "{address} asks for a login (HTTP {status}), and none is set",
    "Set it to USER:PASSWORD of that server; Prefect Cloud takes PREFECT_API_KEY instead.",
)
SERVER_VERSION: Final = Kind(
    ("PREFECT_API_URL",),
    "{address} runs Prefect {running}, and this is {installed}",
    "Use the same major version on both sides, or unset it.",
)
PROFILES_FILE: Final = Kind(
    ("PREFECT_PROFILES_PATH",),
    "{path} cannot be read ({reason})",
    "Correct or remove the file; set PREFECT_PROFILES_PATH if it is not the one you mean.",
)
PROFILE_UNKNOWN: Final = Kind(
    ("PREFECT_PROFILE",),
    "there is no profile {profile} in {path}",
    "Choose one that exists (`prefect profile ls`), in PREFECT_PROFILE or as `active` in that file.",
)
PREFECT_HOME: Final = Kind(
    ("PREFECT_HOME",),
    "{path} cannot be used by Prefect's embedded server ({reason})",
    "Set it to a folder that can be written, with some room.",
)
PREFECT_DATABASE_FILE: Final = Kind(
    ("PREFECT_HOME",),
    "{path} is no database",
    "Move that file away (Prefect makes a new one), or set PREFECT_HOME to another folder.",
)
PREFECT_DATABASE: Final = Kind(
    ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"),
    "{address} cannot be used by Prefect's embedded server ({reason})",
    "Correct it, or unset it to use a file in PREFECT_HOME.",
)
PREFECT_LOGGING: Final = Kind(
    ("PREFECT_LOGGING_SETTINGS_PATH", "PREFECT_LOGGING_CONFIG_PATH"),
    "{path} cannot be used ({reason})",
    "Correct it, or unset it.",
)
PREFECT_STORAGE: Final = Kind(
    ("PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK", "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK"),
    "Prefect's server has no block {block} ({reason})",
    "Name one that it has as TYPE/NAME (`prefect block ls`), or unset it.",
)
PREFECT_VALUE: Final = Kind(
    ("PREFECT_*",),
    "Prefect does not accept its value ({reason})",
    "Correct it, or unset it.",
)

# Network

PROXY_ADDRESS: Final = Kind(
    _PROXIES,
    "{address} is no address of a proxy ({reason})",
    "Write it like http://HOST:3128, or unset it.",
)
PROXY_SOCKS: Final = Kind(
    _PROXIES,
    "SOCKS proxies ({address}) are not supported here",
    "Use an http:// proxy, or unset it (`env -u {name} reelsheet …`).",
)
PROXY_UNREACHABLE: Final = Kind(
    _PROXIES,
    "the proxy {address} cannot be reached ({reason})",
    "Start or correct it, unset it, or add {host} to NO_PROXY.",
)
PROXY_REFUSES: Final = Kind(
    _PROXIES,
    "the proxy {address} refuses to connect to {host} ({reason})",
    "Correct the proxy or its login, unset it, or add {host} to NO_PROXY.",
)
PROXY_BYPASS: Final = Kind(
    ("NO_PROXY",),
    "it cannot be read ({reason})",
    "Write host names, separated by commas.",
)
CERTIFICATES: Final = Kind(
    (*_CERTIFICATES, _CERTIFICATES_OF_PREFECT),
    "{path} cannot be used as certificates ({reason})",
    "Set it to a file of PEM certificates (SSL_CERT_DIR: to a folder of them), or unset it.",
)
TLS_SETUP: Final = Kind(
    ("SSLKEYLOGFILE", "OPENSSL_CONF"),
    "TLS cannot be set up with it ({reason})",
    "Correct it, or unset it.",
)
CERTIFICATE_UNTRUSTED: Final = Kind(
    ("SSL_CERT_FILE", "SSL_CERT_DIR", _CERTIFICATES_OF_PREFECT),
    "the certificate of {host} is not trusted ({reason})",
    "If a proxy or a certificate authority of your organisation is in between, set it to that authority's PEM file; "
    "else correct or unset it.",
)

# The provider

PROVIDER_REDIRECTS: Final = Kind(
    ("VIBEDREAM_BASE_URL",),
    "{address} redirects to {target} (HTTP {status}), and no redirect is followed",
    "Set it to the address of the API itself, or unset it.",
)
PROVIDER_ELSEWHERE: Final = Kind(
    ("VIBEDREAM_BASE_URL",),
    "{address} answers with {page}, and an API answers in JSON",
    "Correct or unset it. If the page asks to sign in to this network, do that first.",
)

# AWS

AWS_PROFILE: Final = Kind(
    ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
    "there is no profile {profile}",
    "Name one of ~/.aws/config (`aws configure list-profiles`), or unset it.",
)
AWS_FILE: Final = Kind(
    ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    "{path} cannot be read ({reason})",
    "Correct the file: [profile NAME] lines, and below each NAME = VALUE.",
)
AWS_PROCESS: Final = Kind(
    ("credential_process",),
    "the program of the profile {profile} gives no credentials ({reason})",
    "Run it by hand and repair it, or use another AWS_PROFILE.",
)
AWS_TOKEN_FILE: Final = Kind(
    ("AWS_WEB_IDENTITY_TOKEN_FILE",),
    "it gives no credentials ({reason})",
    "Correct the path, AWS_ROLE_ARN and the role's trust policy, or unset it.",
)
AWS_MFA: Final = Kind(
    ("AWS_PROFILE",),
    "the profile {profile} asks for an MFA code, and there is no terminal to type it",
    "Sign in first and set the temporary keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), "
    "or use a profile without MFA.",
)
AWS_SSO: Final = Kind(
    ("AWS_PROFILE",),
    "the sign-in of the profile {profile} is missing or has ended ({reason})",
    "Run `aws sso login --profile {profile}`.",
)
AWS_ROLE: Final = Kind(
    ("AWS_PROFILE", "AWS_ROLE_ARN"),
    "the role gives no credentials ({reason})",
    "Correct the role, its source_profile and its trust policy.",
)
AWS_CONTAINER: Final = Kind(
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    "it gives no credentials ({reason})",
    "Correct or unset it; the container's platform sets it.",
)
AWS_INCOMPLETE: Final = Kind(
    ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    "it is missing, though the other half of the key is set",
    "Set both, or neither.",
)
AWS_ENDPOINT: Final = Kind(
    ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "{address} is no address of an S3",
    "Write it like https://s3.example.com, or unset it for Amazon's.",
)
AWS_REGION: Final = Kind(
    ("AWS_DEFAULT_REGION", "AWS_REGION"),
    "{region} is no name of a region",
    "Write it like eu-central-1.",
)
AWS_VALUE: Final = Kind(
    ("AWS_*",),
    "boto3 does not accept it ({reason})",
    "Correct it, or unset it.",
)

# Notifications

NOTIFICATION: Final = Kind(
    ("REELSHEET_NOTIFY_URL",),
    "it is no address that Apprise understands, or one of several is none",
    "Write it like slack://…, mailto://… or json://host/path, or unset it.",
)

# This machine

HOME_UNKNOWN: Final = Kind(
    ("HOME",),
    "it is not set, and this user has no home folder",
    "Set HOME, or XDG_STATE_HOME and PREFECT_HOME, to folders that can be written.",
)
STATE_FOLDER: Final = Kind(
    ("XDG_STATE_HOME",),
    "{path} cannot be written ({reason})",
    "Set it to a folder that can be written, with some room.",
)
TEMPORARY_FOLDER: Final = Kind(
    ("TMPDIR",),
    "there is no folder for temporary files ({reason})",
    "Set it to a folder that exists and can be written.",
)
TIME_ZONE: Final = Kind(
    ("TZ",),
    "{zone} is no time zone",
    "Write it like Europe/Berlin or UTC, or unset it.",
)
OPEN_FILES: Final = Kind(
    ("ulimit -n",),
    "this process may open {limit} files, and a run needs {needed}",
    "Raise the limit (`ulimit -n 1024`; LimitNOFILE in systemd, `ulimits` in Compose).",
)
MEMORY: Final = Kind(
    ("ulimit -v",),
    "this process may have {limit} MB of addresses, and a run needs {needed}, though it fills much less",
    "Raise the limit (`ulimit -v unlimited`); to limit memory itself, use a control group or a container.",
)
FILE_SIZE: Final = Kind(
    ("ulimit -f",),
    "this process may write {limit} MB into one file, and a run needs {needed}",
    "Raise the limit (`ulimit -f unlimited`; LimitFSIZE in systemd).",
)
THREADS: Final = Kind(
    ("ulimit -u",),
    "this process may start {limit} threads, and a run needs {needed}",
    "Raise the limit (`ulimit -u`; TasksMax in systemd, `pids_limit` in Compose).",
)

KINDS: Final = tuple(value for value in globals().values() if isinstance(value, Kind))


def table() -> list[tuple[str, str, str]]:
    """Setting, what is seen, fix: the rows of docs/troubleshooting.md, with placeholders in capitals."""

    def shown(text: str) -> str:
        for part in {*text.split("{")[1:]}:
            name = part.partition("}")[0]
            text = text.replace(f"{{{name}}}", name.upper())
        return text

    return [(", ".join(f"`{name}`" for name in kind.settings), shown(kind.seen), shown(kind.fix)) for kind in KINDS]
