"""A picture's address as it stands in a cell: which it is, and whether a provider could fetch it at all.

Only what needs no look-up is checked here; whether the picture is there is the preflight's question.
"""

import ipaddress
import re
import socket
from contextlib import suppress
from typing import Final
from urllib.parse import unquote, urlsplit

from reelsheet.manifest.columns import INVISIBLE
from reelsheet.redaction import clean, clean_url
from reelsheet.web import addresses

LONGEST: Final = 8_192  # characters
LONGEST_PATH: Final = 1_024  # characters, of a file's
BACKSLASH: Final = "\\"
# What programs and people write for nothing.
PLACEHOLDERS: Final = frozenset(
    (
        *("nan", "none", "null", "nil", "n/a", "na", "n.a.", "undefined", "-", "--", "?", "tbd", "todo"),
        *("#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!", "#error!"),
    )
)
_LONGEST_HOST: Final = 253  # of DNS
CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# An ordinary public address needs no further check: its host ends in letters, and nothing in it could divide two.
_ORDINARY: Final = re.compile(
    r"https?://(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?!localhost/)[a-z]{2,24}/[\w./?=&%+~:#!$()*'-]+",
    re.ASCII | re.IGNORECASE,
)
# blanks are taken from their first one on: to begin anew at each of thousands would take minutes
_NEXT: Final = re.compile(r"(?<!\s)(?:\s*[,;|]\s*|\s+(?:[/&+•·-]\s+)?)(?=(?:https?|s3)://)", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NO_SCHEME: Final = re.compile(r"(?://)?((?:[\w-]+\.)+[a-z]{2,24}(?::\d+)?/\S*)", re.IGNORECASE)
_ON_DISK: Final = re.compile(
    r"(?:[a-z]:[\\/]|\\\\|\.{0,2}/).*|[^:]*\.(?:jpe?g|png|gif|webp|heic|tiff?|bmp|avif|svg)", re.IGNORECASE
)
_NUMERIC_HOST: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)
_HOST: Final = re.compile(r"[\w.-]+|[0-9a-f:.]+(?:%.*)?", re.IGNORECASE)
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_SPACE: Final = re.compile(r"\s")
_BLANK: Final = "".join(filter(str.isspace, map(chr, range(0x3001)))) + INVISIBLE


def is_ordinary(cell: str) -> bool:
    """True for a cell that holds one plain public address and nothing else; a quick test that most cells pass."""
    return len(cell) <= LONGEST and _ORDINARY.fullmatch(cell) is not None


def is_address(text: str) -> bool:
    """True when `text` begins like an address that can be used."""
    return text[:8].lower().startswith(("https://", "http://", "s3://"))


def looks_like_file(text: str) -> bool:
    """True for a path, and for a name that ends as pictures' names do."""
    return _ON_DISK.fullmatch(text) is not None and _NO_SCHEME.fullmatch(text) is None


def may_be_file(text: str) -> bool:
    """True for what is no address and might be the name of a file: where there is one, it is the picture."""
    scheme = (_SCHEME.match(text) or [""])[0].lower()
    is_name = text.casefold() not in {"", *PLACEHOLDERS} and len(text) <= LONGEST_PATH and text.isprintable()
    return is_name and "://" not in text and scheme not in {"data:", "file:", "http:", "https:", "s3:"}


def split_addresses(text: str) -> list[str]:
    """The addresses in a cell, divided by commas (also `;`, `|`, blanks, line ends) that another address follows."""
    parts = _NEXT.split(text)
    return [part.rstrip(",;| \t\r\n") if is_address(part) else part for part in parts]


def strip_blanks(text: str) -> str:
    """Without white space and invisible characters at either end."""
    return text.strip(_BLANK)


def quoted(address: str) -> str:
    """An address for a message: short, without signatures."""
    return f"'{clean(clean_url(address[:500]), limit=80)}'"


