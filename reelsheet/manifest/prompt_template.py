"""One prompt for many rows: `--prompt "{product} turns slowly"`, and the prompts that it made in an earlier run."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from reelsheet.errors import UsageError
from reelsheet.manifest import columns, prompt_sent
from reelsheet.manifest.cells import CellReader
from reelsheet.manifest.image_url import CONTROL, strip_blanks
from reelsheet.redaction import clean

_MARK: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_DOUBLED: Final = re.compile(r"(?<!\{)\{\{([^{}]+)\}\}(?!\})")
_SENT: Final = "prompt_sent"
_AS_SENT: Final = (
    "The prompts are those of the column 'prompt_sent', as an earlier run sent them, whatever the cells that they were"
    " made from say now. --prompt makes them again."
)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """`literals` stand before, between and after the cells of the columns in `names`."""

    text: str
    literals: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """`{name}` is a column's cell, `{{` and `}}` are braces. Raises UsageError."""
        if not strip_blanks(text):
            raise UsageError("--prompt is empty; write the prompt after it, such as --prompt '{product} turns slowly'.")
        if CONTROL.search(text):
            raise UsageError("--prompt holds a control character; type it again.")
        literals, names, position = [""], [], 0
        for mark in _MARK.finditer(text):
            literals[-1] += text[position : mark.start()]
            position = mark.end()
            if mark[0] in {"{{", "}}"}:
                literals[-1] += mark[0][0]
            elif mark[1] is not None:
                names.append(mark[1])
                literals.append("")
            else:
                near = clean(text[max(0, mark.start() - 15) : mark.start() + 25], limit=40)
                raise UsageError(
                    f"--prompt has a '{mark[0]}' without its other half, in '{near}'; a column is written {{name}},"
                    f" and the sign itself {2 * mark[0]}."
                )
        literals[-1] += text[position:]
        return cls(text, tuple(literals), tuple(names))

    def place(
        self, name: str, header: Sequence[str], roles: Mapping[str, int], source: str, is_empty: columns.IsEmpty
    ) -> int:
        """The column of a name. Raises UsageError for one that is not there, or is there several times."""
        role = name.strip().casefold()
        if role == "prompt" and role in roles:
            return roles[role]
        places = columns.places_of(name, header) if role else []
        places = [place for place in places if not is_empty(place)] or places[:1]
        if not places and role in roles:
            return roles[role]
        shown = f"{{{clean(name, limit=60)}}}"
        if not places:
            there = columns.named_first(name, header)
            raise UsageError(f"--prompt asks for {shown}, but {source} has no such column; it has {there}.")
        if len(places) > 1:
            both = " and ".join(columns.label(header, place) for place in places)
            raise UsageError(f"--prompt asks for {shown}, and {source} has several such columns: {both}; rename one.")
        return places[0]

    def render(self, values: Sequence[str]) -> str:
        """`values`: the cells of `names`."""
        return "".join(literal + value for literal, value in zip(self.literals, [*values, ""], strict=True))

    def cautions(self, header: Sequence[str]) -> tuple[str, ...]:
        """What is surely meant otherwise, though it can be sent."""
        doubled = (name for name in _DOUBLED.findall(self.text) if columns.places_of(name, header))
        return tuple(
            f"--prompt: {{{{{clean(name, limit=60)}}}}} is sent as '{{{clean(name, limit=60)}}}'; "
            "with one brace on each side, the row's cell stands there."
            for name in dict.fromkeys(doubled)
        )


class Prompts:
    """Where the rows' prompts come from: a template, else what an earlier run made of one, else the prompt column.

    `places`, by role, are of the columns that are read for them, as places in a record.
    """

    def __init__(self, template: str | None, block: Mapping[str, int], records: columns.Records) -> None:
        """`block`: the places of a results file's own columns. Raises UsageError."""
        self._template = None if template is None else PromptTemplate.parse(template)
        self._roles: list[str] = []  # of the columns in the template, in its order
        place = block.get(_SENT, -1)
        was_rendered = place >= 0 and any(place < len(cells) and cells[place].strip() for _, cells in records)
        self.places: dict[str, int] = {_SENT: place} if template is None and was_rendered else {}
        self.is_rendered = template is not None or was_rendered
        self.notes: tuple[str, ...] = (_AS_SENT,) if self.places else ()

    def find_columns(
        self,
        header: Sequence[str],
        own: Sequence[int],
        roles: Mapping[str, int],
        source: str,
        is_empty: columns.IsEmpty,
    ) -> None:
        """`header`: the input's columns; `own`: their places in a record. Raises UsageError for one that is missing."""
        if self._template is not None:
            template = self._template
            places = [template.place(name, header, roles, source, is_empty) for name in template.names]
            self._roles = [f"{{{place}}}" for place in places]  # no other role is called like that
            self.places = {role: own[place] for role, place in zip(self._roles, places, strict=True)}
            self.notes = template.cautions(header)
        elif not self.is_rendered and "prompt" in roles:
            self.places = {"prompt": own[roles["prompt"]]}

    def read(self, cells: Sequence[str], reader: CellReader, odd: Collection[str]) -> str | None:
        """A record's prompt. `odd`: the roles of cells whose text is not what people see there."""
        if not self.places.keys().isdisjoint(odd):
            return None
        if self._template is not None:
            return self._rendered(self._template, cells, reader)
        for role, place in self.places.items():
            if role == "prompt":
                return reader.prompt(cells[place])
            return reader.sent_prompt(prompt_sent.from_cell(cells[place]))
        return None

    def _rendered(self, template: PromptTemplate, cells: Sequence[str], reader: CellReader) -> str | None:
        known = len(reader.problems)
        for role, place in self.places.items():
            reader.check_value(role, cells[place])
        if len(reader.problems) > known:
            return None
        text = template.render([cells[self.places[role]] for role in self._roles])
        reader.check_prompt("The prompt", text)
        return text
