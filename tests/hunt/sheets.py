"""The sheets of a hunt: plain ones, and results tables as people and their programs change and save them."""

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import openpyxl

PICTURE = "https://pictures.example/cup.jpg"
FORMATS = ("", "semicolons", "utf-16", "line feeds", "lost size", "lost identity")
DAMAGES = ("", "question marks", "line feeds inside", "trimmed", "decomposed", "no-break spaces")
HELD = {"succeeded", "undelivered", "unknown"}  # what an edit of such a row does not order again


def order_of(text: str) -> str:
    """What a text asks for: line ends, surrounding blanks and Unicode's normal form do not count."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").strip())


@dataclass(frozen=True)
class Line:
    """One row as a person or a program left it. The fields below `text` are what its result cells say."""

    text: str
    status: str = ""
    paid_text: str = ""  # what the row was when its cells were written; "" for a row without such cells
    prediction: str = ""
    redo: bool = False
    is_copy: bool = False  # of the row above, with other words, and its result cells left in
    is_damaged: bool = False  # by a program: some letters are lost
    sku: str = ""
    is_left_out: bool = False  # no earlier run chose it
    is_hidden: bool = False  # in this workbook, or in the one that the table is of, and nothing is known of it


def is_chosen(line: Line, where: Sequence[str], *, include_hidden: bool = False) -> bool:
    """Whether a command with these conditions may take a step for it. Only those on the sku are worked out here."""
    if line.is_hidden and not include_hidden:
        return False
    for condition in where:
        column, _, value = condition.partition("=")
        if column in {"sku", "sku!"} and (line.sku == value) is column.endswith("!"):
            return False
    return bool(where) or not line.is_left_out


@dataclass
class Sheet:
    """A file, and what is in it."""

    path: Path
    lines: list[Line] = field(default_factory=list)

    def write_plain(self) -> None:
        if self.path.suffix == ".xlsx":
            self._write_workbook()
            return
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sku", "image", "prompt"])
            writer.writerows([line.sku, PICTURE, line.text] for line in self.lines)

    def _write_workbook(self) -> None:
        workbook = openpyxl.Workbook()
        page = workbook.worksheets[0]
        page.append(["sku", "image", "prompt"])
        for number, line in enumerate(self.lines, start=2):
            page.append([line.sku, PICTURE, line.text])
            page.row_dimensions[number].hidden = line.is_hidden
        workbook.save(self.path)


def read_results(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The header and rows of a table as the product wrote it.

    A column of ours that is named `reelsheet_NAME`, because the input has a NAME, takes its place here.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        header = list(reader.fieldnames or ())
    own = {name: name.removeprefix("reelsheet_") for name in header if name.startswith("reelsheet_")}
    for row in rows:
        row.update({name: row.pop(ours) for ours, name in own.items()})
    return [name for name in header if name not in own], rows


def lines_of(rows: Sequence[dict[str, str]], names: Mapping[str, str]) -> list[Line]:
    """The lines of such a table. `names`: identity → what it stands for, as far as known; cells may read otherwise."""
    return [
        Line(
            row["prompt"],
            status=row["status"],
            paid_text=names.get(row["identity"], row["prompt"]) if row["identity"] else "",
            prediction=row["prediction_id"],
            redo=row["review"] == "redo",
            sku=row["sku"],
            is_left_out=(row["status"], row["error_code"]) == ("skipped", "not_chosen"),
            is_hidden=(row["status"], row["error_code"]) == ("skipped", "hidden"),
        )
        for row in rows
    ]


def damaged(text: str, damage: str) -> str:
    """A cell as a spreadsheet program gives it back."""
    match damage:
        case "question marks":
            return text.encode("cp1252", "replace").decode("cp1252")
        case "line feeds inside":
            return text.replace("\r\n", "\n")
        case "trimmed":
            return text.strip()
        case "decomposed":
            return unicodedata.normalize("NFD", text)
        case "no-break spaces":
            return f"\u00a0{text}\u00a0"
        case _:
            return text


def save_copy(path: Path, header: list[str], rows: list[dict[str, str]], lines: list[Line], saved_as: str) -> Sheet:
    """Save `rows`, whose prompts and reviews are those of `lines`, in one of FORMATS."""
    lost = {"lost size": "video_bytes", "lost identity": "identity"}.get(saved_as)
    header = [name for name in header if name != lost]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, header, extrasaction="ignore", delimiter=";" if saved_as == "semicolons" else ",",
        lineterminator="\n" if saved_as == "line feeds" else "\r\n",
    )  # fmt: skip
    writer.writeheader()
    for row, line in zip(rows, lines, strict=True):
        writer.writerow(row | {"prompt": line.text, "review": "redo" if line.redo else row["review"]})
    path.write_bytes(text.getvalue().encode("utf-16" if saved_as == "utf-16" else "utf-8"))
    if lost == "identity":  # its rows may be rows like any others
        lines = [replace(line, status="", prediction="", redo=False, is_copy=False) for line in lines]
    return Sheet(path, lines)
