"""Share links, as people copy them out of a browser, turned into addresses that give the file itself.

    direct         Google Drive and Dropbox share link → direct download; anything else unchanged
    canonical      one form for every spelling of one share link, for an identity; anything else unchanged
    is_fleeting    an address in which nothing stays the same from one export to the next
    sheet_export   Google Sheets link → its CSV export (the tab that the link names); anything else unchanged

Nothing is fetched here. A row's identity is made of the canonical form, never of the download's address.
"""

import re
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

_DRIVE_HOSTS: Final = frozenset({"drive.google.com", "docs.google.com", "drive.usercontent.google.com"})
_DROPBOX_HOSTS: Final = frozenset({"dropbox.com", "www.dropbox.com", "m.dropbox.com"})
_DROPBOX_DOWNLOADS: Final = frozenset({"dl.dropbox.com", "dl.dropboxusercontent.com"})
# An optional account ("u/0") or workspace domain ("a/shop.example") may stand in front.
_DRIVE_FILE: Final = re.compile(r"^(?:/a/[^/]+)?/file(?:/u/\d+)?/d/([\w-]{10,})(?:/|$)")
_DRIVE_BY_ID: Final = re.compile(r"^(?:/a/[^/]+)?(?:/u/\d+)?/(?:open|uc|download)/?$")
_DRIVE_ID: Final = re.compile(r"[\w-]{10,}")
# /s/… and /scl/fi/… are files; /sh/… and /scl/fo/… are folders, which no one can turn into a picture.
_DROPBOX_FILE: Final = re.compile(r"^/(?:s|scl/fi)/[^/]+/")
_ANY_SHARE_HOST: Final = re.compile(r"google\.|dropbox|sharepoint|1drv", re.IGNORECASE)
# How the link was copied, and to whom it was shown; which file it is stands in the path.
_DROPBOX_COPYING: Final = frozenset({"dl", "raw", "st", "e"})
_SHAREPOINT_HOST: Final = re.compile(r"[\w-]+\.sharepoint\.(?:com|cn|us|de)")
_SHAREPOINT_FILE: Final = re.compile(r"/:\w:/.+")
_SHAREPOINT_COPYING: Final = frozenset({"e", "csf", "web"})
# Hosts and paths whose addresses are made anew for each export and name nothing that lasts.
_FLEETING: Final = re.compile(
    r"(?:[\w-]+\.)*airtableusercontent\.com/|dl\.airtable\.com/|[\w.-]+\.files\.1drv\.com/"
    r"|dl\d*\.boxcloud\.com/|uc[\w-]+\.dl\.dropboxusercontent\.com/|[\w-]+\.googleusercontent\.com/docs/securesc/"
)
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


def canonical(address: str) -> str:
    """One form for all spellings of one Drive, Dropbox, SharePoint or OneDrive share link; else unchanged.

    Two pictures never become one: what names the file stays.
    """
    parts = _split(address) if _ANY_SHARE_HOST.search(address) else None  # a sheet has many addresses
    if parts is None:
        return address
    host = parts.hostname or ""
    if host in _DRIVE_HOSTS:
        key = _drive_key(parts)
        return f"https://drive.google.com/file/d/{key}" if key else address
    if host in _DROPBOX_HOSTS | _DROPBOX_DOWNLOADS and _DROPBOX_FILE.match(parts.path):
        return _without(parts, "www.dropbox.com", _DROPBOX_COPYING)
    if _SHAREPOINT_HOST.fullmatch(host) and _SHAREPOINT_FILE.fullmatch(parts.path):
        return _without(parts, host, _SHAREPOINT_COPYING)
    if host == "1drv.ms":
        return _without(parts, host, frozenset({"e"}))
    return address


def is_fleeting(address: str) -> bool:
    """True where nothing in an address stays the same from one export to the next, as with Airtable's."""
    parts = _split(address)
    return parts is not None and _FLEETING.match(f"{parts.hostname}{parts.path}") is not None


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


def _drive_key(parts: SplitResult) -> str:
    """The id of a file in Google Drive; "" where the address names none."""
    match = _DRIVE_FILE.match(parts.path)
    key = match[1] if match else dict(_query(parts)).get("id", "") if _DRIVE_BY_ID.match(parts.path) else ""
    return key if _DRIVE_ID.fullmatch(key) else ""


def _drive(parts: SplitResult) -> str | None:
    query, key = dict(_query(parts)), _drive_key(parts)
    if not key:
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


def _without(parts: SplitResult, host: str, dropped: frozenset[str]) -> str:
    """The address at `host` without some parameters and without its fragment."""
    kept = "&".join(pair for pair in parts.query.split("&") if pair and pair.partition("=")[0] not in dropped)
    return f"https://{host}{parts.path}" + (f"?{kept}" if kept else "")
