"""Prefect's server, profile and home are tried, and each wrong one is named with its fix."""

import base64
import importlib.util
import json
import socket
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import make_url

from reelsheet import settings
from reelsheet.surroundings import prefect_setup
from reelsheet.surroundings.problems import UnusableSurroundings

VERSION = version("prefect")
GOOD = {"/api/health": (200, b"true"), "/api/admin/version": (200, json.dumps(VERSION).encode())}


def server_problem(monkeypatch, address: str) -> str:
    """What is said of a server, "" of one that works."""
    monkeypatch.setenv("PREFECT_API_URL", address)
    return " ".join(map(str, prefect_setup.server_in_time()))


def setting_problem() -> str:
    return " ".join(map(str, prefect_setup.settings()))


def test_a_server_that_works_is_no_problem(serve, monkeypatch):
    assert server_problem(monkeypatch, f"{serve(GOOD)}/api") == ""
    assert server_problem(monkeypatch, f"{serve(GOOD)}/api/") == ""


def test_prefect_cloud_does_not_say_its_version(serve, monkeypatch):
    assert server_problem(monkeypatch, f"{serve({'/api/accounts/a/health': (200, b'true')})}/api/accounts/a") == ""


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"": (404, b'{"detail":"Not Found"}')}, "is not Prefect's API (HTTP 404). Give the address of the API"),
        ({"": (200, b"<html>Prefect</html>")}, "is not Prefect's API"),
        ({"": (200, b"{}")}, "is not Prefect's API"),
        ({"": (302, b"https://login.test/?next=/health")}, "it sends elsewhere, to https://login.test/"),
        ({"": (503, b"no")}, "answers HTTP 503"),
        ({"": (500, b"no")}, "answers HTTP 500"),
        ({"": (429, b"no")}, "answers HTTP 429"),
        ({"": (401, b"{}")}, "PREFECT_API_AUTH_STRING: "),
        ({"": (403, b"{}")}, "asks for a login (HTTP 403), and none is set"),
        (GOOD | {"/api/admin/version": (200, b'"2.20.1"')}, f"runs Prefect 2.20.1, and this is {VERSION}"),
        (GOOD | {"/api/admin/version": (200, b'"4.0.0"')}, "Use the same major version on both sides"),
        (GOOD | {"/api/admin/version": (200, b'"3.0.0"')}, ""),  # an older one of this major version works
        (GOOD | {"/api/admin/version": (200, b"<html>")}, "it does not say its version"),
    ],
)
def test_what_a_server_answers_is_told(answers, said, serve, monkeypatch):
    found = server_problem(monkeypatch, f"{serve(answers)}/api")
    assert said in found
    assert not found or found.startswith(("PREFECT_API_URL: http://127", "PREFECT_API_AUTH_STRING: http://127"))
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    "address",
    ["not an address", "127.0.0.1:4200/api", "ftp://host/api", "http://", "http://host:port/api", "http://[::1"],
)
def test_an_address_that_is_none_is_told(address, monkeypatch):
    assert "is no address of a server" in server_problem(monkeypatch, address)


@pytest.mark.parametrize("sign", "#/?[")
def test_a_password_that_breaks_an_address_is_not_shown(sign, monkeypatch, tmp_path):
    found = server_problem(monkeypatch, f"http://user:hidden{sign}1@prefect.test/api")
    assert "must be percent-encoded" in found
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL", f"postgresql+asyncpg://user:hidden{sign}1@db.test/prefect"
    )
    assert "db.test" in setting_problem()
    assert "hidden" not in found + setting_problem()


