"""A headless Chromium, and runs to show in it, with small real pictures and clips."""

import base64
import colorsys
import functools
import http.server
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.results.gallery import gallery_html
from reelsheet.results.table import summarise

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PHRASES = (
    "Slow push in on the bottle, golden hour light, dew on the glass",
    "Camera orbits the sneaker once, laces sway, soft studio shadows",
    "Steam rises from the cup while the window light moves across the table",
    "Gentle pan from left to right over the bedroom, curtains breathing in the wind",
    "The model turns her head and smiles, hair moving, shallow depth of field, then looks past the camera to the sea",
    "Waves roll in, tripod shot, late evening",
)
THINGS = (
    "Amber Serum 30 ml",
    "Runner Low White",
    "Stoneware Mug",
    "Linen Duvet Set",
    "Summer Dress Aurora",
    "Travel Towel",
)


@pytest.fixture(scope="module")  # Playwright's event loop runs as long, and no test with a loop of its own beside it
def browser() -> Iterator[Any]:
    """Chromium. Without it the test is skipped; in CI it fails."""
    if not CHROMIUM or not Path(CHROMIUM).exists():
        told = "No Chromium here: the gallery was NOT looked at. Install one, or set CHROMIUM to where it is."
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(told)
        pytest.skip(told)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `videos/` of six real clips of a second each, two of them upright."""
    import av

    folder = tmp_path_factory.mktemp("media") / "videos"
    folder.mkdir()
    for n in range(6):
        width, height = (320, 180) if n % 3 else (180, 320)
        with av.open(str(folder / f"{n}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=12, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            scene = picture(n, width + 40, height)
            for step in range(12):
                frame = scene.crop((step * 3, 0, step * 3 + width, height))
                out.mux(stream.encode(av.VideoFrame.from_image(frame.convert("RGB"))))
            out.mux(stream.encode(None))
        scene.close()
    return folder


def picture(n: int, width: int, height: int) -> Any:
    """A simple picture: a sky, a sun, a ground."""
    from PIL import Image, ImageDraw

    hue = n * 47 % 360
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for y in range(height):
        share = y / height
        draw.line(
            [(0, y), (width, y)],
            fill=tuple(int(channel) for channel in _hsl(hue + share * 50, 0.55, 0.78 - share * 0.3)),
        )
    radius = min(width, height) // 4
    x, y = width * (35 + n * 7 % 40) // 100, height * 45 // 100
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_hsl(hue + 180, 0.6, 0.72))
    draw.rectangle((0, height * 72 // 100, width, height), fill=_hsl(hue + 20, 0.35, 0.3))
    return image


def _hsl(hue: float, saturation: float, light: float) -> tuple[int, ...]:
    return tuple(round(channel * 255) for channel in colorsys.hls_to_rgb(hue % 360 / 360, light, saturation))


def thumbnail(n: int) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    size = (320, 180) if n % 3 else (180, 320)
    picture(n, *size).save(buffer, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass
class Run:
    """What a gallery is made of, so that a test can change it first."""

    manifest: Manifest
    results: list[RowResult]
    links: dict[int, str]
    posters: dict[int, str]
    more_links: dict[int, list[str]] = field(default_factory=dict)
    title: str = "Autumn campaign"
    expires_at: datetime | None = None

    def html(self) -> str:
        summary = summarise(
            self.results,
            run_id="20261123-120000-k7f2",
            started_at=NOON,
            finished_at=NOON + timedelta(seconds=134),
            seconds=134,
            flow_run_id=None,
            exit_code=0,
        )
        page = gallery_html(
            self.manifest,
            self.results,
            summary=summary,
            links=self.links,
            posters=self.posters,
            more_links=self.more_links,
            title=self.title,
            expires_at=self.expires_at,
            destination="s3://acme-clips/autumn",
        )
        return page.decode()


TROUBLES = {
    3: (
        Status.FAILED,
        ErrorCode.MODERATED,
        "The provider's content check refused this prompt or picture: change the prompt, then run retry.",
    ),
    7: (
        Status.UNDELIVERED,
        ErrorCode.DEADLINE,
        "The clip was still rendering after 1,800 s; run the same command again to fetch it at no cost.",
    ),
    8: (
        Status.UNKNOWN,
        ErrorCode.SUBMIT_UNKNOWN,
        "The provider's answer was lost, so the clip may have been paid for: look it up in its dashboard, run resolve.",
    ),
    11: (
        Status.SKIPPED,
        ErrorCode.OVER_BUDGET,
        "Not attempted: the cap of $10.00 was reached; raise --max-cost and run again.",
    ),
    13: (
        Status.INVALID,
        ErrorCode.INVALID_ROW,
        "Column “image”: htp://cdn.example.com/x.jpg is no web address; it should start with https://.",
    ),
    17: (
        Status.FAILED,
        ErrorCode.GENERATION_FAILED,
        "-5: the model could not animate this picture; try another one.",
    ),
}  # by the row's place among twenty
LARGE = "The picture is larger than 20 MB, which other sellers of this model refuse."
PAID = (Status.FAILED, Status.UNDELIVERED)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """`make_run(200)`: a run of 200 rows, most delivered; `trouble=False` delivers all."""
    thumbnails = [thumbnail(n) for n in range(6)]

    def make(count: int, *, trouble: bool = True) -> Run:
        columns = ("sku", "image", "prompt", "channel", "owner", "note")
        rows, records, results, links, posters = [], [], [], {}, {}
        for at in range(count):
            image = f"https://pictures.invalid/{at}.jpg"
            cells = (
                f"SKU-{at + 1:04}" if at % 5 else THINGS[at % 6],
                image,
                PHRASES[at % 6],
                ("Instagram", "TikTok", "Web")[at % 3],
                "Zoë",
                "",
            )
            records.append(cells)
            rows.append(Row(at, at + 2, image=image, prompt=cells[2], id=cells[0]))
            posters[at] = thumbnails[at % 6]
            if trouble and count > 5 and at % 20 in TROUBLES:
                status, code, error = TROUBLES[at % 20]
                cost = 54 if status in PAID else 0
                result = RowResult(status, error, code, cost_cents=cost, total_cost_cents=cost)
                if cost:
                    result.prediction_id = "550e8400-e29b-41d4-a716-446655440000"
                if status is Status.UNKNOWN:
                    result.at_risk_cents = 54
                results.append(result)
                continue
            links[at] = f"videos/{at % 6}.mp4"
            results.append(
                RowResult(
                    Status.SUCCEEDED,
                    cost_cents=0 if at % 9 == 4 else 54,
                    total_cost_cents=54,
                    reused=at % 9 == 4,
                    warnings=(LARGE,) if at % 16 == 5 else (),
                    video_uri=f"s3://acme-clips/autumn/videos/{at % 6}.mp4",
                    prediction_id=f"550e8400-e29b-41d4-a716-{at:012}",
                    attempt=1,
                    identity=f"{at:064x}",
                    submitted_at=NOON,
                    completed_at=NOON + timedelta(seconds=30 + at % 11),
                    video_bytes=412_345,
                    width=1920 if at % 3 else 1080,
                    height=1080 if at % 3 else 1920,
                    duration_s=5.04,
                )
            )
        table = text_frame(columns, records)
        manifest = Manifest("sheet.csv", table, tuple(rows), {"id": 0, "image": 1, "prompt": 2})
        return Run(manifest, results, links, posters)

    return make


@dataclass
class Looked:
    """An open page and all its errors. Errors that a test expects are `allowed`."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def cards(self) -> Any:
        """The cards that the filters show, filled or not."""
        return self.page.locator(".card:not([hidden])")

    def card(self, name: str) -> Any:
        return self.page.locator(".card:not([hidden])", has=self.page.get_by_role("heading", name=name, exact=True))

    def count(self) -> str:
        return self.page.locator("#count").inner_text()

    def until(self, expression: str) -> None:
        """Wait until a line of script is true. Playwright's own waiting evaluates strings, which the page forbids."""
        last = time.monotonic() + 20
        while not self.page.evaluate(expression):
            assert time.monotonic() < last, f"never came true: {expression}"
            self.page.wait_for_timeout(30)

    def focused(self) -> str:
        """The label of the element with the focus."""
        return self.page.evaluate("document.activeElement.getAttribute('aria-label') || ''")

    def focus_is(self, label: str) -> None:
        """Wait until the element with this label has the focus."""
        self.until(f"document.activeElement.getAttribute('aria-label') === {json.dumps(label)}")

    def unexpected(self) -> list[str]:
        return [told for told in self.complaints if not any(part in told for part in self.allowed)]


