"""`gallery.html`: one page that loads nothing from elsewhere, to review the clips from disk, from S3 or by mail.

What a cell or the provider says is data in the page: JSON that the page's own script shows as text. A content security
policy allows that script and that style, and nothing else.
"""

import base64
import hashlib
import io
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
from markupsafe import Markup, escape

from reelsheet.manifest import columns
from reelsheet.manifest.identity import image_key
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.money import dollars
from reelsheet.outcomes import MEANINGS, ErrorCode, RowResult, Status
from reelsheet.results.table import Summary
from reelsheet.words import length

PLAIN_ROWS: Final = 300  # of the plain table for viewers that run no scripts
SCRIPTS: Final = ("page", "review", "cards", "filters", "detail", "keys")
_TO_CHANGE: Final[Mapping[ErrorCode | None, tuple[str, ...]]] = {  # where the error names no column
    ErrorCode.IMAGE_UNREACHABLE: ("image",),
    ErrorCode.IMAGE_UNSUPPORTED: ("image",),
    ErrorCode.MODERATED: ("prompt", "image"),
    ErrorCode.REJECTED: ("prompt", "image"),
    ErrorCode.GENERATION_FAILED: ("prompt", "image"),
}
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ESCAPES: Final = [(character, f"\\u{ord(character):04x}") for character in "<>&\u2028\u2029"]
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_DATA_BEGINS: Final = '<script type="application/json" id="data">'  # no text of a cell holds this unescaped
_DATA: Final = re.compile(rf"{_DATA_BEGINS}(.*?)</script>", re.DOTALL)
_NOSCRIPT: Final = re.compile(r"<noscript>.*?</noscript>", re.DOTALL)
_LINKS_END: Final = re.compile(r"<p>Links in this page work until .*?</p>", re.DOTALL)
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
    destination: str = "",
    part: int = 1,
    pages: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The page in UTF-8. `links[i]` is where row i's clip is played from, relative or http(s); others are left out.

    `posters[i]` is a picture's address or a `data:` thumbnail; without one, the row's own picture address is used.
    `files[i]` is the clip's path relative to the page, for a page that is opened from a copy of the folder.
    `expires_at` is when presigned links end; None where links do not. `destination` is where a review file says that
    the run's clips are. `pages`: the file of each page of the run, of which this is number `part`, and a link to it
    that works elsewhere, or "".
    """
    posters, more_links, files = posters or {}, more_links or {}, files or {}
    pairs = list(zip(manifest.rows, results, strict=True))
    groups, changes = _picture_groups(pairs), _Changes(manifest)
    folder = _common_folder([result.video_uri for result in results if result.video_uri])
    rows = (
        _row_data(row, cells, result)
        | groups.get(n, {})
        | changes.of(result)
        | _link_data(result, links.get(n, ""), files.get(n, ""), more_links.get(n, ()), posters.get(n, row.image))
        for n, ((row, result), cells) in enumerate(zip(pairs, manifest.records(), strict=True))
    )
    data = {
        "columns": manifest.columns,
        "roles": {role: manifest.roles[role] for role in ("image", "prompt", "id") if role in manifest.roles},
        "home": folder,
        "run": summary.run_id,
        "destination": _text(destination),
        "expires": expires_at.timestamp() if expires_at else None,
        "meanings": MEANINGS,
        "part": part,
    }
    style, script = _source("gallery.css"), _script()
    troubles = _troubles(pairs)
    page = _template().render(
        policy=_policy(style, script),
        style=style,
        script=script,
        data="",
        title=title,
        summary=summary,
        ended=_day(summary.finished_at or summary.started_at),
        took=length(summary.seconds) if round(summary.seconds) else "",
        parts=_bar_parts(summary),
        troubles=troubles,
        needy=sum(trouble["count"] for trouble in troubles),
        number=part,
        pages=[(name, safe_link(link)) for name, link in pages],
        plain=[(row, result, safe_link(links.get(n, ""))) for n, (row, result) in enumerate(pairs[:PLAIN_ROWS])],
        plain_left=max(0, len(pairs) - PLAIN_ROWS),
        home=folder,
        expires=_day(expires_at),
        expires_iso=expires_at.astimezone(UTC).isoformat() if expires_at else "",
    )
    before, begin, after = page.partition(_DATA_BEGINS)
    content = io.BytesIO()  # row by row: a long page as one text takes several times its length
    content.write(f'{before}{begin}{_json(data)[:-1]},"rows":['.encode())
    for place, row in enumerate(rows):
        content.write(f"{',' if place else ''}{_json(row)}".encode())
    content.write(f"]}}{after}".encode())
    return content.getvalue()


def local_page(page: bytes, clips: Mapping[int, Sequence[str]]) -> bytes | None:
    """The page for a folder that has the clips: row → addresses of its clips, relative to the page.

    A row that is not in `clips` keeps its links. None for a page that does not begin as ours do: whoever may write to
    the destination may have written it, and nothing keeps its scripts from running on this machine.
    """
    text = page.decode("utf-8", "replace")
    if not text.startswith(_head()):
        return None
    found = _DATA.search(text)
    if found is None:
        return page
    try:
        data = json.loads(found[1])
        rows = data["rows"]
        linked = {place: row["v"] for place, row in enumerate(rows) if "v" in row}
        for place, (first, *more) in clips.items():
            row = rows[place]
            row["v"] = row["f"] = first
            row["m"] = more
            if not more:
                del row["m"]
    except (ValueError, TypeError, KeyError, IndexError):
        return page
    before, after = text[: found.start(1)], text[found.end(1) :]
    if linked.keys() <= clips.keys():  # nothing in the page ends any more
        data["expires"] = None
        before = _LINKS_END.sub("", before)
    plain = _NOSCRIPT.search(before)
    if plain:
        table = plain[0]
        for place, link in linked.items():
            if place in clips and place < PLAIN_ROWS:
                table = table.replace(f'"{escape(link)}"', f'"{escape(clips[place][0])}"')
        before = before[: plain.start()] + table + before[plain.end() :]
    return (before + _json(data) + after).encode()


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
        "q": _text(result.prompt_sent),
        "risk": result.at_risk_cents,
        "u": _text(result.video_uri),
        "id": _text(result.prediction_id),
        "i": _text(result.identity),
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


def _picture_groups(pairs: Sequence[tuple[Row, RowResult]]) -> dict[int, dict[str, int]]:
    """Position → the number of its picture, from 1, of rows whose picture other rows have, too."""
    positions: dict[str, list[int]] = {}
    for position, (row, result) in enumerate(pairs):
        if row.image:
            positions.setdefault(result.image_sha256 or image_key(row.image), []).append(position)
    shared = (group for group in positions.values() if len(group) > 1)
    numbered = [({"g": number}, group) for number, group in enumerate(shared, 1)]
    return {position: entry for entry, group in numbered for position in group}


class _Changes:
    """Which columns of the sheet a person has to look at, where a row has no clip."""

    def __init__(self, manifest: Manifest) -> None:
        names = enumerate(manifest.columns)
        self._labels = {place: f"olumn {columns.label(manifest.columns, place)}" for place, name in names if name}
        self._roles = manifest.roles

    def of(self, result: RowResult) -> dict[str, list[int]]:
        if result.status is Status.SUCCEEDED:
            return {}
        named = [place for place, label in self._labels.items() if label in result.error]
        roles = [
            self._roles[role]
            for role in _TO_CHANGE.get(result.error_code, ())
            if role in self._roles and not (role == "prompt" and result.prompt_sent)
        ]
        return {"x": named or roles} if named or roles else {}


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


def _text(text: str) -> str:
    """`text` with a replacement character for what no page may hold: control characters and lone surrogates."""
    return _UNPRINTABLE.sub("\ufffd", text)


def _json(data: Any) -> str:
    """JSON that cannot end the script element around it."""
    text = _encode(data)
    for character, escaped in _ESCAPES:
        text = text.replace(character, escaped)
    return text


@cache
def _script() -> Any:
    """The parts of the script as one, in which they see each other's names and nothing else does."""
    parts = "".join(_source(f"{name}.js") for name in SCRIPTS)
    return Markup(f'(() => {{\n  "use strict";\n{parts}}})();')  # noqa: S704 - our own files


@cache
def _source(name: str) -> Any:
    return Markup((files("reelsheet.results") / "templates" / name).read_text("utf-8"))  # noqa: S704 - our own file


def _head() -> str:
    """How every page begins: its policy comes before anything that could run."""
    source = (files("reelsheet.results") / "templates" / "gallery.html.j2").read_text("utf-8")
    before = source.partition("{{ policy }}")[0]
    return f'{before}{escape(_policy(_source("gallery.css"), _script()))}">'


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
