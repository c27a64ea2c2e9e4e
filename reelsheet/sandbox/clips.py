"""The clips that predictions end with: rendered once per picture and motion, or one small MP4 for all."""

import asyncio
import hashlib
import os
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx

from reelsheet.sandbox import render
from reelsheet.settings import is_loopback

TINY_BYTES: Final = 400_000
PICTURE_BYTES: Final = 64 * 1024 * 1024


def cache_home() -> Path:
    """$XDG_CACHE_HOME/reelsheet, by default ~/.cache/reelsheet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reelsheet"


class Clips:
    """Clips on disk under `folder`, each made once. Rendering keeps to this machine's cores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rendered_count = 0
        folder.mkdir(parents=True, exist_ok=True)
        cores = os.cpu_count() or 1
        self._cores = ThreadPoolExecutor(cores, "render", initializer=_be_nice)
        self._network = ThreadPoolExecutor(8, "picture")
        self._making: dict[str, asyncio.Future[Path]] = {}
        self._tiny_lock = threading.Lock()
        self._tiny: bytes | None = None

    async def rendered(self, image: str, prompt: str) -> Path:
        """The clip of the picture at `image`, moved in the spirit of `prompt`."""
        loop = asyncio.get_running_loop()
        picture = await loop.run_in_executor(self._network, _fetched, image)
        motion = render.motion_of(prompt)
        name = f"{hashlib.sha256(picture).hexdigest()[:32]}-{motion}-v{render.VERSION}"
        path = self.folder / f"{name}.mp4"
        if path.exists():
            return path
        if name not in self._making:
            self._making[name] = loop.run_in_executor(self._cores, self._render, picture, image, motion, path)
            self._making[name].add_done_callback(lambda _: self._making.pop(name, None))
        return await asyncio.shield(self._making[name])

    async def tiny(self, size: int | None, stamp: str) -> bytes:
        """A small valid MP4 of `size` bytes (at least what it takes); a `free` box carries `stamp`."""
        if self._tiny is None:
            await asyncio.get_running_loop().run_in_executor(self._cores, self._make_tiny)
        clip = self._tiny or b""
        return clip + padding(max((size or TINY_BYTES) - len(clip), 8 + len(stamp.encode())), stamp)

    def close(self) -> None:
        self._cores.shutdown(wait=False, cancel_futures=True)
        self._network.shutdown(wait=False, cancel_futures=True)

    def _render(self, picture: bytes, image: str, motion: render.Motion, path: Path) -> Path:
        render.clip(picture, motion, path, note=f"No picture could be had from {image}")
        self.rendered_count += 1
        return path

    def _make_tiny(self) -> None:
        with self._tiny_lock:
            path = self.folder / f"tiny-v{render.VERSION}.mp4"
            if not path.exists():
                render.tiny(path)
            self._tiny = path.read_bytes()


def padding(size: int, stamp: str) -> bytes:
    """A `free` box of `size` bytes, filled with `stamp` again and again."""
    text = stamp.encode() or b"\0"
    room = size - 8
    return struct.pack(">I4s", size, b"free") + (text * (room // len(text) + 1))[:room]


def _fetched(image: str) -> bytes:
    """The picture's bytes; nothing where it cannot be had, and then a card says so."""
    content = bytearray()
    try:
        url = httpx.URL(image)
        with (
            httpx.Client(timeout=20, follow_redirects=True, trust_env=not is_loopback(url.host)) as client,
            client.stream("GET", url, headers={"Accept": "image/*"}) as response,
        ):
            response.raise_for_status()
            for piece in response.iter_bytes():
                content += piece
                if len(content) > PICTURE_BYTES:
                    return b""
    except (httpx.HTTPError, httpx.InvalidURL):
        return b""
    return bytes(content)


def _be_nice() -> None:
    """Rendering waits for whoever answers requests. On Linux, niceness is a thread's own."""
    if sys.platform == "linux":
        os.nice(5)
