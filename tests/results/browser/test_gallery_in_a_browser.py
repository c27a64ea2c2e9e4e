"""The gallery as people see and use it, in a real browser, from disk.

With REELSHEET_SHOTS=FOLDER the pages are also kept there as pictures, to be looked at.
"""

import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import RowResult, Status

pytestmark = pytest.mark.slow
SHOTS = os.environ.get("REELSHEET_SHOTS")  # read at import: tests do not see this machine's settings
PLAYING = "(([one, more]) => Boolean(one && !more && one.currentTime > 0.05))(document.querySelectorAll('{} video'))"


def keep(seen, name):
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        seen.page.wait_for_timeout(300)  # for fades to end, in pictures only
        seen.page.screenshot(path=Path(SHOTS) / f"{name}.png")


def playing(seen, where):
    seen.until(PLAYING.format(where))


def test_a_small_gallery_opens_plays_and_complains_of_nothing(make_run, look):
    seen = look(make_run(5))
    assert seen.page.title() == "Autumn campaign"
    assert seen.count() == "5 rows"
    assert seen.cards().locator("h3").all_inner_texts() == [
        "Amber Serum 30 ml",
        "SKU-0002",
        "SKU-0003",
        "SKU-0004",
        "SKU-0005",
    ]
    seen.card("SKU-0002").hover()
    playing(seen, ".card")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("count", [5, 200, 2000])
def test_every_size_fits_its_window_from_first_to_last_row(make_run, look, count, phone, dark):
    name = f"{count}-{'phone' if phone else 'desktop'}-{'dark' if dark else 'light'}"
    seen = look(make_run(count), phone=phone, dark=dark)
    keep(seen, name)
    assert seen.count() == f"{count:,} rows"
    assert seen.cards().count() == count
    assert seen.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    seen.page.evaluate("document.querySelector('.card:last-child').scrollIntoView()")
    seen.until("document.querySelector('.card:last-child .fill img.front')?.complete")
    keep(seen, f"{name}-end")
    assert seen.page.evaluate("document.querySelectorAll('.fill').length") <= 60
    background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(15, 16, 19)") == dark


def test_cards_keep_their_place_while_they_are_filled_and_emptied(make_run, look):
    seen = look(make_run(2000))
    tall = seen.page.evaluate("document.scrollingElement.scrollHeight")
    for share in (0.2, 0.9, 0.5, 0):
        seen.page.evaluate("(share) => scrollTo(0, share * document.scrollingElement.scrollHeight)", share)
        seen.until(
            "[...document.querySelectorAll('.card')]"
            ".some((card) => card.firstChild && card.getBoundingClientRect().top > 0)"
        )
        assert seen.page.evaluate("document.scrollingElement.scrollHeight") == tall


def test_a_clip_plays_while_it_is_pointed_at_and_only_that_one(make_run, look):
    seen = look(make_run(5))
    assert seen.page.locator("video").count() == 0
    seen.card("SKU-0002").hover()
    playing(seen, ".card")
    video = seen.page.locator("video")
    assert video.evaluate("(v) => [v.muted, v.loop, v.playsInline, v.preload]") == [True, True, True, "none"]
    seen.card("SKU-0003").hover()
    seen.until("document.querySelector('video')?.src.endsWith('2.mp4')")
    assert seen.page.locator("video").count() == 1
    seen.page.mouse.move(5, 5)
    seen.until("!document.querySelector('video')")


def test_with_reduced_motion_nothing_plays_by_itself(make_run, look):
    seen = look(make_run(5), reduced_motion="reduce")
    seen.card("SKU-0002").hover()
    seen.page.keyboard.press("j")
    seen.page.wait_for_timeout(400)  # longer than the pause before a clip would play
    assert seen.page.locator("video").count() == 0
    seen.page.keyboard.press("Space")
    playing(seen, ".card")


