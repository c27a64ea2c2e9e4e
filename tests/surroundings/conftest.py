"""No proxies, certificates, time zone or Prefect of this machine."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "SSLKEYLOGFILE", "TZ", "TMPDIR")
Answers = dict[str, tuple[int, bytes]]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("PREFECT_") or name.lower().endswith("_proxy") or name in NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    """Starts a server with these answers by path ("" for any other); its address. `asked`: requests with their logins."""
    with ExitStack() as stack:

        def start(answers: Answers, asked: list[tuple[str, str]] | None = None) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    if asked is not None:
                        asked.append((self.path, self.headers.get("authorization", "")))
                    status, body = answers.get(self.path, answers.get("", (404, b"{}")))
                    self.send_response(status)
                    if 300 <= status < 400:
                        self.send_header("location", body.decode())
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_: object) -> None: ...

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start
