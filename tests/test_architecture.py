"""The layers: imports run one way, also inside functions and under TYPE_CHECKING. CONTRIBUTING and docs say why."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for top in ("flows", "tasks", "reelsheet") for path in sorted((ROOT / top).rglob("*.py"))]

# From above to below; a package imports from later lines only.
LAYERS = (
    ("cli",),
    ("display",),
    ("flows",),
    ("tasks",),
    ("run",),
    ("planning",),
    ("results",),
    ("images",),
    ("manifest",),
    ("ledger", "pacing", "provider", "sandbox"),
    ("storage",),
    ("web",),
    ("surroundings",),
    ("settings", "options", "messages"),
    ("outcomes", "file_types"),
    ("money", "paths", "redaction", "s3_extra_args", "words"),
    ("errors",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# of everything together; the stand-in provider
OTHER_TESTS = {"deployments", "docs", "faults", "hunt", "security", "stand_in"}

# What is not so yet: rule → the exceptions. A test fails when one of them is no longer needed.
EXCEPTIONS: dict[str, set[str]] = {}


def package_of(name: str) -> str:
    """`reelsheet.ledger.claims` → `ledger`; `flows.rows` → `flows`; nothing for what is not ours."""
    top, _, rest = name.partition(".")
    return rest.partition(".")[0] if top == "reelsheet" else top if top in {"flows", "tasks"} else ""


def imports(path: Path) -> Iterator[str]:
    """Every full name that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def home_of(path: Path) -> str:
    return package_of(".".join(path.relative_to(ROOT).with_suffix("").parts))


def upward() -> set[str]:
    found = set()
    for path in SOURCES:
        home = home_of(path)
        for name in imports(path):
            other = package_of(name)
            if home in RANK and other in RANK and other != home and RANK[home] >= RANK[other]:
                found.add(f"{name_of(path)} imports {name}")
    return found


def unplaced() -> set[str]:
    return {home_of(path) for path in SOURCES} - set(RANK) - {"__init__"}


def misplaced_libraries() -> set[str]:
    """SQL in the ledger, Prefect in flows and tasks, the sandbox for the command line alone."""
    found = set()
    for path in SOURCES:
        home, names = home_of(path), {name.partition(".")[0] for name in imports(path)}
        wrong = {"sqlalchemy"} if home != "ledger" else set()
        wrong |= {"prefect"} if home not in {"flows", "tasks"} else set()
        found |= {f"{name_of(path)} imports {name}" for name in names & wrong}
        if home not in {"cli", "sandbox"} and any(package_of(name) == "sandbox" for name in imports(path)):
            found.add(f"{name_of(path)} imports the sandbox")
    return found


def questions_that_hold_up_the_loop() -> set[str]:
    """Of `prefect.runtime`, only a flow run's id and parameters are known without asking the server."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prefect.runtime"):
                found |= {f"{name_of(path)} imports {each.name}" for each in node.names if each.name != "flow_run"}
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "flow_run":
                found |= (
                    {f"{name_of(path)} reads flow_run.{node.attr}"} if node.attr not in {"id", "parameters"} else set()
                )
    return found


def durations_by_a_clock_that_jumps() -> set[str]:
    """Where rows are under way, the time of day is only ever written down or read from others; waits are monotonic."""
    written_down = {"reelsheet/provider/client.py", "reelsheet/web/guarded_http.py", "reelsheet/run/start.py"}
    written_down |= {"flows/continuation.py", "flows/health.py"}  # Prefect's server has and wants times of day
    found = set()
    for path in SOURCES:
        if home_of(path) not in {"flows", "tasks", "run", "pacing", "provider", "web"}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in {
                "time.time",
                "datetime.now",
                "datetime.utcnow",
            }:
                found |= {name_of(path)} - written_down
    return found


def long_files() -> set[str]:
    return {name_of(path) for path in SOURCES if len(path.read_text(encoding="utf-8").splitlines()) > 450}


def folders_without_counterpart() -> set[str]:
    """Packages without tests, and tests of no package."""
    tests = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.rglob("test_*.py"))}
    packages = {path.name for path in (ROOT / "reelsheet").iterdir() if (path / "__init__.py").exists()}
    packages |= {"flows", "tasks"}
    return {f"no tests of {name}" for name in packages - tests} | {
        f"tests/{name} of nothing" for name in tests - packages - OTHER_TESTS
    }


@pytest.mark.parametrize(
    "rule",
    [
        upward,
        unplaced,
        misplaced_libraries,
        questions_that_hold_up_the_loop,
        durations_by_a_clock_that_jumps,
        long_files,
        folders_without_counterpart,
    ],
    ids=lambda rule: rule.__name__,
)
def test_the_house_is_as_it_is_drawn(rule):
    assert rule() == EXCEPTIONS.get(rule.__name__, set())


def test_few_modules_lie_flat():
    assert len([path for path in (ROOT / "reelsheet").glob("*.py") if path.name != "__init__.py"]) <= 14
