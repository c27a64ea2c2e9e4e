"""`doctor`: what a run needs, and how to fix what is missing."""

import functools
import importlib.metadata
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reelsheet.cli import doctor, doctor_checks
from reelsheet.cli.doctor_checks import Finding, Level, masked
from reelsheet.ledger import Ledger, durability

KEY = "vd-3f9a8c7b6d5e4f3a2b1c"
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise looks for it


class Api:
    """The provider's free answers, and Prefect's: `key` is accepted, `skew` is how far its clock is ahead."""

    def __init__(self) -> None:
        self.skew = timedelta()
        self.redirect = ""
        self.version = "3.9.1"
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("authorization", "")))
                good = self.headers.get("authorization") == f"Bearer {KEY}"
                status = 404 if good or "predictions" not in self.path else 401
                body = b'{"error": "Invalid API key"}'
                if self.path == "/api/health":
                    status, body = 200, b"true"
                if self.path == "/api/admin/version":
                    status, body = 200, json.dumps(outer.version).encode()
                if outer.redirect and "predictions" in self.path:
                    status = 301
                self.send_response_only(status)
                self.send_header("location", outer.redirect)
                self.send_header("date", format_datetime(datetime.now(UTC) + outer.skew, usegmt=True))
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


installed_packages = functools.cache(importlib.metadata.packages_distributions)  # 0.5 s to read


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    """A provider with a good key set, in an empty folder, with a Prefect home of its own."""
    found = Api()
    monkeypatch.setattr(importlib.metadata, "packages_distributions", installed_packages)
    monkeypatch.setenv("VIBEDREAM_BASE_URL", found.address)
    monkeypatch.setenv("VIBEDREAM_API_KEY", KEY)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "prefect" / "profiles.toml"))
    monkeypatch.chdir(tmp_path)
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def of(about: str, found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.about == about]


def worst(about: str, to: str | None = None) -> Finding:
    order = [Level.FINE, Level.WARNING, Level.BROKEN]
    return max(of(about, doctor.examine(to)), key=lambda finding: order.index(finding.level))


def test_a_working_setup_exits_0_and_never_shows_the_key(api, tmp_path, capsys):
    assert doctor.doctor(str(tmp_path / "clips"), as_json=False) == 0
    output = capsys.readouterr().out
    assert "✗" not in output
    assert "A run can work." in output
    assert KEY not in output
    assert "vd-3…1c (23 characters) is accepted" in output


def test_as_json_it_is_one_object(api, capsys):
    assert doctor.doctor(None, as_json=True) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["ok"] is True
    assert {"Settings", "Provider", "API key", "Clock", "S3", "Ledger", "Prefect", "Disk", "Notification"} <= {
        check["about"] for check in output["checks"]
    }
    assert KEY not in json.dumps(output)


def test_a_missing_key_is_told_with_the_fix(api, monkeypatch):
    monkeypatch.delenv("VIBEDREAM_API_KEY")
    found = worst("API key")
    assert found.level is Level.BROKEN
    assert "VIBEDREAM_API_KEY" in found.fix


def test_a_refused_key_is_told_with_the_providers_words(api, monkeypatch, capsys):
    monkeypatch.setenv("VIBEDREAM_API_KEY", "another-key-that-is-long-enough")
    assert doctor.doctor(None, as_json=False) == 2
    output = capsys.readouterr().out
    assert "is refused (Invalid API key)" in output
    assert "another-key" not in output


def test_the_key_is_not_sent_where_only_the_clock_is_asked(api):
    doctor.examine()
    assert ("/", "") in api.asked


def test_an_address_that_does_not_answer_is_broken(api, monkeypatch):
    monkeypatch.setenv("VIBEDREAM_BASE_URL", "http://127.0.0.1:9")
    assert worst("Provider").level is Level.BROKEN
    assert worst("API key").level is Level.WARNING


def test_an_address_that_redirects_is_broken(api):
    api.redirect = "https://api.test/api/v1/predictions/0"
    found = worst("API key")
    assert found.level is Level.BROKEN
    assert found.message.startswith(f"VIBEDREAM_BASE_URL: {api.address} redirects to https://api.test (HTTP 301)")


