"""Copying a clip: from real servers on loopback that cut, lie, stall and drip, into a bucket and a folder."""

import asyncio
import errno
import gzip
import hashlib
import os
import struct
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache

import httpx
import pytest

from reelsheet.outcomes import ErrorCode
from reelsheet.storage import clip_copy, s3_bucket
from reelsheet.storage import s3_client as s3_module
from reelsheet.storage.clip_copy import Clip, ClipError
from reelsheet.storage.s3_destination import S3Destination
from reelsheet.storage.s3_upload import PART_BYTES
from reelsheet.web import guarded_http

KEY = "videos/dress-11111111.mp4"
MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1", "cost-cents": "54", "run-id": "r"}


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def film(media: bytes = b"pictures" * 500, *, open_end: bool = False, brand: bytes = b"isom") -> bytes:
    """A small MP4 of 5 s in 1920 x 1080; with `open_end` its last box goes to the end of the file."""
    entry = box(b"avc1", bytes(24), struct.pack(">HH", 1920, 1080), bytes(50))
    stbl = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), entry),
        box(b"stsz", struct.pack(">IIII", 0, 0, 1, len(media))),
        box(b"stco", struct.pack(">III", 0, 1, 100)),
    )
    track = box(
        b"trak",
        box(b"tkhd", bytes(40), struct.pack(">9I", 1, 0, 0, 0, 1, 0, 0, 0, 1), bytes(8)),
        box(b"mdia", box(b"hdlr", bytes(8), b"vide", bytes(13)), box(b"minf", stbl)),
    )
    moov = box(b"moov", box(b"mvhd", bytes(12), struct.pack(">II", 1000, 5000), bytes(80)), track)
    head = struct.pack(">I", 0 if open_end else 8 + len(media)) + b"mdat"
    return box(b"ftyp", brand, bytes(4), brand) + moov + head + media


FILM = film()


# A server that answers each path by a script, one answer after another; the last one stays

