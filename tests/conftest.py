"""Servers on loopback that tests share; nothing here leaves this machine."""

import fcntl
import gc
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.client import BaseClient
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from reelsheet.ledger import Ledger
    from tests.stand_in.faulty_sandbox import FaultySandbox

KEY = "vdk-4f9cQ7Zb1mXw8rTn2LpK6sYd3HgJ5vEa"  # of the sandbox: distinctive, in no shape that a mask could guess

# How long an example takes says nothing on a busy machine. What hypothesis chose for CI stays.
settings.register_profile("at any speed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("at any speed")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees this machine's settings, credentials or ledger, nor what an earlier test has set."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("AWS_", "REELSHEET_", "VIBEDREAM_")) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets the width of its own terminal
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("home")))
    # The same in every test: reelsheet keeps one S3 client for each environment.
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the credentials of whoever asked first
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was called in a test keeps its messages from other loggers only until that test ends."""
    monkeypatch.setattr(logging.getLogger("reelsheet"), "propagate", True)


@pytest.fixture(scope="session", autouse=True)
def signals_as_on_a_terminal() -> None:
    """A program that is started with `nohup` or in the background of a script ignores signals, and so do its children."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL),
    ):  # fmt: skip
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session", autouse=True)
def one_botocore_loader() -> Iterator[None]:
    """Read botocore's service models once in a process; each new client would take 0.2 s to read them again."""
    from botocore import loaders, session

    with pytest.MonkeyPatch.context() as patch:
        shared = cache(loaders.create_loader)
        patch.setattr(session, "create_loader", shared, raising=False)
        patch.setattr(loaders, "create_loader", shared)
        yield


@pytest.fixture(scope="session", autouse=True)
def servers_that_stop_at_once() -> Iterator[None]:
    """`socketserver` checks only every half second if it should stop, and each test that ends a server waits for that."""
    from socketserver import BaseServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseServer.serve_forever, "__defaults__", (0.01,))
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_disk() -> Iterator[None]:
    """This process does not wait until the disk has what was written: no test cuts the power."""
    from reelsheet.ledger import database as database_module

    prepare = database_module._prepare_sqlite

    @wraps(prepare)
    def prepare_quickly(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA synchronous=OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(database_module, "_prepare_sqlite", prepare_quickly)
        yield


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A simulated S3 (moto's server) on a free port of this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_client_of_all(s3_endpoint: str) -> BaseClient:
    """One client for all tests, because creating one takes as long as most tests."""
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1").client(
        "s3", endpoint_url=s3_endpoint
    )


@pytest.fixture
def s3(s3_endpoint: str, s3_client_of_all: BaseClient, monkeypatch: pytest.MonkeyPatch) -> BaseClient:
    """A boto3 client; the environment points reelsheet at the same simulated S3."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return s3_client_of_all


@pytest.fixture
def bucket(s3: BaseClient) -> str:
    """The name of a new, empty bucket."""
    name = f"clips-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[FaultySandbox]":
    """The stand-in provider and a simulated S3, started once: small clips, quick, no limits."""
    from tests.stand_in.faulty_sandbox import FaultySandbox

    with FaultySandbox(key=KEY, clips="tiny", latency=0.05, cache=tmp_path_factory.mktemp("clips")) as process:
        yield process


@pytest.fixture
def sandbox(sandbox_process: "FaultySandbox", monkeypatch: pytest.MonkeyPatch) -> "FaultySandbox":
    """The stand-in without charges and faults; the environment points reelsheet at it."""
    sandbox_process.reset()
    for name, value in sandbox_process.environment().items():
        monkeypatch.setenv(name, value)
    return sandbox_process


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home with its database made, which takes Prefect ten seconds; for commands, or to be copied."""
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prefect-home"  # by the first that needs it
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "done").exists():
            made.mkdir()
            program = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
            environment = kept | {"PREFECT_HOME": str(made)}
            subprocess.run(program, env=environment, cwd=made, capture_output=True, timeout=180, check=True)
            (made / "done").touch()
    return Path(shutil.copytree(made, base / "prefect", dirs_exist_ok=True))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A new database on this machine's PostgreSQL; its address. Without a server: skipped here, an error in CI."""
    import psycopg
    from sqlalchemy import make_url

    server = make_url(os.environ.get("TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"))
    name = f"reelsheet_test_{uuid.uuid4().hex[:12]}"
    try:
        connection = psycopg.connect(server.render_as_string(hide_password=False), autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        told = f"NO POSTGRESQL at {server.render_as_string()}: the ledger is tested on SQLite only ({error})"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    with connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')  # type: ignore[arg-type]
    yield server.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite ledger with nothing in it, to be copied."""
    from reelsheet.ledger.database import Database

    path = tmp_path_factory.mktemp("migrated") / "ledger.db"
    Database.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture(autouse=True)
def new_ledgers(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new SQLite ledger gets the tables that the migrations made once; only tests of the migrations run them again."""
    from reelsheet.ledger.database import Database

    upgrade = Database._upgrade

    def copy(database: Database) -> None:
        if database.is_sqlite:
            with database.write() as connection:
                if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0:
                    for statement in statements_of(migrated):
                        connection.exec_driver_sql(statement)
                    return
        upgrade(database)

    monkeypatch.setattr(Database, "_upgrade", copy)


@cache
def statements_of(path: Path) -> tuple[str, ...]:
    """What makes the same database again, in a transaction that is open already."""
    with closing(sqlite3.connect(path)) as connection:
        return tuple(line for line in connection.iterdump() if line not in {"BEGIN TRANSACTION;", "COMMIT;"})


@pytest.fixture
def sqlite_url(migrated: Path, tmp_path: Path) -> str:
    """The address of an empty ledger in a file."""
    path = tmp_path / "ledger" / "ledger.db"
    path.parent.mkdir()
    shutil.copy(migrated, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgresql: str) -> str:
    """The address of an empty ledger on PostgreSQL."""
    from reelsheet.ledger import schema
    from reelsheet.ledger.database import Database

    database = Database.open(postgresql)
    with database.write() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(table.delete())  # much quicker than TRUNCATE, which makes new files
    database.close()
    return postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty ledger, on each kind of database in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def registers() -> Callable[..., Any]:
    """Registers a run, with simple values for everything that is not given.

    `permissions`: identity → the attempt that it asks to replace, for the reasons in `asks`.
    """
    from reelsheet.ledger import Ask, RepayRequest

    def register(
        ledger: Any,
        run_id: str = "r1",
        *,
        permissions: dict[str, int] | None = None,
        asks: frozenset[Ask] = frozenset({Ask.FRESH}),
        **told: Any,
    ) -> Any:
        requests = {
            identity: RepayRequest(number, asks if number else frozenset())
            for identity, number in (permissions or {}).items()
        }
        given: dict[str, Any] = {
            "verb": "run", "source": "m.csv", "destination": "/d", "command": run_id, "flow_run_id": None,
            "options": {}, "rows": 10, "cap_cents": 100_000, "asks": asks, "requests": requests,
        }  # fmt: skip
        return ledger.open_run(run_id=run_id, **(given | told))

    return register


@pytest.fixture
def opened(ledger_url: str) -> "Iterator[Callable[[], Ledger]]":
    """Opens the ledger again, each time as another owner."""
    from reelsheet.ledger import Ledger

    ledgers: list[Ledger] = []

    def one_more() -> Ledger:
        ledgers.append(Ledger.open(ledger_url))
        return ledgers[-1]

    yield one_more
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened: Callable[[], "Ledger"]) -> "Ledger":
    """A ledger without any run."""
    return opened()


