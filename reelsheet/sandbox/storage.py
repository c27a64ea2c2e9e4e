"""A simulated S3 (moto's server) on this machine; its objects live as long as it does.

Runs as a process of its own, so that copying clips and answering the API do not share one interpreter:
`python -m reelsheet.sandbox.storage PORT BUCKET`, one JSON line when ready, until stdin ends.
"""

import json
import os
import signal
import sys
import threading
from typing import Final

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ACCOUNT: Final = "123456789012"  # moto's own
REGION: Final = "us-east-1"


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto is not typed
    """Quiet, and without Nagle's delay: the listening socket does not pass the option on."""

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def main(port: int, bucket: str) -> None:
    """Serve until stdin ends, so that it never outlives the sandbox that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sandbox ends it
    get_backend("s3")[ACCOUNT]["aws"].create_bucket(bucket, REGION)
    server = make_server("127.0.0.1", port, create_backend_app("s3"), threaded=True, request_handler=_Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"s3": f"http://127.0.0.1:{server.port}"}) + "\n")
    sys.stdout.flush()
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
