"""`results.xlsx`: the rows with pictures, links, colours and filters; beside them a sheet of totals.

The sheet "Results" has the columns of results.csv and no other, so that the workbook fed back is recognised like it.
A thumbnail therefore lies on its row's image cell, above the address, and not in a column of its own.
Every input cell is written as text: no formula, no number, no link that was not one.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import xlsxwriter

from reelsheet.manifest.rows import Manifest, Row
from reelsheet.outcomes import RESULT_COLUMNS, RowResult, Status, iso
from reelsheet.results.table import MONEY, NUMBERS, Summary, header, results_frame

MOST_LINKS: Final = 65_530  # Excel refuses to open a sheet with more
LONGEST_LINK: Final = 2_079
LONGEST_CELL: Final = 32_767

_DETAILS: Final = RESULT_COLUMNS[RESULT_COLUMNS.index("more_video_uris") : RESULT_COLUMNS.index("review")]
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
}
_COLOURS: Final = {  # ink and ground, as in the gallery
    Status.SUCCEEDED: ("#11663A", "#E2F3E8"),
    Status.FAILED: ("#A3191C", "#FCE8E7"),
    Status.UNDELIVERED: ("#7F4700", "#FDEED7"),
    Status.UNKNOWN: ("#6527A5", "#F1E8FC"),
    Status.SKIPPED: ("#47505E", "#E9EBEF"),
    Status.INVALID: ("#99154B", "#FCE6EF"),
}
_LINE: Final = 13.5  # points of a line of text
_PICTURE_HEIGHT: Final = 87  # points of a row with a thumbnail, and the address below it
_PICTURE_BOX: Final = (150, 90)  # pixels
_LARGEST_AS_IT_IS: Final = 640  # pixels
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
    left out (a link too long or too many) or cut (a cell of more than 32,767 characters): results.csv has it whole.
    """
    buffer = io.BytesIO()
    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_numbers": False,
        "strings_to_urls": False,
        "default_date_format": "yyyy-mm-dd hh:mm",
    }
    with xlsxwriter.Workbook(buffer, options) as book:
        book.set_properties({"title": f"reelsheet {summary.run_id}", "comments": "Made by reelsheet"})
        _Rows(book, manifest, thumbnails or {}, links or {}).write(results)
        _totals(book, summary, expires_at if links else None)
    return buffer.getvalue()


