"""`results.xlsx`: the rows with pictures, links, colours and filters; beside them a sheet of totals.

The sheet "Results" has the columns of results.csv in another order (WORKBOOK_COLUMNS): review beside status, what is
for programs folded away. One column more, CLIP, has the links to the clips. `columns.result_block` knows this order, so
that it can be used as a manifest like results.csv. A thumbnail is on its row's image cell, above the address.
Every input cell is written as text: never as a formula or a number, and as a link only where it is one.
"""

import html
import io
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from datetime import UTC, datetime
from itertools import islice
from shutil import copyfileobj
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError

from reelsheet.manifest.columns import result_columns
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.outcomes import (
    CLIP,
    MEANINGS,
    PLAY,
    RESULT_COLUMNS,
    SEEN_COLUMNS,
    WORKBOOK_COLUMNS,
    RowResult,
    Status,
    iso,
)
from reelsheet.results.table import MONEY, NUMBERS, Summary, result_cells
from reelsheet.storage.errors import StorageError
from reelsheet.surroundings.network import reason

_RELATIONS: Final = re.compile(r"xl/worksheets/_rels/[^/]+\.rels")
_RELATION_TARGET: Final = re.compile(r'(?<=\bTarget=")[^"]*(?=")')
MOST_LINKS: Final = 65_530  # Excel refuses to open a sheet with more
LONGEST_LINK: Final = 2_079
LONGEST_CELL: Final = 32_767
LARGEST_LINKS_BYTES: Final = 2**28  # the unpacked links of a sheet: as many and as long as Excel takes

_FOLDED: Final = frozenset(WORKBOOK_COLUMNS) - set(SEEN_COLUMNS)
_WIDTHS: Final = {
    "status": 14,
    "error": 46,
    "error_code": 18,
    "warnings": 30,
    "cost_usd": 10,
    "total_cost_usd": 13,
    "at_risk_usd": 11,
    "video_uri": 38,
    "review": 12,
    CLIP: 9,
    "prompt_sent": 46,
}
_COLOURS: Final = {  # ink and ground, as in the gallery
    Status.SUCCEEDED: ("#11663A", "#E2F3E8"),
    Status.FAILED: ("#A3191C", "#FCE8E7"),
    Status.UNDELIVERED: ("#7F4700", "#FDEED7"),
    Status.UNKNOWN: ("#6527A5", "#F1E8FC"),
    Status.SKIPPED: ("#47505E", "#E9EBEF"),
    Status.INVALID: ("#99154B", "#FCE6EF"),
}
_A4: Final = 9
_LINE_PT: Final = 13.5  # the height of a line of text
_PICTURE_PT: Final = 87  # the height of a row with a thumbnail and the address below it
_PICTURE_BOX_PX: Final = (150, 90)
_LARGEST_KEPT_PX: Final = 640
# XlsxWriter leaves such an address as it is; another would come back changed, and be another picture.
_LINKABLE: Final = re.compile(r"https?://(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_RELATIVE: Final = re.compile(r"(?!/)[\w\-. ()/]+")
_CUT: Final = "… (results.csv has all of it)"
_NO_CHARACTER: Final = re.compile(r"[\ud800-\udfff\ufffe\uffff]")


def results_xlsx(
    manifest: Manifest,
    results: Sequence[RowResult],
    *,
    summary: Summary,
    thumbnails: Mapping[int, bytes] | None = None,
    links: Mapping[int, str] | None = None,
    expires_at: datetime | None = None,
) -> bytes:
    """The workbook. `thumbnails[i]` is a small JPEG or PNG of row i's picture; `links[i]` where its clip opens.

    A link is relative to the workbook or http(s). `expires_at` is when presigned ones end. What Excel cannot hold is
    left out (a link too long or too many) or cut (a cell of more than 32,767 characters): results.csv has all of it.
    Raises StorageError where temporary files cannot be written.
    """
    buffer = io.BytesIO()
    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_numbers": False,
        "strings_to_urls": False,
    }
    try:
        with xlsxwriter.Workbook(buffer, options) as book:
            book.set_properties({"title": f"reelsheet {summary.run_id}", "comments": "Made by reelsheet"})
            _ResultsSheet(book, manifest, thumbnails or {}, links or {}).write(results)
            _write_totals(book, summary, expires_at if links else None)
    except (OSError, FileCreateError) as error:  # its rows are in temporary files meanwhile
        folder = tempfile.gettempdir()
        raise StorageError(f"The folder for temporary files, {folder}, does not take it: {reason(error)}.") from error
    return buffer.getvalue()


