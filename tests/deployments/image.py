"""The image of deployments/Dockerfile, built with buildah and run as compose.yaml would run it.

    scripts/image                       build it on a Debian base of this machine's package sources, and try it
    scripts/image --base python:3.11-slim-bookworm
                                        on this base, which buildah has or can pull
    scripts/image --no-build            try the image that was built last

No daemon is needed. A container is a process with its own mounts and process ids: the image's files read-only, the image's
user without capabilities, its command as process 1. Checked are what the image holds, `doctor`, a run against the
sandbox, and SIGTERM to a run and to a worker.
"""

import argparse
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from reelsheet.sandbox.process import SandboxProcess
from tests.deployments.processes import descendants, free_port

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelsheet-image"
BASE = "python:3.11-slim-bookworm"
IMAGE = "localhost/reelsheet:latest"
# The machine's own certificates and pip settings, for machines behind a proxy.
HOST_FILES = ("/etc/ssl/certs", "/etc/pip.conf")
STOP_LIMIT_S = 60.0
ROWS = 12

DEBIAN = """FROM scratch
ADD base.tar /
RUN ln -s python3 /usr/bin/python
"""
# What compose.yaml asks of the engine: read_only, tmpfs, cap_drop, no-new-privileges, and the volume of the workers.
MOUNTS = """
mount --bind "$IMAGE_ROOT" "$IMAGE_ROOT"
mount -o remount,bind,ro "$IMAGE_ROOT"
mount -t proc proc "$IMAGE_ROOT/proc"
mount --rbind /dev "$IMAGE_ROOT/dev"
mount -t tmpfs -o mode=1777 tmpfs "$IMAGE_ROOT/tmp"
mount -t tmpfs -o "uid=$USER_ID,gid=$USER_ID" tmpfs "$IMAGE_ROOT/home/reelsheet/.prefect"
mount --bind "$VOLUME" "$IMAGE_ROOT/home/reelsheet/.local/state"
exec chroot "$IMAGE_ROOT" setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all env -i -C /home/reelsheet "$@"
"""


def buildah(*words: str, **options: Any) -> str:
    places = ("--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run"), "--storage-driver", "vfs")
    done = subprocess.run(["buildah", *places, *words], check=False, text=True, stdout=subprocess.PIPE, **options)  # noqa: S607
    if done.returncode:
        sys.exit(f"buildah {words[0]} failed with {done.returncode}: {done.stdout[-3000:]}")
    return done.stdout.strip()


def build(base: str | None) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    if base is None and not buildah("images", "--quiet", "--filter", f"reference=localhost/{BASE}"):
        debian()
    volumes = [word for file in HOST_FILES if Path(file).exists() for word in ("--volume", f"{file}:{file}:ro")]
    build_argument = [] if base is None else ["--build-arg", f"PYTHON={base.removeprefix('python:')}"]
    buildah(
        "build", "--isolation", "chroot", "--format", "docker", "--pull-never" if base is None else "--pull", *volumes,
        *build_argument, "--file", "deployments/Dockerfile", "--tag", IMAGE, ".", cwd=ROOT,
    )  # fmt: skip


def debian() -> None:
    """Debian with its Python, under the name of the base image."""
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        Path(name, "Dockerfile").write_text(DEBIAN, encoding="utf-8")
        packages = "--include=python3,python3-venv,ca-certificates"
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale")]
        words = ["mmdebstrap", "--quiet", "--variant=minbase", packages, *left_out, "bookworm", f"{name}/base.tar"]
        subprocess.run(words, check=True)
        buildah("build", "--isolation", "chroot", "--tag", f"localhost/{BASE}", name)


