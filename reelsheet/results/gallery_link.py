"""A link to a run's gallery that opens in any browser, and when it ends.

Whoever has the link sees every clip: it needs no sign-in. It ends after a week, or with the credentials that sign it,
or when the clips' own links in the page end, whichever is first.
"""

from datetime import UTC, datetime
from typing import Final

from reelsheet.errors import ReelsheetError
from reelsheet.storage.destination import Destination
from reelsheet.storage.stored_object import Link

LINK_LIFE_S: Final = 7 * 86_400  # the longest that a presigned link may live
LINKS_END: Final = "links-end"  # of the page's metadata: when its links to clips end


def key_of_gallery(run_id: str, name: str = "gallery.html") -> str:
    return f"runs/{run_id}/{name}"


def page_metadata(links_end: datetime | None) -> dict[str, str]:
    """What is stored beside the page."""
    return {} if links_end is None else {LINKS_END: links_end.astimezone(UTC).isoformat(timespec="seconds")}


def sign(destination: Destination, run_id: str, links_end: datetime | None, name: str = "gallery.html") -> Link | None:
    """A link to the page that was just written; None where the destination signs none, as a folder."""
    try:
        link = destination.presign_get(key_of_gallery(run_id, name), LINK_LIFE_S)
    except ReelsheetError:  # credentials that have ended sign nothing
        return None
    if not link.url.startswith(("http://", "https://")):
        return None
    return Link(link.url, min(filter(None, (link.ends_at, links_end)), default=None))


def sign_again(destination: Destination, run_id: str) -> Link | None:
    """A link to a page that was written some time ago; None where there is none. Raises ReelsheetError."""
    if not destination.address.startswith("s3://"):
        return None
    stored = destination.stat(key_of_gallery(run_id))
    if stored is None:
        return None
    try:
        links_end = datetime.fromisoformat(stored.metadata.get(LINKS_END, ""))
    except ValueError:
        links_end = None  # a store that keeps no metadata
    return sign(destination, run_id, links_end if links_end and links_end.tzinfo else None)


def about(link: Link, now: datetime, run_id: str) -> str:
    """What a person must know of the link, in one sentence without its first word's subject."""
    if link.ends_at is None:
        return "whoever has this link sees every clip"
    end = f"{link.ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if link.ends_at <= now:
        return f"its clips' links ended on {end}; `reelsheet report {run_id}` makes new ones"
    return f"works until {end}; whoever has this link sees every clip"
