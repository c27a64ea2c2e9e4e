"""A manifest is fetched from wherever it lies, or a sentence says why not."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reelsheet.errors import ManifestError
from reelsheet.manifest import rows
from reelsheet.manifest import source as sources
from reelsheet.web import guarded_http as web

CSV = b"image\r\nhttps://cdn.shop.example/1.jpg\r\n"
SHEET = "https://docs.google.com/spreadsheets/d/1aBcDefGhIjKlMnOp/edit#gid=7"


def refusal(source, **flags) -> str:
    with pytest.raises(ManifestError) as caught:
        rows.read(str(source), **flags)
    return str(caught.value)


# Files


def test_a_file_is_read(tmp_path):
    (tmp_path / "shop.csv").write_bytes(CSV)
    found = rows.read(f" {tmp_path / 'shop.csv'} ")
    assert found.rows[0].image == "https://cdn.shop.example/1.jpg"
    assert found.source == str(tmp_path / "shop.csv")


def test_a_file_in_the_home_folder_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "shop.csv").write_bytes(CSV)
    assert len(rows.read("~/shop.csv").rows) == 1


@pytest.mark.parametrize("name", ["~draft.csv", "~", "~nobody-here/shop.csv"])
def test_a_name_that_begins_with_a_tilde_is_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "~draft.csv").write_bytes(CSV)
    (tmp_path / "~nobody-here").mkdir()
    (tmp_path / "~nobody-here" / "shop.csv").write_bytes(CSV)
    if name == "~":
        assert "is a folder" in refusal(name)
    else:
        assert len(rows.read(name).rows) == 1


@pytest.mark.parametrize(
    ("name", "program", "sheet"),
    [
        ("~$brief.xlsx", "Excel", "brief.xlsx"),
        ("~$Brief Herbst.csv", "Excel", "Brief Herbst.csv"),
        (".~lock.brief.xlsx#", "LibreOffice", "brief.xlsx"),
    ],
)
@pytest.mark.parametrize("folder", ["", "shop/", "s3://briefs/spring/"])
def test_a_lock_file_is_told_with_the_sheet_that_it_stands_for(tmp_path, monkeypatch, folder, name, program, sheet):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / name).write_bytes(b"\x03Ann" + bytes(161))
    told = refusal(folder + name)
    assert f"{program} keeps this file while {sheet} is open" in told
    assert told.endswith(f"give the sheet itself: {folder}{sheet}.")


def test_a_missing_file_is_told_what_is_near(tmp_path):
    (tmp_path / "shop_summer.csv").write_bytes(CSV)
    assert f"Did you mean {tmp_path / 'shop_summer.csv'}?" in refusal(tmp_path / "shop-summer.csv")
    assert "Check its name" in refusal(tmp_path / "nowhere" / "x.csv")


def test_a_folder_is_told_what_is_in_it(tmp_path):
    (tmp_path / "shop.xlsx").write_bytes(b"")
    assert f"for example {tmp_path / 'shop.xlsx'}" in refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "shop.csv").write_bytes(b"")
    assert "is empty" in refusal(tmp_path / "shop.csv")


@pytest.mark.parametrize("source", ["", "  ", "a\x00b.csv", "x" * 5_000, "ftp://a.example/x.csv", "file:///etc/passwd"])
def test_what_is_no_place_at_all_is_refused(source):
    assert refusal(source).endswith((".", "?"))


def test_a_file_that_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "LIMIT", 1_000)
    assert "is larger than" in refusal("/dev/zero")


# The web


class _Shop(BaseHTTPRequestHandler):
    """Answers by path: /<status>/…, /page, /moved, else the manifest."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        status, kind, body = 200, "text/csv", CSV
        if path.strip("/").isdigit():
            status, kind, body = int(path.strip("/")), "text/html", b"<html>no</html>"
        elif path == "/page":
            kind, body = "text/html; charset=utf-8", b"<!DOCTYPE html><html>Sign in</html>"
        elif path == "/plain-page":
            kind, body = "text/plain", b"<!DOCTYPE html><html>Sign in</html>"
        self.send_response(302 if path == "/moved" else status)
        if path == "/moved":
            self.send_header("Location", "/shop.csv")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/shop.csv", "/moved"])
def test_a_web_address_is_read(shop, path):
    assert len(rows.read(shop + path, allow_private=True).rows) == 1


