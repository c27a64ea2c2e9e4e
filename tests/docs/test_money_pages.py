"""What the pages say of money is what the modules say."""

import re
from pathlib import Path

import pytest

from reelsheet.ledger import State
from reelsheet.ledger.lease import HEARTBEAT_SECONDS, LEASE_SECONDS, MARGIN_SECONDS
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.pacing.congestion_window import CANARY
from reelsheet.provider import classification

DOCS = Path(__file__).parents[2] / "docs"
NEVER_TWICE = (DOCS / "never-paying-twice.md").read_text(encoding="utf-8")
TROUBLE = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")


def table(text: str, first: str) -> list[list[str]]:
    """The rows below the header that begins with `first`."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("|") and cells(line)[0] == first:
            next(lines)
            break
    else:
        pytest.fail(f"There is no table {first!r}.")
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append(cells(line))
    return found


def cells(line: str) -> list[str]:
    return [" ".join(cell.split()) for cell in line.strip().strip("|").split("|")]


def named(rows: list[list[str]]) -> list[str]:
    return [row[0].strip("`") for row in rows]


def test_the_page_says_of_answers_what_the_module_says():
    assert table(NEVER_TWICE, "what happened") == table(classification.__doc__ or "", "what happened")


def test_every_state_of_an_attempt_is_explained():
    assert named(table(NEVER_TWICE, "state")) == [str(state) for state in State]


def test_the_times_of_a_lease_are_the_ones_in_force():
    told = " ".join(NEVER_TWICE.split())
    assert f"lasts {LEASE_SECONDS:.0f} s and is renewed every {HEARTBEAT_SECONDS:.0f} s" in told
    assert f"up to {MARGIN_SECONDS:.0f} s before the end" in told
    assert {3: "three"}[CANARY] in told


def test_every_status_and_every_error_code_has_its_line_in_order():
    assert named(table(TROUBLE, "status")) == [str(status) for status in Status]
    assert named(table(TROUBLE, "error code")) == [str(code) for code in ErrorCode]


def test_every_file_and_page_that_is_named_is_there():
    for page in (NEVER_TWICE, TROUBLE):
        for name in re.findall(r"`((?:reelsheet|tests)/[\w/.]+)`", page):
            assert (DOCS.parent / name).exists(), name
        for link in re.findall(r"\]\(([\w./-]+)\)", page):
            assert (DOCS / link).exists(), link