class _ResultsSheet:
    """The sheet "Results", written row by row, as XlsxWriter's constant memory requires."""

    def __init__(
        self, book: Any, manifest: Manifest, thumbnails: Mapping[int, bytes], links: Mapping[int, str]
    ) -> None:
        self._manifest, self._thumbnails = manifest, thumbnails
        targets = ((position, target) for position, link in links.items() if (target := _target(link)))
        self._links = dict(islice(targets, MOST_LINKS))
        self._links_left = MOST_LINKS - len(self._links)  # clips have theirs first, pictures have the rest
        self._image = manifest.roles.get("image", -1)
        self._first = len(manifest.columns)  # the first result column
        self._places = {name: place for place, name in enumerate(WORKBOOK_COLUMNS, self._first)}
        self._last = self._first + len(WORKBOOK_COLUMNS) - 1
        self._sheet = book.add_worksheet("Results")

        def style(**more: object) -> Any:
            return book.add_format(
                {"valign": "vcenter", "font_size": 10, "bottom": 1, "bottom_color": "#E4E2DD"} | more
            )

        self._text, self._wrapped = style(), style(text_wrap=True)
        self._link = style(font_color="#3B3FD8", underline=1, indent=1)
        self._below_picture = style(valign="bottom", font_size=8, font_color="#5A5F6B")
        self._input_head = style(bold=True, text_wrap=True, bg_color="#F1F0EC", bottom_color="#BDB9B0")
        self._result_head = style(
            bold=True, text_wrap=True, bg_color="#17181C", font_color="#FFFFFF", bottom_color="#17181C"
        )
        self._styles = (
            dict.fromkeys(WORKBOOK_COLUMNS, self._text)
            | dict.fromkeys(("error", "warnings", "prompt_sent"), self._wrapped)
            | dict.fromkeys(MONEY, style(num_format="0.00"))
            | {"review": style(bg_color="#FFFBE6", align="center")}
        )
        self._status_styles = {
            status: style(font_color=ink, bg_color=ground, bold=True, indent=1)
            for status, (ink, ground) in _COLOURS.items()
        }

    def write(self, results: Sequence[RowResult]) -> None:
        self._write_header(has_prompts=any(result.prompt_sent for result in results))
        added = result_cells(results)
        records = zip(self._manifest.rows, self._manifest.records(), results, added, strict=True)
        for position, (row, cells, result, added_cells) in enumerate(records):
            self._write_input(position, row, cells, result)
            self._write_result(position, result, added_cells)
        self._add_aids(len(results))

    def _write_header(self, *, has_prompts: bool) -> None:
        sheet, inputs = self._sheet, self._manifest.columns
        for column, name in enumerate(inputs):
            width = 46 if column == self._manifest.roles.get("prompt") else 22 if column == self._image else 18
            sheet.set_column(column, column, max(width, min(30, len(name) + 4)))
        for name, column in self._places.items():
            folded = {"level": 1, "hidden": True} if name in _FOLDED else {}
            options = {"hidden": True} if name == "prompt_sent" and not has_prompts else folded
            sheet.set_column(column, column, _WIDTHS.get(name, 18), None, options)
        sheet.set_column(self._last + 1, self._last + 1, None, None, {"collapsed": True})
        sheet.set_row(0, 24)
        for column, name in enumerate(inputs):
            _string(sheet, 0, column, name, self._input_head)
        added = dict(zip(RESULT_COLUMNS, self._manifest.result_columns, strict=True))
        added[CLIP] = result_columns(inputs, [CLIP])[0]
        for name, column in self._places.items():
            _string(sheet, 0, column, added[name], self._result_head)

    def _write_input(self, position: int, row: Row, cells: Sequence[str], result: RowResult) -> None:
        line = position + 1
        has_picture = position in self._thumbnails and self._insert_picture(line, row, self._thumbnails[position])
        lines = max(len(row.prompt or "") // 42, len(result.error) // 42, len("".join(result.warnings)) // 28) + 1
        height = min(lines, 9) * _LINE_PT
        self._sheet.set_row(line, max(height, _PICTURE_PT) if has_picture else height)
        for column, cell in enumerate(cells):
            if column != self._image:
                _string(self._sheet, line, column, cell, self._wrapped)
                continue
            style = self._below_picture if has_picture else self._text
            if cell == row.image and len(cell) <= LONGEST_LINK and _LINKABLE.fullmatch(cell) and self._links_left > 0:
                self._links_left -= 1
                self._sheet.write_url(line, column, cell, style, cell)
            else:
                _string(self._sheet, line, column, cell, style)

    def _write_result(self, position: int, result: RowResult, cells: Sequence[str]) -> None:
        line, link = position + 1, self._links.get(position)
        texts = dict(zip(RESULT_COLUMNS, cells, strict=True)) | {CLIP: PLAY if link and result.video_uri else ""}
        for name, column in self._places.items():
            cell, style = texts[name], self._status_styles[result.status] if name == "status" else self._styles[name]
            if name == CLIP and cell:
                self._sheet.write_url(line, column, link, self._link, cell)
            elif name in MONEY + NUMBERS and cell:
                self._sheet.write_number(line, column, float(cell), style)
            elif cell or name not in _FOLDED:  # an empty cell is written for its border and its colour
                _string(self._sheet, line, column, cell, style)

    def _insert_picture(self, line: int, row: Row, content: bytes) -> bool:
        """Put the thumbnail on the image cell; False where there is no such cell, or it is no picture."""
        drawable = _drawable(content) if self._image >= 0 else None
        if drawable is None:
            return False
        picture, width, height = drawable
        scale = min(_PICTURE_BOX_PX[0] / width, _PICTURE_BOX_PX[1] / height)
        options = {
            "image_data": io.BytesIO(picture),
            "x_scale": scale,
            "y_scale": scale,
            "x_offset": 4,
            "y_offset": 3,
            "object_position": 1,  # moves, sizes and is filtered with its cell
            "description": f"Picture of {row.name}"[:250],
        }
        return bool(self._sheet.insert_image(line, self._image, f"{line}.jpg", options) == 0)

    def _add_aids(self, rows: int) -> None:
        """The header stays in sight, every column has a filter, the review column offers a choice."""
        last = max(rows, 1)
        self._sheet.freeze_panes(1, 1)
        self._sheet.autofilter(0, 0, last, self._last)
        choice = {
            "validate": "list",
            "source": ["ok", "redo"],
            "ignore_blank": True,
            "input_title": "Review",
            "input_message": "ok: keep this clip. redo: make it again, as a new paid attempt, with "
            "`reelsheet retry` on this file. The old clip is kept.",
            "error_type": "warning",
            "error_title": "Review",
            "error_message": "reelsheet understands ok and redo here; anything else is a note to yourself.",
        }
        review = self._places["review"]
        self._sheet.data_validation(1, review, last, review, choice)
        self._sheet.set_landscape()
        self._sheet.set_paper(_A4)
        self._sheet.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.6)
        self._sheet.fit_to_pages(1, 0)  # one page wide, as many long as it takes
        self._sheet.repeat_rows(0)
        self._sheet.set_footer("&L&A&RPage &P of &N")