def validation_error(address: str, *, allow_private: bool) -> str:
    """What is wrong with an address, as a sentence without a capital letter; "" when nothing is."""
    if not address:
        return "the cell is empty; it needs the picture's web address."
    if address.casefold() in PLACEHOLDERS:
        return f"'{address}' is no web address; put the picture's address there."
    if len(address) > LONGEST:
        return f"the address has {len(address):,} characters, more than the {LONGEST:,} that are taken."
    if CONTROL.search(address) or any(sign in address for sign in INVISIBLE):
        return "the address holds an invisible character; type or copy it again."
    scheme = (_SCHEME.match(address) or [""])[0].lower()
    if not is_address(address):
        return _scheme_error(address, scheme)
    if scheme == "s3:":
        return _s3_error(address)
    return _web_error(address, allow_private=allow_private)


def _scheme_error(address: str, scheme: str) -> str:
    if scheme == "data:":
        return "the cell holds the picture itself (data:); put the picture online and give its https:// address."
    if bare := _NO_SCHEME.fullmatch(address):
        return f"the address has no https:// in front; did you mean {quoted('https://' + bare[1])}?"
    if scheme == "file:":
        return (
            f"{quoted(address)} is a file on a computer; put the picture beside the sheet, or into the folder that"
            f" --pictures names, and write {quoted(unquote(address).replace(BACKSLASH, '/').rpartition('/')[2])} alone."
        )
    if looks_like_file(address):
        return (
            f"{quoted(address)} is a file on a computer, which the provider cannot see. Name its folder with --pictures"
            " FOLDER, so that it is uploaded, or put it online and give its https:// address."
        )
    if scheme in {"http:", "https:", "s3:"}:
        return f"{quoted(address)} is no valid address; two slashes must follow {scheme}"
    if "://" in address:
        return f"{quoted(address)} is no address that can be used; it must begin with https://, http:// or s3://."
    return (
        f"{quoted(address)} is neither an address, which must begin with https://, http:// or s3://, nor the name of a"
        " picture's file in the sheet's folder or in --pictures."
    )


def _s3_error(address: str) -> str:
    bucket, _, key = address[len("s3://") :].partition("/")
    if not _BUCKET.fullmatch(bucket):
        return f"{quoted(address)} names no valid bucket; it must read s3://bucket/key."
    if not key or key.endswith("/"):
        return f"{quoted(address)} names no file in the bucket; it must read s3://bucket/key."
    return ""


def _web_error(address: str, *, allow_private: bool) -> str:
    if space := _SPACE.search(address):
        if space[0] != " ":
            return f"{quoted(address)} has an odd space inside (U+{ord(space[0]):04X}); copy the address again."
        return f"{quoted(address)} has a space inside; write it as %20, or put commas between several addresses."
    if "\\" in address:
        return f"{quoted(address)} has a backslash inside; web addresses have slashes (/)."
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises for a port that is none
    except ValueError:
        return f"{quoted(address)} is no valid web address; copy it again from the browser."
    if "@" in parts.netloc:
        return "the address holds a user name or password, which would be passed on; give one without."
    host = (parts.hostname or "").rstrip(".")
    if host in {"", "http", "https"} or len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        return f"{quoted(address)} names no valid host; copy the address again from the browser."
    literal = _literal(host)
    if literal is not None and not addresses.permitted(literal, allow_private=allow_private):
        return (
            f"{quoted(address)} leads into a private network, where the provider cannot fetch it; use a public address."
        )
    return ""


def _literal(host: str) -> addresses.IPAddress | None:
    """The IP address that a host stands for without a look-up, in any spelling that systems take; else None."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    with suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    if _NUMERIC_HOST.fullmatch(host):
        with suppress(OSError):
            return ipaddress.IPv4Address(socket.inet_aton(host))  # takes 127.1, 0x7f000001, 2130706433 and 0177.0.0.1
    return None
