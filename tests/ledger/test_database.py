"""The database: migrated exactly, refused where it cannot be trusted, patient where it is only busy."""

import re
import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from reelsheet.errors import LedgerError
from reelsheet.ledger import Ledger, schema
from reelsheet.ledger import database as database_module
from reelsheet.ledger.database import Database, newest_revision


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def test_migrations_make_exactly_what_the_schema_says(ledger_url):
    database = Database.open(ledger_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    database.close()


def test_migrations_build_a_ledger_from_nothing_on_postgresql(postgresql_url):
    import psycopg

    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    Ledger.open(postgresql_url).close()


def test_two_processes_that_open_a_new_ledger_at_once_both_can(tmp_path, at_once):
    at_once(*[lambda: Ledger.open(f"sqlite:///{tmp_path}/new/ledger.db").close()] * 3)


def test_a_new_ledger_that_another_process_is_writing_just_now_is_waited_for(tmp_path):
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE unrelated (x)")
    other.execute("BEGIN IMMEDIATE")
    ending = threading.Timer(0.3, other.execute, ["COMMIT"])
    ending.start()
    Ledger.open(f"sqlite:///{path}").close()
    ending.join()
    other.close()


def test_a_ledger_of_a_newer_program_is_refused(ledger_url):
    database = Database.open(ledger_url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(LedgerError, match="newer reelsheet"):
        Ledger.open(ledger_url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": newest_revision()})
    database.close()


def test_tables_of_somebody_else_are_not_touched(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE attempts (x)")
    connection.close()
    with pytest.raises(LedgerError, match="other tables"):
        Ledger.open(f"sqlite:///{tmp_path}/other.db")


@pytest.mark.parametrize("damage", ["no database", "header", "pages"])
def test_a_damaged_ledger_is_refused_with_a_sentence(sqlite_url, damage):
    path = path_of(sqlite_url)
    content = path.read_bytes()
    if damage == "no database":
        path.write_bytes(b"this is a shopping list, and no database\n" * 200)
    elif damage == "header":
        path.write_bytes(b"\0" * 100 + content[100:])
    else:
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(LedgerError, match=re.escape(str(path))):
        Ledger.open(sqlite_url)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"cannot be made \(Not a directory\).* Set REELSHEET_LEDGER_URL"):
        Ledger.open(f"sqlite:///{tmp_path}/file/below/ledger.db")


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "sqlite://", "sqlite:///", "nonsense", "", "postgresql://[half", "sqlite:relative.db"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(LedgerError, match="REELSHEET_LEDGER_URL"):
        Ledger.open(url)


def test_an_unreachable_server_is_said_without_its_password():
    with pytest.raises(LedgerError) as refused:
        Ledger.open("postgresql://someone:topsecret@127.0.0.1:1/books")
    assert "topsecret" not in str(refused.value)
    assert "127.0.0.1" in str(refused.value)


def test_odd_signs_in_the_path_are_part_of_the_path(tmp_path):
    Ledger.open(f"sqlite:///{tmp_path}/a?b=c#d%20e/ledger.db").close()
    assert (tmp_path / "a?b=c#d%20e" / "ledger.db").is_file()


def test_a_full_disk_is_a_sentence_and_spends_nothing(sqlite_url, registers):
    ledger = Ledger.open(sqlite_url)
    registers(ledger, cap_cents=None)
    with ledger.database.write() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()

    def full(dbapi, _record):
        dbapi.execute(f"PRAGMA max_page_count={pages}")

    from sqlalchemy import event

    ledger.database._engine.dispose()
    event.listen(ledger.database._engine, "connect", full)
    claimed = 0

    def claim_all():
        nonlocal claimed
        while claimed < 10_000:
            ledger.claim(f"{claimed:064d}", run_id="r1", price_cents=54)
            claimed += 1

    with pytest.raises(LedgerError, match="full"):
        claim_all()
    assert ledger.run("r1").reserved_cents == claimed * 54
    ledger.close()


def test_a_ledger_that_cannot_be_written_is_a_sentence(sqlite_url):
    ledger = Ledger.open(sqlite_url)
    with ledger.database.write() as connection:
        connection.execute(text("PRAGMA query_only=ON"))
    from sqlalchemy import event

    ledger.database._engine.dispose()
    event.listen(ledger.database._engine, "connect", lambda dbapi, _record: dbapi.execute("PRAGMA query_only=ON"))
    with pytest.raises(LedgerError, match="nothing more is sent"):
        ledger.heartbeat()
    ledger.close()


def test_a_writer_that_is_slow_is_waited_for(sqlite_url):
    ledger = Ledger.open(sqlite_url)
    other = sqlite3.connect(path_of(sqlite_url), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, lambda: other.execute("COMMIT")).start()
    ledger.heartbeat()
    other.close()
    ledger.close()


def test_a_writer_that_never_ends_is_said_in_the_end(sqlite_url, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
    ledger = Ledger.open(sqlite_url)
    other = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked"):
        ledger.heartbeat()
    other.execute("ROLLBACK")
    ledger.heartbeat()
    other.close()
    ledger.close()


def test_a_server_that_was_restarted_is_connected_to_again(postgresql_url):
    import psycopg

    ledger = Ledger.open(postgresql_url)
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reelsheet' "
            "AND datname = current_database()"
        )
    ledger.heartbeat()
    ledger.close()


def test_a_deadlock_is_tried_again(postgresql_url, registers, at_once):
    """The database undoes one of two that wait for each other; that one begins again."""
    ledger = Ledger.open(postgresql_url)
    ids = [registers(ledger, name, rows=1).run_id for name in ("x", "y")]
    both = threading.Barrier(2, timeout=20)
    tries: list[str] = []

    def lock(order):
        def group(connection):
            tries.append(order[0])
            for name in order:
                connection.execute(text("UPDATE runs SET rows = rows + 1 WHERE run_id = :name"), {"name": name})
                if len(tries) <= 2 and name == order[0]:
                    both.wait()

        ledger.database.committed(group)

    at_once(lambda: lock(ids), lambda: lock(ids[::-1]))
    assert len(tries) == 3
    assert [ledger.run(name).rows for name in ids] == [3, 3]
    ledger.close()


def test_a_commit_of_sqlite_is_on_the_disk_when_it_returns(sqlite_url, monkeypatch):
    """Full synchronisation of a write-ahead log: an id that was recorded outlives a power failure."""
    monkeypatch.setattr(database_module, "_prepare_sqlite", database_module._prepare_sqlite.__wrapped__)
    database = Database.open(sqlite_url)
    with database.read() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("synchronous", "journal_mode")]
    assert pragmas == [2, "wal"]
    database.close()
