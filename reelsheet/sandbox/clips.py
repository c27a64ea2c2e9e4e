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

PICTURE_BYTES: Final = 64 * 1024 * 1024


def cache_home() -> Path:
    """$XDG_CACHE_HOME/reelsheet, by default ~/.cache/reelsheet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reelsheet"


class Clips:
    """Clips on disk under `folder`, each made once. Rendering keeps to this machine's cores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._cores = ThreadPoolExecutor(os.cpu_count() or 1, "render", initializer=_lower_priority)
        self._rendering: dict[Path, asyncio.Future[None]] = {}
        self._tiny_lock = threading.Lock()
        self._tiny = b""

    async def rendered(self, image: str, prompt: str) -> Path:
        """The clip of the picture at the address `image`, with the camera movement that `prompt` asks for."""
        picture = await _fetch(image)
        motion = render.motion_of(prompt)
        path = self.folder / f"{hashlib.sha256(picture).hexdigest()[:32]}-{motion}-v{render.VERSION}.mp4"
        if path not in self._rendering and not path.exists():
            note = f"No picture could be had from {image}"
            loop = asyncio.get_running_loop()
            self._rendering[path] = loop.run_in_executor(self._cores, render.clip, picture, motion, path, note)
            self._rendering[path].add_done_callback(lambda _: self._rendering.pop(path))
        if path in self._rendering:
            await asyncio.shield(self._rendering[path])
        return path

    async def tiny(self, size_bytes: int, stamp: str) -> bytes:
        """A small valid MP4 of `size_bytes` (or the least that it takes), unlike that of any other `stamp`."""
        if not self._tiny:
            await asyncio.get_running_loop().run_in_executor(self._cores, self._make_tiny)
        return self._tiny + padding(max(size_bytes - len(self._tiny), 8 + len(stamp.encode())), stamp)

    def close(self) -> None:
        self._cores.shutdown(wait=False, cancel_futures=True)

    def _make_tiny(self) -> None:
        with self._tiny_lock:
            path = self.folder / f"tiny-v{render.VERSION}.mp4"
            if not path.exists():
                render.tiny(path)
            self._tiny = path.read_bytes()


def padding(size_bytes: int, stamp: str) -> bytes:
    """A `free` box of `size_bytes`, filled with `stamp` again and again; players skip it."""
    text = stamp.encode() or b"\0"
    room = size_bytes - 8
    return struct.pack(">I4s", size_bytes, b"free") + (text * (room // len(text) + 1))[:room]


async def _fetch(image: str) -> bytes:
    """The picture's bytes; nothing where it cannot be had, and then a card says so."""
    content = bytearray()
    try:
        url = httpx.URL(image)
        async with (
            httpx.AsyncClient(timeout=20, follow_redirects=True, trust_env=not is_loopback(url.host)) as client,
            client.stream("GET", url, headers={"Accept": "image/*"}) as response,
        ):
            response.raise_for_status()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > PICTURE_BYTES:
                    return b""
    except (httpx.HTTPError, httpx.InvalidURL):
        return b""
    return bytes(content)


def _lower_priority() -> None:
    """Requests are answered first. On Linux, niceness is a thread's own."""
    if sys.platform == "linux":
        os.nice(5)