class _Rows:
    """The sheet "Results", written from the top down, as constant memory asks."""

    def __init__(
        self, book: Any, manifest: Manifest, thumbnails: Mapping[int, bytes], links: Mapping[int, str]
    ) -> None:
        self.manifest, self.thumbnails = manifest, thumbnails
        self.links = {at: target for at, link in links.items() if (target := _target(link))}
        self.links_left = MOST_LINKS - len(self.links)  # what clips do not need, pictures may have
        self.image = manifest.roles.get("image", -1)
        self.first = len(manifest.columns)
        self.sheet = book.add_worksheet("Results")
        base = {"valign": "vcenter", "font_size": 10, "bottom": 1, "bottom_color": "#E4E2DD"}
        self.text = book.add_format(base)
        self.wrapped = book.add_format(base | {"text_wrap": True})
        self.number = book.add_format(base)
        self.money = book.add_format(base | {"num_format": "0.00"})
        self.link = book.add_format(base | {"font_color": "#3B3FD8", "underline": 1, "indent": 1})
        self.below = book.add_format(base | {"valign": "bottom", "font_size": 8, "font_color": "#5A5F6B"})
        self.review = book.add_format(base | {"bg_color": "#FFFBE6", "align": "center"})
        head = base | {"bold": True, "text_wrap": True}
        self.head = book.add_format(head | {"bg_color": "#F1F0EC", "bottom_color": "#BDB9B0"})
        self.ours = book.add_format(head | {"bg_color": "#17181C", "font_color": "#FFFFFF", "bottom_color": "#17181C"})
        self.status = {
            status: book.add_format(base | {"font_color": ink, "bg_color": ground, "bold": True, "indent": 1})
            for status, (ink, ground) in _COLOURS.items()
        }
        self.added = [self._writer_of(name) for name in RESULT_COLUMNS]

    def write(self, results: Sequence[RowResult]) -> None:
        self._columns()
        added = results_frame(results).itertuples(index=False, name=None)
        records = zip(self.manifest.rows, self.manifest.records(), results, added, strict=True)
        for at, (row, cells, result, added_cells) in enumerate(records):
            self._row(at, row, cells, result, added_cells)
        self._around(len(results))

    def _columns(self) -> None:
        for column, name in enumerate(self.manifest.columns):
            wide = 46 if column == self.manifest.roles.get("prompt") else 22 if column == self.image else 18
            self.sheet.set_column(column, column, max(wide, min(30, len(name) + 4)))
        for column, name in enumerate(RESULT_COLUMNS, self.first):
            folded = {"level": 1, "hidden": True} if name in _DETAILS else {}
            self.sheet.set_column(column, column, _WIDTHS.get(name, 18), None, folded)
        last = self.first + RESULT_COLUMNS.index("review")
        self.sheet.set_column(last, last, _WIDTHS["review"], None, {"collapsed": True})
        self.sheet.set_row(0, 24)
        for column, name in enumerate(header(self.manifest)):
            _string(self.sheet, 0, column, name, self.head if column < self.first else self.ours)

    def _row(self, at: int, row: Row, cells: Sequence[str], result: RowResult, added: Sequence[str]) -> None:
        line = at + 1
        picture = at in self.thumbnails and self._picture(line, row, self.thumbnails[at])
        lines = max(len(row.prompt or "") // 42, len(result.error) // 42, len("".join(result.warnings)) // 28) + 1
        height = min(lines, 9) * _LINE
        self.sheet.set_row(line, max(height, _PICTURE_HEIGHT) if picture else height)
        for column, cell in enumerate(cells):
            if column == self.image:
                self._image(line, column, cell, row, self.below if picture else self.text)
            else:
                _string(self.sheet, line, column, cell, self.wrapped)
        link = self.links.get(at, "")
        for offset, (cell, write) in enumerate(zip(added, self.added, strict=True)):
            if RESULT_COLUMNS[offset] == "status":
                _string(self.sheet, line, self.first + offset, cell, self.status[result.status])
            elif RESULT_COLUMNS[offset] == "video_uri" and link and cell:
                self.sheet.write_url(line, self.first + offset, link, self.link, cell[:LONGEST_CELL])
            else:
                write(line, self.first + offset, cell)

    def _image(self, line: int, column: int, cell: str, row: Row, look: Any) -> None:
        if cell == row.image and len(cell) <= LONGEST_LINK and _LINKABLE.fullmatch(cell) and self.links_left > 0:
            self.links_left -= 1
            self.sheet.write_url(line, column, cell, look, cell)
        else:
            _string(self.sheet, line, column, cell, look)

    def _picture(self, line: int, row: Row, content: bytes) -> bool:
        """Lay the thumbnail on the image cell; False where there is no such cell, or it is no picture."""
        drawn = _drawable(content) if self.image >= 0 else None
        if drawn is None:
            return False
        picture, width, height = drawn
        scale = min(_PICTURE_BOX[0] / width, _PICTURE_BOX[1] / height)
        options = {
            "image_data": io.BytesIO(picture),
            "x_scale": scale,
            "y_scale": scale,
            "x_offset": 4,
            "y_offset": 3,
            "object_position": 1,  # moves, sizes and is filtered with its cell
            "description": f"Picture of {row.name}"[:250],
        }
        return bool(self.sheet.insert_image(line, self.image, f"{line}.jpg", options) == 0)

    def _writer_of(self, name: str) -> Callable[[int, int, str], object]:
        look = self.review if name == "review" else self.wrapped if name in {"error", "warnings"} else self.text
        folded = name in _DETAILS

        def number(line: int, column: int, cell: str) -> None:
            look = self.money if name in MONEY else self.number
            if cell:
                self.sheet.write_number(line, column, float(cell), look)
            elif not folded:
                self.sheet.write_blank(line, column, None, look)

        def text(line: int, column: int, cell: str) -> None:
            if cell or not folded:  # a blank is written for its line below and its colour
                _string(self.sheet, line, column, cell, look)

        return number if name in MONEY + NUMBERS else text

    def _around(self, rows: int) -> None:
        """What helps people: the header stays, filters, the choice in the review column."""
        last = max(rows, 1)
        review = self.first + RESULT_COLUMNS.index("review")
        self.sheet.freeze_panes(1, 1)
        self.sheet.autofilter(0, 0, last, review)
        self.sheet.data_validation(
            1,
            review,
            last,
            review,
            {
                "validate": "list",
                "source": ["ok", "redo"],
                "ignore_blank": True,
                "input_title": "Review",
                "input_message": "ok: keep this clip. redo: have it made again, as a new paid attempt, with "
                "`reelsheet retry` on this file. The old clip is kept.",
                "error_type": "warning",
                "error_title": "Review",
                "error_message": "reelsheet understands ok and redo here; anything else is a note to yourself.",
            },
        )
        self.sheet.set_landscape()
        self.sheet.fit_to_pages(1, 0)
        self.sheet.repeat_rows(0)


def _totals(book: Any, summary: Summary, expires_at: datetime | None) -> None:
    sheet = book.add_worksheet("Totals")
    label = book.add_format({"font_color": "#5A5F6B", "valign": "top"})
    value = book.add_format({"align": "left", "valign": "top", "text_wrap": True})
    money = book.add_format({"align": "left", "num_format": '"$"#,##0.00'})
    count = book.add_format({"align": "left", "num_format": "#,##0"})
    title = book.add_format({"bold": True, "font_size": 16})
    sheet.set_column(0, 0, 24)
    sheet.set_column(1, 1, 46)
    sheet.set_column(2, 2, 60)
    sheet.hide_gridlines(2)
    sheet.fit_to_pages(1, 1)
    sheet.write_string(0, 0, "Totals", title)
    lines: list[tuple[str, Any, Any, str]] = [
        ("Run", summary.run_id, value, ""),
        ("Rows", summary.rows, count, ""),
        ("Succeeded", summary.succeeded, count, "the clip is stored"),
        ("Failed", summary.failed, count, "the provider refused it or could not make it"),
        ("Undelivered", summary.undelivered, count, "paid, no whole clip stored yet; a rerun goes on at no cost"),
        ("Unknown", summary.unknown, count, "perhaps paid: no answer came"),
        ("Skipped", summary.skipped, count, "not attempted in this run"),
        ("Invalid", summary.invalid, count, "the row itself needs mending; it cost nothing"),
        ("Reused", summary.reused, count, "already paid for by an earlier run or row"),
        ("Spent in this run", summary.cost_cents / 100, money, "as the provider quoted it"),
        ("At risk", summary.at_risk_cents / 100, money, "perhaps charged, no answer came"),
        ("Wasted", summary.wasted_cents / 100, money, "paid in this run for clips that failed or are lost"),
        ("Started", iso(summary.started_at), value, "UTC"),
        ("Finished", iso(summary.finished_at), value, "UTC"),
        ("Seconds", round(summary.seconds, 1), value, ""),
    ]
    if expires_at:
        until = f"{expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        note = f"the clips stay where video_uri says; reelsheet report {summary.run_id} makes new links"
        lines.append(("Links work until", until, value, note))
    for line, (name, what, look, note) in enumerate(lines, 2):
        sheet.write_string(line, 0, name, label)
        if isinstance(what, str):
            sheet.write_string(line, 1, what, look)
        else:
            sheet.write_number(line, 1, what, look)
        sheet.write_string(line, 2, note, label)


def _string(sheet: Any, line: int, column: int, text: str, look: Any) -> None:
    """`text` as text, whatever it looks like."""
    text = _NO_CHARACTER.sub("\ufffd", text)
    if len(text) > LONGEST_CELL // 2 and len(text.encode("utf-16-le")) // 2 > LONGEST_CELL:
        text = text[: LONGEST_CELL // 2 - len(_CUT)] + _CUT
    if text.startswith("<r>") and text.endswith("</r>"):
        # XlsxWriter would take it for its own markup; in two pieces it stays text
        sheet.write_rich_string(line, column, text[:1], look, text[1:], look)
    else:
        sheet.write_string(line, column, text, look)


def _target(link: str) -> str:
    """`link` as XlsxWriter wants it; "" where a workbook cannot have it."""
    if len(link) > LONGEST_LINK:
        return ""
    if _LINKABLE.fullmatch(link):
        return link
    return f"external:{link}" if _RELATIVE.fullmatch(link) else ""


def _drawable(content: bytes) -> tuple[bytes, int, int] | None:
    """The picture as XlsxWriter takes it, its width and its height; None where it is none.

    A JPEG or PNG that is small goes in as it is. Others are drawn again, for XlsxWriter takes no WebP, and scales by
    the dots per inch that a file claims.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "GIF")) as picture:
            if (
                picture.format in {"JPEG", "PNG"}
                and max(picture.size) <= _LARGEST_AS_IT_IS
                and "dpi" not in picture.info
            ):
                picture.load()
                return content, *picture.size
            picture.thumbnail((2 * _PICTURE_BOX[0], 2 * _PICTURE_BOX[1]))
            again = io.BytesIO()
            picture.convert("RGB").save(again, "JPEG", quality=80)
            return again.getvalue(), *picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
