"""Marking clips in the gallery, and the review file that comes of it, in a real browser."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from reelsheet.outcomes import Status
from reelsheet.results.review import read_review
from tests.results.browser.test_gallery_in_a_browser import keep

pytestmark = pytest.mark.slow
RUN = "20261123-120000-k7f2"
NO_STORAGE = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('not here'); } })"


def button(seen, name, word):
    return seen.card(name).get_by_role("button", name=f"{word}, {name}")


def is_pressed(seen, name, word):
    return button(seen, name, word).get_attribute("aria-pressed") == "true"


def counts(seen):
    return seen.page.locator("#judged .chip").all_inner_texts()


def downloaded(seen, folder: Path) -> bytes:
    with seen.page.expect_download() as waiting:
        seen.page.get_by_role("button", name="Download review").click()
    assert waiting.value.suggested_filename == f"review-{RUN}.csv"
    waiting.value.save_as(folder / "review.csv")
    return (folder / "review.csv").read_bytes()


def of_one_picture(run, *positions):
    """The same run, where these rows have the picture of the first of them."""
    rows = list(run.manifest.rows)
    for position in positions:
        rows[position] = replace(rows[position], image=rows[positions[0]].image)
    run.manifest = replace(run.manifest, rows=tuple(rows))
    return run


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_clips_are_marked_counted_kept_and_given_away_as_a_review_file(make_run, look, tmp_path, phone, dark):
    seen = look(of_one_picture(make_run(20), 1, 4, 9), phone=phone, dark=dark)
    assert counts(seen)[:3] == ["To review\n14", "OK\n0", "Redo\n0"]
    assert seen.page.get_by_role("button", name="Download review").is_disabled()
    button(seen, "SKU-0002", "OK").click()
    button(seen, "SKU-0003", "OK").click()
    button(seen, "SKU-0003", "Redo").click()
    seen.card("SKU-0003").get_by_role("button", name="Note, SKU-0003").click()
    seen.page.get_by_label("Note", exact=True).fill("=too dark,\n“warmer”; jor")
    keep(seen, f"noted-{'phone' if phone else 'desktop'}-{'dark' if dark else 'light'}")
    seen.page.keyboard.press("Escape")
    assert counts(seen)[:3] == ["To review\n12", "OK\n1", "Redo\n1"]
    seen.page.reload()
    seen.until("document.querySelector('.card .fill')")
    assert counts(seen)[:3] == ["To review\n12", "OK\n1", "Redo\n1"]
    assert is_pressed(seen, "SKU-0003", "Redo")
    assert not is_pressed(seen, "SKU-0003", "OK")
    keep(seen, f"marked-{'phone' if phone else 'desktop'}-{'dark' if dark else 'light'}")
    assert seen.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    content = downloaded(seen, tmp_path)
    assert list(csv.reader(io.StringIO(content.decode(), newline=""))) == [
        ["run_id", "identity", "attempt", "review", "note", "destination"],
        [RUN, f"{1:064x}", "1", "ok", "", "s3://acme-clips/autumn"],
        [RUN, f"{2:064x}", "1", "redo", "'=too dark, “warmer”; jor", "s3://acme-clips/autumn"],
    ]
    review = read_review(content, "review.csv")
    assert review.run_id == RUN
    assert [mark.note for mark in review.marks] == ["", "=too dark, “warmer”; jor"]


def test_everything_is_marked_by_keyboard(make_run, look):
    seen = look(make_run(5))
    press = seen.page.keyboard.press
    for key in "jojrjo":
        press(key)
    assert [is_pressed(seen, *one) for one in (("Amber Serum 30 ml", "OK"), ("SKU-0002", "Redo"), ("SKU-0003", "OK"))]
    press("o")
    assert not is_pressed(seen, "SKU-0003", "OK"), "the same key takes the mark away"
    press("Enter")
    press("j")
    press("r")
    assert seen.page.locator("#d-judge").get_by_role("button", name="Redo").get_attribute("aria-pressed") == "true"
    press("n")
    seen.page.keyboard.type("jor kn")
    assert seen.page.locator("dialog h2").inner_text() == "SKU-0004", "keys in a note are its text"
    press("Escape")
    assert counts(seen)[:3] == ["To review\n2", "OK\n1", "Redo\n2"]
    assert seen.card("SKU-0004").locator(".note").get_attribute("title") == "jor kn"


def test_rows_are_chosen_by_their_review(make_run, look):
    seen = look(make_run(20))
    button(seen, "SKU-0002", "OK").click()
    button(seen, "SKU-0003", "Redo").click()
    for kind, rows in (("To review", 12), ("OK", 1), ("Redo", 1), ("New in this run", 13)):
        seen.page.locator("#judged .chip", has_text=kind).click()
        assert seen.cards().count() == rows, kind
    seen.page.keyboard.press("Escape")
    assert seen.count() == "20 rows"


def test_rows_of_one_clip_are_reviewed_together(make_run, look, tmp_path):
    run = of_one_picture(make_run(5), 1, 3)
    run.results[3] = replace(run.results[3], identity=run.results[1].identity)
    seen = look(run)
    assert seen.page.locator(".take").all_inner_texts() == ["Same clip as SKU-0002"]
    button(seen, "SKU-0004", "Redo").click()
    assert is_pressed(seen, "SKU-0002", "Redo")
    assert counts(seen)[:3] == ["To review\n3", "OK\n0", "Redo\n1"]
    assert downloaded(seen, tmp_path).count(b"\r\n") == 2


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_takes_of_one_picture_stand_side_by_side(make_run, look, phone):
    seen = look(of_one_picture(make_run(20, trouble=False), 1, 8, 15), phone=phone)
    names = seen.page.locator(".card").evaluate_all("(cards) => cards.map((card) => card.index)")
    assert names[:5] == [0, 1, 8, 15, 2]
    assert seen.page.locator(".take").all_inner_texts() == ["Take 1 of 3", "Take 2 of 3", "Take 3 of 3"]
    boxes = [seen.page.locator(".group .card").nth(n).bounding_box() for n in range(3)]
    across = {round(box["x"]) for box in boxes}
    assert len(across) == (1 if phone else 3), "as many beside each other as the window has room for"
    assert {round(box["width"]) for box in boxes} == {round(seen.card("Amber Serum 30 ml").bounding_box()["width"])}
    keep(seen, f"takes-{'phone' if phone else 'desktop'}")
    seen.card("SKU-0009").locator(".open").click()
    seen.page.get_by_role("dialog").get_by_role("button", name="SKU-0002").click()
    assert seen.page.locator("dialog h2").inner_text() == "SKU-0002"


def test_on_request_what_is_in_the_window_plays_without_sound(make_run, look):
    seen = look(make_run(200))
    seen.page.get_by_role("button", name="Play all in view").click()
    seen.until("document.querySelectorAll('.card video.on').length > 2")
    videos = seen.page.locator("video")
    assert set(videos.evaluate_all("(all) => all.map((video) => [video.muted, video.preload].join())")) == {"true,none"}
    assert videos.count() <= 16
    seen.page.evaluate("scrollTo(0, 9000)")
    seen.until("[...document.querySelectorAll('.card video.on')].some((v) => v.getBoundingClientRect().top > 0)")
    seen.until(
        "[...document.querySelectorAll('video')].every((v) => v.getBoundingClientRect().bottom > 0"
        " && v.getBoundingClientRect().top < innerHeight)"
    )
    seen.page.get_by_role("button", name="Play all in view").click()
    assert videos.count() == 0


def test_a_row_without_a_clip_leads_to_what_must_be_changed(make_run, look):
    run = make_run(20)
    run.results[13].error = "Column 'image': htp://x is no web address."
    seen = look(run)
    seen.page.evaluate("document.querySelectorAll('.card')[13].scrollIntoView({ block: 'center' })")
    seen.card("SKU-0014").get_by_role("button", name="To change: row 15, column “image”").click()
    dialog = seen.page.get_by_role("dialog")
    assert "In your sheet: row 15, column “image”." in dialog.inner_text().replace("\n", "")
    assert seen.page.evaluate("document.activeElement.id") == "cell-1"
    assert seen.page.evaluate("document.activeElement.textContent").startswith("image")
    keep(seen, "to-change")
    seen.page.keyboard.press("Escape")
    seen.card("SKU-0004").get_by_role("button", name="To change: row 5, column “prompt”").click()
    dialog.get_by_role("button", name="“image”").click()
    assert seen.page.evaluate("document.activeElement.id") == "cell-1"
    assert run.results[3].status is Status.FAILED
    assert seen.card("SKU-0004").get_by_role("button", name="Redo").count() == 0


def test_where_the_browser_keeps_nothing_the_page_works_and_says_so(make_run, look, tmp_path):
    seen = look(make_run(5), ready=False)
    seen.page.add_init_script(NO_STORAGE)
    seen.page.reload()
    seen.until("document.querySelector('.card .fill')")
    button(seen, "SKU-0002", "OK").click()
    assert seen.page.get_by_text("This browser keeps no marks").is_visible()
    assert b",ok," in downloaded(seen, tmp_path)


@pytest.mark.parametrize("kept", ["{", "[[1]]", "null", '[["x", null]]', '{"a": 1}', '[["x y", {"word": "<b>"}]]'])
def test_marks_that_this_page_did_not_write_are_no_marks(make_run, look, kept):
    seen = look(make_run(5))
    seen.page.evaluate("([key, text]) => localStorage.setItem(key, text)", [f"reelsheet review {RUN}", kept])
    seen.page.reload()
    seen.until("document.querySelector('.card .fill')")
    assert counts(seen)[:3] == ["To review\n5", "OK\n0", "Redo\n0"]
    assert not seen.page.get_by_text("This browser keeps no marks").is_visible()
