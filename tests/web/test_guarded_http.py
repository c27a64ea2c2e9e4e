"""The guarded client against a server on loopback that does what it is told, however wrong."""

import asyncio
import contextlib
import datetime as dt
import gzip
import ssl
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reelsheet.errors import BlockedAddress
from reelsheet.web import guarded_http
from reelsheet.web.guarded_http import FetchError, Reason

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello"


class Server:
    """Answers each path with its script: bytes, or a coroutine function that writes them. Keeps what it was sent."""

    def __init__(self):
        self.scripts = {}
        self.heads = []
        self.tasks = []
        self.port = 0

    async def _serve(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            script = self.scripts[head.split()[1].partition("?")[0]]
            if isinstance(script, bytes):
                writer.write(script)
                await writer.drain()
            else:
                await script(writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def running(self, host="127.0.0.1", port=0, tls=None) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self._serve, host, port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def server():
    async with Server().running() as running:
        yield running


@pytest.fixture
async def client():
    async with guarded_http.guarded_client(allow_private=True, timeout_s=5.0, lookup=everywhere_loopback) as made:
        yield made


async def everywhere_loopback(host, port):
    return ["127.0.0.1"]


def redirect(location, status=302):
    return f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


async def fetched(client, url, limit_bytes=1000, **options):
    return await guarded_http.read(url, allow_private=True, limit_bytes=limit_bytes, client=client, **options)


async def consumed(client, url, **caps):
    """The length of a body that is read under `caps`."""
    async with guarded_http.open_url(client, url) as response:
        return sum([len(chunk) async for chunk in guarded_http.stream(response, **caps)])


async def refused(client, url, reason, **options):
    with pytest.raises(FetchError) as caught:
        await fetched(client, url, **options)
    assert caught.value.reason is reason
    assert str(caught.value).endswith(".")
    return caught.value


async def test_a_small_body_is_read_whole(server, client):
    server.scripts["/a"] = OK
    found = await fetched(client, server.url("/a?v=2&X-Amz-Signature=abc"))
    assert (found.content, found.content_type) == (b"hello", "text/plain")
    assert found.url == server.url("/a?v=2")


async def test_nothing_is_sent_but_the_question(server, client):
    """No key, no cookie, no compression asked for."""
    server.scripts["/set"] = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    server.scripts["/a"] = OK
    await fetched(client, server.url("/set"))
    secret = {"Authorization": "Bearer key", "COOKIE": "a=b", "Range": "bytes=0-3"}
    async with guarded_http.open_url(client, server.url("/a"), headers=secret):
        pass
    asked = server.heads[-1].lower()
    assert "authorization" not in asked
    assert "cookie" not in asked
    assert "accept-encoding: identity" in asked
    assert "range: bytes=0-3" in asked


async def test_proxies_and_passwords_of_the_environment_are_not_used(server, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server.scripts["/a"] = OK
    assert (await guarded_http.read(server.url("/a"), allow_private=True, limit_bytes=9)).content == b"hello"
    assert "authorization" not in server.heads[0].lower()


async def test_the_host_header_keeps_the_name_though_the_connection_goes_to_the_address(server, client):
    server.scripts["/a"] = OK
    await fetched(client, server.url("/a", host="shop.test"))
    assert f"Host: shop.test:{server.port}" in server.heads[0]


async def test_a_name_that_changes_its_address_after_the_check_changes_nothing():
    """The address that was judged is the one that is connected to: the name is looked up once."""
    asked = []

    async def rebinding(host, port):
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "127.0.0.2"]

    good, evil = Server(), Server()
    good.scripts["/a"] = evil.scripts["/a"] = OK
    async with (
        good.running(),
        evil.running("127.0.0.2", good.port),
        guarded_http.guarded_client(allow_private=True, lookup=rebinding) as client,
    ):
        await fetched(client, good.url("/a", host="rebind.test"))
    assert asked == ["rebind.test"]
    assert (len(good.heads), len(evil.heads)) == (1, 0)


async def test_a_new_connection_to_a_rebound_name_is_judged_again(server):
    replies = iter([["127.0.0.1"], ["169.254.169.254"]])

    async def rebinding(host, port):
        return next(replies)

    server.scripts["/a"] = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with guarded_http.guarded_client(allow_private=True, lookup=rebinding) as client:
        await fetched(client, server.url("/a", host="rebind.test"))
        await refused(client, server.url("/a", host="rebind.test"), Reason.BLOCKED)
    assert len(server.heads) == 1


async def test_the_next_address_is_tried_where_one_does_not_answer(server):
    async def two(host, port):
        return ["127.0.0.3", "127.0.0.1"]

    server.scripts["/a"] = OK
    async with guarded_http.guarded_client(allow_private=True, lookup=two) as client:
        assert (await fetched(client, server.url("/a", host="shop.test"))).content == b"hello"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_no_spelling_of_loopback_is_reached_unless_opened(server, host):
    server.scripts["/a"] = OK
    with pytest.raises(FetchError) as caught:
        await guarded_http.read(server.url("/a", host=host), allow_private=False, limit_bytes=9)
    assert caught.value.reason is Reason.BLOCKED
    assert caught.value.permanent
    assert server.heads == []


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "//169.254.169.254/",
        "http://0.0.0.0/",
        "http://0251.0376.0251.0376/",
        "file:///etc/passwd",
        "ftp://ftp.test/x",
        "gopher://127.0.0.1/x",
        "data:text/plain,x",
        "http://user:pass@shop.test/",
        "http://[",
    ],
)
async def test_a_redirect_is_judged_like_a_first_address(server, client, target):
    """Only 169.254.169.254 and its like answer for themselves here: every name leads to loopback."""
    server.scripts["/a"] = redirect(target)
    async with guarded_http.guarded_client(allow_private=True, timeout_s=5.0) as own:
        error = await refused(own, server.url("/a"), Reason.BLOCKED)
    assert error.permanent
    assert "pass@" not in str(error)
    assert len(server.heads) == 1