def test_the_detail_view_plays_the_clip_and_tells_all_of_its_row(make_run, look):
    seen = look(make_run(5))
    seen.card("SKU-0002").locator(".open").click()
    detail = seen.page.get_by_role("dialog")
    playing(seen, "dialog")
    video = detail.locator("video")
    assert video.evaluate("(v) => [v.controls, v.muted, v.loop]") == [True, True, True]
    told = detail.inner_text()
    for part in (
        "SKU-0002",
        "Camera orbits the sneaker once",
        "$0.54",
        "1920 × 1080",  # noqa: RUF001 - as it is written
        "s3://acme-clips",
        "TikTok",
        "Zoë",
    ):
        assert part in told
    assert detail.get_by_role("link", name="Open clip").get_attribute("href") == "videos/1.mp4"
    assert detail.get_by_role("link", name="Picture").get_attribute("rel") == "noopener noreferrer"
    seen.page.get_by_label("Next row").click()
    assert detail.locator("h2").inner_text() == "SKU-0003"
    seen.page.keyboard.press("k")
    seen.page.keyboard.press("ArrowLeft")
    assert detail.locator("h2").inner_text() == "Amber Serum 30 ml"
    assert detail.get_by_label("Previous row").is_disabled()
    seen.page.keyboard.press("Escape")
    assert not detail.is_visible()
    seen.focus_is("Play Amber Serum 30 ml, succeeded")
    seen.until("!document.querySelector('dialog video')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_the_detail_view_fits_on_every_screen(make_run, look, phone, dark):
    seen = look(make_run(20), phone=phone, dark=dark)
    name = f"detail-{'phone' if phone else 'desktop'}-{'dark' if dark else 'light'}"
    opener = seen.card("SKU-0002").locator(".open")
    opener.tap() if phone else opener.click()
    playing(seen, "dialog")
    keep(seen, name)
    for _ in range(2):
        seen.page.get_by_label("Next row").click()
    assert "content check" in seen.page.get_by_role("dialog").inner_text()
    keep(seen, f"{name}-failed")
    box = seen.page.get_by_role("dialog").bounding_box()
    size = seen.page.viewport_size
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= size["width"]
    assert box["y"] + box["height"] <= size["height"]
    seen.page.get_by_label("Close").click()
    assert not seen.page.get_by_role("dialog").is_visible()


def test_the_prediction_id_can_be_copied(make_run, look):
    seen = look(make_run(5), permissions=["clipboard-read", "clipboard-write"])
    seen.card("SKU-0002").locator(".open").click()
    seen.page.get_by_label("Copy prediction id").click()
    seen.page.get_by_label("Copied").wait_for()
    assert seen.page.evaluate("navigator.clipboard.readText()") == "550e8400-e29b-41d4-a716-000000000001"


def test_chips_count_and_filter_by_status(make_run, look):
    seen = look(make_run(200))
    chips = seen.page.locator("#chips .chip")
    assert chips.all_inner_texts() == [
        "All\n200",
        "Succeeded\n140",
        "Failed\n20",
        "Undelivered\n10",
        "Unknown\n10",
        "Skipped\n10",
        "Invalid\n10",
    ]
    chips.filter(has_text="Failed").click()
    assert seen.count() == "20 of 200 rows"
    assert seen.cards().count() == 20
    seen.until("document.querySelector('.card:not([hidden]) .fill')")
    assert set(seen.cards().locator(".pill").all_inner_texts()) == {"failed"}
    keep(seen, "filtered")
    chips.filter(has_text="Failed").click()
    assert seen.count() == "200 rows"


def test_what_needs_attention_leads_to_its_rows(make_run, look):
    seen = look(make_run(200))
    seen.page.get_by_text("60 rows need attention").click()
    keep(seen, "attention")
    seen.page.get_by_role("button", name="10 failed The provider's content check").click()
    assert seen.count() == "10 of 200 rows with “moderated”"
    seen.page.keyboard.press("Escape")
    assert seen.count() == "200 rows"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sku-0002", 1),
        ("zoe", 200),
        ("ZOË tiktok", 67),
        ("moderated", 10),
        ("000000000001", 1),
        ("sneaker SKU-0002", 1),
        ("nothing like it", 0),
    ],
)
def test_search_looks_at_every_column_without_regard_to_case_or_accents(make_run, look, words, found):
    seen = look(make_run(200))
    seen.page.keyboard.press("/")
    seen.page.keyboard.type(words)
    seen.until(f"document.querySelectorAll('.card:not([hidden])').length === {found}")
    assert seen.page.get_by_text("No row matches.").is_visible() == (found == 0)
    seen.page.keyboard.press("Escape")
    assert seen.count() == "200 rows"


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_a_search_from_far_below_shows_its_first_row(make_run, look, phone):
    seen = look(make_run(200), phone=phone)
    seen.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    seen.page.locator("#search").fill("towel")
    seen.until("document.querySelector('#count').textContent.includes(' of 200')")
    first = "document.querySelector('.card:not([hidden])').getBoundingClientRect().top"
    seen.until(f"{first} >= 0 && {first} < innerHeight")
    assert seen.focused().startswith("Search")


