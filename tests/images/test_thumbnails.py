"""Small pictures for the workbook and the gallery: bounded, and never in the way of a run."""

import asyncio
import io
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from reelsheet.images import thumbnails
from reelsheet.images.thumbnails import BOX, Album, is_for_browsers, posters, thumbnail


def picture(kind: str = "JPEG", size: tuple[int, int] = (1200, 800), mode: str = "RGB", **more) -> bytes:
    made = io.BytesIO()
    Image.new(mode, size, (200, 30, 30, 128)[: len(Image.new(mode, (1, 1)).getbands())]).save(made, kind, **more)
    return made.getvalue()


class Pictures:
    """Serves `files` by path; a path that holds None hangs."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | None] = {}
        self.asked: Counter[str] = Counter()
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked[self.path] += 1
                content = outer.files.get(self.path, b"")
                if content is None:
                    outer.over.wait(20)
                    return
                self.send_response(200 if content else 404)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def web() -> Iterator[Pictures]:
    found = Pictures()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield found
    found.over.set()
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("kind", "mode", "more"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("WEBP", "RGB", {}),
    ],
)
def test_every_kind_of_picture_becomes_a_small_jpeg(kind, mode, more):
    with Image.open(io.BytesIO(thumbnail(picture(kind, mode=mode, **more)))) as made:
        assert made.format == "JPEG"
        assert made.width <= BOX[0]
        assert made.height <= BOX[1]


def test_a_picture_that_was_taken_sideways_stands_upright():
    turned = Image.Exif()
    turned[0x0112] = 6
    with Image.open(io.BytesIO(thumbnail(picture(size=(900, 300), exif=turned)))) as made:
        assert made.height > made.width


def test_what_is_transparent_lies_on_white():
    clear = io.BytesIO()
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(clear, "PNG")
    with Image.open(io.BytesIO(thumbnail(clear.getvalue()))) as made:
        assert min(made.getpixel((25, 25))) > 250


@pytest.mark.parametrize("content", [b"", b"<html>", picture()[:200], b"BM" + b"\0" * 100])
def test_what_is_no_picture_is_an_error(content):
    with pytest.raises((OSError, ValueError, SyntaxError)):
        thumbnail(content)


def test_a_picture_that_would_unfold_into_gigabytes_is_not_opened():
    with pytest.raises(ValueError, match="too many"):
        thumbnail(picture("PNG", size=(8_000, 8_000), mode="L"))


def test_what_must_be_unfolded_whole_is_bounded_more_narrowly_than_a_jpeg():
    large = (6_000, 6_000)
    assert thumbnail(picture("JPEG", size=large, mode="L"))
    with pytest.raises(ValueError, match="too many to hold"):
        thumbnail(picture("PNG", size=large, mode="L"))


def test_a_small_file_that_unfolds_is_held_about_twice_at_most():
    """5,400 by 5,400 pixels with transparency: 117 MB, in a file of 113 kB."""
    code = """