async def test_redirects_are_followed_within_reason(server, client):
    server.scripts |= {"/a": redirect("/b?q=1", 301), "/b": redirect("c", 307), "/c": OK}
    found = await fetched(client, server.url("/a"))
    assert found.content == b"hello"
    assert found.url == server.url("/c")


async def test_a_circle_of_redirects_ends(server, client):
    server.scripts |= {"/a": redirect("/b"), "/b": redirect("/a")}
    assert (await refused(client, server.url("/a"), Reason.REDIRECTS)).permanent
    assert len(server.heads) == 6


async def test_a_redirect_without_a_location_is_an_answer_like_any_other(server, client):
    server.scripts["/a"] = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"
    assert (await refused(client, server.url("/a"), Reason.HTTP)).status == 302


@pytest.mark.parametrize(
    "url", ["", "shop.test/a.jpg", "s3://bucket/key", "http://", "http://a:b@127.0.0.1/", "http://[x]/"]
)
async def test_what_is_no_web_address_is_never_opened(client, url):
    assert (await refused(client, url, Reason.BLOCKED)).permanent


@pytest.mark.parametrize("host", ["xn--", "xn--a.test", "XN--0.test", "xn--ls8h.test", "xn--n3h.test"])
async def test_a_host_name_that_only_others_can_open_is_an_error_like_any_other(server, client, host):
    """Of emoji, for example: the provider may open it, so the picture is not refused for it."""
    assert not (await refused(client, server.url("/a", host), Reason.DNS)).permanent
    server.scripts["/a"] = redirect(f"http://{host}/b")
    await refused(client, server.url("/a"), Reason.DNS)


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (400, True),
        (401, True),
        (403, True),
        (404, True),
        (408, False),
        (410, True),
        (429, False),
        (500, False),
        (799, False),
    ],
)
async def test_an_answer_that_is_no_success_is_an_error_with_its_status(server, client, status, permanent):
    server.scripts["/a"] = (
        f"HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: 60\r\n\r\n".encode()
        + b"<Signature>abcdef</Signature>\x1b[31m Request has expired".ljust(60)
    )
    error = await refused(client, server.url("/a"), Reason.HTTP)
    assert (error.status, error.permanent, error.retry_after) == (status, permanent, 7.0)
    assert "Request has expired" in error.excerpt
    assert "abcdef" not in error.excerpt
    assert "\x1b" not in error.excerpt