def test_a_sandbox_is_said_to_be_one(api):
    assert "sandbox" in worst("Provider").message


@pytest.mark.parametrize(("minutes", "level"), [(0, Level.FINE), (5, Level.WARNING), (-20, Level.BROKEN)])
def test_a_clock_that_differs_is_told_by_how_much(api, minutes, level):
    api.skew = timedelta(minutes=minutes)
    found = worst("Clock")
    assert found.level is level
    if minutes:
        assert f"{abs(minutes)} minutes {'behind' if minutes > 0 else 'ahead of'}" in found.message


def test_unusable_settings_are_told_in_one_sentence(api, monkeypatch, capsys):
    monkeypatch.setenv("REELSHEET_PRICE_CENTS", "a lot")
    assert doctor.doctor(None, as_json=False) == 2
    assert "REELSHEET_PRICE_CENTS" in capsys.readouterr().out


def test_a_misspelt_setting_is_found_and_its_name_guessed(api, monkeypatch):
    monkeypatch.setenv("REELSHEET_DAILY_CAP", "10")
    found = worst("Settings")
    assert found.level is Level.WARNING
    assert found.fix == "Did you mean REELSHEET_DAILY_CAP_USD?"


def test_a_key_file_that_others_can_read_is_told(api, tmp_path):
    (tmp_path / ".env").write_text("AWS_DEFAULT_REGION=eu-central-1\n")
    (tmp_path / ".env").chmod(0o644)
    found = worst("Settings")
    assert found.fix == "chmod 600 .env"


def test_private_hosts_are_told_where_the_provider_is_not_here(api, monkeypatch):
    monkeypatch.setenv("VIBEDREAM_BASE_URL", "https://localhost.invalid")
    monkeypatch.setenv("REELSHEET_ALLOW_PRIVATE_HOSTS", "1")
    assert "in this network" in worst("Settings").message


def test_a_bucket_is_tried_and_what_was_put_is_deleted(api, bucket, s3):
    found = doctor.examine(f"s3://{bucket}/spring")
    assert of("Destination", found)[0].level is Level.FINE
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_bucket_that_is_not_there_is_a_sentence(api, s3):
    found = worst("Destination", "s3://no-such-bucket-here/x")
    assert found.level is Level.BROKEN
    assert "there is no bucket" in found.message


def test_a_folder_that_cannot_be_written_is_a_sentence(api, tmp_path):
    (tmp_path / "file").write_text("")
    assert worst("Destination", str(tmp_path / "file")).level is Level.BROKEN


def test_a_folder_is_fine_and_says_that_picture_files_need_a_bucket(api, tmp_path):
    found = of("Destination", doctor.examine(str(tmp_path / "out")))
    assert [finding.level for finding in found] == [Level.FINE, Level.FINE]
    assert "pictures are files needs --to s3://bucket/prefix" in found[1].message


def test_without_credentials_s3_is_a_warning_only(api):
    found = worst("S3")
    assert found.level is Level.WARNING
    assert "A folder as --to needs none, but a sheet whose pictures are files needs --to s3://" in found.fix


