"""Streams of a process that are closed, full, without a reader, or with one that does not read."""

import os
import subprocess
from contextlib import contextmanager, suppress
from typing import Any, Final

KINDS: Final = ("closed", "full", "without a reader", "not read")


@contextmanager
def started(words, *, stdin="empty", stdout="read", stderr="read", **more: Any):
    """A process with such streams; `read` is a pipe that is read."""
    kinds = (stdin, stdout, stderr)
    closing = "".join(f" {number}>&-" for number, kind in enumerate(kinds) if kind == "closed")
    pipes = [_pipe(kind) for kind in kinds]
    given = [
        pipe[1] if pipe else subprocess.PIPE if kind == "read" else subprocess.DEVNULL
        for pipe, kind in zip(pipes, kinds, strict=True)
    ]
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@"{closing}', "sh", *words], stdin=given[0], stdout=given[1], stderr=given[2], **more
    )
    for pipe in filter(None, pipes):
        os.close(pipe[1])
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        for pipe in filter(None, pipes):
            with suppress(OSError):
                os.close(pipe[0])


def _pipe(kind):
    """Its two ends; the first may be closed already."""
    if kind == "full":
        return os.open("/dev/null", os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)
    if kind not in {"without a reader", "not read"}:
        return None
    reading, writing = os.pipe()
    if kind == "not read":
        fill(writing)
    else:
        os.close(reading)
    return reading, writing


def fill(writing: int) -> None:
    """Write into a pipe until it takes no more."""
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)


def drain(reading: int) -> bytes:
    """Everything that is in a pipe now."""
    os.set_blocking(reading, False)
    found = b""
    with suppress(BlockingIOError):
        while content := os.read(reading, 65536):
            found += content
    return found
