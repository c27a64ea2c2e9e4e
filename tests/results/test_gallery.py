"""What the gallery's page is made of, before a browser sees it."""

import base64
import hashlib
import html
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.results.gallery import gallery_html, safe_link
from reelsheet.results.table import summarise

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DELIVERED = RowResult(
    Status.SUCCEEDED,
    cost_cents=54,
    total_cost_cents=54,
    video_uri="s3://acme/autumn/videos/a.mp4",
    prediction_id="p-1",
    submitted_at=NOON,
    completed_at=NOON + timedelta(seconds=31),
)


class Page(HTMLParser):
    """The elements of a page, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[int, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem:
            at = len(self.elements) - 1
            self.inside[at] = self.inside.get(at, "") + data

    def contents(self, tag, **attributes):
        return [
            self.inside.get(at, "")
            for at, (name, attrs) in enumerate(self.elements)
            if name == tag and attributes.items() <= attrs.items()
        ]

    @property
    def data(self):
        return json.loads(self.contents("script", type="application/json")[0])


def page_of(results, *, cells=None, links=None, title="Autumn", expires_at=None, **more):
    cells = cells or [("SKU-1", "https://x.invalid/a.jpg", "push in")] * len(results)
    rows = tuple(Row(at, at + 2, image=row[1], prompt=row[2], id=row[0]) for at, row in enumerate(cells))
    manifest = Manifest(
        "sheet.csv", text_frame(("sku", "image", "prompt"), cells), rows, {"id": 0, "image": 1, "prompt": 2}
    )
    summary = summarise(
        results,
        run_id="r1",
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=134),
        seconds=134,
        flow_run_id=None,
        exit_code=0,
    )
    page = gallery_html(
        manifest, results, summary=summary, links=links or {}, title=title, expires_at=expires_at, **more
    )
    return page.decode()


def visible(text):
    """The page's words outside scripts, as one line."""
    bare = re.sub(r"<(script|style|noscript).*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(bare)).replace(" .", ".").replace(" ;", ";")


def test_the_policy_lets_exactly_this_script_and_this_style_run():
    page = Page(page_of([DELIVERED]))
    policy = next(
        attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    script = page.contents("script")[1]
    style = page.contents("style")[0]
    digest = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in (script, style)]
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest[0]}';" in policy
    assert f"style-src 'sha256-{digest[1]}';" in policy
    assert "unsafe" not in policy
    assert len(page.contents("script")) == 2


def test_nothing_in_the_page_comes_from_outside():
    page = Page(page_of([DELIVERED], links={0: "../../videos/a.mp4"}))
    assert not [attrs for _, attrs in page.elements if "src" in attrs]
    assert {attrs["href"].split(",")[0].split(":")[0] for tag, attrs in page.elements if tag == "link"} == {"data"}
    assert "@import" not in page.contents("style")[0]
    assert "url(" not in page.contents("style")[0]


@settings(max_examples=40)
@given(st.lists(st.tuples(*[st.text(max_size=40)] * 3), min_size=1, max_size=3), st.text(max_size=60))
def test_whatever_a_cell_or_the_provider_says_stays_data(cells, said):
    hostile = said + "</script><img src=x onerror=alert(1)><!--" + said
    result = RowResult(
        Status.FAILED, error=hostile, warnings=(hostile,), prediction_id=hostile, video_uri=f"s3://a/{hostile}"
    )
    calm = Page(page_of([RowResult(Status.FAILED, error="no", video_uri="s3://a/b")] * len(cells)))
    page = Page(page_of([result] * len(cells), cells=cells, title=hostile))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in calm.elements]
    assert page.data["rows"][0]["e"].replace("\ufffd", "") == re.sub(
        r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]", "", hostile
    )
    page_of([result] * len(cells), cells=cells, title=hostile).encode()


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "//evil.example/x.mp4",
        "/etc/passwd",
        "\\\\evil\\share\\x.mp4",
        "blob:https://x/1",
    ],
)
def test_a_link_is_http_or_relative_or_none(address):
    assert safe_link(address) == ""
    row = Page(page_of([DELIVERED], links={0: address}, posters={0: address}, more_links={0: [address]})).data["rows"][
        0
    ]
    assert not row.keys() & {"v", "m", "p"}


@pytest.mark.parametrize(
    "address", ["https://b.example/a.mp4?X-Amz-Signature=1", "../../videos/a.mp4", "videos/a b.mp4", "HTTP://h/a.mp4"]
)
def test_a_good_link_stays_as_it_is(address):
    assert safe_link(address) == address
    assert Page(page_of([DELIVERED], links={0: address})).data["rows"][0]["v"] == address


def test_a_thumbnail_may_be_a_picture_in_the_page_and_nothing_else_in_it():
    picture = "data:image/jpeg;base64,/9j/4AAQ"
    assert Page(page_of([DELIVERED], posters={0: picture})).data["rows"][0]["p"] == picture
    assert "p" not in Page(page_of([DELIVERED], posters={0: "data:image/svg+xml,<svg/onload=x>"})).data["rows"][0]


def test_without_a_thumbnail_the_picture_of_the_row_serves_unless_it_must_not():
    assert Page(page_of([DELIVERED])).data["rows"][0]["p"] == "https://x.invalid/a.jpg"
    assert "p" not in Page(page_of([DELIVERED], posters={0: ""})).data["rows"][0]


