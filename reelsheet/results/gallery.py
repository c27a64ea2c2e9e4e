"""`gallery.html`: one page that loads nothing from elsewhere, to review the clips from disk, from S3 or by mail.

What a cell or the provider says is data in the page: JSON that the page's own script shows as text. A content security
policy allows that script and that style, and nothing else.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from itertools import accumulate
from os.path import commonprefix
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from reelsheet.manifest.rows import Manifest, Row
from reelsheet.money import dollars
from reelsheet.outcomes import MEANINGS, RowResult, Status
from reelsheet.results.table import Summary

PLAIN_ROWS: Final = 300  # of the plain table for viewers that run no scripts
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_DATA_PICTURE: Final = re.compile(r"data:image/(?:jpeg|png|webp|gif);base64,[A-Za-z0-9+/=]+")


def gallery_html(
    manifest: Manifest,
    results: Sequence[RowResult],
    *,
    summary: Summary,
    links: Mapping[int, str],
    posters: Mapping[int, str] | None = None,
    more_links: Mapping[int, Sequence[str]] | None = None,
    files: Mapping[int, str] | None = None,
    title: str,
    expires_at: datetime | None,
) -> str:
    """The page. `links[i]` is where row i's clip is played from, relative or http(s); anything else is left out.

    `posters[i]` is a picture's address or a `data:` thumbnail; without one, the row's own picture address is used.
    `files[i]` is the clip's path relative to the page, for a page that is opened from a copy of the folder.
    `expires_at` is when presigned links end; None where links do not.
    """
    posters, more_links, files = posters or {}, more_links or {}, files or {}
    pairs = list(zip(manifest.rows, results, strict=True))
    folder = _common_folder([result.video_uri for result in results if result.video_uri])
    rows = [
        _row_data(row, cells, result)
        | _link_data(result, links.get(n, ""), files.get(n, ""), more_links.get(n, ()), posters.get(n, row.image))
        for n, ((row, result), cells) in enumerate(zip(pairs, manifest.records(), strict=True))
    ]
    data = {
        "columns": manifest.columns,
        "roles": {role: manifest.roles[role] for role in ("image", "prompt", "id") if role in manifest.roles},
        "rows": rows,
        "home": folder,
        "run": summary.run_id,
        "expires": expires_at.timestamp() if expires_at else None,
        "meanings": MEANINGS,
    }
    style, script = _source("gallery.css"), _source("gallery.js")
    return _template().render(
        policy=_policy(style, script),
        style=style,
        script=script,
        data=_json(data),
        title=title,
        summary=summary,
        ended=_day(summary.finished_at or summary.started_at),
        took=_duration(summary.seconds),
        parts=_bar_parts(summary),
        troubles=_troubles(pairs),
        plain=[(row, result, safe_link(links.get(n, ""))) for n, (row, result) in enumerate(pairs[:PLAIN_ROWS])],
        plain_left=max(0, len(pairs) - PLAIN_ROWS),
        home=folder,
        expires=_day(expires_at),
        expires_iso=expires_at.astimezone(UTC).isoformat() if expires_at else "",
    )


def safe_link(address: str) -> str:
    """`address` if a page may link to it: http(s), or relative to the page. Else ""."""
    address = address.strip()
    if address.lower().startswith(("http://", "https://")):
        return _UNPRINTABLE.sub("", address)
    if _SCHEME.match(address) or address.startswith(("/", "\\")) or _UNPRINTABLE.search(address):
        return ""
    return "" if any(character in address for character in "\t\r\n") else address


def _row_data(row: Row, cells: Sequence[str], result: RowResult) -> dict[str, Any]:
    """One row as the page's script reads it; what is empty is left out to keep a long page small."""
    always = {
        "n": _text(row.name),
        "l": row.line,
        "c": [_text(cell) for cell in cells],
        "s": result.status,
        "cost": result.cost_cents,
        "total": result.total_cost_cents,
    }
    sometimes = {
        "e": _text(result.error),
        "k": result.error_code,
        "w": [_text(warning) for warning in result.warnings],
        "risk": result.at_risk_cents,
        "u": _text(result.video_uri),
        "id": _text(result.prediction_id),
        "a": result.attempt,
        "r": result.reused,
        "sec": result.seconds and round(result.seconds, 1),
        "t1": _day(result.completed_at),
        "by": result.video_bytes,
        "wd": result.width,
        "ht": result.height,
        "du": result.duration_s,
    }
    return always | {name: value for name, value in sometimes.items() if value}