@pytest.fixture
def look(browser: Any, clips: Path, tmp_path: Path) -> Iterator[Callable[..., Looked]]:
    """`look(run, phone=True, dark=True)`: the gallery beside its clips, from disk or from `origin`.

    In the end no page may have complained: no error, no warning, no breach of its policy, no request to anywhere else.
    """
    contexts, looked = [], []

    def open_page(
        run: Run, *, phone: bool = False, dark: bool = False, origin: str = "", ready: bool = True, **options: Any
    ) -> Looked:
        (tmp_path / "gallery.html").write_text(run.html(), "utf-8")
        if not (tmp_path / "videos").exists():
            shutil.copytree(clips, tmp_path / "videos")
        context = browser.new_context(
            viewport={"width": 390, "height": 844} if phone else {"width": 1280, "height": 800},
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            is_mobile=phone,
            device_scale_factor=2 if phone else 1,
            **options,
        )
        contexts.append(context)
        one = Looked(context.new_page())
        looked.append(one)
        watch(one, origin)
        one.page.goto(f"{origin}/gallery.html" if origin else (tmp_path / "gallery.html").as_uri())
        if ready:
            one.until("document.querySelector('.card .fill, #empty:not([hidden])')")
        return one

    yield open_page
    complaints = {f"page {number}": one.unexpected() for number, one in enumerate(looked) if one.unexpected()}
    for context in contexts:
        context.close()
    assert not complaints, json.dumps(complaints, indent=1)


def watch(one: Looked, origin: str) -> None:
    """Record all errors of the page."""

    def console(message: Any) -> None:
        if message.type in {"error", "warning"}:
            one.complaints.append(f"{message.type}: {message.text}")

    def dialog(box: Any) -> None:
        one.complaints.append(f"dialog: {box.message}")
        box.dismiss()

    def request(sent: Any) -> None:
        if sent.url.startswith("http") and not (origin and sent.url.startswith(origin)):
            one.complaints.append(f"request: {sent.url}")

    one.page.on("console", console)
    one.page.on("dialog", dialog)
    one.page.on("request", request)
    one.page.on("pageerror", lambda error: one.complaints.append(f"exception: {error}"))
    one.page.add_init_script(
        "addEventListener('securitypolicyviolation', (breach) =>"
        " console.error('policy: ' + breach.violatedDirective + ' ' + breach.blockedURI))"
    )


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """The folder of the page, served as a bucket would, on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
