"""A results table that is given again: which rows stay as they were paid for, and which are made from their cells.

People edit these tables, and programs change them when they save them. A change is no order: a row that was paid for
stays, whatever its cells say now, until a person writes redo or uses --fresh.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from reelsheet import messages
from reelsheet.ledger import Attempt, IdentityHistory, Ledger, State
from reelsheet.manifest import columns
from reelsheet.manifest.earlier import Earlier
from reelsheet.manifest.identity import image_key_of, is_identity, is_of_api, prompt_key
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.money import dollars
from reelsheet.options import Options
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, Status
from reelsheet.planning import redo
from reelsheet.planning.damage import is_damaged
from reelsheet.planning.paid_cells import MOST_RUNS, PaidCells, PaidCellsReader
from reelsheet.planning.plan import RowOutcome
from reelsheet.redaction import clean, clean_url
from reelsheet.words import counted, listed

PAID = frozenset({Status.SUCCEEDED, Status.UNDELIVERED, Status.UNKNOWN})
NAMES_SHOWN = 3  # rows that a note names
EXCERPT = 50  # characters of a cell that a warning shows
_ONE_OR_MORE = re.compile(r"\[([^|\]]*)\|([^\]]*)\]")  # [reads|read]
_OF_STATE = {
    State.COMPLETED: Status.SUCCEEDED,
    State.SUBMITTED: Status.UNDELIVERED,
    State.CLAIMED: Status.UNKNOWN,
    State.UNKNOWN: Status.UNKNOWN,
    State.FAILED: Status.FAILED,
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """The rows as the plan takes them.

    `identities`: position → the identity that the row is planned under. `held`: identities that must not be submitted,
    for no row asks for just that any more → what their rows are instead.
    """

    manifest: Manifest
    identities: dict[int, str]
    held: dict[str, RowOutcome] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def resolve(manifest: Manifest, identities: Mapping[int, str], reader: PaidCellsReader) -> Resolved:
    """`identities`: position → the identity of what the cells ask for, of each valid row."""
    if all(row.earlier is None for row in manifest.rows):
        return Resolved(manifest, dict(identities), notes=tuple(_unheard_reviews(manifest)))
    return _Resolver(manifest, identities, reader).resolve()


def demand_prompts(manifest: Manifest, options: Options, ledger: Ledger) -> Manifest:
    """Rows of a run with --prompt that have no prompt of it are invalid: their prompt column was not meant."""
    if options.prompt is not None:
        return manifest
    runs = {row.earlier.run_id for row in manifest.rows if row.earlier is not None and not row.is_rendered}
    records = [ledger.run(run_id) for run_id in sorted(runs - {""})[:MOST_RUNS]]
    with_template = {record.run_id for record in records if record is not None and record.options.get("prompt")}

    def is_without(row: Row) -> bool:
        return row.earlier is not None and row.earlier.run_id in with_template and not row.is_rendered

    rows = (
        replace(row, problems=(messages.NO_PROMPT_SENT,)) if is_without(row) and not row.problems else row
        for row in manifest.rows
    )
    return replace(manifest, rows=tuple(rows)) if with_template else manifest


@dataclass(frozen=True, slots=True)
class _Past:
    """A row with results: the identity that they name, and the one that its cells ask for now ("" for none)."""

    row: Row
    earlier: Earlier
    named: str
    asked: str
    history: IdentityHistory | None  # of `named`
    status: str

    @property
    def is_changed(self) -> bool:
        return bool(self.named) and self.named != self.asked

    @property
    def is_paid(self) -> bool:
        """The table says that it was paid for, or may have been, and the ledger does not know better."""
        return self.status in PAID and not (self.history is not None and self.history.is_free)

    @property
    def latest(self) -> Attempt | None:
        return self.history.latest if self.history else None

    @property
    def redo_refusal(self) -> str | None:
        return redo.refusal(self.earlier, self.latest, is_edited=self.is_changed)

    @property
    def is_redone(self) -> bool:
        is_asked = redo.is_asked(self.earlier) and self.row.left_out is None
        return is_asked and self.latest is not None and self.redo_refusal is None

    @property
    def keeps_standing(self) -> bool:
        """A row that is left out keeps what it has, whatever its cells say."""
        return self.row.left_out is not None and self.status in {*PAID, Status.FAILED}


class _Resolver:
    """One table. `_told`: kind of note → the rows that it is about."""

    def __init__(self, manifest: Manifest, identities: Mapping[int, str], reader: PaidCellsReader) -> None:
        self._manifest, self._asked, self._reader = manifest, identities, reader
        self._options, self._settings, self._ledger = reader.options, reader.settings, reader.ledger
        self._rows = list(manifest.rows)
        self._identities = dict(identities)
        self._outcomes: dict[str, RowOutcome] = {}  # of identities under which a row stays
        self._told: dict[str, list[Row]] = {}
        self._foreign: set[int] = set()  # positions of rows whose results are another API's
        self._histories: Mapping[str, IdentityHistory] = {}

    def resolve(self) -> Resolved:
        past = self._past()
        owners = {one.named: one.row for one in reversed(past) if one.named and not one.is_changed}
        paid = self._reader.find({one.named: self._runs(one) for one in past if one.is_changed})
        for one in past:
            self._answer_review(one)
            if one.is_changed:
                self._place(one, owners.get(one.named), paid.get(one.named))
            elif one.is_redone:
                self._tell("redone", one.row)
        as_asked = {
            identity
            for position, identity in self._identities.items()
            if self._asked.get(position) == identity and self._rows[position].left_out is None
        }
        return Resolved(
            replace(self._manifest, rows=tuple(self._rows)),
            self._identities,
            {identity: outcome for identity, outcome in self._outcomes.items() if identity not in as_asked},
            tuple(self._notes()),
        )

    def _past(self) -> list[_Past]:
        """The rows that have results, with the histories of what they name."""
        with_results = [(row, row.earlier) for row in self._manifest.rows if row.earlier is not None]
        ids = {earlier.prediction_id for _, earlier in with_results if not is_identity(earlier.identity)}
        by_prediction = self._ledger.identities_of_predictions(ids - {""})
        named: dict[int, str] = {}
        for row, earlier in with_results:
            identity = (
                earlier.identity if is_identity(earlier.identity) else by_prediction.get(earlier.prediction_id, "")
            )
            if identity and not is_of_api(identity, self._settings.base_url):
                self._tell("foreign", row)
                self._foreign.add(row.position)
                identity = ""
            named[row.position] = identity
        self._histories = self._ledger.histories([*self._asked.values(), *filter(None, named.values())])
        has_status = any(earlier.status for _, earlier in with_results)
        past = []
        for row, earlier in with_results:
            history, status = self._histories.get(named[row.position]), earlier.status
            if status not in set(Status) and (status or not has_status):  # the column is gone, or holds other words
                status = Status.UNKNOWN if earlier.attempt is not None else ""
                status = _OF_STATE.get(history.latest.state, Status.INVALID) if history else status
            asked = self._asked.get(row.position, "")
            past.append(_Past(row, earlier, named[row.position], asked, history, status))
        return past

    def _runs(self, one: _Past) -> list[str]:
        """The runs in whose tables what was paid for may be found."""
        attempts = reversed(one.history.attempts if one.history else ())
        return [run_id for run_id in (one.earlier.run_id, *(attempt.run_id for attempt in attempts)) if run_id]

    def _place(self, one: _Past, owner: Row | None, paid: PaidCells | None) -> None:
        """A row that asks for something else than its results name: does it stay, or is it made from its cells?"""
        is_wanted = (self._options.fresh and one.row.left_out is None) or one.is_redone
        if label := self._damaged(one.row, paid):
            self._keep(one, owner, paid, "damaged", messages.lost_letters(label))
        elif paid is not None and paid.row.is_rendered and not one.row.is_rendered:
            self._keep(one, owner, paid, "unrendered", messages.LOST_PROMPT)
        elif not one.asked:
            if one.is_paid or one.keeps_standing:
                self._keep(one, owner, paid, "broken", messages.stays_with_problems(" ".join(one.row.problems)))
        elif is_wanted:
            self._tell("redone" if one.is_redone else "renewed", one.row)
        elif owner is not None:
            self._keep(one, owner, paid, "copy", messages.is_copy(owner.name))
        elif one.is_paid or one.keeps_standing:
            self._keep(one, owner, paid, "edited", messages.stays_as_paid(self._differences(one.row, paid)))

    def _keep(self, one: _Past, owner: Row | None, paid: PaidCells | None, kind: str, warning: str) -> None:
        """The row stays under the identity that its results name."""
        row, source = one.row, owner or (paid.row if paid else None)
        if source is not None:
            row = replace(
                row, image=source.image, prompt=source.prompt, expansion=source.expansion, take=source.take,
                is_rendered=source.is_rendered, picture=source.picture,
            )  # fmt: skip
        # A redo here does not concern what the row is planned under; it is answered already.
        kept = replace(one.earlier, review="")
        self._rows[row.position] = replace(
            row, problems=(), warnings=(*self._rows[row.position].warnings, warning), earlier=kept
        )
        self._identities[row.position] = one.named
        lost = RowOutcome(Status.UNDELIVERED, ErrorCode.LOST, messages.PAID_WITHOUT_ID)
        invalid = RowOutcome(Status.INVALID, ErrorCode.INVALID_ROW, warning)
        self._outcomes.setdefault(one.named, lost if one.is_paid else invalid)
        self._tell(kind, one.row)

    def _damaged(self, row: Row, paid: PaidCells | None) -> str:
        """Whose text lost letters; "" for none."""
        if is_damaged(prompt_key(row.prompt) or "", (prompt_key(paid.row.prompt) or "") if paid else None):
            return self._subject("prompt", row)
        if paid is not None and is_damaged(image_key_of(row), image_key_of(paid.row)):
            return self._subject("image", row)
        return ""

    def _differences(self, row: Row, paid: PaidCells | None) -> str:
        """What reads otherwise than what was paid for, without a full stop."""
        if paid is None:
            return "its picture, prompt, expansion, take or the model are not those that were paid for"
        was, differences = paid.row, []
        if prompt_key(was.prompt) != prompt_key(row.prompt):
            differences.append(self._difference("prompt", was.prompt or "", row.prompt or "", row))
        if image_key_of(was) != image_key_of(row):
            differences.append(self._image_difference(was, row))
        if was.expansion != row.expansion:
            words = {None: "", True: "yes", False: "no"}
            before, now = words[was.expansion], words[row.expansion]
            differences.append(self._difference("enable_prompt_expansion", before, now, row))
        if was.take != row.take:
            differences.append(self._difference("take", str(was.take), str(row.take), row))
        if paid.model != self._settings.model:
            differences.append(f"the model was '{paid.model}' and is '{self._settings.model}' now")
        return ", ".join(differences)

    def _difference(self, role: str, was: str, now: str, row: Row) -> str:
        subject = self._subject(role, row)
        return f"{subject[0].lower()}{subject[1:]} was {_excerpt(was, now)} and is {_excerpt(now, was)} now"

    def _image_difference(self, was: Row, now: Row) -> str:
        before, after = (row.picture.name if row.picture else clean_url(row.image) for row in (was, now))
        if before == after:
            return f"the file '{clean(before, limit=EXCERPT)}' holds another picture now"
        return self._difference("image", before, after, now)

    def _subject(self, role: str, row: Row) -> str:
        """Where the row has what it is asked for, as messages name it."""
        if role == "prompt" and row.is_rendered:
            column = self._manifest.result_columns[RESULT_COLUMNS.index("prompt_sent")]
            return f"Column '{column}'" if self._options.prompt is None else "The prompt"
        place = self._manifest.roles.get(role)
        return f"Column '{role}'" if place is None else f"Column {columns.label(self._manifest.columns, place)}"

    def _answer_review(self, one: _Past) -> None:
        """Say so where a review cell pays nothing."""
        said = redo.word(one.earlier.review)
        if said == redo.REDO:
            is_answered = one.row.position in self._foreign or one.row.left_out is not None
            refusal = None if is_answered else one.redo_refusal
            if refusal is not None:
                self._warn(one.row, refusal)
                self._tell(refusal, one.row)
        elif said not in {"", redo.OK}:
            self._warn(one.row, messages.not_a_review(one.earlier.review))
            self._tell("word", one.row)

    def _warn(self, row: Row, warning: str) -> None:
        latest = self._rows[row.position]
        self._rows[row.position] = replace(latest, warnings=(*latest.warnings, warning))

    def _tell(self, kind: str, row: Row) -> None:
        self._told.setdefault(kind, []).append(row)

    # What the plan says of it

    def _notes(self) -> Iterator[str]:
        """Counts and dollars, for the plan."""
        for kind, note in messages.EDIT_NOTES.items():
            rows = self._told.get(kind, [])
            if rows:
                words = _ONE_OR_MORE.sub(r"\1" if len(rows) == 1 else r"\2", note)
                yield words.format(rows=counted(len(rows), "row"), names=_names(rows), cost=self._cost(rows, kind))
        said = [row.earlier.review for row in self._told.get("word", []) if row.earlier is not None]
        if said:
            shown = ", ".join(f"'{clean(text, limit=30)}'" for text in list(dict.fromkeys(said))[:NAMES_SHOWN])
            cells = "1 review cell says" if len(said) == 1 else f"{len(said):,} review cells say"
            yield f"{cells} something else than ok or redo: {shown}. They pay nothing."
        for kind, rows in self._told.items():
            if kind not in messages.EDIT_NOTES and kind != "word":
                yield f"{counted(len(rows), 'row')} with redo ({_names(rows)}): {kind}"

    def _cost(self, rows: Iterable[Row], kind: str) -> str:
        """What making these rows from their cells costs; what was paid for already is not paid for again."""
        asked = {self._asked[row.position] for row in rows if row.position in self._asked}
        free = {one for one in asked if (known := self._histories.get(one)) is None or known.is_free}
        past = [(row.position, row.earlier.identity) for row in rows if row.earlier is not None and kind == "redone"]
        again = {identity for position, identity in past if self._asked.get(position) == identity}
        return dollars(len(free | again) * self._settings.price_cents)


def _unheard_reviews(manifest: Manifest) -> Iterator[str]:
    """A person wrote redo in a sheet whose result columns are gone."""
    for place, name in enumerate(manifest.columns):
        if name.strip().casefold().removeprefix("reelsheet_") == "review":
            count = sum(redo.word(cell) == redo.REDO for cell in manifest.table.iloc[:, place])
            if count:
                yield messages.redo_without_columns(columns.label(manifest.columns, place), count)


def _names(rows: list[Row]) -> str:
    return listed([row.name for row in rows], NAMES_SHOWN)


def _excerpt(text: str, other: str) -> str:
    """The part of a cell in which it differs from another, for a message."""
    text, other = clean(text, limit=10_000), clean(other, limit=10_000)
    same = next((n for n, (one, two) in enumerate(zip(text, other, strict=False)) if one != two), len(text))
    begin = max(0, min(same, len(text)) - EXCERPT // 3) if len(text) > EXCERPT else 0
    shown = text[begin : begin + EXCERPT]
    return f"'{'…' if begin else ''}{shown}{'…' if text[begin + EXCERPT :] else ''}'" if text else "empty"