def local_workbook(content: bytes, keys: AbstractSet[str]) -> bytes:
    """The workbook for a folder that has the clips `keys` ("videos/…"): its links to them lead into the folder.

    What is no workbook stays as it is.
    """

    def relink(match: re.Match[str]) -> str:
        path = unquote(urlsplit(html.unescape(match[0]).replace("\\", "/")).path)  # a relative one has "\\"
        places = (path[place.start() + 1 :] for place in re.finditer("/videos/", path))
        key = next((key for key in places if key in keys), None)
        return match[0] if key is None else html.escape(quote(key))

    changed = io.BytesIO()
    try:
        with ZipFile(io.BytesIO(content)) as book, ZipFile(changed, "w", ZIP_DEFLATED) as target:
            for entry in book.infolist():
                if not _RELATIONS.fullmatch(entry.filename):  # which may unpack to more than there is memory for
                    with book.open(entry) as part, target.open(copy(entry), "w") as place:
                        copyfileobj(part, place)
                elif entry.file_size > LARGEST_LINKS_BYTES:
                    return content
                else:
                    target.writestr(entry, _RELATION_TARGET.sub(relink, book.read(entry).decode()).encode())
    except (BadZipFile, NotImplementedError, RuntimeError, ValueError, zlib.error):
        return content
    return changed.getvalue()


