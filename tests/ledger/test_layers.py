"""SQL stands in the ledger's package and nowhere else."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("sqlalchemy", "reelsheet.ledger.schema", "reelsheet.ledger.database")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, and every name that it takes from one."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_module_outside_the_ledger_knows_its_database():
    outside = [
        path
        for folder in ("reelsheet", "flows", "tasks")
        for path in (ROOT / folder).rglob("*.py")
        if not path.is_relative_to(ROOT / "reelsheet" / "ledger")
    ]
    assert len(outside) > 50
    assert [path for path in outside if any(name.startswith(FORBIDDEN) for name in imported(path))] == []
