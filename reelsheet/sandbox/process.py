"""The sandbox as a process of its own that ends with whoever started it, however that ends."""

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from reelsheet.errors import ConfigurationError
from reelsheet.sandbox.configuration import configuration

NEEDED: Final = ("av", "fastapi", "moto", "uvicorn")
START_S: Final = 60


def demand_parts() -> None:
    """Raises ConfigurationError where the extra is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"The sandbox needs parts that are not installed ({', '.join(missing)}); "
            "install reelsheet with its extra: `pip install '.[sandbox]'` in its checkout, or `make install`."
        )


class SandboxProcess:
    """`with SandboxProcess(clips="tiny", latency=0.1) as sandbox:` starts it and waits until it answers.

    Options are the fields of `configuration.Configuration`: latency, capacity, clips, state and so on. Raises
    UsageError where one makes no sense, ConfigurationError where it cannot be started.
    """

    program: ClassVar[tuple[str, ...]] = ("-P", "-m", "reelsheet.sandbox")

    def __init__(self, **options: Any) -> None:
        self._configuration = configuration(**options, ends_with_stdin=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None
        self.api = self.s3 = self.assets = ""  # addresses, once it runs
        self.pictures = ""  # below it the sample pictures are served: `{pictures}/NAME.jpg`
        self.key = self.bucket = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it, or again after `close`."""
        demand_parts()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, *self.program, self._configuration.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C is for the run, which still has predictions to poll
        )
        line = _first_line(self._process, START_S)
        try:
            started = json.loads(line)
        except ValueError:
            error = self._last_error()
            self.close()
            raise ConfigurationError(f"The sandbox could not be started: {error}") from None
        self.api, self.s3, self.assets = started["api"], started["s3"], started["assets"]
        self.pictures, self.key, self.bucket = started["pictures"], started["key"], started["bucket"]

    def close(self) -> None:
        """End it; does nothing when it is over already."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._stderr.close()

    def environment(self) -> dict[str, str]:
        """What a reelsheet process needs to work against this sandbox."""
        return {
            "VIBEDREAM_BASE_URL": self.api,
            "VIBEDREAM_API_KEY": self.key,
            "AWS_ENDPOINT_URL_S3": self.s3,
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",  # the simulated S3 wants one, any one
            "AWS_DEFAULT_REGION": "us-east-1",
            "REELSHEET_ALLOW_PRIVATE_HOSTS": "1",
        }

    def activity(self) -> dict[str, Any]:
        """What `GET /sandbox/activity` answers: charges, posts, polls, most_in_flight, predictions and so on."""
        return self._call("GET", "/sandbox/activity")  # type: ignore[no-any-return]

    def charges(self) -> list[dict[str, Any]]:
        """Every accepted submission, in order."""
        return self.activity()["charges"]  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Predictions, counts and settings as at the start; S3 is left alone."""
        self._call("POST", "/sandbox/reset")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change how it behaves from now on: latency, capacity, per_minute, fail_rate, cost_cents, clips and so on."""
        return self._call("POST", "/sandbox/settings", changes)  # type: ignore[no-any-return]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        import httpx

        # Plain HTTP on this machine: reading the certificates would only take time.
        with httpx.Client(base_url=self.api, trust_env=False, verify=False, timeout=30) as client:  # noqa: S501 - see above
            response = client.request(method, path, json=body)
        if response.is_error:
            raise ConfigurationError(f"The sandbox did not accept {method} {path}: {response.text}")
        return response.json() if response.content else None

    def _last_error(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("reelsheet: ") if lines else f"it did not answer within {START_S} seconds."


def _first_line(process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    """The first line on its stdout; empty where it ends or says nothing in time."""
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline() if process.stdout else b""))
    reader.daemon = True
    reader.start()
    reader.join(timeout_s)
    return lines[0] if lines else b""