@pytest.fixture
def expires() -> "Callable[[Ledger, Ledger], None]":
    """End the lease of another ledger's owner, as if it had sent no heartbeat for a minute."""

    from sqlalchemy import update

    from reelsheet.ledger import schema as s

    def end(through: "Ledger", whose: "Ledger") -> None:
        with through.database.write() as connection:
            connection.execute(
                update(s.owners).where(s.owners.c.id == whose.lease.owner.id).values(expires_at=0.0, awake_until=0.0)
            )

    return end


# How the tests are given to two processes (pytest-xdist): what shares a server stays together, the longest first.

# One stack of compose.yaml, one Prefect server, one browser, one Swift.
TOGETHER = ("tests/deployments/", "tests/flows/", "tests/results/browser/", "tests/storage/swift/")
LONGEST_FIRST = (
    "tests/deployments/test_a_crashed_night.py",
    "tests/deployments/test_on_a_real_server.py",
    "tests/deployments/",
    "tests/test_installing.py",
    "tests/faults/test_as_a_command.py",
    "tests/ledger/test_state_machine.py",
    "tests/hunt/",
    "tests/docs/",
    "tests/flows/",
    "tests/faults/",
    "tests/storage/",
    "tests/ledger/",
    "tests/results/",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Modules and tests are never garbage: the garbage collector need not look at them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((n for n, path in enumerate(LONGEST_FIRST) if item.nodeid.startswith(path)), len(LONGEST_FIRST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)  # scripts/mutants runs without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = next((path for path in TOGETHER if nodeid.startswith(path)), None)
            return folder or nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # by the number of tests, which says nothing
    return Together(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the skipped tests with the reasons at the end."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"NOT TESTED ({count}): {reason.removeprefix('Skipped: ')}", yellow=True)
    if "not slow" in terminalreporter.config.option.markexpr:
        terminalreporter.write_line("Slow tests were left out: `make slow` runs them.")