def test_everything_can_be_done_by_keyboard(make_run, look):
    seen = look(make_run(200))
    press = seen.page.keyboard.press
    press("j")
    seen.focus_is("Play Amber Serum 30 ml, succeeded")
    press("j")
    seen.focus_is("Play SKU-0002, succeeded")
    playing(seen, ".card")
    press("Space")
    seen.until("!document.querySelector('video')")
    press("Space")
    playing(seen, ".card")
    keep(seen, "focus")
    press("ArrowRight")
    press("ArrowDown")
    press("ArrowLeft")
    press("ArrowUp")
    seen.focus_is("Play SKU-0002, succeeded")
    press("k")
    press("k")
    seen.focus_is("Play Amber Serum 30 ml, succeeded")
    press("Enter")
    assert seen.page.get_by_role("dialog").is_visible()
    press("j")
    press("Escape")
    seen.focus_is("Play SKU-0002, succeeded")
    press("/")
    seen.page.keyboard.type("mug")
    press("Enter")
    assert re.match("(Play|Show) ", seen.focused())
    seen.until("getComputedStyle(document.activeElement.closest('.card')).boxShadow.includes('3px')")


def test_j_goes_to_rows_that_were_never_near_the_window(make_run, look):
    seen = look(make_run(200))
    for _ in range(60):
        seen.page.keyboard.press("j")
    assert "SKU-0060" in seen.focused()
    seen.until("document.activeElement.getBoundingClientRect().top >= 0")
    assert seen.page.evaluate("document.activeElement.getBoundingClientRect().bottom <= innerHeight")


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "javascript:alert(1)",
    '"><svg onload=alert(1)>',
    "\u202egnp.exe\u202c and back",
    "שלום עולם <b>bold</b>",
    "👩‍👩‍👧‍👦 🎬 家族",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "A very long one. " * 300,
    "unbroken" * 200,
    "\x00\x1b[31m\u2028\u2029\ufffe",
)


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_nothing_that_a_cell_or_the_provider_says_becomes_markup(make_run, look, phone):
    run = make_run(len(HOSTILE))
    rows = [
        replace(row, id=said, prompt=said, image=said) for row, said in zip(run.manifest.rows, HOSTILE, strict=True)
    ]
    table = text_frame(HOSTILE[:6], [(said,) * 6 for said in HOSTILE])
    run.manifest = replace(run.manifest, rows=tuple(rows), table=table)
    run.results = [
        RowResult(
            Status.SUCCEEDED if at % 2 else Status.FAILED,
            error=said,
            warnings=(said, said),
            prediction_id=said,
            video_uri=said,
            run_id=said,
        )
        for at, said in enumerate(HOSTILE)
    ]
    run.links = {at: said if at % 4 == 3 else "videos/1.mp4" for at, said in enumerate(HOSTILE)}
    run.more_links = {at: [said, "javascript:alert(2)"] for at, said in enumerate(HOSTILE)}
    run.posters = {at: said for at, said in enumerate(HOSTILE) if at < 6}
    run.title = HOSTILE[0]
    seen = look(run, phone=phone)
    seen.allowed = ["ERR_FILE_NOT_FOUND", "ERR_INVALID_URL"]  # a word taken for a relative address is not there
    keep(seen, f"hostile-{'phone' if phone else 'desktop'}")
    assert seen.page.locator("h1").inner_text() == HOSTILE[0]
    assert seen.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    seen.page.keyboard.press("j")
    seen.page.keyboard.press("Enter")
    for at in range(len(HOSTILE)):
        heading = seen.page.locator("dialog h2")
        assert heading.evaluate("(h) => h.childElementCount") == 0
        assert heading.evaluate("(h) => h.textContent") == run.manifest.rows[at].name  # the id on one line
        if at in {9, 10}:
            keep(seen, f"hostile-{'phone' if phone else 'desktop'}-{at}")
        assert seen.page.evaluate("document.querySelector('dialog').scrollWidth <= innerWidth")
        assert not [
            address
            for address in seen.page.locator("a").evaluate_all("(links) => links.map((link) => link.href)")
            if not address.startswith(("http", "file"))
        ]
        seen.page.keyboard.press("j")
    assert seen.page.evaluate("document.querySelectorAll('script').length") == 2
    odd = "b, i, iframe, object, embed, svg:not(.icon, .bar, .sprite), [onload], [onerror], [style]:not([style=''])"
    ours = ".foot b, .chip b, .trouble b, .group"
    assert (
        seen.page.locator(odd).evaluate_all(
            "(all, ours) => all.filter((n) => !n.matches(ours)).map((n) => n.outerHTML)", ours
        )
        == []
    )


