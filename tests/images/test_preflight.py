"""Pictures are looked at before anything is paid, on a server that behaves as people's servers do."""

import asyncio
import contextlib
import io
import socket
import struct
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from reelsheet.images import preflight
from reelsheet.images.sniff import FIRST
from reelsheet.outcomes import ErrorCode
from reelsheet.web import share_links


def encoded(form="PNG", size=(640, 480)):
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, form)
    return file.getvalue()


PICTURE = encoded()
PAGE = b"<!doctype html><html><title>Sign in</title></html>"


class Shop:
    """Serves `files` by path, ranges included; `scripts` answer first; counts what is asked, and how much at once."""

    def __init__(self):
        self.files = {}
        self.scripts = {}
        self.asked = []
        self.busy = self.busiest = 0
        self.sent = 0
        self.tasks = []
        self.full = asyncio.Event()  # when forty wait for an answer
        self.gate = None

    async def _serve(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split()[1]
                self.asked.append(head)
                self.busy += 1
                self.busiest = max(self.busiest, self.busy)
                if self.busy == 40:
                    self.full.set()
                if self.gate is not None:
                    await self.gate.wait()
                self.busy -= 1
                script = self.scripts.get(path)
                if script is None:
                    await self._send(writer, self.files.get(path), head)
                elif isinstance(script, bytes):
                    writer.write(script)
                    await writer.drain()
                else:
                    await script(writer, head)
        writer.close()

    async def _send(self, writer, content, head):
        if content is None:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif "range: bytes=0-" in head.lower():
            end = int(head.lower().partition("range: bytes=0-")[2].split()[0]) + 1
            part = content[:end]
            writer.write(
                f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(part)}\r\n"
                f"Content-Range: bytes 0-{len(part) - 1}/{len(content)}\r\n\r\n".encode()
            )
            writer.write(part)
        else:
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()

    def paths(self):
        return [head.split()[1] for head in self.asked]

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def shop():
    made = Shop()
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def loopback(host, port):
    if host.endswith(".invalid"):
        raise socket.gaierror(socket.EAI_NONAME, "no")
    return [socket.inet_ntoa(socket.inet_aton(host))] if host[0].isdigit() else ["127.0.0.1"]


async def no_wait(seconds):
    pass


async def look(*addresses, allow_private=True, **options):
    options = {"lookup": loopback, "sleep": no_wait} | options
    return await preflight.check_images(addresses, allow_private=allow_private, **options)


async def look_at(address, **options):
    return (await look(address, **options))[address]


def answer(status, body=b"", extra=""):
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


async def test_a_picture_is_found_with_its_kind_and_dimensions(shop):
    shop.files["/a"] = PICTURE
    found = await look_at(shop.url("/a"))
    assert (found.is_refused, found.code, found.error, found.warnings) == (False, None, "", ())
    assert (found.picture.kind, found.picture.width, found.picture.height) == ("png", 640, 480)
    assert found.picture.bytes_total == len(PICTURE)
    assert "range: bytes=0-65535" in shop.asked[0].lower()


async def test_a_picture_that_is_cut_off_is_refused(shop):
    for form in ("PNG", "JPEG", "WEBP", "GIF"):
        content = encoded(form)
        shop.files[f"/{form}"] = content[: len(content) * 2 // 3]
        found = await look_at(shop.url(f"/{form}"))
        assert found.code is ErrorCode.IMAGE_UNSUPPORTED
        assert "is cut off" in found.error


async def test_each_distinct_address_is_asked_once(shop):
    shop.files |= {"/a": PICTURE, "/b": PICTURE}
    steps = []
    found = await look(
        *[shop.url("/a")] * 5, shop.url("/b"), on_progress=lambda done, total: steps.append((done, total))
    )
    assert sorted(shop.paths()) == ["/a", "/b"]
    assert list(found) == [shop.url("/a"), shop.url("/b")]
    assert steps == [(1, 2), (2, 2)]


async def test_nothing_to_look_at_is_nothing():
    assert await look() == {}


@pytest.mark.parametrize("status", [404, 410])
async def test_a_picture_that_is_not_there_is_refused(shop, status):
    shop.scripts["/a"] = answer(status)
    found = await look_at(shop.url("/a?token=secret"))
    shop.scripts["/a?token=secret"] = answer(status)
    found = await look_at(shop.url("/a?token=secret"))
    assert (found.is_refused, found.code) == (True, ErrorCode.IMAGE_UNREACHABLE)
    assert f"answered {status}" in found.error
    assert "secret" not in found.error


async def test_a_host_that_is_not_there_is_refused_and_asked_for_once():
    asked = []

    async def counting(host, port):
        asked.append(host)
        return await loopback(host, port)

    found = await look(*[f"https://gone.invalid/{n}.jpg" for n in range(100)], lookup=counting)
    assert all(entry.is_refused for entry in found.values())
    assert {entry.code for entry in found.values()} == {ErrorCode.IMAGE_UNREACHABLE}
    assert "no host named gone.invalid" in found["https://gone.invalid/0.jpg"].error
    assert len(asked) <= preflight.PER_HOST


async def test_a_network_without_names_refuses_nothing():
    async def offline(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "no")

    found = await look_at("https://shop.com/a.jpg", lookup=offline)
    assert not found.is_refused
    assert "could not be checked" in found.warnings[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PAGE, "is a web page, perhaps a sign-in page"),
        (b"", "is an empty file"),
        (b"%PDF-1.7", "is a PDF file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC picture, which the provider does not take; save it as JPEG or PNG"),
        (b"<svg xmlns='x'></svg>", "is an SVG drawing"),
        (b'{"error": "expired"}', "is JSON text, not a picture; use the address of the picture itself"),
        (b"<?xml version='1.0'?><Error/>", "is an XML or web page, not a picture"),
        (b"sold out", "is text, not a picture"),
    ],
)
async def test_what_is_no_picture_by_its_content_is_refused(shop, content, words):
    shop.files["/photo.jpg"] = content
    if not content:
        shop.scripts["/photo.jpg"] = answer(200)
    found = await look_at(shop.url("/photo.jpg"))
    assert (found.is_refused, found.code) == (True, ErrorCode.IMAGE_UNSUPPORTED)
    assert words in found.error
    assert found.picture is None