def _link_data(result: RowResult, link: str, file: str, more: Sequence[str], poster: str) -> dict[str, Any]:
    """The addresses of a row in the page's data; clips only of a delivered row."""
    addresses: dict[str, Any] = {"p": poster if _DATA_PICTURE.fullmatch(poster) else safe_link(poster)}
    if result.status is Status.SUCCEEDED:
        addresses |= {"v": safe_link(link), "f": safe_link(file), "m": list(filter(None, map(safe_link, more)))}
    return {name: value for name, value in addresses.items() if value}


def _troubles(pairs: Sequence[tuple[Row, RowResult]]) -> list[dict[str, Any]]:
    """What needs attention, one entry for each kind of failure, in the order of `Status`, the commonest first."""
    troubles: dict[tuple[Status, str], dict[str, Any]] = {}
    for row, result in pairs:
        if result.status is not Status.SUCCEEDED:
            code = str(result.error_code or "")
            first = {"status": result.status, "code": code, "count": 0, "error": result.error, "name": row.name}
            troubles.setdefault((result.status, code), first)["count"] += 1
    order = list(Status)
    return sorted(troubles.values(), key=lambda trouble: (order.index(trouble["status"]), -trouble["count"]))


def _bar_parts(summary: Summary) -> list[dict[str, Any]]:
    """The statuses as stretches of a bar that is 1000 wide."""
    counts = [(status, getattr(summary, status)) for status in Status]
    ends = list(accumulate(count for _, count in counts))
    scale = 1000 / max(1, summary.rows)
    return [
        {"status": status, "x": f"{(end - count) * scale:.2f}", "width": f"{count * scale:.2f}"}
        for (status, count), end in zip(counts, ends, strict=True)
        if count
    ]


def _common_folder(addresses: Sequence[str]) -> str:
    """The folder that all clips share: "s3://bucket/campaign/videos/"."""
    folder = commonprefix(addresses).rpartition("/")  # noqa: RUF071 - addresses, cut at a slash here
    return _text(folder[0] + folder[1])


def _day(moment: datetime | None) -> str:
    """ "23 November 2026, 21:05 UTC"."""
    if moment is None:
        return ""
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _duration(seconds: float) -> str:
    """134 → "2 min 14 s"."""
    total_s = round(seconds)
    if total_s < 1:
        return ""
    hours, minutes, rest = total_s // 3600, total_s // 60 % 60, total_s % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _text(text: str) -> str:
    """`text` with a replacement character for what no page may hold: control characters and lone surrogates."""
    return _UNPRINTABLE.sub("\ufffd", text)


def _json(data: Any) -> Any:
    """JSON that cannot end the script element around it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no character of markup is left in it


@cache
def _source(name: str) -> Any:
    return Markup((files("reelsheet.results") / "templates" / name).read_text("utf-8"))  # noqa: S704 - our own file


def _policy(style: str, script: str) -> str:
    """Our one script and our one style by their hashes; pictures and clips from anywhere; nothing else."""
    media = "'self' file: https: http: data: blob:"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            f"img-src {media}",
            f"media-src {media}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(str(source).encode()).digest()).decode()


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters.update(money=dollars, thousands=lambda count: f"{count:,}", text=_text)
    return environment.from_string((files("reelsheet.results") / "templates" / "gallery.html.j2").read_text("utf-8"))
