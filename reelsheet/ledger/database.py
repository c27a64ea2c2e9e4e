"""The database under the ledger: SQLite in a file or PostgreSQL, opened, migrated, and asked in transactions."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, Executable, Row, Select, create_engine, event, inspect, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from reelsheet.errors import LedgerAway, LedgerError
from reelsheet.ledger.durability import file_of
from reelsheet.redaction import clean

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30.0  # that a writer waits for another process's transaction
TRIES = 5  # of a transaction that the database itself has undone
UNDONE = frozenset({"40001", "40P01"})  # PostgreSQL's serialization failure and deadlock
READ_ONLY = "25006"  # what PostgreSQL says while another server takes over
UNANSWERED_MS = 30_000  # before a connection whose other end is gone is given up
NO_URL = "REELSHEET_LEDGER_URL must be postgresql://user:password@host/database or sqlite:///path/to/ledger.db."

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """One database. Whatever goes wrong with it is a LedgerError with a sentence."""

    def __init__(self, engine: Engine, shown: str) -> None:
        self._engine = engine
        self.shown = shown
        self.is_sqlite = engine.dialect.name == "sqlite"

    @classmethod
    def open(cls, url: str | None) -> Self:
        """`url`: None (SQLite in the state folder), sqlite:///path, postgresql://…; brings its tables up to date."""
        database = cls(*_engine(url))
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        self._engine.dispose()

    def committed(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function` in one committed transaction; from its beginning again where the database itself has undone it.

        So it is after a deadlock, and after a race for a row of which there may be only one.
        """
        for number in range(1, TRIES + 1):
            try:
                with self.write() as connection:
                    return function(connection, *args, **kwargs)
            except IntegrityError as error:
                if number == TRIES:
                    raise LedgerError(f"The ledger at {self.shown} refuses this entry ({_reason(error)}).") from error
            except LedgerError as error:
                if number == TRIES or getattr(_origin(error.__cause__), "sqlstate", None) not in UNDONE:
                    raise
            time.sleep(0.01 * number)
        raise AssertionError  # the last try returned or raised

    def execute(self, statement: Executable) -> None:
        """One statement in a committed transaction of its own."""
        self.committed(lambda connection: connection.execute(statement))

    def fetch(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """The rows of one query in a transaction of its own."""
        with self.read() as connection:
            return connection.execute(query).all()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes, committed at its end."""
        with self._connected() as connection, connection.execution_options(immediate=True).begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._connected() as connection, connection.begin():
            yield connection

    def now(self, connection: Connection) -> float:
        """One clock for all who share the ledger: the database's own, where it has one."""
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def serialise(self, connection: Connection, what: str) -> None:
        """Two transactions about `what` come one after the other (SQLite's writers always do)."""
        if not self.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": what})

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            kind = LedgerAway if _is_away(error) else LedgerError
            raise kind(
                f"The ledger at {self.shown} does not answer as it should ({_reason(error)}); nothing more is sent."
            ) from error

    def _revision(self) -> str | None:
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def _migrate(self) -> None:
        try:
            if self._revision() != newest_revision():
                self._upgrade()
        except LedgerError as error:
            if error.__cause__ is None or not isinstance(error.__cause__, SQLAlchemyError | OSError):
                raise
            raise type(error)(
                f"The ledger at {self.shown} cannot be used ({_reason(error.__cause__)}); without it nothing is spent. "
                "Check REELSHEET_LEDGER_URL, its permissions and its disk."
            ) from error

    def _upgrade(self) -> None:
        from alembic import command, util
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(5408091)"))
            if not inspect(connection).has_table("alembic_version") and inspect(connection).has_table("attempts"):
                raise LedgerError(f"The database at {self.shown} holds other tables named like a ledger's.")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except util.CommandError as error:
                raise LedgerError(
                    f"The ledger at {self.shown} was written by a newer reelsheet, or by one from before its first "
                    "release; use that one. Nothing was spent."
                ) from error


def newest_revision() -> str:
    """The migration that a ledger should be at, by the files' names: Alembic takes longer to find it."""
    return max(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _engine(url: str | None) -> tuple[Engine, str]:
    scheme, _, rest = (url or "").partition("://")
    if scheme in {"postgresql", "postgres", "postgresql+psycopg"}:
        return _postgresql(rest)
    path = file_of(url)
    if path is None:
        raise LedgerError(NO_URL)
    return _sqlite(path)


def _postgresql(rest: str) -> tuple[Engine, str]:
    try:
        engine = create_engine(
            f"postgresql+psycopg://{rest}",
            pool_size=4,
            max_overflow=2,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 10,
                "application_name": "reelsheet",
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": UNANSWERED_MS,
            },
        )
    except (ArgumentError, ValueError):
        raise LedgerError(NO_URL) from None  # the error quotes the address, and with it the password
    except ImportError:
        raise LedgerError('A PostgreSQL ledger needs psycopg: install reelsheet with its "postgres" extra.') from None
    shown = engine.url.set(query={}).render_as_string(hide_password=True)
    return engine, shown.replace("postgresql+psycopg", "postgresql")


def _sqlite(path: Path) -> tuple[Engine, str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"The folder {path.parent} for the ledger cannot be made ({error.strerror}); without it nothing is spent. "
            "Set REELSHEET_LEDGER_URL to a place that can be written, or unset it."
        ) from error
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine, str(path)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin with _begin_sqlite
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_SECONDS * 1000:.0f}", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _use_write_ahead_log(cursor)
    cursor.close()


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Wait for whoever writes: SQLite itself does not, where the log of a new database is changed."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _is_away(error: SQLAlchemyError) -> bool:
    """True where the same request may succeed in a moment: the server is restarted or cut off, or others hold it."""
    origin = _origin(error)
    if isinstance(origin, sqlite3.Error):
        return getattr(origin, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    if isinstance(error, OperationalError | InterfaceError | NoFreeConnection):
        return True
    is_cut = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_cut or getattr(origin, "sqlstate", None) == READ_ONLY


def _origin(error: BaseException | None) -> BaseException | None:
    return getattr(error, "orig", None) or error


def _reason(error: BaseException) -> str:
    """The database's own words, short, without statements, parameters or passwords."""
    origin = _origin(error) or error
    line = str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__
    return clean(line, limit=200)
