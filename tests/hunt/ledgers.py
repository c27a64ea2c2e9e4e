"""Empty ledgers for scripts; tests have fixtures."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from reelsheet.ledger.database import Database


@contextlib.contextmanager
def ledger(kind: str, home: Path) -> Iterator[str]:
    """The address of a new SQLite or PostgreSQL ledger, which is deleted in the end."""
    if kind == "sqlite":
        url = f"sqlite:///{home}/ledger.db"
        Database.open(url).close()
        yield url
        return
    import psycopg
    from sqlalchemy import make_url

    server = make_url(os.environ.get("TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"))
    name = f"reelsheet_hunt_{secrets.token_hex(6)}"
    at = server.render_as_string(hide_password=False)
    with psycopg.connect(at, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')  # type: ignore[arg-type]
    try:
        url = server.set(database=name).render_as_string(hide_password=False)
        Database.open(url).close()
        yield url
    finally:
        with psycopg.connect(at, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]