@pytest.mark.parametrize(
    ("host", "words"),
    [("drive.google.com", "Anyone with the link"), ("www.dropbox.com", "Copy link"), ("x.sharepoint.com", "OneDrive")],
)
async def test_a_page_behind_a_share_link_comes_with_what_to_do(shop, host, words):
    shop.files["/x"] = PAGE
    assert words in (await look_at(shop.url("/x", host))).error


@pytest.mark.parametrize("status", [400, 401, 403, 405, 429, 451, 500, 502, 503, 202, 302, 799])
async def test_an_answer_that_proves_nothing_is_a_warning(shop, status):
    shop.scripts["/a"] = answer(status)
    found = await look_at(shop.url("/a"))
    assert (found.is_refused, found.code, found.picture, found.fingerprint) == (False, None, None, "")
    assert str(status) in found.warnings[0]
    assert found.warnings[0].endswith("the provider may still reach it.")
    assert len(shop.asked) <= 2


async def test_a_server_that_fails_once_is_asked_once_more(shop):
    waits = []

    async def wait(seconds):
        waits.append(seconds)
        shop.scripts.clear()

    shop.files["/a"] = PICTURE
    shop.scripts["/a"] = answer(503, extra="Retry-After: 2\r\n")
    assert (await look_at(shop.url("/a"), sleep=wait)).picture is not None
    assert waits == [2.0]


async def test_a_server_that_asks_for_an_hour_is_not_waited_for(shop):
    waits = []

    async def wait(seconds):
        waits.append(seconds)

    shop.scripts["/a"] = answer(429, extra="Retry-After: 3600\r\n")
    await look_at(shop.url("/a"), sleep=wait)
    assert waits == [5.0]


async def test_a_server_that_dislikes_ranges_is_asked_without(shop):
    async def picky(writer, head):
        writer.write(answer(416) if "range:" in head.lower() else answer(200, PICTURE))
        await writer.drain()

    shop.scripts["/a"] = picky
    assert (await look_at(shop.url("/a"))).picture.kind == "png"


async def test_a_server_that_ignores_ranges_is_not_read_to_the_end(shop):
    sent = 0

    async def endless(writer, head):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n" + PICTURE)
        while True:
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()

    shop.scripts["/a"] = endless
    found = await look_at(shop.url("/a"))
    assert found.picture.bytes_total == 900_000_000
    assert "900 MB" in found.warnings[0]
    assert sent < 20_000_000


async def test_a_jpeg_with_a_long_preamble_is_read_further(shop):
    plain = encoded("JPEG", (900, 700))
    preamble = b"\xff\xe2" + struct.pack(">H", 65535) + bytes(65533)
    shop.files["/a"] = plain[:2] + preamble * 3 + plain[2:]
    found = await look_at(shop.url("/a"))
    assert (found.picture.width, found.picture.height) == (900, 700)
    assert len(shop.asked) == 2


async def test_a_jpeg_that_hides_its_dimensions_for_good_is_still_a_jpeg(shop):
    shop.files["/a"] = b"\xff\xd8" + (b"\xff\xe2" + struct.pack(">H", 65535) + bytes(65533)) * 12
    found = await look_at(shop.url("/a"))
    assert (found.is_refused, found.picture.kind, found.picture.width) == (False, "jpeg", None)


async def test_the_limits_of_the_trade_are_warnings(shop):
    shop.files["/a"] = encoded(size=(1000, 200))
    found = await look_at(shop.url("/a"))
    assert not found.is_refused
    assert len(found.warnings) == 2


async def test_a_picture_that_is_replaced_has_another_fingerprint(shop):
    shop.files["/a"] = PICTURE
    first = await look_at(shop.url("/a"))
    again = await look_at(shop.url("/a"))
    shop.files["/a"] = encoded(size=(640, 481))
    other = await look_at(shop.url("/a"))
    assert first.fingerprint == again.fingerprint != other.fingerprint


