"""The sandbox as a process of its own that ends with whoever started it, however that ends."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from reelsheet.errors import ConfigurationError

NEEDED: Final = ("av", "fastapi", "moto", "numpy", "uvicorn")
START_SECONDS: Final = 60
MATCHES: Final = ("prompt", "image", "id", "nth")


def demand_parts() -> None:
    """Raises ConfigurationError where the extra is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"The sandbox needs parts that are not installed ({', '.join(missing)}); "
            'install them with `pip install "reelsheet[sandbox]"`, or run `make install`.'
        )


class SandboxProcess:
    """`with SandboxProcess(clips="tiny", latency=0.1) as sandbox:` starts it and waits until it answers.

    Options are those of `python -m reelsheet.sandbox`, `port=…, s3_port=…, latency=…, capacity=…, fail_rate=…,
    clips=…, state=…, mirror=…` and so on. Raises ConfigurationError where it cannot be started.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._words: Any = None
        self.addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def api(self) -> str:
        return self.addresses["api"]

    @property
    def s3(self) -> str:
        return self.addresses["s3"]

    @property
    def assets(self) -> str:
        return self.addresses["assets"]

    @property
    def key(self) -> str:
        return self.addresses["key"]

    @property
    def bucket(self) -> str:
        return self.addresses["bucket"]

    @property
    def pictures(self) -> str:
        """Below it the sample pictures are served: `{pictures}/NAME.jpg`."""
        return self.addresses["images"]

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it, or again after `kill`."""
        demand_parts()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "reelsheet.sandbox", "--die-with-stdin", *_flags(self._options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            start_new_session=True,  # Ctrl-C is for the run, which still has predictions to poll
        )
        line = _first_line(self._process, START_SECONDS)
        try:
            self.addresses = json.loads(line)
        except ValueError:
            words = self._last_words()
            self.close()
            raise ConfigurationError(f"The sandbox could not be started: {words}") from None

    def close(self) -> None:
        """End it; does nothing when it is over already."""
        self._end(kill=False)

    def kill(self) -> None:
        """SIGKILL, for tests of what survives it."""
        self._end(kill=True)

    def settle(self) -> None:
        """Nothing to wait for: what S3 has answered is in the mirror's files already."""

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

    def books(self) -> dict[str, Any]:
        """What `GET /sandbox/books` answers: charges, posts, polls, most_in_flight, predictions and so on."""
        return self._call("GET", "/sandbox/books")  # type: ignore[no-any-return]

    def charges(self) -> list[dict[str, Any]]:
        """Every accepted submission, in order."""
        return self.books()["charges"]  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Books, faults, predictions and settings as at the start; S3 is left alone."""
        self._call("POST", "/sandbox/reset")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change how it behaves from now on: latency, capacity, per_minute, fail_rate, cost_cents, clips and so on."""
        return self._call("POST", "/sandbox/settings", changes)  # type: ignore[no-any-return]

    def fault(self, at: str, *, times: int | None = None, charged: bool | None = None, **what: Any) -> None:
        """Script one fault: `fault("submit", prompt="cat", hang=True, charged=True)`.

        prompt, image, id and nth say which requests are meant; everything else is what goes wrong (`faults.Do`).
        """
        rule: dict[str, Any] = {
            "at": at,
            "match": {name: what.pop(name) for name in MATCHES if name in what},
            "do": what,
        }
        if times is not None:
            rule["times"] = times
        if charged is not None:
            rule["charged"] = charged
        self._call("POST", "/sandbox/faults", rule)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        import httpx

        # Plain HTTP on this machine: reading the certificates would only take time.
        with httpx.Client(base_url=self.api, trust_env=False, verify=False, timeout=30) as client:  # noqa: S501 - see above
            response = client.request(method, path, json=body)
        if response.is_error:
            raise ConfigurationError(f"The sandbox did not accept {method} {path}: {response.text}")
        return response.json() if response.content else None

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        if self._words:
            self._words.close()

    def _last_words(self) -> str:
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it did not answer within {START_SECONDS} seconds."


def _flags(options: Mapping[str, Any]) -> list[str]:
    flags: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        text = str(value).lower() if isinstance(value, bool) else os.fspath(value) if isinstance(value, Path) else value
        flags += [f"--{name.replace('_', '-')}", str(text)]
    return flags


def _first_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The first line on its stdout; empty where it ends or says nothing in time."""
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline() if process.stdout else b""))
    reader.daemon = True
    reader.start()
    reader.join(seconds)
    return lines[0] if lines else b""
