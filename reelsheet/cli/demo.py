"""`demo` and `sandbox`: the whole job without an account."""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from reelsheet.display.waiting import Waiting
from reelsheet.errors import UsageError
from reelsheet.money import dollars
from reelsheet.options import Options
from reelsheet.surroundings.machine import why_unusable
from reelsheet.surroundings.network import reason

if TYPE_CHECKING:
    from reelsheet.run.run import RunMonitor

OUT: Final = Path("out")
STATE: Final = OUT / ".sandbox"
PREFIX: Final = "demo"
REAL: Final = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "REELSHEET_", "VIBEDREAM_")  # not for a demo


def demonstrate(options: Options, *, retry: str | None, as_json: bool) -> int:
    """Sandbox up, sample manifest in, clips and results out as files under ./out.

    `retry`: a results or review file of the demo to retry instead; "" is the one that a person marked under ./out.
    """
    from reelsheet.cli.execute import execute
    from reelsheet.sandbox.process import SandboxProcess
    from reelsheet.sandbox.samples import demo_manifest

    if retry is not None:
        options = replace(options, verb="retry", source=retry or str(_marked_file()))
    if why := why_unusable(STATE):
        raise _unwritable(why)
    lines: list[str] = []
    sys.stderr.write("Starting the sandbox: a stand-in for the provider, and a simulated S3. Nothing is charged.\n")
    with contextlib.ExitStack() as until_the_end:
        with Waiting("Starting the sandbox"):
            sandbox = until_the_end.enter_context(SandboxProcess(latency=4, state=STATE))
        for name in [name for name in os.environ if name.startswith(REAL) and name not in sandbox.environment()]:
            del os.environ[name]
        os.environ.update(sandbox.environment())
        os.environ["REELSHEET_LEDGER_URL"] = f"sqlite:///{(STATE / 'ledger.db').absolute()}"
        os.environ["REELSHEET_DAILY_CAP_USD"] = os.environ["REELSHEET_NOTIFY_URL"] = ""  # whatever .env says
        if retry is None:
            _write(Path(options.source), demo_manifest(sandbox.api).encode())
        options = replace(options, destination=f"s3://{sandbox.bucket}/{PREFIX}")
        home = OUT / sandbox.bucket / PREFIX
        files = _BucketFiles(sandbox.bucket)
        files.upload()
        try:
            exit_code = execute(
                options,
                yes=True,
                as_json=as_json,
                closing=lambda monitor, summary: lines.extend(_closing_lines(home, monitor, summary)),
            )
        finally:  # also after Ctrl-C
            with Waiting("Copying clips and results to ./out"):
                files.download()
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return exit_code


class _BucketFiles:
    """The objects of the demo's bucket as files under ./out, where they outlive the simulated S3.

    An index keeps what a file cannot: content type and metadata. A file that a person changed loses its metadata,
    which no longer speaks of it; one that a person deleted is no object any more.
    """

    INDEX: Final = STATE / "objects.json"

    def __init__(self, bucket: str) -> None:
        from reelsheet.storage import s3_client

        self._bucket = bucket
        self._s3 = s3_client.client()
        self._index = self.index()

    @classmethod
    def index(cls) -> dict[str, dict[str, Any]]:
        """key → the object's type, metadata and hash; nothing before the first demo."""
        with contextlib.suppress(FileNotFoundError, ValueError):  # ValueError: a kill cut the file short
            index: dict[str, dict[str, Any]] = json.loads(cls.INDEX.read_bytes())
            return index
        return {}

    def upload(self) -> None:
        """Every file that the index knows."""
        for key, entry in self._index.items():
            path = OUT / self._bucket / key
            if path.is_file():
                content = path.read_bytes()
                unchanged = _sha256(content) == entry["sha256"]
                metadata = entry["metadata"] if unchanged else {}
                self._s3.put_object(
                    Bucket=self._bucket, Key=key, Body=content, ContentType=entry["type"], Metadata=metadata
                )

    def download(self) -> None:
        """Every object of the bucket."""
        self._index = {}
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
            for item in page.get("Contents", ()):
                stored = self._s3.get_object(Bucket=self._bucket, Key=item["Key"])
                content = stored["Body"].read()
                path = OUT / self._bucket / item["Key"]
                _write(path, content)
                self._index[item["Key"]] = {
                    "sha256": _sha256(content),
                    "type": stored["ContentType"],
                    "metadata": stored["Metadata"],
                }
        _write(self.INDEX, json.dumps(self._index).encode())


def _write(path: Path, content: bytes) -> None:
    """Raises UsageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise _unwritable(f"{path.name}: {reason(error)}") from error


def _unwritable(why: str) -> UsageError:
    return UsageError(
        f"./{OUT} cannot be written ({why}); make room or remove what is in its way, or use another folder."
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _marked_file() -> Path:
    """The results table under ./out that a person changed last. Raises UsageError where there is none."""
    tables = list(_results_files())
    marked = [path for path, sha256 in tables if _sha256(path.read_bytes()) != sha256]
    if marked:
        return max(marked, key=lambda path: path.stat().st_mtime)
    if not tables:
        raise UsageError(f"There is no demo under ./{OUT} yet: run `{own_command()} demo` first.")
    newest = max((path for path, _ in tables if path.suffix == ".xlsx"), key=lambda path: path.stat().st_mtime)
    raise UsageError(
        f"No results table under ./{OUT} has been changed. Open {newest}, write redo into the review column of a row, "
        f"save it, and run `{own_command()} demo --retry` again."
    )


def _results_files() -> Iterator[tuple[Path, str]]:
    """Every results table that a demo left, and the hash that it had then."""
    for bucket in OUT.glob("*/"):
        for key, entry in _BucketFiles.index().items():
            path = bucket / key
            if path.name in {"results.csv", "results.xlsx"} and path.is_file():
                yield path, entry["sha256"]


def own_command() -> str:
    """What a person types to start this very program."""
    program = Path(sys.argv[0])
    if shutil.which(program.name) and Path(shutil.which(program.name) or "").resolve() == program.resolve():
        return program.name
    return shlex.quote(os.path.relpath(program))


def _closing_lines(home: Path, monitor: "RunMonitor", summary: Mapping[str, Any]) -> list[str]:
    """What was made, what it would have cost, where to look, and what to try next."""
    made = dollars(round(summary["cost_usd"] * 100))
    missed = summary["rows"] - summary["succeeded"]
    run = home / "runs" / monitor.context.run_id
    return [
        f"{summary['succeeded']} of {summary['rows']} rows have their clip, {summary['reused']} without paying again",
        f"With a real account this would have cost {made}; here nothing was charged",
        f"Clips    {home}/videos/",
        f"Results  {home}/results.csv" + (f"  ({missed} rows did not succeed, and say why)" if missed else ""),
        f"Gallery  {run}/gallery.html  (open it in a browser)",
        "Next     review them: mark clips OK or Redo in the gallery, download the review, and run",
        f"         `{own_command()} demo --retry FILE`; or write redo into the review column of",
        f"         {run}/results.xlsx, save it, and run `{own_command()} demo --retry`.",
        "         Only what you marked Redo is made again.",
    ]


def serve(flags: Mapping[str, Any]) -> NoReturn:
    """The sandbox in the foreground, until Ctrl-C: it takes this process's place, so that what ends one ends both."""
    from reelsheet.sandbox.configuration import configuration
    from reelsheet.sandbox.process import demand_parts

    demand_parts()
    options = configuration(**flags).model_dump_json()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "reelsheet.sandbox", options])  # noqa: S606 - our own module