def test_a_ledger_is_counted(api, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/books/l.db"
    monkeypatch.setenv("REELSHEET_LEDGER_URL", url)
    ledger = Ledger.open(url)
    ledger.open_run(
        run_id="R", verb="run", source="s", destination="d", command="c", flow_run_id=None, options={}, rows=1,
        cap_cents=1,
    )  # fmt: skip
    ledger.close()
    assert worst("Ledger").message == f"{tmp_path}/books/l.db (1 run, 0 clips that cost or may have cost money)"


def test_a_ledger_whose_clock_was_ahead_says_which_day_it_counts(ledger, api, registers, monkeypatch):
    registers(ledger)
    later = datetime.now(UTC) + timedelta(days=40)
    monkeypatch.setattr(ledger.database, "now", lambda _connection: later.timestamp())
    ledger.claim("a", run_id="r1", price_cents=54)
    assert f"the daily cap counts {later:%Y-%m-%d}" in worst("Ledger").message


def test_a_ledger_that_cannot_be_opened_is_broken(api, tmp_path, monkeypatch):
    (tmp_path / "l.db").write_text("no database " * 100)
    monkeypatch.setenv("REELSHEET_LEDGER_URL", f"sqlite:///{tmp_path}/l.db")
    assert worst("Ledger").level is Level.BROKEN


def test_a_ledger_on_a_network_disk_is_warned_of(api, monkeypatch):
    monkeypatch.setattr(durability, "disk_of", lambda *_: "nfs4")
    assert "cannot lock safely" in worst("Ledger").message


def test_a_ledger_that_dies_with_its_container_is_broken(api, monkeypatch):
    monkeypatch.setattr(durability, "disk_of", lambda *_: "overlay")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    found = worst("Ledger")
    assert found.level is Level.BROKEN
    assert "postgresql" in found.fix


def test_a_prefect_server_is_asked_whether_it_is_well(api, monkeypatch):
    from importlib.metadata import version

    api.version = version("prefect")
    monkeypatch.setenv("PREFECT_API_URL", f"{api.address}/api")
    assert worst("Prefect").level is Level.FINE
    api.version = "3.0.0"
    assert worst("Prefect").level is Level.WARNING
    api.version = "2.19.0"
    assert worst("Prefect").level is Level.BROKEN
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert worst("Prefect").level is Level.BROKEN


def test_the_embedded_servers_log_is_named(api, tmp_path):
    assert f"{tmp_path}/prefect/reelsheet-server.log" in worst("Prefect").message


@pytest.mark.parametrize(
    ("free", "level"), [(10**8 - 1, Level.BROKEN), (10**9 - 1, Level.WARNING), (10**9, Level.FINE)]
)
def test_a_disk_that_is_nearly_full_is_told(api, monkeypatch, free, level):
    monkeypatch.setattr(doctor_checks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    assert worst("Disk").level is level


def test_an_address_for_notifications_is_read_and_not_used(api, monkeypatch):
    monkeypatch.setenv("REELSHEET_NOTIFY_URL", f"json://127.0.0.1:9/{KEY}")
    found = worst("Notification")
    assert (found.level, found.message) == (Level.FINE, "to JSON; nothing was sent now")
    monkeypatch.setenv("REELSHEET_NOTIFY_URL", "what?")
    assert worst("Notification").level is Level.BROKEN


def test_a_check_that_hangs_is_left_alone():
    never = threading.Event()

    def hang() -> Iterator[Finding]:
        never.wait(30)
        yield Finding("Slow", Level.FINE, "")

    def quick() -> Iterator[Finding]:
        yield Finding("Quick", Level.FINE, "well")

    found = doctor.run_checks({"Slow": hang, "Quick": quick}, timeout_s=0.2)
    never.set()
    assert [(finding.about, finding.level) for finding in found] == [("Slow", Level.BROKEN), ("Quick", Level.FINE)]


def test_a_check_that_fails_is_a_finding():
    def fail() -> Iterator[Finding]:
        raise RuntimeError("https://u:secret@host/")
        yield

    (found,) = doctor.run_checks({"Odd": fail})
    assert found.level is Level.BROKEN
    assert "secret" not in found.message


def test_a_short_key_shows_nothing_of_itself():
    assert masked("short") == "a key of 5 characters"
    assert masked("x" * 19) == "a key of 19 characters"
    assert masked("\x1b[31m" + "x" * 30).startswith("␛[31…xx")


def test_no_request_leaves_this_machine_without_need(api):
    assert "PREFECT_API_URL" not in os.environ
    doctor.examine()
    assert all(path in {"/", "/api/v1/predictions/00000000-0000-0000-0000-000000000000"} for path, _ in api.asked)


def test_another_package_named_flows_is_said_to_be_in_the_way(tmp_path, monkeypatch):
    assert list(doctor_checks.package_names()) == []
    (found, _) = doctor_checks.package_names(
        tmp_path
    )  # as if reelsheet were elsewhere than the flows that Python finds
    assert (found.about, found.level) == ("Packages", Level.BROKEN)
    assert "environment of its own" in found.fix
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: {"flows": ["reelsheet", "flowlib"]})
    (found,) = doctor_checks.package_names()
    assert (found.level, found.message) == (Level.WARNING, "flowlib has a package named flows, as reelsheet does")
