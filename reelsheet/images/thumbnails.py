"""Small JPEGs of the sheet's pictures: for the workbook, and as posters of pictures that no browser may fetch.

They are made while the run waits for the provider, a few at a time and with pauses, so that they take nothing from it.
Number, time and memory are bounded; what does not come is left out, and nothing here fails a run.
"""

import asyncio
import base64
import contextlib
import io
import ipaddress
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from reelsheet.manifest.rows import Row
from reelsheet.redaction import clean_url
from reelsheet.storage import s3_client
from reelsheet.web import share_links
from reelsheet.web.addresses import is_public

if TYPE_CHECKING:
    import httpx

MOST: Final = 500  # distinct pictures
AT_ONCE: Final = 4
LARGEST: Final = 20_000_000  # bytes of one picture; times AT_ONCE is what is held at most
MOST_PIXELS: Final = 60_000_000
UNFOLDED: Final = 30_000_000  # pixels that are held at once; JPEGs are made smaller while they are decoded
COURTESY: Final = 4.0  # times what a picture took, before the next one while the run is going
SECONDS: Final = 10.0  # at the run's end, for those that are still missing
PER_PICTURE: Final = 8.0
BOX: Final = (400, 240)  # pixels
QUALITY: Final = 72
EMBEDDED: Final = 6_000_000  # characters of thumbnails in one page, which people mail
_KINDS: Final = ("JPEG", "PNG", "GIF", "WEBP")


class Album:
    """The thumbnails of one table. `begin` on the loop on which `end` is awaited."""

    def __init__(self, addresses: Mapping[int, str], *, allow_private: bool, most: int = MOST) -> None:
        self._addresses = addresses
        self._allow_private = allow_private
        self._wanted = list(dict.fromkeys(addresses.values()))[:most]
        self._made: dict[str, bytes] = {}
        self._hurry = asyncio.Event()
        # A file of 200 kB may unfold into as many MB: one at a time, in one thread, which uses that memory again.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="reelsheet-thumbnails")
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start at leisure."""
        if self._task is None and self._wanted:
            self._task = asyncio.create_task(self._make())

    async def end(self, seconds: float = SECONDS) -> dict[int, bytes]:
        """Position → JPEG of all that there are; those still missing have `seconds` to come."""
        self.begin()
        self._hurry.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._decoder.shutdown(wait=False, cancel_futures=True)
        return {at: self._made[address] for at, address in self._addresses.items() if address in self._made}

    async def _make(self) -> None:
        from reelsheet.web.guarded_http import guarded_client

        waiting = iter(self._wanted)
        async with (
            guarded_client(allow_private=self._allow_private, connections=AT_ONCE, timeout_s=5.0) as web,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(min(AT_ONCE, len(self._wanted))):
                group.create_task(self._work(waiting, web))

    async def _work(self, waiting: Iterator[str], web: "httpx.AsyncClient") -> None:
        for address in waiting:
            begun = time.monotonic()
            with contextlib.suppress(Exception):  # a picture less; the preflight has said what is wrong with it
                content = await asyncio.wait_for(_content(address, web), PER_PICTURE)
                decoded = asyncio.get_running_loop().run_in_executor(self._decoder, small, content)
                self._made[address] = await decoded
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), COURTESY * (time.monotonic() - begun))


def album_of(rows: Iterable[Row], *, allow_private: bool) -> Album:
    """The pictures of the valid ones of `rows`."""
    return Album({row.position: row.image for row in rows if not row.problems}, allow_private=allow_private)


def small(content: bytes) -> bytes:
    """A JPEG that fits into BOX. Raises ValueError or OSError where `content` is no picture, or far too large a one."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content), formats=_KINDS) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError(f"{opened.width} by {opened.height} pixels are too many")
        opened.draft("RGB", (2 * BOX[0], 2 * BOX[1]))  # JPEGs are decoded at a fraction of their size
        if opened.width * opened.height > UNFOLDED:
            raise ValueError(f"{opened.width} by {opened.height} pixels are too many to hold")
        # palettes do not shrink well
        picture = opened if opened.mode in {"RGB", "RGBA", "L", "LA", "CMYK"} else opened.convert("RGBA")
        picture.thumbnail((2 * BOX[0], 2 * BOX[1]))  # first of all, so that nothing large is copied
        upright = ImageOps.exif_transpose(picture)
        if upright.mode not in {"RGB", "L"}:
            clear = upright.convert("RGBA")
            upright = Image.new("RGB", clear.size, "white")
            upright.paste(clear, mask=clear.getchannel("A"))
        upright.thumbnail(BOX)
        made = io.BytesIO()
        upright.convert("RGB").save(made, "JPEG", quality=QUALITY, optimize=True)
    return made.getvalue()


def posters(addresses: Mapping[int, str], made: Mapping[int, bytes]) -> dict[int, str]:
    """Position → what the gallery shows before a clip plays: the picture's own address, or the thumbnail itself.

    The thumbnail, where a browser elsewhere could not fetch the picture: in S3, signed, shared by a page, or private.
    """
    found: dict[int, str] = {}
    room = EMBEDDED
    for at, address in addresses.items():
        if at in made and not is_for_browsers(address):
            inside = f"data:image/jpeg;base64,{base64.b64encode(made[at]).decode()}"
            room -= len(inside)
            if room >= 0:
                found[at] = inside
        elif address.startswith(("http://", "https://")):
            found[at] = clean_url(share_links.direct(address))
    return found


def is_for_browsers(address: str) -> bool:
    """Whoever opens the gallery can fetch this address as it stands, and for as long as the page is kept."""
    if (
        not address.startswith(("http://", "https://"))
        or share_links.direct(address) != address
        or clean_url(address) != address
    ):
        return False
    host = urlsplit(address).hostname or ""
    try:
        return is_public(ipaddress.ip_address(host))
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".lan", ".localhost"))


async def _content(address: str, web: "httpx.AsyncClient") -> bytes:
    if address[:5].lower() == "s3://":
        return await asyncio.to_thread(_object, address)
    from reelsheet.web.guarded_http import read

    # `web` has the rule which addresses are permitted
    fetched = await read(
        share_links.direct(address), allow_private=False, limit_bytes=LARGEST, deadline_s=PER_PICTURE, client=web
    )
    return fetched.content


def _object(address: str) -> bytes:
    bucket, _, key = address[5:].partition("/")
    answer = s3_client.client(attempts=2).get_object(Bucket=bucket, Key=key)
    with contextlib.closing(answer["Body"]) as body:
        if answer["ContentLength"] > LARGEST:
            raise ValueError(f"{answer['ContentLength']:,} bytes are too many for a thumbnail")
        return body.read()