async def test_an_endless_error_page_is_not_read_to_its_end(server, client):
    async def endless(writer):
        writer.write(b"HTTP/1.1 500 Oops\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    server.scripts["/a"] = endless
    assert len((await refused(client, server.url("/a"), Reason.HTTP)).excerpt) <= 200


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP", "deflate"])
async def test_a_compressed_body_is_refused(server, client, coding):
    """However small it is on its way, it might unfold without end."""
    bomb = gzip.compress(bytes(10_000_000))
    server.scripts["/a"] = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb
    )
    assert not (await refused(client, server.url("/a"), Reason.ENCODED, limit_bytes=10**6)).permanent


async def test_a_label_without_compression_does_no_harm(server, client):
    server.scripts["/a"] = OK.replace(b"Content-Type", b"Content-Encoding: aws-chunked\r\nContent-Type")
    assert (await fetched(client, server.url("/a"))).content == b"hello"


async def test_a_body_that_declares_too_much_is_not_read(server, client):
    server.scripts["/a"] = b"HTTP/1.1 200 OK\r\nContent-Length: 2100000000\r\n\r\nx"
    error = await refused(client, server.url("/a"), Reason.TOO_LARGE)
    assert "2.1 GB" in str(error)
    assert error.permanent


async def test_a_body_that_declares_nothing_is_counted(server, client):
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    server.scripts["/a"] = endless
    await refused(client, server.url("/a"), Reason.TOO_LARGE, limit_bytes=1_000_000)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_an_answer_that_breaks_off_or_contradicts_itself_is_cut(server, client, answer):
    server.scripts["/a"] = answer
    assert not (await refused(client, server.url("/a"), Reason.CUT)).permanent