def test_what_signs_an_address_is_kept_nowhere(shop):
    signed = f"{shop}/shop.csv?X-Amz-Signature=secret&v=2"
    assert rows.read(signed, allow_private=True).source == f"{shop}/shop.csv?v=2"
    assert "secret" not in refusal(f"{shop}/404?X-Amz-Signature=secret", allow_private=True)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/404", "There is nothing at"),
        ("/410", "There is nothing at"),
        ("/401", "share it so that anyone with the link can view"),
        ("/403", "share it so that anyone with the link can view"),
        ("/500", "cannot be read"),
        ("/page", "share the sheet so that anyone with the link can view"),
        ("/plain-page", "share the sheet so that anyone with the link can view"),
    ],
)
def test_an_answer_that_is_no_table_is_told(shop, path, says):
    assert says in refusal(shop + path, allow_private=True)


def test_a_private_address_is_not_opened(shop):
    assert "private" in refusal(f"{shop}/shop.csv")


def test_a_host_that_does_not_answer_is_told():
    assert "cannot be read" in refusal("http://127.0.0.1:9/x.csv", allow_private=True)


def answering(monkeypatch, content=CSV, kind="text/csv", at="https://docs.google.com/x", status=None) -> list[str]:
    """Stands for Google; returns the addresses that it is asked for."""
    asked = []

    async def read(url, *, allow_private, limit_bytes, deadline_s):
        asked.append(url)
        if status is not None:
            raise web.FetchError("No.", web.Reason.HTTP, status=status)
        return web.Fetched(content, at, kind)

    monkeypatch.setattr(web, "read", read)
    return asked


def test_a_google_sheet_is_read_by_its_csv_export(monkeypatch):
    asked = answering(monkeypatch)
    found = rows.read(SHEET)
    assert asked == ["https://docs.google.com/spreadsheets/d/1aBcDefGhIjKlMnOp/export?format=csv&gid=7"]
    assert found.source == SHEET


def test_a_google_sheet_is_fetched_whole_where_a_tab_is_named(monkeypatch):
    asked = answering(monkeypatch, b"PK\x03\x04")
    assert "cannot be read as an Excel workbook" in refusal(SHEET, sheet="Summer")
    assert asked == ["https://docs.google.com/spreadsheets/d/1aBcDefGhIjKlMnOp/export?format=xlsx"]


def test_a_spreadsheet_on_google_drive_is_downloaded(monkeypatch):
    asked = answering(monkeypatch)
    rows.read("https://drive.google.com/file/d/1aBcDefGhIjKlMnOp/view?usp=sharing")
    assert asked == ["https://drive.google.com/uc?export=download&id=1aBcDefGhIjKlMnOp"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_google_sheet_that_is_not_shared_is_told_how_to(monkeypatch, status):
    answering(monkeypatch, status=status)
    assert "share the sheet so that anyone with the link can view" in refusal(SHEET)


def test_a_sign_in_page_in_front_of_a_google_sheet_is_told(monkeypatch):
    answering(monkeypatch, b"<!doctype html><html>", "text/html", "https://accounts.google.com/v3/signin")
    assert "sign-in page" in refusal(SHEET)
    assert "share the sheet so that anyone with the link can view" in refusal(SHEET)


# S3


def test_an_object_is_read(s3, bucket):
    s3.put_object(Bucket=bucket, Key="in/my shop.csv", Body=CSV)
    found = rows.read(f"s3://{bucket}/in/my shop.csv")
    assert len(found.rows) == 1
    assert found.source == f"s3://{bucket}/in/my shop.csv"


def test_a_missing_object_and_a_missing_bucket_are_told_apart(s3, bucket):
    assert f"s3://{bucket}/none.csv failed, because it is not there" in refusal(f"s3://{bucket}/none.csv")
    assert "there is no bucket no-such-bucket-here" in refusal("s3://no-such-bucket-here/none.csv")


def test_an_address_that_names_no_object_is_refused():
    for source in ("s3://", "s3://bucket", "s3://bucket/", "s3://bucket/folder/"):
        assert "names no object" in refusal(source)


def test_an_impossible_bucket_name_is_refused(s3):
    assert "s3://" in refusal("s3://NO/x.csv")


def test_missing_credentials_are_told(monkeypatch):
    assert "AWS_ACCESS_KEY_ID" in refusal("s3://bucket/x.csv")


def test_a_compressed_object_is_told(s3, bucket):
    s3.put_object(Bucket=bucket, Key="x.csv", Body=b"\x1f\x8b\x08", ContentEncoding="gzip")
    assert "gunzip" in refusal(f"s3://{bucket}/x.csv")


def test_an_object_that_is_too_large_is_refused(s3, bucket, monkeypatch):
    monkeypatch.setattr(sources, "LIMIT", 10)
    s3.put_object(Bucket=bucket, Key="x.csv", Body=CSV)
    assert "is larger than" in refusal(f"s3://{bucket}/x.csv")
