"""Proxies and certificates, as httpx, boto3 and Prefect's client read them from the environment."""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from reelsheet.redaction import clean, clean_url
from reelsheet.surroundings import aws_values
from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.problems import Problem

CONNECT_S: Final = 5.0  # to a proxy
_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_HOST: Final = re.compile(r"[^\s/\\@?#]+")
BROKEN: Final = "its host or port is none; signs like # / ? [ in a password must be percent-encoded"


def proxies() -> Iterator[Problem]:
    """Addresses of proxies that httpx cannot use: it reads them all, wherever a request goes."""
    import httpx

    found = False
    for scheme in ("http", "https", "all"):
        for problem in _address_problem(scheme):
            found = True
            yield problem
    if found:
        return
    try:
        httpx.Client(verify=False).close()  # noqa: S501 - no request is made
    except Exception as error:  # noqa: BLE001 - whatever httpx makes of what is left, which is NO_PROXY
        yield wrong.PROXY_BYPASS(_set_name("no_proxy"), reason=error)


def proxy_to(url: str, *, knows_all: bool = True) -> tuple[str, str] | None:
    """The proxy's address and the variable's name, where requests to `url` go through one.

    `knows_all` False is boto3, which does not read ALL_PROXY.
    """
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    for scheme in (parts.scheme, *(["all"] if knows_all else [])):
        address = getproxies_environment().get(scheme)
        if address:
            return _with_scheme(address), _set_name(f"{scheme}_proxy")
    return None


def way_to(url: str, *, knows_all: bool = True) -> Iterator[Problem]:
    """The proxy to `url`: can it be used, and does it take a connection?"""
    proxy = proxy_to(url, knows_all=knows_all)
    if proxy is None:
        return
    address, name = proxy
    problems = list(_address_problem(name.lower().removesuffix("_proxy"), socks=knows_all))
    yield from problems
    if problems:
        return
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), CONNECT_S).close()
    except OSError as error:
        yield wrong.PROXY_UNREACHABLE(name, address=shown(address), reason=reason(error), host=host_of(url))


def refused_by_proxy(url: str, error: Exception) -> Problem:
    """What a proxy's own answer means, such as 407."""
    address, name = proxy_to(url) or ("", "HTTPS_PROXY")
    return wrong.PROXY_REFUSES(name, address=shown(address), host=host_of(url), reason=error)


def _address_problem(scheme: str, *, socks: bool = True) -> Iterator[Problem]:
    given = getproxies_environment().get(scheme)
    if not given:
        return
    name = _set_name(f"{scheme}_proxy")
    address = _with_scheme(given.strip())
    if why := _why_malformed(address, given):
        yield wrong.PROXY_ADDRESS(name, address=shown(given), reason=why)
    elif urlsplit(address).scheme.startswith("socks") and not (socks and find_spec("socksio")):
        yield wrong.PROXY_SOCKS(name, address=shown(address), name=name)


def _why_malformed(address: str, given: str) -> str:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return BROKEN
    if parts.scheme not in _PORTS:
        return f"{parts.scheme}:// is no kind of proxy"
    if "://" not in given and re.match(r"[A-Za-z][\w+.-]*:/", given):
        return "// is missing"
    if re.search(r"\s", given.strip()):
        return "it holds a blank"
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        return "it has no host"
    return "it has no port that exists" if port == 0 else ""


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"


def _set_name(name: str) -> str:
    """As it is written in the environment; small letters win, as they do for the libraries."""
    return name if os.environ.get(name) else name.upper()


def certificates() -> Iterator[Problem]:
    """The files of certificates that httpx trusts."""
    import httpx

    if found := list(_folder("SSL_CERT_DIR")):
        yield from found
        return
    try:
        httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        name = next((name for name in wrong.TLS_SETUP.settings if os.environ.get(name)), "SSLKEYLOGFILE")
        yield from list(_bundle("SSL_CERT_FILE")) or [wrong.TLS_SETUP(name, reason=reason(error))]


def certificates_of_boto3() -> Iterator[Problem]:
    """boto3 has settings of its own for the same; the first one that is set counts."""
    setting = aws_values.setting(("AWS_CA_BUNDLE",), "ca_bundle")
    if not setting.value:
        setting = aws_values.setting(("REQUESTS_CA_BUNDLE",))
    yield from _bundle(setting.place, setting.value)


def certificates_of_prefect(path: str) -> Iterator[Problem]:
    """Prefect's client has a setting for a file of its own."""
    yield from _bundle("PREFECT_API_SSL_CERT_FILE", path)


def _bundle(name: str, path: str = "") -> Iterator[Problem]:
    path = path or os.environ.get(name, "")
    if not path:
        return
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        # a wrong SSLKEYLOGFILE fails here as well
        if not isinstance(error, FileNotFoundError) or not os.path.exists(path):  # noqa: PTH110 - any text
            yield wrong.CERTIFICATES(name, path=path, reason=reason(error))


def _folder(name: str) -> Iterator[Problem]:
    path = os.environ.get(name, "")
    if path and not os.environ.get("SSL_CERT_FILE"):
        folders = [folder for folder in path.split(os.pathsep) if folder]
        if not any(map(os.path.isdir, folders)):
            yield wrong.CERTIFICATES(name, path=path, reason="there is no such folder")


def untrusted(url: str, error: BaseException, setting: str = "") -> Problem | None:
    """The problem where TLS does not accept the certificate of `url`; None for every other error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            name = setting or next((n for n in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(n)), "SSL_CERT_FILE")
            return wrong.CERTIFICATE_UNTRUSTED(
                name, host=host_of(url), reason=getattr(cause, "verify_message", "") or reason(cause)
            )
        cause = cause.__cause__ or cause.__context__
    return None


def shown(address: str) -> str:
    """The address of a server or proxy without its login, also where a password breaks the address."""
    scheme = re.match(r"[A-Za-z][\w+.-]*:/+", address)
    _, at, place = address.rpartition("@")
    return clean_url(f"{scheme[0] if scheme else ''}{place}" if at else address)


def host_of(url: str) -> str:
    """The host of an address, for people."""
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


def reason(error: BaseException) -> str:
    """Why something failed, in few words: "Connection refused"."""
    if isinstance(error, ssl.SSLError):
        return (
            clean(re.sub(r" ?\(_ssl\.c:\d+\)|\[[\w: ]+\] ", "", str(error.args[-1])), limit=120) or "no PEM certificate"
        )
    text = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return clean(re.sub(r"^\[Errno -?\d+\] ", "", text), limit=160)
