"""The hunt: people, programs and accidents in any order, and the oracle after each of them."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from reelsheet.ledger import Ledger, schema
from reelsheet.ledger.database import Database
from tests.hunt.oracle import Oracle, Start
from tests.hunt.provider import Provider
from tests.hunt.sheets import DAMAGES, FORMATS, Line, Sheet, damaged, lines_of, order_of, read_results, save_copy
from tests.hunt.simulation import STAGES, Command, Ended, Trouble, World

TEXTS = (
    "pan left",
    "T\u00fcr \u00f6ffnen\r\nlangsam",
    "\u732b jumps \u201cup\u201d",
    "  dolly in",
    "caf\u00e9, orbit\nright",
)
NEW_TEXTS = ("tilt up", "zoom out slowly", "\u732b sleeps")
PLACES = ("a", "b")
HOUR_S = 3600.0

texts = st.sampled_from(TEXTS)
new_texts = st.sampled_from(NEW_TEXTS)
numbers = st.integers(0, 3)  # of a sheet, row or run, counted round and round
places = st.sampled_from(["a", "a", "a", "b"])
seldom = st.sampled_from([False, False, True])
wheres = st.sampled_from(
    [
        *[()] * 4,
        *[("sku=row-0",), ("sku!=row-0",), ("sku=row-1",), ("sku!=row-0", "sku!=row-1")],
        *[("status=failed",), ("status!=succeeded", "sku!=row-0"), ("error_code=not_chosen",), ("review=redo",)],
    ]
)
limits = st.sampled_from([None, None, None, 1, 2])
caps = st.sampled_from([None, None, None, 0.54, 1.08])
skews = st.sampled_from([0.0, 0.0, 2 * HOUR_S, -3 * HOUR_S, 30 * HOUR_S])
troubles = (
    st.none()
    | st.builds(
        Trouble,
        st.sampled_from(["kill", "kill", "unplug", "signal"]),
        st.sampled_from((*STAGES, "")),
        st.integers(1, 6),
    )
    | st.builds(Trouble, st.sampled_from(["no ledger"]), st.just("ledger"), st.integers(5, 40), st.integers(1, 30))
    | (st.builds(Trouble, st.just("no disk"), st.just("file"), st.integers(1, 12), st.integers(1, 30)))
)
ends = st.none() | st.builds(
    Trouble, st.sampled_from(["kill", "unplug", "signal"]), st.sampled_from(["submitted", "poll"]), st.integers(1, 3)
)
machines = st.lists(st.tuples(ends, skews), min_size=3, max_size=5)
Fault = tuple[Any, ...]
STATUSES = (400, 401, 402, 403, 422, 429, 500, 503)
faults: st.SearchStrategy[Fault] = st.one_of(
    st.just(("behaves",)),
    st.lists(st.sampled_from(["", "before", "after"]), min_size=1, max_size=3).map(lambda lost: ("loses", *lost)),
    st.tuples(st.just("fails"), texts, st.integers(1, 2)),
    st.tuples(st.just("answers"), st.sampled_from(STATUSES), st.integers(1, 6)),
    st.tuples(st.just("sends no clips"), st.integers(1, 8)),
)


class Hunt(RuleBasedStateMachine):
    """Set `provider`, `ledger_url` and `scratch` in a subclass."""

    provider: ClassVar[Provider]
    ledger_url: ClassVar[str]
    scratch: ClassVar[Path]
    commands: ClassVar[int] = 0  # started so far, in all examples
    found: ClassVar[str] = ""  # what led to the first fault; repeated, an example may take another way

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.scratch))
        self.database = Database.open(self.ledger_url)
        self._empty_ledger()
        self.world = World(self.folder, self.provider, self.ledger_url)
        self.oracle = Oracle(self.provider)
        self.sheets: list[Sheet] = []
        self.runs: list[str] = []
        self.last: Command | None = None
        self.story: list[str] = []

    def teardown(self) -> None:
        try:
            if self.sheets:
                self.everything_ends_well()
        finally:
            self.world.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    @initialize(rows=st.lists(texts, min_size=1, max_size=3), seed=st.integers(0, 3), workbook=seldom)
    def a_sheet(self, rows: list[str], seed: int, workbook: bool = False) -> None:
        self.world.moment.seed(seed)
        if workbook:
            rows = [text.replace("\r\n", "\n") for text in rows]  # XML knows no other line ends
        lines = [Line(text, sku=f"row-{n}") for n, text in enumerate(rows)]
        self.sheets.append(Sheet(self.folder / ("sheet.xlsx" if workbook else "sheet.csv"), lines))
        self.sheets[0].write_plain()

    # Commands

    @rule(
        number=numbers, place=places, fresh=seldom, retry_unknown=seldom, limit=limits, cap=caps, trouble=troubles,
        skew=skews, where=wheres, include_hidden=seldom,
    )  # fmt: skip
    def run(
        self, number: int, place: str, fresh: bool, retry_unknown: bool, limit: int | None, cap: float | None,
        trouble: Trouble | None, skew: float, where: tuple[str, ...], include_hidden: bool = False,
    ) -> None:  # fmt: skip
        sheet = self.sheets[number % len(self.sheets)]
        command = Command(
            "run", str(sheet.path), self._to(place), fresh, retry_unknown, limit, cap, where, include_hidden
        )
        self._start(command, trouble, skew)

    @rule(
        what=st.sampled_from(["place", "run", "file"]), number=numbers, place=places, retry_unknown=seldom,
        limit=limits, trouble=troubles, skew=skews, where=wheres,
    )  # fmt: skip
    def retry(
        self, what: str, number: int, place: str, retry_unknown: bool, limit: int | None, trouble: Trouble | None,
        skew: float, where: tuple[str, ...],
    ) -> None:  # fmt: skip
        source, to = self._to(place), None
        if what == "run" and self.runs:
            source = self.runs[-1 - number % len(self.runs)]
        elif what == "file" and len(self.sheets) > 1:
            source, to = str(self.sheets[1 + number % (len(self.sheets) - 1)].path), self._to(place)
        command = Command("retry", source, to, False, retry_unknown, limit, None, where)
        if self._lines(command) is not None:
            self._start(command, trouble, skew)

    @precondition(lambda self: self.last)
    @rule(trouble=troubles, skew=skews)
    def the_same_command(self, trouble: Trouble | None, skew: float) -> None:
        assert self.last is not None
        self._start(self.last, trouble, skew)

    @rule(asks=st.sampled_from(["fresh", "fresh", "retry_unknown", "retry"]), place=places, machines=machines)
    def a_wish_is_repeated(self, asks: str, place: str, machines: list[tuple[Trouble | None, float]]) -> None:
        """The same command, which may pay again, on one machine after the other."""
        command = Command("run", str(self.sheets[0].path), self._to(place), asks == "fresh", asks == "retry_unknown")
        if asks == "retry":
            command = Command("retry", self._to(place))
        for trouble, skew in machines:
            if self._lines(command) is not None:
                self._start(command, trouble, skew)

    @precondition(lambda self: self.last)
    @rule(trouble=troubles, skew=skews, where=wheres)
    def the_same_command_for_other_rows(self, trouble: Trouble | None, skew: float, where: tuple[str, ...]) -> None:
        """What it leaves unfinished is continued by the command as it was."""
        last = self.last
        assert last is not None
        self._start(replace(last, where=where), trouble, skew)
        self._start(last)

    @precondition(lambda self: self.last)
    @rule(trouble=troubles, skew=skews, other=seldom)
    def two_at_once(self, trouble: Trouble | None, skew: float, other: bool) -> None:
        assert self.last is not None
        second = Command("run", str(self.sheets[0].path), self._to("b")) if other else self.last
        self._start_all([self.last, second], [trouble, None], [skew, 0.0])

    @precondition(lambda self: self.provider.is_well)
    @rule(limit=st.sampled_from([1, 1, 2]), what=st.sampled_from(["run", "failing run", "retry", "retry"]))
    def in_portions(self, limit: int, what: str) -> None:
        """`--limit` again and again comes to every row that needs work."""
        run, retries = Command("run", str(self.sheets[0].path), self._to("a"), limit=limit), what == "retry"
        command = Command("retry", self._to("a"), limit=limit) if retries else run
        if retries and len(self.sheets) > 1:
            return
        if what != "run":
            self.provider.fault("submit", times=-1, fail="no luck today")
        if retries:
            self._start(replace(run, limit=None))  # so that there is something to retry
        lines = self._lines(command)
        if lines is None:
            return
        first = self._start(command)
        if first.exit_code not in {0, 1}:
            return
        orders = self._orders(lines) - self.oracle.may_be_charged(self.database)
        needing = {order for order in orders if self._needs_work(order, retries=retries)}
        before = {order: len(self.oracle.books()[order]) for order in needing}
        for _ in range(-(-len(needing) // limit)):
            self._start(command)
        missed = {order for order in needing if len(self.oracle.books()[order]) == before[order]}
        assert not missed, f"--limit {limit} never came to {missed}"
        self.provider.behave()

    # People and programs between commands

    @rule(number=numbers, text=new_texts)
    def another_prompt_in_the_sheet(self, number: int, text: str) -> None:
        sheet = self.sheets[0]
        place = number % len(sheet.lines)
        sheet.lines[place] = replace(sheet.lines[place], text=text)
        sheet.write_plain()

    @precondition(lambda self: self.sheets[0].path.suffix == ".xlsx")
    @rule(number=numbers)
    def a_filter_in_the_sheet(self, number: int) -> None:
        """Hides one row of the workbook and shows the others."""
        sheet = self.sheets[0]
        hidden = number % len(sheet.lines)
        sheet.lines = [replace(line, is_hidden=place == hidden) for place, line in enumerate(sheet.lines)]
        self._tell(f"    {sheet.lines[hidden].sku} is hidden")
        sheet.write_plain()

    @rule(
        place=places, number=numbers, saved_as=st.sampled_from(FORMATS), damage=st.sampled_from(DAMAGES), redo=seldom,
        edit=seldom, text=new_texts, variant=seldom, verb=st.sampled_from(["", "run", "retry"]),
    )  # fmt: skip
    def results_are_saved_again(
        self, place: str, number: int, saved_as: str, damage: str, redo: bool, edit: bool, text: str, variant: bool,
        verb: str,
    ) -> None:  # fmt: skip
        """By a program, and perhaps by a person; and, with a `verb`, given back at once."""
        table = Path(self._to(place)) / "results.csv"
        if not table.exists():
            return
        header, rows = read_results(table)
        lines = lines_of(rows, self.oracle.names)
        at = number % len(lines)
        lines = [replace(line, text=damaged(line.text, damage)) for line in lines]
        is_lossy = damage == "question marks"
        lines = [
            replace(line, is_damaged=is_lossy and line.text != row["prompt"])
            for line, row in zip(lines, rows, strict=True)
        ]
        if is_lossy and saved_as == "lost identity":
            return  # then nobody can know what the rows were
        lines[at] = replace(lines[at], redo=redo or lines[at].redo)
        if edit:
            lines[at] = replace(lines[at], text=text, is_damaged=False)
        if variant:
            lines.insert(at + 1, replace(lines[at], text=NEW_TEXTS[-1], is_damaged=False, is_copy=True, redo=False))
            rows = [*rows[: at + 1], rows[at], *rows[at + 1 :]]
        path = self.folder / f"copy-{len(self.sheets)}.csv"
        self.sheets.append(save_copy(path, header, rows, lines, saved_as))
        self._tell(f"    {path.name}: {[(line.text, line.redo) for line in lines]}")
        if verb:
            self._start(Command(verb, str(path), self._to(place)))

    @rule(number=numbers, abandon=st.booleans())
    def an_unknown_row_is_settled(self, number: int, abandon: bool) -> None:
        self.story.append(f"    settled: row {number}, abandon={abandon}")
        ledger = Ledger(self.database)
        ledger.heartbeat()
        ledger.expire_dead_claims()
        unknown = [
            (identity, self.oracle.names[identity])
            for identity in sorted(ledger.unknown_attempts())
            if identity in self.oracle.names
        ]
        if not unknown:
            return
        identity, order = unknown[number % len(unknown)]
        lost = [charge.id for charge in self.oracle.books()[order] if charge.id not in self.oracle.answered]
        if abandon:
            ledger.resolve(identity, None)
            self.oracle.abandoned(order)
        elif lost:
            ledger.resolve(identity, lost[-1])
            self.oracle.resolved(lost[-1])
        ledger.close()

    @rule()
    def the_ledger_is_lost(self) -> None:
        self.story.append("    the ledger is lost")
        self._empty_ledger()
        self.oracle.ledger_lost()

    @rule(fault=faults)
    def the_provider(self, fault: Fault) -> None:
        self.provider.behave()
        match fault:
            case "loses", *lost:
                self.provider.lost = list(lost)
            case "fails", text, times:
                self.provider.fault("submit", prompt=text.strip()[:3], times=times, fail="the queue broke down")
            case "answers", status, times:
                body = {"error": "not today"}
                self.provider.fault("submit", times=times, answer={"status": status, "body": body})
            case "sends no clips", times:
                self.provider.fault("asset", times=times, answer={"status": 503})

    # The end

    def everything_ends_well(self) -> None:
        """Without faults, a plain run makes what was never made, and the next one has nothing to do."""
        self.provider.behave()
        sheet = self.sheets[0]
        command = Command("run", str(sheet.path), self._to("a"))
        done = self._start(command)
        assert done.exit_code in {0, 1}, f"exit {done.exit_code}: {done.error}"
        statuses = {str(result.status) for result in done.results if str(result.error_code or "") != "hidden"}
        assert statuses <= {"succeeded", "failed", "unknown"}, statuses
        before = len(self.provider.charges())
        again = self._start(command)
        assert again.exit_code == done.exit_code
        assert len(self.provider.charges()) == before

    # Small steps

    def _start(self, command: Command, trouble: Trouble | None = None, skew_s: float = 0.0) -> Ended:
        return self._start_all([command], [trouble], [skew_s])[0]

    def _start_all(self, commands: list[Command], troubles: list[Trouble | None], skews_s: list[float]) -> list[Ended]:
        lines = [self._lines(command) or [] for command in commands]
        starts = [self.oracle.begins(command, told) for command, told in zip(commands, lines, strict=True)]
        for command, trouble, skew_s in zip(commands, troubles, skews_s, strict=True):
            ahead = f"; its clock is {skew_s / HOUR_S:+.0f} h" if skew_s else ""
            self._tell(f"    reelsheet {command}" + (f"; {trouble}" if trouble else "") + ahead)
        type(self).commands += len(commands)
        ends = self.world(*commands, troubles=troubles, skews_s=skews_s, senders=starts)
        try:
            self._compare(starts, ends)
        except AssertionError as error:
            type(self).found = type(self).found or "\n".join([*self.story, str(error)])
            raise
        self.last = commands[0]
        return ends

    def _compare(self, starts: list[Start], ends: list[Ended]) -> None:
        """With the books, after commands."""
        for start, ended in zip(starts, ends, strict=True):
            charged = {order: len(charges) for order, charges in self.oracle.books().items()}
            rows = [str(result.status) for result in ended.results]
            self._tell(f"      exit {ended.exit_code} {ended.error or rows}; charges {charged}")
            self.story.append(f"        permitted beyond the first: {dict(self.oracle.extra)}")
            self.oracle.check_ledger(self.database)
            self.oracle.ended(start, ended, self._recorded_exit(ended.run_id), alone=len(ends) == 1)
            if ended.run_id:
                self.runs.append(ended.run_id)
        self.oracle.check_charges()
        self.oracle.check_ledger(self.database)

    def _tell(self, text: str) -> None:
        self.story.append(text)
        note(text)

    def _lines(self, command: Command) -> list[Line] | None:
        """What a command reads; None where there is nothing to read."""
        for sheet in self.sheets:
            if command.source == str(sheet.path):
                return sheet.lines
        tables = [Path(command.source) / "results.csv"]
        tables += [Path(self._to(place)) / "runs" / command.source / "results.csv" for place in PLACES]
        for table in tables:
            if table.exists():
                return lines_of(read_results(table)[1], self.oracle.names)
        return None

    def _to(self, place: str) -> str:
        return str(self.folder / place)

    def _orders(self, lines: list[Line]) -> set[str]:
        return {order_of(line.paid_text or line.text) for line in lines if not (line.is_left_out or line.is_hidden)}

    def _needs_work(self, order: str, *, retries: bool) -> bool:
        charges = self.oracle.books()[order]
        return not charges or (retries and charges[-1].id in self.oracle.answered and charges[-1].failed)

    def _recorded_exit(self, run_id: str) -> int | None:
        with self.database.read() as connection:
            query = schema.runs.select().where(schema.runs.c.run_id == run_id)
            row = connection.execute(query).first()
        return None if row is None else row.exit_code

    def _empty_ledger(self) -> None:
        with self.database.write() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(table.delete())