def test_a_server_that_is_not_there_is_told(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://user:hidden@127.0.0.1:{free.getsockname()[1]}/api"
        found = server_problem(monkeypatch, address)
    assert "cannot be reached (Connection refused)" in found
    assert "hidden" not in found
    assert "cannot be reached" in server_problem(monkeypatch, "http://no-such-host.invalid/api")


def test_a_server_that_hangs_is_waited_for_no_longer_than_the_limit(monkeypatch):
    monkeypatch.setattr(prefect_setup, "LIMIT_S", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        found = server_problem(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}/api")
        assert "does not answer within 0.3 s" in found


@pytest.mark.parametrize(
    ("name", "value", "login"),
    [
        ("PREFECT_API_KEY", "pnu_hidden", "Bearer pnu_hidden"),
        ("PREFECT_API_AUTH_STRING", "admin:hidden", f"Basic {base64.b64encode(b'admin:hidden').decode()}"),
    ],
)
def test_a_login_that_is_refused_is_named_and_not_shown(name, value, login, serve, monkeypatch):
    asked: list[tuple[str, str]] = []
    monkeypatch.setenv(name, value)
    address = serve({"/api/health": (200, b"true"), "": (401, b"{}")}, asked)
    found = server_problem(monkeypatch, f"{address}/api")
    assert found.startswith(f"{name}: {address}/api refuses it (HTTP 401)")
    assert "hidden" not in found
    assert {given for _, given in asked} == {login}


@pytest.mark.parametrize("name", ["PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK", "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK"])
def test_a_block_for_results_that_is_not_there_is_named(name, serve, monkeypatch):
    block = {"/api/block_types/slug/s3-bucket/block_documents/name/mine": (200, b"{}")}
    address = f"{serve(GOOD | block)}/api"
    monkeypatch.setenv(name, "s3-bucket/mine")
    assert server_problem(monkeypatch, address) == ""
    monkeypatch.setenv(name, "s3-bucket/other")
    assert server_problem(monkeypatch, address).startswith(f"{name}: Prefect's server has no block s3-bucket/other")
    monkeypatch.setenv(name, "mine")
    assert setting_problem().startswith(f"{name}: Prefect's server has no block mine (its name is not TYPE/NAME)")


@pytest.mark.parametrize("key", ["pnu_hidden\n", "pnu_ schlüssel", "pnu_schlüssel"])
def test_a_key_that_cannot_be_sent_is_named_and_not_shown(key, monkeypatch):
    monkeypatch.setenv("PREFECT_API_KEY", key)
    found = server_problem(monkeypatch, "http://127.0.0.1:9/api")
    assert found.startswith("PREFECT_API_KEY: ")
    assert key.strip() not in found


def test_the_server_of_a_profile_is_tried_as_well(serve, monkeypatch, tmp_path):
    file = tmp_path / "profiles.toml"
    file.write_text(f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{serve({"": (503, b"")})}/api"\n')
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(file))
    assert str(prefect_setup.server_in_time()[0]).startswith("PREFECT_API_URL (profile team): http://127")


@pytest.mark.parametrize("name", ["PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS"])
def test_a_login_of_the_profile_for_an_address_from_dotenv_is_said(name, serve, monkeypatch, tmp_path, caplog):
    file = tmp_path / "profiles.toml"
    file.write_text(f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "https://team.test/api"\n{name} = "hidden"\n')
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(file))
    monkeypatch.setattr(settings, "_warned", set())
    monkeypatch.setattr(settings, "_from_dotenv", set())
    address = f"{serve(GOOD)}/api"
    assert server_problem(monkeypatch, address) == ""
    assert not caplog.messages
    monkeypatch.delenv("PREFECT_API_URL")
    (tmp_path / ".env").write_text(f"PREFECT_API_URL={address}\n")
    settings.load_dotenv(tmp_path / ".env")
    assert server_problem(monkeypatch, address) == ""
    assert caplog.messages == [f"PREFECT_API_URL comes from .env: {address}. {name} (profile team) is used there."]


def test_a_home_that_cannot_be_used_is_not_blamed_on_the_file_of_profiles(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / ("x" * 300)))
    assert setting_problem().startswith(f"PREFECT_HOME: {tmp_path}/xxx")


@pytest.mark.parametrize("content", ["active = [", "active = 'x", "\0", "profiles = 3", "[profiles]\nephemeral = 4"])
def test_a_broken_file_of_profiles_is_named(content, monkeypatch, tmp_path):
    file = tmp_path / "profiles.toml"
    file.write_text(content)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(file))
    assert setting_problem().startswith(f"PREFECT_PROFILES_PATH: {file} cannot be read")


