"""`demo` and `sandbox`: the whole job without an account."""

import json
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


def demonstrate(options: Options, *, as_json: bool) -> int:
    """Sandbox up, sample manifest in, clips and results out as files under ./out."""
    from reelsheet.cli.execute import execute
    from reelsheet.sandbox.process import SandboxProcess
    from reelsheet.sandbox.samples import demo_manifest

    STATE.mkdir(parents=True, exist_ok=True)
    ports = _ports()
    sys.stderr.write("Starting the sandbox: a stand-in for the provider, and a simulated S3. Nothing is charged.\n")
    with SandboxProcess(**ports, latency=4, state=STATE, mirror=OUT) as sandbox:
        _remember_ports(sandbox.api, sandbox.s3)
        os.environ.update(sandbox.environment())
        os.environ["REELSHEET_LEDGER_URL"] = f"sqlite:///{(STATE / 'ledger.db').absolute()}"
        os.environ.pop("REELSHEET_DAILY_CAP_USD", None)
        os.environ.pop("REELSHEET_NOTIFY_URL", None)
        manifest = OUT / "manifest.csv"
        manifest.write_text(demo_manifest(sandbox.api), encoding="utf-8")
        options = options.model_copy(
            update={"source": str(manifest), "destination": f"s3://{sandbox.bucket}/{PREFIX}"}
        )
        code = execute(options, yes=True, as_json=as_json)
        sandbox.settle()
    home = OUT / sandbox.bucket / PREFIX
    if not as_json:
        sys.stdout.write(f"As files: {home}/results.csv, {home}/videos/, {_latest_gallery(home)}\n")
    return code


def _latest_gallery(home: Path) -> str:
    found = sorted(home.glob("runs/*/gallery.html"))
    return str(found[-1]) if found else f"{home}/runs/"


def _ports() -> dict[str, int]:
    """The ports of the last demo: an API's address belongs to a row's identity, so it should not change."""
    try:
        told = json.loads((STATE / "ports.json").read_text(encoding="utf-8"))
        return {"port": int(told["port"]), "s3_port": int(told["s3_port"])}
    except (OSError, ValueError, KeyError):
        return {"port": 0, "s3_port": 0}


def _remember_ports(api: str, s3: str) -> None:
    told = {"port": int(api.rpartition(":")[2]), "s3_port": int(s3.rpartition(":")[2])}
    (STATE / "ports.json").write_text(json.dumps(told), encoding="utf-8")


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
