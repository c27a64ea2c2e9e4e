"""What spreadsheet programs do to a table that somebody opens and saves, and what people do to its columns."""

import csv
import io
import random
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

import openpyxl
import pandas as pd

Cells = list[list[str]]
FORMULA_ERRORS = ("Err:509", "#NAME?", "#ERROR!", "#NV")


@dataclass
class Saved:
    """A table on its way through programs; the first of `cells` is the header. `content` is what is saved at last."""

    cells: Cells
    own: int  # columns of the input, before ours
    encoding: str = "utf-8"
    delimiter: str = ","
    end: str = "\r\n"
    quoting: int = csv.QUOTE_MINIMAL
    form: str = "csv"
    done: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"saved.{self.form}"

    def content(self) -> bytes:
        return workbook(self.cells) if self.form == "xlsx" else self._csv()

    def _csv(self) -> bytes:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=self.delimiter, lineterminator=self.end, quoting=self.quoting).writerows(self.cells)
        return out.getvalue().encode(self.encoding, "replace")

    def each(self, change: Callable[[str], str]) -> None:
        """Change every cell below the header."""
        self.cells[1:] = [[change(cell) for cell in record] for record in self.cells[1:]]


def opened(content: str) -> Saved:
    cells = list(csv.reader(io.StringIO(content, newline="")))
    return Saved(cells, cells[0].index("status"))


def workbook(cells: Cells) -> bytes:
    """As a program writes that takes numbers for numbers."""
    book = openpyxl.Workbook()
    sheet = book.active
    for record in cells:
        sheet.append([_typed(cell) for cell in record])
    for row in sheet.iter_rows():
        for cell in row:
            if cell.data_type == "f":
                cell.data_type = "s"
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _typed(cell: str) -> object:
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")
    if re.fullmatch(r"-?\d{1,15}(\.\d+)?", cell):
        return float(cell)
    return {"true": True, "false": False}.get(cell, cell or None)


# What programs do


def line_feeds(table: Saved, chance: random.Random) -> None:
    end = chance.choice(["\n", "\r"])
    table.each(lambda cell: re.sub(r"\r\n?|\n", end, cell))
    table.end, table.quoting = chance.choice(["\n", "\r\n"]), csv.QUOTE_ALL  # Python's writer leaves a lone CR bare


def code_page(table: Saved, chance: random.Random) -> None:
    """Excel's "CSV", and LibreOffice where the system is Western."""
    table.each(lambda cell: cell.encode("cp1252", "replace").decode("cp1252"))
    table.encoding = "cp1252"


def marked_utf8(table: Saved, chance: random.Random) -> None:
    table.encoding = chance.choice(["utf-8-sig", "utf-16"])


def letters_apart(table: Saved, chance: random.Random) -> None:
    """Numbers, and whatever passes text through a Mac."""
    table.each(lambda cell: unicodedata.normalize("NFD", cell))


def trimmed(table: Saved, chance: random.Random) -> None:
    table.each(lambda cell: cell.strip())


def semicolons(table: Saved, chance: random.Random) -> None:
    """Where the comma is the decimal sign."""
    table.delimiter = chance.choice([";", "\t"])
    table.each(lambda cell: re.sub(r"^(\d+)\.(\d+)$", r"\1,\2", cell))


def formulas(table: Saved, chance: random.Random) -> None:
    error = chance.choice(FORMULA_ERRORS)
    table.each(lambda cell: error if cell.startswith("=") else cell.removeprefix("'"))


def numbers(table: Saved, chance: random.Random) -> None:
    """Whole numbers with a decimal, large ones in powers of ten, ids without their zeros."""
    table.each(lambda cell: f"{int(cell)}.0" if re.fullmatch(r"\d{1,9}", cell) else cell)
    table.each(lambda cell: f"{float(cell):.2E}" if re.fullmatch(r"\d{12,}", cell) else cell)


def dates(table: Saved, chance: random.Random) -> None:
    form = chance.choice([r"\3.\2.\1 \4", r"\2/\3/\1 \4", r"\1-\2-\3 \4"])
    table.each(lambda cell: re.sub(r"^(\d{4})-(\d\d)-(\d\d)T(\d\d:\d\d):\d\dZ$", form, cell))


def booleans(table: Saved, chance: random.Random) -> None:
    words = chance.choice([("TRUE", "FALSE"), ("True", "False"), ("WAHR", "FALSCH")])
    table.each(lambda cell: {"true": words[0], "false": words[1], "yes": words[0]}.get(cell.lower(), cell))


def typography(table: Saved, chance: random.Random) -> None:
    """Autocorrection."""
    table.each(lambda cell: cell.replace("...", "…").replace(" - ", " – "))  # noqa: RUF001


def pandas_round_trip(table: Saved, chance: random.Random) -> None:
    """With its default guesses: NA is nothing, a column of numbers with a gap has decimals."""
    table.each(lambda cell: re.sub(r"\r(?!\n)", "\n", cell))  # which it would write without quotes, as no table at all
    frame = pd.read_csv(io.BytesIO(Saved(table.cells, table.own).content())).dropna(
        how="all"
    )  # else a row of its index
    out = frame.to_csv(index=chance.random() < 0.3)
    table.cells = list(csv.reader(io.StringIO(out, newline="")))


def as_workbook(table: Saved, chance: random.Random) -> None:
    table.form = "xlsx"


def quoted(table: Saved, chance: random.Random) -> None:
    table.quoting = csv.QUOTE_ALL


def blank_lines(table: Saved, chance: random.Random) -> None:
    table.cells.append([""] * len(table.cells[0]))


# What people do


def moved_columns(table: Saved, chance: random.Random) -> None:
    order = list(range(len(table.cells[0])))
    chance.shuffle(order)
    table.cells = [[record[place] for place in order if place < len(record)] for record in table.cells]


def deleted_columns(table: Saved, chance: random.Random) -> None:
    """Up to three of ours. With status, identity and prediction_id gone nothing says that a row was paid for."""
    names = [name.strip() for name in table.cells[0]]
    ours = [name for name in names if name not in INPUT]
    gone = set(chance.sample(ours, min(len(ours), chance.randint(1, 3))))
    if gone >= {"status", "identity", "prediction_id"} & {*ours}:
        return
    keep = [place for place, name in enumerate(names) if name not in gone]
    table.cells = [[record[place] for place in keep if place < len(record)] for record in table.cells]


def renamed_column(table: Saved, chance: random.Random) -> None:
    place = chance.choice([place for place, name in enumerate(table.cells[0]) if name.strip() not in INPUT])
    if table.cells[0][place] not in {"status", "identity", "prediction_id"}:
        table.cells[0][place] = "my own"


def moved_rows(table: Saved, chance: random.Random) -> None:
    rows = table.cells[1:]
    chance.shuffle(rows)
    table.cells[1:] = rows


INPUT = {"sku", "image", "prompt", "take", "enable prompt expansion", "notes"}
PROGRAMS = (
    line_feeds, code_page, marked_utf8, letters_apart, trimmed, semicolons, formulas, numbers, dates, booleans,
    typography, pandas_round_trip, as_workbook, quoted, blank_lines,
    moved_columns, deleted_columns, renamed_column, moved_rows,
)  # fmt: skip


def damaged(content: str, seed: int, *, times: int = 4) -> Saved:
    """A results table after some of all this, in the order that the seed says."""
    chance = random.Random(seed)
    table = opened(content)
    for change in chance.sample(PROGRAMS, chance.randint(1, times)):
        change(table, chance)
        table.done.append(change.__name__)
    return table