def test_an_unknown_profile_is_named(monkeypatch, tmp_path):
    file = tmp_path / "profiles.toml"
    file.write_text('active = "staging"\n[profiles.team]\n')
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(file))
    assert f"there is no profile staging in {file}" in setting_problem()
    monkeypatch.setenv("PREFECT_PROFILE", "team")
    assert setting_problem() == ""
    monkeypatch.setenv("PREFECT_PROFILE", "nobody")
    assert "there is no profile nobody" in setting_problem()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # then the profile does not matter
    assert setting_problem() == ""


def test_profiles_that_prefect_has_by_itself_are_known(monkeypatch):
    for name in prefect_setup.BUILT_IN_PROFILES:
        monkeypatch.setenv("PREFECT_PROFILE", name)
        assert prefect_setup.active_profile().name == name


def test_the_built_in_profiles_are_prefects():
    spec = importlib.util.find_spec("prefect")
    assert spec
    assert spec.origin
    content = tomllib.loads((Path(spec.origin).parent / "settings" / "profiles.toml").read_text())
    assert set(content["profiles"]) == prefect_setup.BUILT_IN_PROFILES


def test_a_home_that_cannot_be_used_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", "/dev/full", "/proc/no/such"):
        monkeypatch.setenv("PREFECT_HOME", str(place))
        assert setting_problem().startswith(f"PREFECT_HOME: {place} cannot be used by Prefect's embedded server")


def test_without_a_home_folder_its_names_are_told(monkeypatch):
    def no_home() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PREFECT_HOME")
    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert setting_problem().startswith("HOME: it is not set")


@pytest.mark.parametrize("content", [b"no database " * 99, b"x"])
def test_a_database_that_is_none_is_named(content, monkeypatch, tmp_path):
    (tmp_path / "prefect").mkdir()
    file = tmp_path / "prefect" / "prefect.db"
    file.write_bytes(content)
    assert setting_problem() == (
        f"PREFECT_HOME: {file} is no database. Move that file away (Prefect makes a new one), "
        "or set PREFECT_HOME to another folder."
    )
    file.write_bytes(b"")
    assert setting_problem() == ""


@pytest.mark.parametrize("name", ["PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"])
@pytest.mark.parametrize(
    "address",
    [
        "postgresql://host/x",
        "nonsense",
        "postgresql+asyncpg://u:hidden@127.0.0.1:9/x",
        "sqlite+aiosqlite:////proc/nowhere/x",
    ],
)
def test_a_database_of_its_own_that_cannot_be_used_is_named(name, address, monkeypatch):
    monkeypatch.setenv(name, address)
    found = setting_problem()
    assert found.startswith(f"{name}: ")
    assert "hidden" not in found


def test_a_login_or_database_that_postgresql_does_not_know_is_named_before_the_server_starts(postgresql, monkeypatch):
    server = make_url(postgresql).set(drivername="postgresql+asyncpg")
    name = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
    for wrong in (server.set(username="nobody_here", password="hidden"), server.set(database="nothing_here")):
        monkeypatch.setenv(name, wrong.render_as_string(hide_password=False))
        found = setting_problem()
        assert found.startswith(f"{name}: postgresql+asyncpg://")
        assert "_here" in found.partition("(")[2]
        assert "hidden" not in found
    for right in (server, server.update_query_dict({"what": "is this"})):  # the server itself says what is wrong
        monkeypatch.setenv(name, right.render_as_string(hide_password=False))
        assert setting_problem() == ""


@pytest.mark.parametrize("content", [None, "a: [", "just words"])
def test_a_logging_file_that_cannot_be_used_is_named(content, monkeypatch, tmp_path):
    file = tmp_path / "logging.yml"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("PREFECT_LOGGING_SETTINGS_PATH", str(file))
    assert setting_problem().startswith(f"PREFECT_LOGGING_SETTINGS_PATH: {file} cannot be used")


def test_a_problem_is_an_error_of_the_configuration_and_says_that_nothing_was_spent(monkeypatch):
    monkeypatch.setenv("PREFECT_PROFILE", "nobody")
    with pytest.raises(UnusableSurroundings, match=r"PREFECT_PROFILE: .* Nothing was spent\.$") as error:
        prefect_setup.active_profile()
    assert error.value.exit_code == 2
