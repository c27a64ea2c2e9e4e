"""A simulated S3 (moto's server) on this machine; with a mirror, its objects are plain files that outlive it.

Runs as a process of its own, so that copying clips and answering the API do not share one interpreter:
`python -m reelsheet.sandbox.storage --port 0 --bucket NAME --mirror DIR`, one JSON line when ready, until stdin ends.
"""

import argparse
import hashlib
import json
import mimetypes
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

ACCOUNT: Final = "123456789012"  # moto's own
REGION: Final = "us-east-1"
INDEX: Final = ".reelsheet-bucket.jsonl"
ODD: Final = ".odd-names"

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def serve(*, port: int, buckets: Iterable[str], mirror: Path | None) -> BaseWSGIServer:
    """A simulated S3 (moto), listening but not yet serving: call `serve_forever`."""
    app: Wsgi = create_backend_app("s3")
    backend = get_backend("s3")[ACCOUNT]["aws"]
    if mirror is not None:
        kept = Mirror(mirror, backend)
        kept.load()
        app = kept.written_through(app)
    for name in buckets:
        if name not in backend.buckets:
            backend.create_bucket(name, REGION)
    return make_server("127.0.0.1", port, app, threaded=True, request_handler=_Handler)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index knows of one object, beyond its bytes."""

    bucket: str
    key: str
    file: str  # below the mirror's folder
    md5: str
    etag: str
    modified: str  # ISO 8601
    metadata: dict[str, str] = field(default_factory=dict)  # content type and x-amz-meta-*, as moto keeps them
    checksum: dict[str, Any] = field(default_factory=dict)


class Mirror:
    """Every object as the file `<folder>/<bucket>/<key>`, written before the request that wrote it is answered.

    The index is a journal of one JSON line per change: an object's content type and metadata, or that it is gone.
    Keys that are no sensible file names, or that are a file where another needs a folder, get a hashed name.
    """

    def __init__(self, folder: Path, backend: Any) -> None:
        self._folder = folder
        self._backend = backend
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._objects: dict[tuple[str, str], Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._index = folder / INDEX

    def load(self) -> None:
        """Put the folder's files into the buckets; a file that a person changed loses what was known of it."""
        known = self._read_index()
        for folder in sorted(self._folder.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                self._backend.create_bucket(folder.name, REGION)
        by_file = {entry.file: entry for entry in known.values()}
        for path in sorted(self._folder.rglob("*")):
            file = path.relative_to(self._folder).as_posix()
            entry = by_file.get(file)
            if path.is_file() and (entry or not any(part.startswith(".") for part in Path(file).parts)):
                self._load(path, file, entry)
        lines = b"".join(_line(entry) for entry in self._entries.values())
        _write_whole(self._index, lines)

    def written_through(self, app: Wsgi) -> Wsgi:
        """`app`, with every change in the mirror by the time its answer leaves."""

        def through(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            answer = app(environ, start_response)
            if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE"):
                self._follow(environ.get("PATH_INFO", "/"), environ.get("QUERY_STRING", ""))
            return answer

        return through

    def _follow(self, path: str, query: str) -> None:
        if "partNumber=" in query:
            return
        bucket, _, key = path.encode("latin-1", "replace").decode("utf-8", "replace").removeprefix("/").partition("/")
        with self._lock:
            if bucket in self._backend.buckets and key:
                self._keep(bucket, key, self._backend.buckets[bucket].keys.get(key), force=True)
                self._keep(bucket, unquote(key), self._backend.buckets[bucket].keys.get(unquote(key)), force=False)
            else:
                self._keep_all()

    def _keep_all(self) -> None:
        for name, bucket in list(self._backend.buckets.items()):
            (self._folder / name).mkdir(exist_ok=True)
            for key in list(bucket.keys):
                self._keep(name, key, bucket.keys.get(key), force=False)
        for bucket_name, key in list(self._entries):
            bucket = self._backend.buckets.get(bucket_name)
            self._keep(bucket_name, key, bucket.keys.get(key) if bucket else None, force=False)
        for folder in self._folder.iterdir():
            if folder.is_dir() and not folder.name.startswith(".") and folder.name not in self._backend.buckets:
                _prune(folder)

    def _keep(self, bucket: str, key: str, stored: Any, *, force: bool) -> None:
        place = (bucket, key)
        if stored is None or type(stored).__name__ == "FakeDeleteMarker":
            entry = self._entries.pop(place, None)
            self._objects.pop(place, None)
            if entry is not None:
                path = self._folder / entry.file
                path.unlink(missing_ok=True)
                _prune(path.parent, below=self._folder / bucket)
                self._note({"bucket": bucket, "key": key, "gone": True})
            return
        if self._objects.get(place) is stored and not force:
            return
        content = stored.value
        md5 = _md5(content)
        known = self._entries.get(place)
        file = known.file if known else self._file_of(bucket, key)
        if known is None or known.md5 != md5 or not (self._folder / file).exists():
            _write_whole(self._folder / file, content)
        entry = Entry(
            bucket=bucket,
            key=key,
            file=file,
            md5=md5,
            etag=stored.etag.strip('"'),
            modified=stored.last_modified.isoformat(),
            metadata={str(name): str(value) for name, value in dict(stored._metadata).items()},  # noqa: SLF001 - moto has no other way
            checksum={
                name: getattr(stored, name)
                for name in ("checksum_algorithm", "checksum_value", "checksum_type", "checksum_parts")
                if getattr(stored, name, None) is not None
            },
        )
        self._objects[place] = stored
        if entry != known:
            self._entries[place] = entry
            self._note(_fields(entry))

    def _file_of(self, bucket: str, key: str) -> str:
        parts = key.split("/")
        sensible = all(
            part and not part.startswith(".") and len(part.encode()) <= 200 and "\0" not in part for part in parts
        )
        path = self._folder / bucket / key if sensible else self._folder
        above = [parent for parent in path.parents if parent != self._folder and self._folder in parent.parents]
        if not sensible or path.is_dir() or any(parent.is_file() for parent in above):
            return f"{bucket}/{ODD}/{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        return f"{bucket}/{key}"

    def _load(self, path: Path, file: str, entry: Entry | None) -> None:
        content = path.read_bytes()
        bucket, _, key = file.partition("/")
        if not key:
            return
        as_written = entry is not None and entry.md5 == _md5(content)
        key = entry.key if entry else key
        stored = self._backend.put_object(
            bucket, key, content, etag=entry.etag if entry and as_written else None, disable_notification=True
        )
        if entry and as_written:
            stored.set_metadata(dict(entry.metadata))
            stored.last_modified = datetime.fromisoformat(entry.modified)
            for name, value in entry.checksum.items():
                setattr(stored, name, value)
        else:
            stored.set_metadata({"Content-Type": mimetypes.guess_type(key)[0] or "binary/octet-stream"})
        if entry:  # a file that lies there without ever having been an object stays where it is
            self._entries[bucket, key] = entry
        self._keep(bucket, key, stored, force=True)

    def _read_index(self) -> dict[tuple[str, str], Entry]:
        found: dict[tuple[str, str], Entry] = {}
        lines = self._index.read_bytes().splitlines() if self._index.exists() else ()
        for line in lines:
            try:
                fields = json.loads(line)
                place = (fields["bucket"], fields["key"])
                if fields.get("gone"):
                    found.pop(place, None)
                else:
                    found[place] = Entry(**fields)
            except (ValueError, KeyError, TypeError):
                continue  # the torn last line of a killed sandbox
        return found

    def _note(self, fields: dict[str, Any]) -> None:
        with self._index.open("ab") as file:
            file.write(json.dumps(fields).encode() + b"\n")


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto is not typed
    """Quiet, and without Nagle's delay: the listening socket does not pass the option on."""

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def _write_whole(path: Path, content: bytes) -> None:
    """Written beside and renamed, so that nobody ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _fields(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in Entry.__slots__}


def _line(entry: Entry) -> bytes:
    return json.dumps(_fields(entry)).encode() + b"\n"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _prune(folder: Path, below: Path | None = None) -> None:
    """Remove empty folders, from `folder` up to but not including `below`."""
    while folder != below and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        if below is None:
            return
        folder = folder.parent


def main() -> None:
    """Serve until stdin ends, so that it never outlives the sandbox that started it."""
    parser = argparse.ArgumentParser(prog="python -m reelsheet.sandbox.storage", description="A simulated S3 (moto).")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bucket", action="append", default=[])
    parser.add_argument("--mirror", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sandbox ends it
    server = serve(port=options.port, buckets=options.bucket, mirror=options.mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"s3": f"http://127.0.0.1:{server.port}"}) + "\n")
    sys.stdout.flush()
    while os.read(0, 4096):
        pass
    os._exit(0)  # every answered change is in the mirror already


if __name__ == "__main__":
    main()
