"""`demo` and `sandbox`: the whole job without an account."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from reelsheet.money import dollars
from reelsheet.options import Options

if TYPE_CHECKING:
    from reelsheet.run.run import Run

OUT = Path("out")
STATE = OUT / ".sandbox"
PREFIX = "demo"
REAL = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "REELSHEET_", "VIBEDREAM_")  # not for a demo


def demonstrate(options: Options, *, as_json: bool) -> int:
    """Sandbox up, sample manifest in, clips and results out as files under ./out."""
    from reelsheet.cli.execute import execute
    from reelsheet.sandbox.process import SandboxProcess
    from reelsheet.sandbox.samples import demo_manifest

    STATE.mkdir(parents=True, exist_ok=True)
    sys.stderr.write("Starting the sandbox: a stand-in for the provider, and a simulated S3. Nothing is charged.\n")
    with SandboxProcess(latency=4, state=STATE, mirror=OUT) as sandbox:
        for name in [name for name in os.environ if name.startswith(REAL) and name not in sandbox.environment()]:
            del os.environ[name]
        os.environ.update(sandbox.environment())
        os.environ["REELSHEET_LEDGER_URL"] = f"sqlite:///{(STATE / 'ledger.db').absolute()}"
        os.environ["REELSHEET_DAILY_CAP_USD"] = os.environ["REELSHEET_NOTIFY_URL"] = ""  # whatever .env says
        manifest = OUT / "manifest.csv"
        manifest.write_text(demo_manifest(sandbox.api), encoding="utf-8")
        options = replace(options, source=str(manifest), destination=f"s3://{sandbox.bucket}/{PREFIX}")
        home = OUT / sandbox.bucket / PREFIX
        return execute(options, yes=True, as_json=as_json, closing=partial(_closing, home))


def _closing(home: Path, run: "Run", summary: Mapping[str, Any]) -> None:
    """Five lines: what was made, what it would have cost, where to look."""
    made = dollars(round(summary["cost_usd"] * 100))
    missed = summary["rows"] - summary["succeeded"]
    lines = [
        f"{summary['succeeded']} of {summary['rows']} rows have their clip, {summary['reused']} without paying again",
        f"With a real account this would have cost {made}; here nothing was charged",
        f"Clips    {home}/videos/",
        f"Results  {home}/results.csv" + (f"  ({missed} rows did not succeed, and say why)" if missed else ""),
        f"Gallery  {home}/runs/{run.run_id}/gallery.html  (open it in a browser)",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def serve(flags: Mapping[str, Any]) -> NoReturn:
    """The sandbox in the foreground, until Ctrl-C: it takes this process's place, so that what ends one ends both."""
    from reelsheet.sandbox.process import demand_parts

    demand_parts()
    command = [sys.executable, "-m", "reelsheet.sandbox"]
    for name, value in flags.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)  # noqa: S606 - our own module
