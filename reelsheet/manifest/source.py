"""Where a manifest is: a path, `s3://bucket/key`, an `http(s)://` address or a Google Sheets link → its bytes."""

import asyncio
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from reelsheet import file_types
from reelsheet.errors import ConfigurationError, ManifestError, ReelsheetError
from reelsheet.manifest.table import LIMIT
from reelsheet.paths import expanded
from reelsheet.redaction import clean, clean_url
from reelsheet.web import share_links

if TYPE_CHECKING:
    from reelsheet.web.guarded_http import Fetched, FetchError

DEADLINE_S: Final = 300.0  # for a manifest from the web
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_LOCK_FILE: Final = re.compile(r"~\$(.+)|\.~lock\.(.+)#")
_TOO_LARGE: Final = f"is larger than {LIMIT >> 20} MB; split it into several sheets"
_SHARE: Final = (
    "share the sheet so that anyone with the link can view it (Share > General access > Anyone with the link)"
)


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a manifest; `name` is its source for people, without signatures."""

    content: bytes
    name: str
    content_type: str = ""


def fetch(source: str, *, sheet: str | None = None, allow_private: bool = False) -> Content:
    """The bytes at `source`, at most LIMIT of them. Raises ManifestError. Blocks: call it in a thread.

    With `sheet`, a Google Sheets link is fetched with all its tabs, so that one can be chosen by name.
    """
    source = source.strip()
    if not source:
        raise ManifestError(
            "No manifest was named; give a file, an s3:// or https:// address, or a Google Sheets link."
        )
    _refuse_lock_file(source)
    scheme = (_SCHEME.match(source) or ("", ""))[1].lower()
    if scheme in {"http", "https"}:
        return _web(source, sheet=sheet, allow_private=allow_private)
    if scheme == "s3":
        return _s3(source)
    if scheme:
        raise ManifestError(
            f"{clean_url(source)} cannot be read: give a file's path, or an address with s3://, https:// or http://."
        )
    return _file(source)


def _refuse_lock_file(source: str) -> None:
    """What spreadsheet programs put beside a file while somebody has it open; it holds that person's name."""
    name = source.replace("\\", "/").rpartition("/")[2]
    lock = _LOCK_FILE.fullmatch(name)
    if lock is not None:
        program = "Excel" if name.startswith("~$") else "LibreOffice"
        sheet = lock[1] or lock[2]
        raise ManifestError(
            f"{clean(name)} is no sheet: {program} keeps this file while {clean(sheet)} is open. "
            f"Close {program}, and give the sheet itself: {clean(source[: -len(name)] + sheet)}."
        )


def _file(source: str) -> Content:
    path = expanded(source)
    try:
        if path.is_dir():
            inside = sorted(item.name for item in path.iterdir() if item.suffix.lower() in {".csv", ".xlsx"})[:5]
            hint = f", for example {path / inside[0]}" if inside else ""
            raise ManifestError(f"{source} is a folder; name the spreadsheet in it{hint}.")
        with path.open("rb") as stream:
            content = stream.read(LIMIT + 1)
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _names(path.parent), 1)
        hint = f" Did you mean {path.with_name(near[0])}?" if near else " Check its name and folder."
        raise ManifestError(f"There is no file {clean(source)}.{hint}") from None
    except PermissionError:
        raise ManifestError(f"{clean(source)} may not be read by this user; change its permissions.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "its name is not valid"
        raise ManifestError(f"{clean(source)} cannot be read: {reason}.") from None
    if len(content) > LIMIT:
        raise ManifestError(f"{clean(source)} {_TOO_LARGE}.")
    return Content(content, source)


def _names(folder: Path) -> list[str]:
    try:
        return [item.name for item in folder.iterdir()]
    except OSError:
        return []


def _web(source: str, *, sheet: str | None, allow_private: bool) -> Content:
    from reelsheet.web import guarded_http as web

    address = share_links.direct(share_links.sheet_export(source, "csv" if sheet is None else "xlsx"))
    name = clean_url(source)
    google = share_links.is_google(address)
    try:
        fetched = asyncio.run(web.read(address, allow_private=allow_private, limit_bytes=LIMIT, deadline_s=DEADLINE_S))
    except web.FetchError as error:
        raise ManifestError(_web_refusal(error, name, google=google)) from error
    except ReelsheetError as error:
        raise ManifestError(f"{name} cannot be read: {error}") from error
    if _is_sign_in(fetched, google=google):
        raise ManifestError(f"{name} answered with a sign-in page instead of the sheet; {_SHARE}.")
    return Content(fetched.content, name, fetched.content_type)


def _web_refusal(error: "FetchError", name: str, *, google: bool) -> str:
    if error.status in {401, 403} or (google and error.status in {400, 404, 410}):
        if google:
            return f"Google does not show {name} to everybody (answer {error.status}); {_SHARE}, and check the link."
        return f"{name} is not public (answer {error.status}); share it so that anyone with the link can view it."
    if error.status in {404, 410}:
        return f"There is nothing at {name} (answer {error.status}); check the address."
    return f"{name} cannot be read: {error}"


def _is_sign_in(fetched: "Fetched", *, google: bool) -> bool:
    """True for a page that stands in front of the sheet: at a sign-in host, or any page from Google."""
    host = urlsplit(fetched.url).hostname or ""
    is_page = file_types.describe(fetched.content[:2048]) == file_types.WEB_PAGE
    return is_page and (google or host.startswith(("accounts.", "login.", "signin.", "auth.", "sso.")))


def _s3(source: str) -> Content:
    bucket, _, key = source[len("s3://") :].partition("/")
    if not bucket or not key or key.endswith("/"):
        raise ManifestError(f"{clean(source)} names no object; it must read s3://bucket/folder/manifest.csv.")
    from reelsheet.storage import s3_client, s3_errors

    try:
        answer = s3_client.client().get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            content = body.read(LIMIT + 1)
    except s3_errors.failures() as error:
        raise ManifestError(s3_errors.explain(error, "s3:GetObject", bucket, key)) from error
    except ConfigurationError as error:
        raise ManifestError(f"s3://{bucket}/{clean(key)} cannot be read: {error}") from error
    if len(content) > LIMIT:
        raise ManifestError(f"s3://{bucket}/{clean(key)} {_TOO_LARGE}.")
    return Content(content, source, answer.get("ContentType", ""))