def _write_totals(book: Any, summary: Summary, expires_at: datetime | None) -> None:
    sheet = book.add_worksheet("Totals")
    label = book.add_format({"font_color": "#5A5F6B", "valign": "top"})
    text = book.add_format({"align": "left", "valign": "top", "text_wrap": True})
    money = book.add_format({"align": "left", "num_format": '"$"#,##0.00'})
    count = book.add_format({"align": "left", "num_format": "#,##0"})
    for column, width in enumerate((24, 46, 60)):
        sheet.set_column(column, column, width)
    sheet.hide_gridlines(2)
    sheet.fit_to_pages(1, 1)
    sheet.write_string(0, 0, "Totals", book.add_format({"bold": True, "font_size": 16}))
    lines: list[tuple[str, str | float, Any, str]] = [
        ("Run", summary.run_id, text, ""),
        ("Rows", summary.rows, count, ""),
        *((status.capitalize(), getattr(summary, status), count, MEANINGS[status]) for status in Status),
        ("Reused", summary.reused, count, "already paid for by an earlier run or row"),
        ("Spent in this run", summary.cost_cents / 100, money, "as the provider quoted it"),
        ("At risk", summary.at_risk_cents / 100, money, "may have been charged: no answer came"),
        ("Wasted", summary.wasted_cents / 100, money, "paid in this run for clips that failed or are lost"),
        ("Started", iso(summary.started_at), text, "UTC"),
        ("Finished", iso(summary.finished_at), text, "UTC"),
        ("Seconds", round(summary.seconds, 1), text, ""),
    ]
    if expires_at:
        until = f"{expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        note = f"the clips stay where video_uri says; reelsheet report {summary.run_id} makes new links"
        lines.append(("Links work until", until, text, note))
    for line, (name, value, style, note) in enumerate(lines, 2):
        sheet.write_string(line, 0, name, label)
        if isinstance(value, str):
            sheet.write_string(line, 1, value, style)
        else:
            sheet.write_number(line, 1, value, style)
        sheet.write_string(line, 2, note, label)


def _string(sheet: Any, line: int, column: int, text: str, style: Any) -> None:
    """Write `text` as text, also where it looks like a formula, a number or markup."""
    text = _NO_CHARACTER.sub("\ufffd", text)
    if len(text) > LONGEST_CELL // 2 and len(text.encode("utf-16-le")) // 2 > LONGEST_CELL:
        text = text[: LONGEST_CELL // 2 - len(_CUT)] + _CUT
    if text.startswith("<r>") and text.endswith("</r>"):
        # XlsxWriter would take it for its own markup; in two pieces it stays text
        sheet.write_rich_string(line, column, text[:1], style, text[1:], style)
    else:
        sheet.write_string(line, column, text, style)


def _target(link: str) -> str:
    """`link` as XlsxWriter wants it; "" where a workbook cannot have it."""
    if len(link) > LONGEST_LINK:
        return ""
    if _LINKABLE.fullmatch(link):
        return link
    return f"external:{link}" if _RELATIVE.fullmatch(link) else ""


def _drawable(content: bytes) -> tuple[bytes, int, int] | None:
    """The picture as XlsxWriter takes it, its width and its height; None where it is none.

    A small JPEG or PNG is used as it is. Others are encoded again: XlsxWriter takes no WebP, and scales by the dots per
    inch that a file claims.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "GIF")) as picture:
            if (
                picture.format in {"JPEG", "PNG"}
                and max(picture.size) <= _LARGEST_KEPT_PX
                and "dpi" not in picture.info
            ):
                picture.load()
                return content, *picture.size
            picture.thumbnail((2 * _PICTURE_BOX_PX[0], 2 * _PICTURE_BOX_PX[1]))
            encoded = io.BytesIO()
            picture.convert("RGB").save(encoded, "JPEG", quality=80)
            return encoded.getvalue(), *picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
