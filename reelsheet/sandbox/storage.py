"""A simulated S3 (moto's server) on this machine; its objects live as long as it does.

Runs as a process of its own, so that copying clips and answering the API do not share one interpreter:
`python -m reelsheet.sandbox.storage PORT BUCKET`, one JSON line when ready, until stdin ends.
"""

import base64
import hashlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ACCOUNT: Final = "123456789012"  # moto's own
REGION: Final = "us-east-1"

_CHECKSUMS: Final = {
    "HTTP_X_AMZ_CHECKSUM_SHA256": lambda body: hashlib.sha256(body).digest(),
    "HTTP_CONTENT_MD5": lambda body: hashlib.md5(body, usedforsecurity=False).digest(),
}


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto is not typed
    """Quiet, and without Nagle's delay: the listening socket does not pass the option on."""

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class _Verifying:
    """Refuses a body whose checksum is wrong, as Amazon does and moto does not."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        sent = {name: environ[name] for name in _CHECKSUMS if name in environ}
        if sent and environ["REQUEST_METHOD"] == "PUT":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if any(base64.b64encode(_CHECKSUMS[name](body)).decode() != checksum for name, checksum in sent.items()):
                start_response("400 Bad Request", [("Content-Type", "application/xml")])
                return [b"<Error><Code>BadDigest</Code><Message>The checksum is of another content.</Message></Error>"]
            environ["wsgi.input"] = io.BytesIO(body)
        return self._app(environ, start_response)


def main(port: int, bucket: str) -> None:
    """Serve until stdin ends, so that it never outlives the sandbox that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sandbox ends it
    get_backend("s3")[ACCOUNT]["aws"].create_bucket(bucket, REGION)
    app = _Verifying(create_backend_app("s3"))
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"s3": f"http://127.0.0.1:{server.port}"}) + "\n")
    sys.stdout.flush()
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
