"""The cells that a row is made of: the picture, the prompt, the switches. What is wrong with each names its column."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from reelsheet.manifest import columns, encoding, failed_cells, image_url, worksheet, wrapped_url
from reelsheet.redaction import clean

PICTURE_IN_SHEET: Final = (
    "holds a picture that lies in the workbook itself, where the provider cannot fetch it; put the picture online and"
    " write its https:// address into the cell."
)
USUAL_PROMPT: Final = 2_000  # characters; what sellers of such models take
LONGEST_PROMPT: Final = 100_000
LAST_TAKE: Final = 1_000_000

_TAKE: Final = re.compile(r"\+?([0-9]{1,15})(?:\.0*)?")
_TRUE: Final = (
    *("true", "yes", "y", "1", "1.0", "on"),
    *("wahr", "ja", "vrai", "oui", "verdadero", "sí", "si", "vero", "sì"),  # as Excel writes in other languages
)
_FALSE: Final = ("false", "no", "n", "0", "0.0", "off", "falsch", "nein", "faux", "non", "falso")
_BOOLEANS: Final = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
_WRITE_AGAIN: Final = "it was read in a wrong encoding once. Write it again, and save the sheet as 'CSV UTF-8'."
_GARBLED: Final = re.compile(r"[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac")  # a sign of the same in a part of it
_RUN_ON: Final = re.compile(r"\n[^\S\n]*\"?(?:https?|s3)://")


class CellReader:
    """Reads the cells of one row after another. `problems` and `warnings` are of the row since the last `next_row`."""

    def __init__(self, header: Sequence[str], places: Mapping[str, int], *, allow_private: bool) -> None:
        self._header = header
        self.labels = {role: f"Column {columns.label(header, place)}" for role, place in places.items()}
        self._allow_private = allow_private
        self.next_row()

    def next_row(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def image(self, cell: str) -> str:
        """The address; for what may be a file's name that name, with the problem that it is no address."""
        if image_url.is_ordinary(cell):
            return cell
        label = self.labels["image"]
        address = image_url.strip_blanks(cell)
        if self._is_failed("image", cell):
            return ""
        if worksheet.PICTURE_FORMULA.match(address):
            self.problems.append(f"{label} {PICTURE_IN_SHEET}")
            return ""
        if address.startswith("=") and (source := worksheet.link_source_of(address)):
            self.problems.append(f"{label} {columns.link_source_problem(source, self._header)}")
            return ""
        address = self._first_address(cell, address)
        if encoding.LOST.search(address):
            self.problems.append(f"{label} is garbled ({image_url.quoted(address)}); {_WRITE_AGAIN}")
            return ""
        if error := image_url.validation_error(address, allow_private=self._allow_private):
            self.problems.append(f"{label}: {error}")
            return address if "://" not in cell and image_url.may_be_file(address) else ""
        return address

    def _first_address(self, cell: str, text: str) -> str:
        """The first address in a cell, of which `text` is left without blanks around it; what is left out is told."""
        label = self.labels["image"]
        if text.startswith("=") and (link := worksheet.link_of(text)):
            text = link
        elif text not in {"", cell}:
            self.warnings.append(f"{label}: the spaces around the address were left out.")
        several = image_url.split_addresses(text)
        is_bare = image_url.is_address(text) and not image_url.validation_error(several[0], allow_private=True)
        if not is_bare and (inside := wrapped_url.unwrapped(text)) and inside != several:
            self.warnings.append(f"{label}: the address was taken out of '{clean(text, limit=60)}'.")
            several = [one for address in inside for one in image_url.split_addresses(address)]
        if len(several) > 1:
            self.warnings.append(f"{label} holds {len(several)} addresses (several URLs); only the first is used.")
        address = wrapped_url.unescaped(several[0])
        if address != several[0]:
            self.warnings.append(f"{label} holds &amp; in the address, which was read as &.")
        return address

    def prompt(self, cell: str) -> str | None:
        if not cell:
            return None
        if not image_url.strip_blanks(cell):
            self.warnings.append(f"{self.labels['prompt']} holds only spaces, so no prompt is sent.")
            return None
        return self._prompt("prompt", cell)

    def sent_prompt(self, cell: str) -> str | None:
        """The prompt that an earlier run made from a template."""
        if not image_url.strip_blanks(cell):
            self.problems.append(
                f"{self.labels['prompt_sent']} is empty, though other rows have one; write this row's prompt there, or"
                " give --prompt again, which makes the prompts of all rows."
            )
            return None
        return self._prompt("prompt_sent", cell)

    def _prompt(self, role: str, cell: str) -> str | None:
        if not self._is_text(role, cell):
            return None
        self.check_prompt(self.labels[role], cell)
        return cell

    def check_prompt(self, label: str, text: str) -> None:
        if len(text) > LONGEST_PROMPT:
            self.problems.append(f"{label} has {len(text):,} characters, which no model takes; is a quote missing?")
        self.warnings += [f"{label} {oddity}" for oddity in _prompt_oddities(text)]

    def check_value(self, role: str, cell: str) -> None:
        """A cell that --prompt uses."""
        label = self.labels[role]
        if not image_url.strip_blanks(cell):
            self.problems.append(f"{label} is empty, and --prompt uses it; fill the cell.")
        elif self._is_text(role, cell) and _is_placeholder(cell):
            self.warnings.append(f"{label} says '{cell.strip()}', which --prompt puts into the prompt as it stands.")

    def id(self, cell: str) -> str:
        if cell:
            self._refuse_control("id", cell)
        return image_url.strip_blanks(cell)

    def expansion(self, cell: str) -> bool | None:
        text = unicodedata.normalize("NFC", image_url.strip_blanks(cell).casefold())
        if text and text not in _BOOLEANS and not self._is_failed("enable_prompt_expansion", cell):
            label, allowed = self.labels["enable_prompt_expansion"], "true, false, yes, no, 1, 0, on, off or blank"
            self.problems.append(f"{label} says '{clean(cell, limit=40)}'; it must be {allowed}.")
        return _BOOLEANS.get(text)

    def take(self, cell: str) -> int:
        text = image_url.strip_blanks(cell)
        if not text or self._is_failed("take", cell):
            return 1
        match = _TAKE.fullmatch(text)
        if match and 1 <= int(match[1]) <= LAST_TAKE:
            return int(match[1])
        hint = ", without a comma" if "," in text else ""
        says = f"{self.labels['take']} says '{clean(text, limit=40)}'"
        self.problems.append(f"{says}; it must be a whole number from 1 up{hint}, or blank.")
        return 1

    def _is_text(self, role: str, cell: str) -> bool:
        """False for the error of a formula or an unfilled template; what is wrong with any text is noted."""
        self._refuse_control(role, cell)
        if self._is_failed(role, cell):
            return False
        if encoding.is_garbled(cell):
            self.problems.append(f"{self.labels[role]} is garbled ('{clean(cell, limit=60)}'); {_WRITE_AGAIN}")
        return True

    def _is_failed(self, role: str, cell: str) -> bool:
        failure = failed_cells.failure(cell)
        if failure:
            self.problems.append(f"{self.labels[role]} holds {clean(failure)}; correct the cell.")
        return bool(failure)

    def _refuse_control(self, role: str, cell: str) -> None:
        if control := image_url.CONTROL.search(cell):
            code = f"U+{ord(control[0]):04X}"
            self.problems.append(f"{self.labels[role]} holds a control character ({code}); type it again.")


def _is_placeholder(cell: str) -> bool:
    return len(cell) < 20 and cell.strip().casefold() in image_url.PLACEHOLDERS


def _prompt_oddities(cell: str) -> Iterator[str]:
    """What is odd about a prompt that is sent all the same; each goes on where a column was named."""
    if left := failed_cells.leftover(cell):
        yield f"holds '{left}', which nobody filled in; it is sent as it stands."
    if USUAL_PROMPT < len(cell) <= LONGEST_PROMPT:
        yield f"has {len(cell):,} characters; more than {USUAL_PROMPT:,} are often refused."
    if _is_placeholder(cell):
        yield f"says '{cell.strip()}', which is sent as the prompt; blank it if it means none."
    if not cell.isascii() and _GARBLED.search(cell):
        yield f"looks garbled ('{clean(cell, limit=60)}'); save the sheet as 'CSV UTF-8'."
    if "\n" in cell and _RUN_ON.search(cell):
        yield "goes on with a web address in a new line; is a quote missing?"