def test_links_that_have_ended_are_said_to_have(make_run, look):
    run = make_run(5)
    run.links = {at: f"gone/{at}.mp4" for at in range(5)}
    run.expires_at = datetime.now(UTC) - timedelta(hours=1)
    seen = look(run)
    seen.allowed = ["ERR_FILE_NOT_FOUND"]
    assert "The links in this page have expired" in seen.page.locator("#ended").inner_text()
    seen.card("SKU-0002").locator(".open").click()
    seen.page.get_by_role("dialog").get_by_text("The clip did not load.").wait_for()
    told = seen.page.get_by_role("dialog").inner_text()
    assert "ask for a new page of run 20261123-120000-k7f2" in told
    keep(seen, "ended")


def test_links_that_still_work_are_not_said_to_have_ended(make_run, look):
    run = make_run(5)
    run.expires_at = datetime.now(UTC) + timedelta(hours=1)
    seen = look(run)
    assert not seen.page.locator("#ended").is_visible()
    assert "Links in this page work until" in seen.page.locator("footer").inner_text()


def test_it_works_from_a_bucket_as_from_disk(make_run, look, origin):
    seen = look(make_run(5), origin=origin)
    seen.card("SKU-0002").locator(".open").click()
    playing(seen, "dialog")


def test_without_scripts_there_is_a_plain_table(make_run, look):
    seen = look(make_run(20), java_script_enabled=False, ready=False)
    assert seen.page.locator("noscript").inner_text() != ""
    assert "20261123-120000-k7f2" in seen.page.locator("header").inner_text()
    assert seen.page.get_by_role("row").count() == 21
    keep(seen, "plain")


def test_a_run_without_rows_says_so(make_run, look):
    seen = look(make_run(0))
    assert seen.page.get_by_text("This run has no rows.").is_visible()
    assert not seen.page.locator("#tools").is_visible()


def test_on_paper_every_card_is_filled_and_the_tools_are_gone(make_run, look, tmp_path):
    seen = look(make_run(40))
    seen.page.pdf(path=tmp_path / "gallery.pdf", format="A4", print_background=True)
    if SHOTS:
        Path(SHOTS, "paper.pdf").write_bytes((tmp_path / "gallery.pdf").read_bytes())
    assert (tmp_path / "gallery.pdf").read_bytes().startswith(b"%PDF")
    seen.until("document.querySelectorAll('.fill').length > 0")
    assert seen.page.locator("#trouble").get_attribute("open") is not None


READ = (
    ".pill, .prompt, .cost, .meta span, .totals dt, .totals dd, .lede, .count, .chip, .foot p, .foot code, .warn, "
    ".say, .first"
)
CONTRASTS = """(read) => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = (rgb) => rgb.slice(0, 3).reduce((sum, c, n) => sum + linear(c / 255) * [.2126, .7152, .0722][n], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > .9) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(read)].filter((node) => node.checkVisibility()).map((node) => {
    const [a, b] = [parse(getComputedStyle(node).color), ground(node)].map(light).sort((x, y) => y - x);
    return [node.className || node.tagName, Math.round((a + .05) / (b + .05) * 100) / 100];
  });
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_enough_to_be_read(make_run, look, dark):
    seen = look(make_run(20), dark=dark)
    seen.page.get_by_text("6 rows need attention").click()
    seen.page.emulate_media(reduced_motion="reduce")
    measured = seen.page.evaluate(CONTRASTS, READ)
    assert len(measured) > 30
    assert [(name, ratio) for name, ratio in measured if ratio < 4.5] == []
