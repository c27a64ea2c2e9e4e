"""`demo` and `sandbox`: the whole job without an account."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelsheet.options import Options

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
        options = options.model_copy(
            update={"source": str(manifest), "destination": f"s3://{sandbox.bucket}/{PREFIX}"}
        )
        code = execute(options, yes=True, as_json=as_json)
    home = OUT / sandbox.bucket / PREFIX
    if not as_json:
        sys.stdout.write(f"As files: {home}/results.csv, {home}/videos/, {_latest_gallery(home)}\n")
    return code


def _latest_gallery(home: Path) -> str:
    found = sorted(home.glob("runs/*/gallery.html"))
    return str(found[-1]) if found else f"{home}/runs/"


def serve(flags: Mapping[str, Any]) -> int:
    """The sandbox in the foreground, until Ctrl-C."""
    command = [sys.executable, "-m", "reelsheet.sandbox"]
    for name, value in flags.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    try:
        return subprocess.call(command)  # noqa: S603 - our own module
    except KeyboardInterrupt:
        return 130