@dataclass
class Image:
    """The image's files, mounted, and what it says of itself."""

    root: Path
    config: dict[str, Any]
    volume: Path
    log: Path
    containers: list["Container"] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.config["Env"])

    def start(self, *command: str, **environment: str) -> "Container":
        user_id = self.config["User"].partition(":")[0]
        given = [f"{name}={value}" for name, value in {**self.environment, **environment}.items()]
        outer = {
            "PATH": os.environ["PATH"],
            "IMAGE_ROOT": str(self.root),
            "USER_ID": user_id,
            "VOLUME": str(self.volume),
        }
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", MOUNTS, "sh", *given]
        with self.log.open("ab") as log:
            begins = log.tell()
            process = subprocess.Popen(
                [*words, *(command or self.config["Cmd"])], env=outer, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.containers.append(Container(process, self.log, begins))
        return self.containers[-1]

    def run(self, *command: str, seconds: float = 180, **environment: str) -> tuple[int, str]:
        """Exit code and output of a command that ends by itself."""
        container = self.start(*command, **environment)
        return container.process.wait(seconds), container.output()


@dataclass
class Container:
    process: subprocess.Popen[bytes]
    log: Path
    begins: int

    def output(self) -> str:
        return self.log.read_bytes()[self.begins :].decode(errors="replace")

    def kill(self) -> None:
        """Also process 1, which the end of its parent does not end: it changed its user."""
        for pid in [*descendants(self.process.pid)[:1], self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> tuple[int, float]:
        """SIGTERM to process 1: its exit code, and how long it took."""
        began = time.monotonic()
        for pid in descendants(self.process.pid)[:1]:
            os.kill(pid, signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_S + 30), time.monotonic() - began


@contextmanager
def mounted(folder: Path) -> Iterator[Image]:
    container = buildah("from", "--pull-never", IMAGE)
    image = None
    try:
        config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        volume = folder / "state"
        volume.mkdir()
        os.chown(volume, 10001, 10001)
        image = Image(Path(buildah("mount", container)), config, volume, folder / "containers.log")
        yield image
    finally:
        for started in image.containers if image else []:
            started.kill()
        buildah("umount", container)
        buildah("rm", container)


class Checks:
    """What was found, a line each."""

    def __init__(self) -> None:
        self.failed = 0

    def that(self, what: str, true: bool, more: object = "") -> None:
        self.failed += not true
        say(f"{'ok    ' if true else 'FAILED'}  {what}" + (f": {more}" if more != "" else ""))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def check(image: Image, sandbox: SandboxProcess, checks: Checks) -> None:
    settings = sandbox.environment()
    size = sum(file.lstat().st_size for file in image.root.rglob("*") if file.is_file() and not file.is_symlink())
    ours = sum(file.lstat().st_size for file in (image.root / "opt").rglob("*") if file.is_file())
    say(f"size    {size / 1e6:.0f} MB, of which {ours / 1e6:.0f} MB are reelsheet with Prefect, the rest is the base")
    checks.that("it does not run as root", image.run("id", "--user") == (0, "10001\n"))
    code, _ = image.run("sh", "-c", "touch /opt/reelsheet/x || touch /home/reelsheet/x || touch /etc/x")
    checks.that("its files are read-only", code != 0)
    _, said = image.run("sh", "-c", "grep -E 'Cap(Eff|Bnd|Prm)' /proc/self/status | cut -f2 | sort -u")
    checks.that("it has no capabilities", said.strip() == "0000000000000000", said.strip())
    missing = "import importlib.util as i; print([n for n in ('av', 'moto', 'pip', 'uv', 'pytest') if i.find_spec(n)])"
    checks.that("no sandbox, encoder or installer is in it", image.run("python", "-c", missing) == (0, "[]\n"))
    code, said = image.run("reelsheet", "--version")
    checks.that("the command answers", code == 0, said.strip())
    code, said = image.run("reelsheet", "doctor", **settings)
    checks.that("doctor finds nothing wrong", code == 0, "" if code == 0 else said)
    a_run(image, sandbox, settings, checks)
    a_stopped_run(image, sandbox, settings, checks)
    a_stopped_worker(image, sandbox, settings, checks)


def a_run(image: Image, sandbox: SandboxProcess, settings: dict[str, str], checks: Checks) -> None:
    command = sheet(sandbox, "run", ROWS)
    code, said = image.run(*command, **settings)
    checks.that("a run delivers every row", code == 0 and delivered(sandbox, "run") == ROWS, "" if code == 0 else said)
    paid_once(sandbox, "run", checks)


def a_stopped_run(image: Image, sandbox: SandboxProcess, settings: dict[str, str], checks: Checks) -> None:
    sandbox.settings(latency=8, capacity=4)
    command = sheet(sandbox, "stopped", ROWS)
    run = image.start(*command, **settings)
    until(lambda: paid(sandbox, "stopped"), 120, "the run's first charge")
    code, seconds = run.stop()
    checks.that("SIGTERM ends a run with 143", code == 143 and seconds < STOP_LIMIT_S, f"{code} after {seconds:.1f} s")
    left = ROWS - len(paid(sandbox, "stopped"))
    sandbox.settings(latency=0.5, capacity=None)
    code, said = image.run(*command, **settings)
    checks.that(
        "the same command finishes it", code == 0 and delivered(sandbox, "stopped") == ROWS, f"{left} rows were left"
    )
    if code:
        say(said)
    paid_once(sandbox, "stopped", checks)


def a_stopped_worker(image: Image, sandbox: SandboxProcess, settings: dict[str, str], checks: Checks) -> None:
    """Server, bootstrap and the image's own command, all from the image; the worker is updated in the middle of a run."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    server = image.start("prefect", "server", "start", "--port", str(port), PREFECT_UI_STATIC_DIRECTORY="/tmp/ui")
    until(lambda: call(api, "/health"), 120, "the server", server)
    client = {**settings, "PREFECT_API_URL": api, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    code, said = image.run("python", "deployments/bootstrap", **client)
    checks.that("bootstrap registers everything", code == 0, "" if code == 0 else said)
    sandbox.settings(latency=8, capacity=4)
    sheet(sandbox, "worker", ROWS)
    flow_run = call(api, "/deployments/name/generate-videos/on-demand")["id"]
    parameters = {"manifest": f"s3://{sandbox.bucket}/worker.csv", "destination": f"s3://{sandbox.bucket}/worker"}
    flow_run = call(api, f"/deployments/{flow_run}/create_flow_run", {"parameters": parameters})["id"]
    worker = image.start(**client)
    until(lambda: paid(sandbox, "worker"), 120, "the worker's first charge", worker)
    code, seconds = worker.stop()
    state = call(api, f"/flow_runs/{flow_run}")["state"]
    checks.that("SIGTERM ends a worker with 0", code == 0 and seconds < STOP_LIMIT_S, f"{code} after {seconds:.1f} s")
    checks.that("its run goes back", state["name"] == "AwaitingRetry", state["name"])
    sandbox.settings(latency=0.5, capacity=None)
    following = image.start(**client)
    final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    until(lambda: call(api, f"/flow_runs/{flow_run}")["state"]["type"] in final, 150, "the next worker", following)
    state = call(api, f"/flow_runs/{flow_run}")["state"]
    checks.that("the next worker finishes it", state["name"] == "Completed", state["message"])
    checks.that("every row is delivered", delivered(sandbox, "worker") == ROWS)
    paid_once(sandbox, "worker", checks)


def call(api: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api}{path}", content, {"content-type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")


def sheet(sandbox: SandboxProcess, name: str, rows: int) -> Sequence[str]:
    """A sheet in the sandbox's bucket, and the command that makes its clips."""
    lines = "".join(f"{sandbox.pictures}/morning-mug.jpg,{name} {n}\n" for n in range(rows))
    store(sandbox).put_object(Bucket=sandbox.bucket, Key=f"{name}.csv", Body=f"image,prompt\n{lines}".encode())
    return ("reelsheet", "run", f"s3://{sandbox.bucket}/{name}.csv", "--to", f"s3://{sandbox.bucket}/{name}", "--yes")


def delivered(sandbox: SandboxProcess, name: str) -> int:
    body = store(sandbox).get_object(Bucket=sandbox.bucket, Key=f"{name}/results.csv")["Body"].read().decode()
    return sum(row["status"] == "succeeded" for row in csv.DictReader(io.StringIO(body, newline="")))


def paid(sandbox: SandboxProcess, name: str) -> Counter[str]:
    return Counter(one["prompt"] for one in sandbox.charges() if one["prompt"].rpartition(" ")[0] == name)


def paid_once(sandbox: SandboxProcess, name: str, checks: Checks) -> None:
    charged = paid(sandbox, name)
    checks.that(
        "each row was paid for once", charged == {f"{name} {n}": 1 for n in range(ROWS)}, f"{charged.total()} charges"
    )


def store(sandbox: SandboxProcess) -> Any:
    return boto3.client(
        "s3", endpoint_url=sandbox.s3, aws_access_key_id="sandbox", aws_secret_access_key="sandbox",
        region_name="us-east-1",
    )  # fmt: skip


def until(true: Any, seconds: float, what: str, container: Container | None = None) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            if true():
                return
        time.sleep(0.25)
    raise AssertionError(f"waited {seconds:.0f} s for {what}\n{container.output()[-3000:] if container else ''}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help=f"the base image instead of a Debian made here, a tag of python, like {BASE}")
    parser.add_argument("--no-build", action="store_true")
    asked = parser.parse_args()
    needed = ["buildah", "unshare", *([] if asked.base or asked.no_build else ["mmdebstrap"])]
    missing = [name for name in needed if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        say(
            f"NOT BUILT, NOT RUN: the image needs root and {', '.join(needed)}; missing: {', '.join(missing) or 'root'}."
        )
        return 2
    if not asked.no_build:
        began = time.monotonic()
        build(asked.base)
        say(f"built   in {time.monotonic() - began:.0f} s")
    checks = Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with SandboxProcess(clips="tiny", latency=0.5, cache=folder / "clips") as sandbox, mounted(folder) as image:
            try:
                check(image, sandbox, checks)
            except BaseException:
                say(image.log.read_text(errors="replace")[-4000:])
                raise
    say(f"{checks.failed} checks failed" if checks.failed else "all checks passed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