import io, resource
from PIL import Image
from reelsheet.images import thumbnails
made = io.BytesIO()
Image.new("RGBA", (5400, 5400)).save(made, "PNG", compress_level=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
thumbnails.thumbnail(made.getvalue())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(done.stdout) < 180_000  # kB beyond the one that the picture was drawn in


async def test_one_picture_is_unfolded_at_a_time(web, monkeypatch):
    under_way, most = 0, 0

    def counted(content):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        made = thumbnail(content)
        under_way -= 1
        return made

    monkeypatch.setattr(thumbnails, "thumbnail", counted)
    web.files = {f"/{n}.jpg": picture(size=(3000, 2000)) for n in range(8)}
    made = await Album({n: f"{web.base}/{n}.jpg" for n in range(8)}, allow_private=True).end()
    assert len(made) == 8
    assert most == 1


async def test_each_distinct_picture_is_fetched_once_and_given_to_all_its_rows(web):
    web.files = {"/a.jpg": picture(), "/b.png": picture("PNG")}
    addresses = {0: f"{web.base}/a.jpg", 1: f"{web.base}/b.png", 2: f"{web.base}/a.jpg"}
    made = await Album(addresses, allow_private=True).end()
    assert set(made) == {0, 1, 2}
    assert made[0] == made[2] != made[1]
    assert web.asked == {"/a.jpg": 1, "/b.png": 1}


async def test_what_does_not_come_is_left_out(web):
    web.files = {"/a.jpg": picture(), "/page": b"<html>hello</html>"}
    addresses = {0: f"{web.base}/gone.jpg", 1: f"{web.base}/page", 2: f"{web.base}/a.jpg", 3: "http://127.0.0.1:9/x"}
    assert set(await Album(addresses, allow_private=True).end()) == {2}


async def test_a_picture_that_hangs_is_not_waited_for(web):
    web.files = {"/slow": None, "/a.jpg": picture()}
    album = Album({0: f"{web.base}/slow", 1: f"{web.base}/a.jpg"}, allow_private=True)
    album.begin()
    while not web.asked["/slow"] or not album._thumbnails:
        await asyncio.sleep(0.01)
    assert set(await album.end(0.0)) == {1}


async def test_no_more_than_so_many_are_fetched(web, monkeypatch):
    web.files = {f"/{n}.jpg": picture(size=(40, 40)) for n in range(5)}
    addresses = {n: f"{web.base}/{n}.jpg" for n in range(5)}
    monkeypatch.setattr(thumbnails, "MAX_PICTURES", 2)
    assert set(await Album(addresses, allow_private=True).end()) == {0, 1}


async def test_a_private_address_is_not_fetched_unless_allowed(web):
    web.files = {"/a.jpg": picture()}
    assert await Album({0: f"{web.base}/a.jpg"}, allow_private=False).end() == {}
    assert not web.asked


async def test_a_picture_in_s3_is_read_with_the_credentials_at_hand(bucket, s3):
    s3.put_object(Bucket=bucket, Key="in/a.jpg", Body=picture())
    assert set(
        await Album({0: f"s3://{bucket}/in/a.jpg", 1: f"s3://{bucket}/in/b.jpg"}, allow_private=False).end()
    ) == {0}


async def test_a_picture_that_is_too_large_is_left_alone(web, monkeypatch):
    monkeypatch.setattr(thumbnails, "LARGEST_BYTES", 1000)
    web.files = {"/a.jpg": picture()}
    assert await Album({0: f"{web.base}/a.jpg"}, allow_private=True).end() == {}


async def test_an_empty_album_is_empty():
    assert await Album({}, allow_private=False).end() == {}


@pytest.mark.parametrize(
    ("address", "open_to_all"),
    [
        ("https://shop.example.com/a.jpg", True),
        ("https://93.184.216.34/a.jpg", True),
        ("http://192.168.0.7/a.jpg", False),
        ("http://localhost/a.jpg", False),
        ("http://nas/a.jpg", False),
        ("http://files.internal/a.jpg", False),
        ("s3://bucket/a.jpg", False),
        ("https://b.s3.amazonaws.com/a.jpg?X-Amz-Credential=AKIA&X-Amz-Signature=ff", False),
        ("https://drive.google.com/file/d/1AbCdEfGhIjKlMnOpQrStUvWxYz012345/view", False),
    ],
)
def test_which_addresses_any_browser_can_show(address, open_to_all):
    assert is_for_browsers(address) is open_to_all


def test_a_poster_is_the_address_where_browsers_can_fetch_it_and_the_picture_itself_where_not():
    addresses = {0: "https://shop.example.com/a.jpg", 1: "s3://bucket/b.jpg", 2: "s3://bucket/c.jpg"}
    found = posters(addresses, {0: b"a", 1: b"b"})
    assert found == {0: "https://shop.example.com/a.jpg", 1: "data:image/jpeg;base64,Yg=="}


def test_no_poster_carries_a_signature():
    signed = "https://b.s3.amazonaws.com/a.jpg?X-Amz-Credential=AKIA&X-Amz-Signature=ff"
    assert "Signature" not in posters({0: signed}, {})[0]


def test_a_page_holds_only_so_many_pictures(monkeypatch):
    monkeypatch.setattr(thumbnails, "EMBEDDED_CHARS", 60)
    assert len(posters({n: f"s3://b/{n}" for n in range(9)}, dict.fromkeys(range(9), b"x"))) == 2