async def test_a_body_that_falls_silent_is_given_up(server, client):
    async def silent(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe")
        await writer.drain()
        await asyncio.sleep(60)

    server.scripts["/a"] = silent
    with pytest.raises(FetchError) as caught:
        await consumed(client, server.url("/a"), limit_bytes=9, idle_s=0.05, min_bytes_per_s=1, deadline_s=60)
    assert caught.value.reason is Reason.TIMEOUT


async def test_headers_that_drip_are_given_up(server, client):
    """Each byte in time, yet never all of them."""

    async def drip(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    server.scripts["/a"] = drip
    with pytest.raises(FetchError) as caught:
        await guarded_http.open_url(client, server.url("/a"), timeout_s=0.2).__aenter__()
    assert caught.value.reason is Reason.TIMEOUT


async def dripping(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(1000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.001)


async def test_a_body_that_drips_is_too_slow_by_the_clock(server, client):
    """The clock says ten seconds for each look at it: a byte or a few in every ten seconds."""
    ticks = iter(range(0, 10**6, 10))
    server.scripts["/a"] = dripping
    with pytest.raises(FetchError, match="bytes a second") as caught:
        await consumed(
            client,
            server.url("/a"),
            limit_bytes=10**6,
            min_bytes_per_s=1000,
            deadline_s=10**6,
            clock=lambda: next(ticks),
        )
    assert caught.value.reason is Reason.TOO_SLOW


async def test_a_body_has_a_deadline_in_all(server, client):
    ticks = iter(range(0, 10**6, 10))
    server.scripts["/a"] = dripping
    with pytest.raises(FetchError, match="within 200 s") as caught:
        await consumed(
            client, server.url("/a"), limit_bytes=10**6, min_bytes_per_s=0, deadline_s=200, clock=lambda: next(ticks)
        )
    assert caught.value.reason is Reason.TOO_SLOW


async def test_the_time_that_the_reader_takes_is_not_held_against_the_server(server, client):
    looks = [0.0]
    server.scripts["/a"] = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)
    counted = 0
    async with guarded_http.open_url(client, server.url("/a")) as response:
        async for chunk in guarded_http.stream(
            response, limit_bytes=10**6, min_bytes_per_s=10**9, deadline_s=10**6, clock=lambda: looks[-1]
        ):
            looks.append(looks[-1] + 40)
            counted += len(chunk)
    assert counted == 300_000


async def test_read_has_a_deadline_for_everything(server, client):
    async def hang(writer):
        await asyncio.sleep(60)

    server.scripts["/a"] = hang
    await refused(client, server.url("/a"), Reason.TOO_SLOW, deadline_s=0.1)


async def test_a_closed_port_and_a_name_that_is_not_there_are_told_apart(client):
    async with Server().running() as gone:
        port = gone.port
    await refused(client, f"http://127.0.0.1:{port}/a", Reason.CONNECT)
    async with guarded_http.guarded_client(allow_private=True) as own:
        assert (await refused(own, "http://nothing.invalid/a", Reason.DNS)).permanent


async def test_a_name_server_that_hangs_is_a_timeout():
    async def hang(host, port):
        await asyncio.sleep(60)

    async with guarded_http.guarded_client(allow_private=True, lookup=hang) as client:
        with pytest.raises(FetchError) as caught:
            async with guarded_http.open_url(client, "http://shop.test/", timeout_s=0.05):
                pass
    assert caught.value.reason is Reason.TIMEOUT


async def test_every_connection_of_the_client_goes_through_the_guard():
    """The pool is put into httpx's transport from outside: this fails should httpx stop using it."""
    async with guarded_http.guarded_client(allow_private=False) as client:
        assert client.trust_env is False
        assert client.follow_redirects is False
        for url in ("http://127.0.0.1:1/", "https://127.0.0.1:1/"):
            with pytest.raises(BlockedAddress):
                await client.get(url)


@pytest.fixture
def authority(tmp_path):
    """A certificate for shop.test, signed by itself: (certificate and key in one file, for the server)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "shop.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
async def secure(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    async with Server().running(tls=context) as running:
        running.scripts["/a"] = OK
        yield running


def https(server, host):
    return server.url("/a", host).replace("http:", "https:")


async def test_a_certificate_of_nobody_is_refused(secure, client):
    """There is no way around it, and no second try over http."""
    error = await refused(client, https(secure, "shop.test"), Reason.TLS)
    assert "certificate" in str(error)
    assert secure.heads == []


async def test_the_name_is_what_the_certificate_must_hold_not_the_address(secure, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    async with guarded_http.guarded_client(allow_private=True, lookup=everywhere_loopback) as client:
        assert (await fetched(client, https(secure, "shop.test"))).content == b"hello"
        await refused(client, https(secure, "other.test"), Reason.TLS)


async def test_a_redirect_from_https_to_http_is_not_followed(secure, server, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    server.scripts["/a"] = OK
    secure.scripts["/a"] = redirect(server.url("/a", "shop.test"))
    async with guarded_http.guarded_client(allow_private=True, lookup=everywhere_loopback) as client:
        assert (await refused(client, https(secure, "shop.test"), Reason.REDIRECTS)).permanent
    assert server.heads == []


async def test_a_redirect_from_http_to_https_is_followed(secure, server, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    server.scripts["/a"] = redirect(https(secure, "shop.test"))
    async with guarded_http.guarded_client(allow_private=True, lookup=everywhere_loopback) as client:
        assert (await fetched(client, server.url("/a", "shop.test"))).content == b"hello"


async def test_plain_http_on_a_tls_port_breaks_off(secure, client):
    await refused(client, secure.url("/a"), Reason.CUT)


async def test_tls_on_a_plain_port_is_a_tls_error(client):
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(OK)
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        await refused(client, f"https://shop.test:{port}/a", Reason.TLS)


def test_sizes_read_well():
    assert [guarded_http.size(n) for n in (0, 999, 1000, 2_500_000, 2_000_000_000)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "2.5 MB",
        "2.0 GB",
    ]
