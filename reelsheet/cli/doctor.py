"""`doctor`: check what a run needs before there is one, and say how to fix what is wrong. Spends nothing."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from reelsheet import __version__, settings
from reelsheet.cli import doctor_checks as checks
from reelsheet.cli import print_json
from reelsheet.cli.doctor_checks import Check, Finding, Level, broken
from reelsheet.display.waiting import Waiting
from reelsheet.errors import ConfigurationError, ReelsheetError
from reelsheet.redaction import clean
from reelsheet.surroundings.problems import UnusableSurroundings
from reelsheet.words import counted

TIMEOUT_S: Final = 90.0  # for all checks together; each has limits of its own, and says more


def doctor(to: str | None, *, as_json: bool) -> int:
    """Check everything that a run needs, and `to` where it is given. 2 where a run could not work, else 0."""
    with Waiting("Checking"):
        findings = examine(to)
    works = all(finding.level is not Level.BROKEN for finding in findings)
    if as_json:
        print_json({"ok": works, "version": __version__, "checks": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    return 0 if works else 2


def examine(to: str | None = None) -> list[Finding]:
    """Every finding, in the order in which people would fix them."""
    try:
        current = settings.load()
    except ConfigurationError as error:
        wrong = broken("Settings", str(error), "Correct them in the environment or in .env.")
        return [wrong, *run_checks({"Prefect": checks.prefect, "Disk": checks.disk})]
    return run_checks(
        {
            "Settings": lambda: checks.configuration(current),
            "Network": lambda: checks.network_settings(current),
            "Provider": lambda: checks.provider(current),
            "API key": lambda: checks.api_key(current),
            "Destination" if to else "S3": lambda: checks.destination(to) if to else checks.aws_credentials(),
            "Ledger": lambda: checks.ledger(current),
            "Prefect": checks.prefect,
            "Machine": checks.machine_settings,
            "Disk": checks.disk,
            "Notification": lambda: checks.notification(current),
            "Parts": lambda: checks.optional_parts(current),
            "Packages": checks.package_names,
        }
    )


def run_checks(named: Mapping[str, Check], timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """All checks at the same time. One that hangs or fails is itself a finding."""
    results: dict[str, list[Finding]] = {}

    def run(about: str, check: Check) -> None:
        try:
            results[about] = list(check())
        except UnusableSurroundings as error:
            results[about] = [broken(about, f"{one.setting}: {one.seen}", one.fix) for one in error.problems]
        except ReelsheetError as error:
            results[about] = [broken(about, str(error))]
        except Exception as error:  # noqa: BLE001 - the other checks are still worth showing
            reason = clean(f"{type(error).__name__}: {error}", limit=200)
            results[about] = [broken(about, f"could not be checked ({reason})")]

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in named.items()]
    for thread in threads:
        thread.start()
    until = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"no answer within {timeout_s:g} s"
    return [finding for about in named for finding in results.get(about, [broken(about, late, "Check the network.")])]


def _show(findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from reelsheet.display.terminal import safe, show

    signs = {Level.FINE: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.BROKEN: ("✗", "red")}
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        sign, colour = signs[finding.level]
        text = safe(finding.message, "" if finding.level is Level.FINE else colour)
        if finding.fix:
            text.append("\n").append_text(safe(finding.fix))
        table.add_row(Text(sign, style=colour), finding.about, text)
    show(table, sys.stdout)
    count = sum(finding.level is Level.BROKEN for finding in findings)
    end = f"{counted(count, 'thing')} to fix before a run can work." if count else "A run can work."
    show(Text(f"\n{end}", style="bold"), sys.stdout)
