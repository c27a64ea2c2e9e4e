"""The ledger of one database: one object, composed of the parts in this package."""

from contextlib import suppress
from typing import Self

from reelsheet.errors import LedgerError
from reelsheet.ledger.budget import Days
from reelsheet.ledger.claims import Claims
from reelsheet.ledger.database import Database
from reelsheet.ledger.histories import Histories
from reelsheet.ledger.imports import Imports
from reelsheet.ledger.lease import Lease
from reelsheet.ledger.pace_history import ObservedPace
from reelsheet.ledger.runs import Runs
from reelsheet.ledger.sequence import Tries
from reelsheet.ledger.shards import Shards


class Ledger:
    """Safe to use from several threads; made by `Ledger.open`. Its methods block: call them in a thread.

    Each method is described where it is defined, in the part that it belongs to. All raise LedgerError where the
    database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lease = Lease(database)
        self.shards = Shards(database, self.lease)
        claims, histories = Claims(database, self.lease), Histories(database, self.lease)
        runs, imports = Runs(database, self.lease), Imports(database)
        days, tries = Days(database), Tries(database)
        self.shown = database.shown  # its address without the password
        self.is_sqlite = database.is_sqlite
        self.heartbeat = self.lease.renew
        self.now = self.lease.now
        self.share_account = self.lease.share

        self.claim = claims.claim
        self.mark_unawaited = claims.mark_unawaited
        self.release = claims.release
        self.record_id = claims.record_id
        self.record_refused = claims.record_refused
        self.record_unknown = claims.record_unknown
        self.record_completed = claims.record_completed
        self.record_failed = claims.record_failed
        self.record_deliveries = claims.record_deliveries
        self.forget_deliveries = claims.forget_deliveries
        self.resolve = claims.resolve
        self.expire_dead_claims = claims.expire_dead_claims

        self.histories = histories.histories
        self.history = histories.history
        self.find = histories.find
        self.identities_of_predictions = histories.identities_of_predictions
        self.unknown_attempts = histories.unknown_attempts
        self.settled_attempts = histories.settled_attempts
        self.unanswered_streak = histories.unanswered_streak
        self.attempt_money = histories.attempt_money
        self.counts = histories.counts

        self.open_run = runs.open_run
        self.finish_run = runs.finish_run
        self.conclude_run = runs.conclude_run
        self.run = runs.run
        self.run_of_flow = runs.run_of_flow
        self.recent_runs = runs.recent_runs
        self.sheet, self.runs_since = runs.sheet, runs.runs_since
        self.permissions = runs.permissions
        self.unfinished_runs = runs.unfinished_runs
        self.write_notes = runs.write_notes
        self.notes = runs.notes
        self.forget_notes = runs.forget_notes

        self.days, self.today = days.days, days.today
        self.mark_tried = tries.mark_tried
        self.last_tries = tries.last_tries

        self.import_attempts = imports.import_attempts
        self.imported_tables = imports.imported_tables
        self.remember_table = imports.remember_table

    @classmethod
    def open(cls, url: str | None = None) -> Self:
        """Open and migrate. `url`: None (SQLite in the state folder), sqlite:///path, postgresql://…

        Raises LedgerError where it cannot be reached, is newer than this program, or is damaged.
        """
        database = Database.open(url)
        try:
            ledger = cls(database)
            ledger.heartbeat()
        except BaseException:
            database.close()
            raise
        return ledger

    def close(self) -> None:
        """Give the lease back, so that nobody waits for it."""
        with suppress(LedgerError):  # the lease runs out by itself
            self.lease.release()
        self.database.close()

    def observed_pace(self, *, is_play_money: bool = False) -> ObservedPace | None:
        """The pace of the latest predictions, a sandbox's apart from others'; None where none was completed."""
        return ObservedPace.load(self.database, is_play_money=is_play_money)