async def test_the_fingerprint_does_not_depend_on_how_the_server_sends(shop):
    long = PICTURE + bytes(FIRST * 2)
    shop.files["/ranged"] = long
    shop.scripts["/whole"] = answer(200, long)
    found = await look(shop.url("/ranged"), shop.url("/whole"))
    assert len({entry.fingerprint for entry in found.values()}) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "127.1", "shop.test"])
async def test_a_private_picture_is_refused_unless_opened(shop, host):
    shop.files["/a"] = PICTURE
    found = await look_at(shop.url("/a", host), allow_private=False)
    assert (found.is_refused, found.code) == (True, ErrorCode.IMAGE_UNREACHABLE)
    assert "private network" in found.error
    assert shop.asked == []


async def test_a_redirect_to_metadata_is_refused_even_where_private_ones_are_open(shop):
    shop.scripts["/a"] = answer(302, extra="Location: http://169.254.169.254/latest/\r\n")
    found = await look_at(shop.url("/a"))
    assert (found.is_refused, found.code) == (True, ErrorCode.IMAGE_UNREACHABLE)


async def test_what_can_be_no_picture_address_is_refused_without_a_crash():
    found = await look(
        "", "file:///etc/passwd", "http://[", "http://u:secret@shop.test/a", "s3://bucket", "\udcff", "https://\udcff/"
    )
    assert all(entry.is_refused for entry in found.values())
    assert not any("secret" in entry.error for entry in found.values())


async def test_few_are_asked_at_once_of_one_host_and_many_of_all(shop):
    shop.gate = asyncio.Event()
    hosts = [f"shop{n}.test" for n in range(4)]
    addresses = [shop.url(f"/{n}", host) for host in hosts for n in range(30)]
    shop.files |= {f"/{n}": PICTURE for n in range(30)}
    looking = asyncio.create_task(look(*addresses, concurrency=40))
    await shop.full.wait()
    at_once = [head.lower().partition("host: ")[2].split(":")[0] for head in shop.asked]
    shop.gate.set()
    await looking
    assert max(at_once.count(host) for host in hosts) <= preflight.PER_HOST
    assert shop.busiest == 40


async def test_a_host_that_keeps_failing_is_left_alone(shop):
    class Everything(dict):
        def get(self, path, default=None):
            return answer(503)

    shop.scripts = Everything()
    found = await look(*[shop.url(f"/{n}") for n in range(300)])
    assert len(found) == 300
    assert not any(entry.is_refused for entry in found.values())
    assert "in a row" in found[shop.url("/299")].warnings[0]
    assert len(shop.asked) <= 2 * (preflight.PER_HOST + 6)


async def test_a_share_link_is_looked_at_where_its_file_is(shop, monkeypatch):
    shop.files["/direct"] = PICTURE
    monkeypatch.setattr(share_links, "direct", lambda address: shop.url("/direct"))
    shared = "https://drive.google.com/file/d/0123456789abc/view"
    assert not (await look_at(shared)).is_refused
    assert shop.paths() == ["/direct"]


async def test_a_picture_in_s3_is_looked_at_with_our_own_key(s3, bucket):
    s3.put_object(Bucket=bucket, Key="a b/ü?.png", Body=PICTURE + bytes(FIRST))
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    s3.put_object(Bucket=bucket, Key="page", Body=PAGE)
    there, empty, page = (f"s3://{bucket}/{key}" for key in ("a b/ü?.png", "empty", "page"))
    gone, no_bucket = f"s3://{bucket}/gone", "s3://bucket-that-is-not-there/a.png"
    found = await look(there, empty, page, gone, no_bucket)
    assert found[there].picture.width == 640
    assert found[there].picture.bytes_total == len(PICTURE) + FIRST
    assert found[empty].code is found[page].code is ErrorCode.IMAGE_UNSUPPORTED
    assert found[gone].code is found[no_bucket].code is ErrorCode.IMAGE_UNREACHABLE


async def test_s3_without_credentials_or_connection_is_a_warning(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    found = await look_at("s3://bucket/a.png")
    assert (found.is_refused, found.picture) == (False, None)
    assert "credentials" in found.warnings[0]


async def test_the_provider_is_given_a_signed_link_to_s3_for_a_day(shop, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a b.png", Body=PICTURE)
    signed = await preflight.provider_address(f"s3://{bucket}/a b.png")
    query = parse_qs(urlsplit(signed).query)
    assert query["X-Amz-Expires"] == ["86400"]
    assert (await look_at(signed)).picture.width == 640


async def test_a_link_to_a_picture_is_signed_for_its_bucket_s_own_region(s3):
    """S3 refuses any other; our own look would be redirected and see nothing of it."""
    name = f"far-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    assert "%2Feu-west-3%2Fs3%2F" in await preflight.provider_address(f"s3://{name}/a.png")


async def test_the_provider_is_given_the_file_behind_a_share_link_and_anything_else_as_it_is():
    assert await preflight.provider_address("https://shop.test/a.jpg?v=2") == "https://shop.test/a.jpg?v=2"
    assert (await preflight.provider_address("https://www.dropbox.com/s/abc/a.jpg?dl=0")).endswith("?dl=1")