def test_rows_of_one_picture_are_told_however_its_link_is_spelt():
    cells = [
        ("a", "https://x.invalid/a.jpg", "p"),
        ("b", "https://drive.google.com/file/d/1abcDEFghiJKLmnoPQRstuVWXyz0123456/view", "p"),
        ("c", "https://x.invalid/c.jpg", "p"),
        ("d", "https://drive.google.com/open?id=1abcDEFghiJKLmnoPQRstuVWXyz0123456", "p"),
        ("e", "", "p"),
        ("f", "", "p"),
    ]
    rows = Page(page_of([DELIVERED] * 6, cells=cells)).data["rows"]
    assert [row.get("g") for row in rows] == [None, 1, None, 1, None, None]


@pytest.mark.parametrize(
    ("code", "error", "columns"),
    [
        (ErrorCode.INVALID_ROW, "Column 'prompt' holds '#N/A'.", [2]),
        (ErrorCode.IMAGE_UNREACHABLE, "Column 'image': nothing is there.", [1]),
        (ErrorCode.IMAGE_UNSUPPORTED, "It is a PDF.", [1]),
        (ErrorCode.MODERATED, "No.", [2, 1]),
        (ErrorCode.OVER_BUDGET, "The cap.", None),
    ],
)
def test_a_row_without_a_clip_tells_which_columns_to_change(code, error, columns):
    row = Page(page_of([RowResult(Status.FAILED, error=error, error_code=code)])).data["rows"][0]
    assert row.get("x") == columns
    assert row["l"] == 2


def test_a_prompt_that_a_template_made_is_shown_and_its_column_is_not_what_to_change():
    result = RowResult(Status.FAILED, error="no", error_code=ErrorCode.MODERATED, prompt_sent="The cup\x07 turns")
    (row,) = Page(page_of([result])).data["rows"]
    assert (row["q"], len(row["x"])) == ("The cup\ufffd turns", 1)
    assert "q" not in Page(page_of([DELIVERED])).data["rows"][0]


def test_the_page_names_no_shell_command():
    ended = datetime(2026, 11, 30, 9, 5, tzinfo=UTC)
    for text in (page_of([DELIVERED], expires_at=ended), page_of([DELIVERED])):
        page = Page(text)
        for words in (visible(text), *page.contents("script")):
            assert not re.search(r"reelsheet (retry|run|report|status|resolve|fetch|plan)\b", words)


def test_only_a_delivered_row_plays():
    failed = RowResult(Status.FAILED, error="The provider refused it.")
    rows = Page(page_of([DELIVERED, failed], links={0: "a.mp4", 1: "b.mp4"})).data["rows"]
    assert [row.get("v") for row in rows] == ["a.mp4", None]


def test_the_page_says_when_its_links_end_and_where_the_clips_stay():
    words = visible(page_of([DELIVERED], expires_at=datetime(2026, 11, 30, 9, 5, tzinfo=UTC)))
    assert (
        "Links in this page work until 30 November 2026, 09:05 UTC; the clips stay at s3://acme/autumn/videos/. "
        "After that, ask for a new page of run r1."
    ) in words


def test_links_that_do_not_end_are_not_said_to():
    words = visible(page_of([DELIVERED]))
    assert "work until" not in words
    assert "The clips are at s3://acme/autumn/videos/" in words


def test_the_totals_are_those_of_the_summary():
    results = [
        DELIVERED,
        RowResult(Status.FAILED, error="The picture was refused; try another.", cost_cents=54),
        RowResult(Status.UNKNOWN, error="No answer came; run resolve.", at_risk_cents=54),
    ]
    words = visible(page_of(results))
    assert "1 of 3 clips delivered · 23 November 2026, 12:02 UTC, in 2 min 14 s" in words
    assert "Spent in this run $1.08" in words
    assert "At risk $0.54" in words
    assert "Wasted $0.54" in words
    assert "2 rows need attention" in words


def test_failures_are_told_once_for_each_kind_with_what_to_do():
    moderated = RowResult(Status.FAILED, error="Change the prompt.", error_code=ErrorCode.MODERATED)
    unknown = RowResult(Status.UNKNOWN, error="Run resolve.", error_code=ErrorCode.SUBMIT_UNKNOWN)
    words = visible(page_of([unknown, moderated, moderated, DELIVERED]))
    assert words.index("2 failed Change the prompt.") < words.index("1 unknown Run resolve.")
    assert words.count("Change the prompt.") == 1


@pytest.mark.parametrize(
    ("results", "lede"),
    [
        ([DELIVERED], "1 clip, delivered"),
        ([DELIVERED] * 3, "All 3 clips delivered"),
        ([RowResult(Status.SKIPPED)], "1 row, no clip yet"),
        ([], "0 of 0 clips delivered"),
    ],
)
def test_the_first_line_reads_like_a_sentence(results, lede):
    assert lede in visible(page_of(results))


def test_a_viewer_without_scripts_gets_a_plain_table():
    page = page_of([DELIVERED] * 302, links={0: "a.mp4"})
    plain = re.search(r"<noscript>.*?</noscript>", page, re.DOTALL).group()
    assert plain.count("<tr>") == 301
    assert '<a href="a.mp4"' in plain
    assert "And 2 more rows" in plain


def test_our_own_sources_cannot_end_the_element_they_stand_in():
    page = Page(page_of([DELIVERED]))
    assert page.contents("script")[1].rstrip().endswith("})();")
    assert page.contents("style")[0].rstrip().endswith("}")


def test_nothing_sets_markup_from_text():
    """The script builds nodes; it never parses a string as markup or code."""
    script = Page(page_of([DELIVERED])).contents("script")[1]
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"):
        assert forbidden not in script