SubmitResult = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Host:
    origin: str
    scripts: dict[str, list[SubmitResult]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    headers: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def serve(self, *answers: SubmitResult, path: str = "/outputs/0.mp4?X-Amz-Signature=abcdef0123") -> str:
        self.scripts[path] = list(answers)
        return self.origin + path

    @property
    def gets(self) -> int:
        return self.asked.total()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.headers.append(head.lower())
            answers = self.scripts[path]
            answer = answers[min(self.asked[path], len(answers) - 1)]
            self.asked[path] += 1
            await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            self.at_once -= 1
            writer.close()


def reply(
    body: bytes, status: str = "200 OK", *, length: int | None = -1, kind: str = "video/mp4", **more: str
) -> SubmitResult:
    """`length`: what Content-Length says; -1 the truth, None nothing."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Type: {kind}" if kind else "X-No: type"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join((*lines, "", "")).encode() + body)

    return answer


def chunked(body: bytes, *, whole: bool = True) -> SubmitResult:
    framed = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 999]), body[at : at + 999]) for at in range(0, len(body), 999)
    )
    return reply(framed + (b"0\r\n\r\n" if whole else b""), length=None, Transfer_Encoding="chunked")


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host("")
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


ROOTS = cache(guarded_http._roots)  # reading every certificate authority takes longer than most tests


@pytest.fixture
async def client(monkeypatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(guarded_http, "_roots", ROOTS)
    async with guarded_http.guarded_client(allow_private=True) as made:
        yield made


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
def in_probed_bucket(in_bucket) -> S3Destination:
    """A bucket that is known to refuse to overwrite."""
    in_bucket.probe()
    assert in_bucket.refuses_overwrite
    return in_bucket


@pytest.fixture(params=["bucket", "probed_bucket", "folder"])
def place(request):
    return request.getfixturevalue(f"in_{request.param}")


@pytest.fixture
def copy(client, naps, in_folder):
    async def nap(seconds: float) -> None:
        naps.append(seconds)

    async def made(url: str, place=in_folder, **more) -> Clip:
        more = {"client": client, "metadata": MINE, "sleep": nap, "key": KEY, **more}
        return await clip_copy.copy(url, place, **more)

    return made


def leftovers(place) -> list[str]:
    """Whatever a failed copy must not leave."""
    if isinstance(place, S3Destination):
        found = s3_module.client().list_multipart_uploads(Bucket=place.bucket).get("Uploads", ())
        return [one["Key"] for one in found] + list(place.listing())
    return [str(path) for path in place.root.rglob("*") if path.is_file()]


# What goes well


@pytest.mark.parametrize(
    "answer", [reply(FILM), reply(FILM, kind=""), reply(FILM, kind="binary/octet-stream"), chunked(FILM)]
)
async def test_a_clip_is_stored_as_it_was_served_and_described(host, copy, place, answer):
    url = host.serve(answer)
    clip = await copy(url, place)
    sha256 = hashlib.sha256(FILM).hexdigest()
    assert clip == Clip(place.uri(KEY), KEY, len(FILM), sha256, 1920, 1080, 5.0)
    assert place.read(KEY) == FILM
    assert place.stat(KEY).metadata == {**MINE, "sha256": sha256}
    assert host.gets == 1
    assert "accept-encoding: identity" in host.headers[0]


async def test_an_object_in_s3_has_the_type_of_a_video(host, copy, in_bucket, s3):
    await copy(host.serve(reply(FILM)), in_bucket)
    assert s3.head_object(Bucket=in_bucket.bucket, Key=f"spring/clips/{KEY}")["ContentType"] == "video/mp4"


async def test_a_file_that_tells_its_own_end_needs_no_content_length(host, copy):
    assert (await copy(host.serve(reply(FILM, length=None)))).bytes == len(FILM)
    assert host.gets == 1


async def test_a_large_clip_goes_up_in_parts(host, copy, place):
    large = film(os.urandom(PART_BYTES + 77))
    clip = await copy(host.serve(reply(large)), place)
    assert clip.sha256 == hashlib.sha256(large).hexdigest()
    assert place.read(KEY) == large
    assert leftovers(place) == ([KEY] if isinstance(place, S3Destination) else [place.uri(KEY)])


async def test_a_redirect_is_followed_to_the_clip(host, copy):
    target = host.serve(reply(FILM), path="/there.mp4")
    assert (await copy(host.serve(reply(b"", "302 Found", Location=target)))).bytes == len(FILM)


# What is tried again


@pytest.mark.parametrize(
    "fault",
    [
        reply(FILM[:-100], length=len(FILM)),
        reply(FILM[:-100], length=None),
        chunked(FILM[:-100], whole=False),
        chunked(FILM[:-100]),
        reply(FILM, length=len(FILM) - 100),
        reply(FILM[: len(FILM) // 3], length=None),
        reply(b""),
        reply(b"oops", "500 Internal Server Error"),
        reply(b"", "503 Service Unavailable"),
        reply(b"", "429 Too Many Requests"),
        reply(FILM[100:], "206 Partial Content"),
        reply(gzip.compress(FILM), Content_Encoding="gzip"),
        reply(b"", length=None, kind=""),
    ],
)
async def test_what_was_cut_or_refused_for_now_is_fetched_again_from_its_start(host, copy, naps, place, fault):
    clip = await copy(host.serve(fault, reply(FILM)), place)
    assert place.read(KEY) == FILM
    assert clip.bytes == len(FILM)
    assert host.gets == 2
    assert len(naps) == 1


@pytest.mark.parametrize(
    "fault",
    [
        reply(FILM[:-100], length=len(FILM)),
        reply(b"", "500 Internal Server Error"),
        reply(FILM, Content_Encoding="br"),
        reply(film(bytes(PART_BYTES + 5))[:-1], length=PART_BYTES + 5000),
    ],
)
async def test_after_five_tries_the_row_waits_for_a_rerun_and_nothing_is_left(host, copy, naps, place, fault):
    with pytest.raises(ClipError, match="at no cost") as caught:
        await copy(host.serve(fault), place)
    assert (caught.value.code, caught.value.transient) == (ErrorCode.ASSET_UNAVAILABLE, True)
    assert not caught.value.systemic
    assert host.gets == 5
    assert len(naps) == 4
    assert all(0 <= nap <= 2**n for n, nap in enumerate(naps, 1))
    assert leftovers(place) == []


async def test_a_retry_after_is_obeyed_up_to_a_minute(host, copy, naps):
    later = [reply(b"", "503 Busy", Retry_After=wait) for wait in ("7", "9000")]
    await copy(host.serve(*later, reply(FILM)))
    assert naps == [7.0, 60.0]


async def test_the_same_corrupt_bytes_twice_are_the_file_not_the_network(host, copy, place):
    with pytest.raises(ClipError, match="cut after") as caught:
        await copy(host.serve(reply(FILM[:-100])), place)
    assert caught.value.code is ErrorCode.ASSET_CORRUPT
    assert host.gets == 2
    assert leftovers(place) == []


async def test_nothing_is_never_uploaded(host, copy, place):
    with pytest.raises(ClipError, match="empty") as caught:
        await copy(host.serve(reply(b"")), place)
    assert caught.value.code is ErrorCode.ASSET_CORRUPT
    assert leftovers(place) == []


async def test_bytes_after_the_end_are_no_clip(host, copy):
    with pytest.raises(ClipError) as caught:
        await copy(host.serve(reply(FILM + b"<html>oops, an error page</html>")))
    assert caught.value.code is ErrorCode.ASSET_CORRUPT


async def test_a_server_that_stalls_is_given_up(host, copy):
    async def stall(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + FILM[:500])
        await asyncio.sleep(1)

    with pytest.raises(ClipError, match=r"did not send everything within") as caught:
        await copy(host.serve(stall), deadline_s=0.05, attempts=2)
    assert caught.value.code is ErrorCode.ASSET_UNAVAILABLE
    assert host.gets == 2


# A file that does not say where it ends, from a server that does not either


async def test_an_open_end_is_believed_when_it_comes_twice(host, copy, place):
    whole = film(open_end=True)
    assert (await copy(host.serve(reply(whole, length=None)), place)).bytes == len(whole)
    assert host.gets == 2
    assert place.read(KEY) == whole


async def test_an_open_end_that_the_server_closes_is_believed_at_once(host, copy):
    whole = film(open_end=True)
    for answer in (reply(whole), chunked(whole)):
        await copy(host.serve(answer, path=f"/{id(answer)}"), key=f"videos/{id(answer)}.mp4")
    assert host.gets == 2


async def test_an_open_end_that_differs_is_not_believed(host, copy, place):
    whole = film(open_end=True) + bytes(10)  # beyond what the index speaks of
    answers = [reply(whole[: len(whole) - cut], length=None) for cut in range(10, 0, -1)]
    with pytest.raises(ClipError, match="bytes once and") as caught:
        await copy(host.serve(*answers), place)
    assert caught.value.code is ErrorCode.ASSET_CORRUPT
    assert leftovers(place) == []


# What is reported at once


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "410 Gone"])
async def test_an_expired_link_asks_for_a_fresh_one(host, copy, naps, status):
    with pytest.raises(ClipError, match="link has expired") as caught:
        await copy(host.serve(reply(b"<Error><Code>AccessDenied</Code></Error>", status, kind="application/xml")))
    assert (caught.value.code, caught.value.expired) == (ErrorCode.ASSET_UNAVAILABLE, True)
    assert "Signature" not in str(caught.value)
    assert (host.gets, naps) == (1, [])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html; charset=utf-8", b"<html><body>Request has expired\x1b[31m"),
        ("application/xml", b"<Error><Code>AccessDenied</Code>"),
        ("application/problem+json", b'{"detail": "Request has expired"}'),
        ("text/plain", b"gone, see https://x.example/a?X-Amz-Signature=abcdef0123456789&X-Amz-Credential=AKIAX"),
        ("application/json", b'{"big": "' + b"x" * 100_000),
    ],
)
async def test_a_page_in_place_of_a_clip_is_quoted_without_secrets(host, copy, place, kind, body):
    with pytest.raises(ClipError, match="instead of a clip") as caught:
        await copy(host.serve(reply(body, kind=kind)), place)
    message = str(caught.value)
    assert caught.value.expired
    assert caught.value.code is ErrorCode.ASSET_UNAVAILABLE
    assert "abcdef0123" not in message
    assert "\x1b" not in message
    assert len(message) < 600
    assert leftovers(place) == []


@pytest.mark.parametrize("body", [b"<!doctype html><p>expired" + bytes(100), b'{"error":"expired"}'])
async def test_a_page_that_calls_itself_a_video_is_seen_through(host, copy, body):
    with pytest.raises(ClipError, match="instead of a clip") as caught:
        await copy(host.serve(reply(body)))
    assert caught.value.expired


@pytest.mark.parametrize(
    ("body", "what"),
    [(b"\x1aE\xdf\xa3" + bytes(100), "WebM"), (film(brand=b"qt  "), "QuickTime"), (b"GIF89a" + bytes(99), "GIF")],
)
async def test_another_kind_of_file_is_named(host, copy, body, what):
    with pytest.raises(ClipError, match=what) as caught:
        await copy(host.serve(reply(body)))
    assert caught.value.code is ErrorCode.ASSET_CORRUPT
    assert host.gets == 1


async def test_a_film_without_pictures_is_corrupt(host, copy):
    with pytest.raises(ClipError, match="without a picture track") as caught:
        await copy(host.serve(reply(FILM.replace(b"vide", b"soun"))))
    assert caught.value.code is ErrorCode.ASSET_CORRUPT


@pytest.mark.parametrize("answer", [reply(FILM), chunked(FILM)])
async def test_what_is_larger_than_the_limit_is_refused(host, copy, place, answer):
    with pytest.raises(ClipError, match="more than") as caught:
        await copy(host.serve(answer), place, limit_bytes=1000)
    assert (caught.value.code, caught.value.transient) == (ErrorCode.ASSET_UNAVAILABLE, False)
    assert host.gets == 1
    assert leftovers(place) == []


async def test_a_private_address_is_never_asked(host, copy):
    async with guarded_http.guarded_client(allow_private=False) as guarded:
        with pytest.raises(ClipError, match="private network") as caught:
            await copy(host.serve(reply(FILM)), client=guarded)
    assert (caught.value.code, caught.value.transient) == (ErrorCode.ASSET_UNAVAILABLE, False)
    assert host.gets == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/a.mp4", "nonsense", ""])
async def test_what_is_no_web_address_is_never_opened(copy, naps, url):
    with pytest.raises(ClipError) as caught:
        await copy(url)
    assert not caught.value.transient
    assert naps == []


# What is there already


async def test_a_clip_that_is_there_is_taken_without_asking_the_provider(host, copy, place):
    url = host.serve(reply(FILM))
    first = await copy(url, place)
    again = await copy(url, place, metadata={**MINE, "run-id": "later"})
    assert again == first
    assert host.gets == (2 if place.refuses_overwrite else 1)  # fetched in vain, where S3 says so only at the end


@pytest.mark.parametrize("there", [FILM[:-5], FILM[:-1] + b"!", b""])
async def test_our_own_object_that_is_not_whole_is_written_again(host, copy, place, there):
    upload = place.open_upload(KEY, "video/mp4", MINE)
    upload.part(there)
    upload.complete(hashlib.sha256(FILM).hexdigest())
    await copy(host.serve(reply(FILM)), place)
    assert place.read(KEY) == FILM


@pytest.mark.parametrize("name", ["identity", "attempt", "prediction-id"])
async def test_a_clip_of_another_row_is_never_overwritten(host, copy, place, name):
    upload = place.open_upload(KEY, "video/mp4", {**MINE, name: "2"})
    upload.part(b"theirs")
    upload.complete(hashlib.sha256(b"theirs").hexdigest())
    with pytest.raises(ClipError, match="belongs to something else") as caught:
        await copy(host.serve(reply(FILM)), place)
    assert (caught.value.code, caught.value.systemic) == (ErrorCode.STORAGE, False)
    assert place.read(KEY) == b"theirs"
    assert host.gets == (1 if place.refuses_overwrite else 0)


async def test_a_stored_clip_can_be_inspected(host, copy, place):
    assert await copy(host.serve(reply(FILM)), place) == await clip_copy.in_thread(clip_copy.inspect, place, KEY)


async def test_an_object_without_metadata_is_kept_if_equal_else_a_conflict(host, copy, place):
    url = host.serve(reply(FILM))
    place.write(KEY, FILM, "video/mp4")
    assert (await copy(url, place)).sha256 == hashlib.sha256(FILM).hexdigest()
    place.write(KEY, b"theirs", "video/mp4")
    with pytest.raises(ClipError, match="belongs to something else"):
        await copy(url, place)
    assert place.read(KEY) == b"theirs"


async def test_a_large_clip_never_overwrites_either(host, copy, in_probed_bucket):
    upload = in_probed_bucket.open_upload(KEY, "video/mp4", {**MINE, "identity": "2" * 64})
    upload.part(b"theirs")
    upload.complete(hashlib.sha256(b"theirs").hexdigest())
    with pytest.raises(ClipError, match="belongs to something else"):
        await copy(host.serve(reply(film(bytes(PART_BYTES + 1000)))), in_probed_bucket)
    assert in_probed_bucket.read(KEY) == b"theirs"
    assert leftovers(in_probed_bucket) == [KEY]


async def test_a_new_clip_is_stored_without_looking_first(host, copy, in_probed_bucket, monkeypatch):
    def never(key):
        raise AssertionError(key)

    monkeypatch.setattr(in_probed_bucket, "stat", never)
    await copy(host.serve(reply(FILM)), in_probed_bucket)
    assert in_probed_bucket.read(KEY) == FILM


# Trouble with storage


async def test_a_full_disk_concerns_every_row(host, copy, in_folder, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ClipError, match=r"The clip is ready, but could not be stored: The disk .* is full") as caught:
        await copy(host.serve(reply(FILM)))
    assert (caught.value.code, caught.value.systemic) == (ErrorCode.STORAGE, True)
    assert [path for path in in_folder.root.rglob("*") if path.is_file()] == []


async def test_a_bucket_that_is_gone_concerns_every_row(host, copy, in_bucket, s3, naps):
    s3.delete_bucket(Bucket=in_bucket.bucket)
    with pytest.raises(ClipError, match="there is no bucket") as caught:
        await copy(host.serve(reply(FILM)), in_bucket)
    assert caught.value.systemic
    assert naps == []


async def test_an_upload_that_arrives_garbled_is_sent_again(host, copy, in_bucket, monkeypatch, naps):
    client = s3_module.client()
    put, bodies = client.put_object, [b"garbled"]
    monkeypatch.setattr(
        client, "put_object", lambda **asked: put(**{**asked, "Body": bodies.pop() if bodies else asked["Body"]})
    )
    await copy(host.serve(reply(FILM)), in_bucket)
    assert in_bucket.read(KEY) == FILM
    assert len(naps) == 1


async def test_storage_that_garbles_every_time_concerns_every_row(host, copy, in_bucket, monkeypatch):
    monkeypatch.setattr(s3_bucket, "VISIBLE_S", 0.0)  # its own test waits
    client = s3_module.client()
    put = client.put_object
    monkeypatch.setattr(client, "put_object", lambda **asked: put(**{**asked, "Body": b"400\r\n" + asked["Body"]}))
    with pytest.raises(ClipError, match="does not hold what was sent") as caught:
        await copy(host.serve(reply(FILM)), in_bucket)
    assert caught.value.systemic


# Many at once, and interruptions


async def test_a_copy_that_is_cancelled_leaves_nothing(host, copy, place):
    large = film(os.urandom(3 * PART_BYTES))
    came = asyncio.Event()

    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(large) + large[: 2 * PART_BYTES + 5])
        await writer.drain()
        came.set()
        await asyncio.sleep(30)

    task = asyncio.create_task(copy(host.serve(half), place))
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leftovers(place) == []


async def test_only_so_many_clips_are_under_way(host, copy, monkeypatch):
    monkeypatch.setattr(clip_copy, "COPIES_AT_ONCE", 3)

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        await reply(FILM)(writer)

    async def copied(number: int, url: str) -> None:
        async with clip_copy.copy_slot():
            await copy(url, key=f"videos/{number}.mp4")

    urls = [host.serve(slowly, path=f"/{n}.mp4") for n in range(12)]
    await asyncio.gather(*(copied(n, url) for n, url in enumerate(urls)))
    assert host.most_at_once <= 3


async def test_memory_does_not_grow_with_the_clip(host, copy):
    """60 MB pass; a few are held (server and client share this process)."""
    piece = os.urandom(2**20)
    start = film(b"")
    start = start[:-8] + struct.pack(">I4s", 8 + 60 * len(piece), b"mdat")

    async def large(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(start) + 60 * len(piece)) + start)
        for _ in range(60):
            writer.write(piece)
            await writer.drain()

    tracemalloc.start()
    try:
        clip = await copy(host.serve(large))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert clip.bytes > 60 * 2**20
    assert peak < 16 * 2**20
