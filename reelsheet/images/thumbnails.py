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
from typing import Final
from urllib.parse import urlsplit

import httpx

from reelsheet.manifest.rows import Row
from reelsheet.redaction import clean_url
from reelsheet.storage import s3_client
from reelsheet.web import guarded_http, share_links
from reelsheet.web.addresses import is_public

MAX_PICTURES: Final = 500  # distinct ones
AT_ONCE: Final = 4
LARGEST_BYTES: Final = 20_000_000  # one picture; times AT_ONCE is what is held at most
MOST_PIXELS: Final = 60_000_000
MOST_DECODED_PIXELS: Final = 30_000_000  # held at once; JPEGs are made smaller while they are decoded
PAUSE_FACTOR: Final = 4.0  # times what a picture took, before the next one while the run is going
END_TIMEOUT_S: Final = 10.0  # at the run's end, for those that are still missing
PICTURE_TIMEOUT_S: Final = 8.0
BOX: Final = (400, 240)  # pixels
QUALITY: Final = 72
EMBEDDED_CHARS: Final = 6_000_000  # of thumbnails in one page, which people mail
_FORMATS: Final = ("JPEG", "PNG", "GIF", "WEBP")


class Album:
    """The thumbnails of one table. `begin` on the loop on which `end` is awaited."""

    def __init__(self, addresses: Mapping[int, str], *, allow_private: bool) -> None:
        self._addresses = addresses
        self._allow_private = allow_private
        self._wanted = list(dict.fromkeys(addresses.values()))[:MAX_PICTURES]
        self._thumbnails: dict[str, bytes] = {}  # by address
        self._hurry = asyncio.Event()
        # A file of 200 kB may decode to as many MB: one at a time, in one thread, which uses that memory again.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="reelsheet-thumbnails")
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start, with pauses."""
        if self._task is None and self._wanted:
            self._task = asyncio.create_task(self._make_all())

    async def end(self, timeout_s: float = END_TIMEOUT_S) -> dict[int, bytes]:
        """Position → JPEG of all that there are; those still missing have `timeout_s` to come."""
        self.begin()
        self._hurry.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._decoder.shutdown(wait=False, cancel_futures=True)
        made = self._thumbnails
        return {position: made[address] for position, address in self._addresses.items() if address in made}

    async def _make_all(self) -> None:
        waiting = iter(self._wanted)
        async with (
            guarded_http.guarded_client(
                allow_private=self._allow_private, connections=AT_ONCE, timeout_s=5.0
            ) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(min(AT_ONCE, len(self._wanted))):
                tasks.create_task(self._make(waiting, client))

    async def _make(self, waiting: Iterator[str], client: httpx.AsyncClient) -> None:
        for address in waiting:
            begun = time.monotonic()
            with contextlib.suppress(Exception):  # a picture less; the preflight has said what is wrong with it
                content = await asyncio.wait_for(_content(address, client), PICTURE_TIMEOUT_S)
                decoded = asyncio.get_running_loop().run_in_executor(self._decoder, thumbnail, content)
                self._thumbnails[address] = await decoded
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), PAUSE_FACTOR * (time.monotonic() - begun))


def album_of(rows: Iterable[Row], *, allow_private: bool) -> Album:
    """The pictures of the valid ones of `rows`."""
    return Album({row.position: row.image for row in rows if not row.problems}, allow_private=allow_private)


def thumbnail(content: bytes) -> bytes:
    """A JPEG that fits into BOX. Raises ValueError or OSError where `content` is no picture, or far too large a one."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError(f"{opened.width} by {opened.height} pixels are too many")
        opened.draft("RGB", (2 * BOX[0], 2 * BOX[1]))  # JPEGs are decoded at a fraction of their size
        if opened.width * opened.height > MOST_DECODED_PIXELS:
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


def posters(addresses: Mapping[int, str], thumbnails: Mapping[int, bytes]) -> dict[int, str]:
    """Position → what the gallery shows before a clip plays: the picture's own address, or the thumbnail itself.

    The thumbnail, where a browser elsewhere could not fetch the picture: in S3, signed, shared by a page, or private.
    """
    shown: dict[int, str] = {}
    room = EMBEDDED_CHARS
    for position, address in addresses.items():
        if position in thumbnails and not is_for_browsers(address):
            embedded = f"data:image/jpeg;base64,{base64.b64encode(thumbnails[position]).decode()}"
            room -= len(embedded)
            if room >= 0:
                shown[position] = embedded
        elif address.startswith(("http://", "https://")):
            shown[position] = clean_url(share_links.direct(address))
    return shown


def is_for_browsers(address: str) -> bool:
    """Whoever opens the gallery can fetch this address as it stands, and for as long as the page is kept."""
    is_plain = share_links.direct(address) == address and clean_url(address) == address
    if not address.startswith(("http://", "https://")) or not is_plain:
        return False
    host = urlsplit(address).hostname or ""
    try:
        return is_public(ipaddress.ip_address(host))
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".lan", ".localhost"))


async def _content(address: str, client: httpx.AsyncClient) -> bytes:
    if address[:5].lower() == "s3://":
        return await asyncio.to_thread(_object, address)
    fetched = await guarded_http.read(
        share_links.direct(address),
        allow_private=False,  # `client` has a rule of its own
        limit_bytes=LARGEST_BYTES,
        deadline_s=PICTURE_TIMEOUT_S,
        client=client,
    )
    return fetched.content


def _object(address: str) -> bytes:
    bucket, _, key = address[5:].partition("/")
    response = s3_client.client(attempts=2).get_object(Bucket=bucket, Key=key)
    with contextlib.closing(response["Body"]) as body:
        if response["ContentLength"] > LARGEST_BYTES:
            raise ValueError(f"{response['ContentLength']:,} bytes are too many for a thumbnail")
        return body.read()
