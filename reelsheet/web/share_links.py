"""Share links, as people copy them out of a browser, turned into addresses that give the file itself.

    direct         Google Drive and Dropbox share link → direct download; anything else unchanged
    sheet_export   Google Sheets link → its CSV export (the tab that the link names); anything else unchanged

Nothing is fetched here. A row's identity is made of the address as the sheet gives it, never of these.
"""

import re
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

_DRIVE_HOSTS: Final = frozenset({"drive.google.com", "docs.google.com", "drive.usercontent.google.com"})
_DROPBOX_HOSTS: Final = frozenset({"dropbox.com", "www.dropbox.com", "m.dropbox.com"})
# An optional account ("u/0") or workspace domain ("a/shop.example") may stand in front.
_DRIVE_FILE: Final = re.compile(r"^(?:/a/[^/]+)?/file(?:/u/\d+)?/d/([\w-]{10,})(?:/|$)")
_DRIVE_BY_ID: Final = re.compile(r"^(?:/a/[^/]+)?(?:/u/\d+)?/(?:open|uc)/?$")
_DRIVE_ID: Final = re.compile(r"[\w-]{10,}")
# /s/… and /scl/fi/… are files; /sh/… and /scl/fo/… are folders, which no one can turn into a picture.
_DROPBOX_FILE: Final = re.compile(r"^/(?:s|scl/fi)/[^/]+/")
_SHEET: Final = re.compile(r"^(?:/a/[^/]+)?/spreadsheets(?:/u/\d+)?/d/(e/)?([\w-]{10,})(?:/(\w*))?/?$")
_GID: Final = re.compile(r"(?:^|[#&?])gid=(\d+)")


def direct(address: str) -> str:
    """A Google Drive or Dropbox share link as the address of the file's bytes; any other address unchanged."""
    parts = _split(address)
    if parts is None:
        return address
    host = parts.hostname or ""
    if host in _DRIVE_HOSTS:
        return _drive(parts) or address
    if host in _DROPBOX_HOSTS and _DROPBOX_FILE.match(parts.path):
        kept = [(key, value) for key, value in _query(parts) if key not in {"dl", "raw"}]
        return f"https://www.dropbox.com{parts.path}?{urlencode([*kept, ('dl', '1')])}"
    return address


def sheet_export(address: str, form: Literal["csv", "xlsx"] = "csv") -> str:
    """A Google Sheets link as its export; any other address, and what is an export already, unchanged.

    "csv" exports the tab that the link names (`gid`), else the first; "xlsx" exports all tabs.
    """
    parts = _split(address)
    match = _SHEET.match(parts.path) if parts is not None and parts.hostname == "docs.google.com" else None
    if parts is None or match is None:
        return address
    published, key, view = match.groups()
    if view in {"export", "gviz"} or (view == "pub" and "output=" in parts.query):
        return address
    gid = _GID.search(parts.fragment) or _GID.search(parts.query)
    parameters = {"gid": gid[1]} if gid and form == "csv" else {}
    if "resourcekey" in parts.query:
        parameters |= {key: value for key, value in _query(parts) if key == "resourcekey"}
    if published:
        single = {"single": "true"} if parameters else {}
        return f"https://docs.google.com/spreadsheets/d/e/{key}/pub?{urlencode({'output': form} | parameters | single)}"
    return f"https://docs.google.com/spreadsheets/d/{key}/export?{urlencode({'format': form} | parameters)}"


def is_google(address: str) -> bool:
    """True for a file or sheet that Google serves, where a page instead of a file means that it is not shared."""
    parts = _split(address)
    host = (parts.hostname or "") if parts else ""
    return host == "google.com" or host.endswith((".google.com", ".googleusercontent.com"))


def _drive(parts: SplitResult) -> str | None:
    query = dict(_query(parts))
    match = _DRIVE_FILE.match(parts.path)
    key = match[1] if match else query.get("id", "") if _DRIVE_BY_ID.match(parts.path) else ""
    if not _DRIVE_ID.fullmatch(key):
        return None
    # files shared before 2021 open only with the key that their link carries
    resource = f"&resourcekey={quote(query['resourcekey'])}" if "resourcekey" in query else ""
    return f"https://drive.google.com/uc?export=download&id={key}{resource}"


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return None
    return parts if parts.scheme in {"http", "https"} else None


def _query(parts: SplitResult) -> list[tuple[str, str]]:
    return parse_qsl(parts.query, keep_blank_values=True)
