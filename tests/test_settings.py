"""Settings: the environment beats `.env`, and what cannot work is refused before any request."""

import os

import pytest

from reelsheet import settings
from reelsheet.errors import ConfigurationError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder; what `.env` puts into the environment is taken out again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return tmp_path


def test_the_environment_beats_dotenv_beats_the_default(here, monkeypatch):
    (here / ".env").write_text(
        "VIBEDREAM_API_KEY=from-the-file\nREELSHEET_MODEL=from-the-file\nAWS_DEFAULT_REGION=eu-west-3\n"
    )
    os.environ["REELSHEET_MODEL"] = "from-the-environment"
    loaded = settings.load()
    assert loaded.api_key is not None
    assert loaded.api_key.get_secret_value() == "from-the-file"
    assert (loaded.model, loaded.price_cents) == ("from-the-environment", 54)
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-west-3"  # for boto3


def test_dotenv_is_read_as_people_write_it(here):
    (here / ".env").write_bytes(
        b"\xef\xbb\xbfexport VIBEDREAM_API_KEY='a$b'  # the key\r\nREELSHEET_PRICE_CENTS = 60\r\nREELSHEET_MODEL=\r\n"
    )
    loaded = settings.load()
    assert loaded.api_key is not None
    assert (loaded.api_key.get_secret_value(), loaded.price_cents, loaded.model) == ("a$b", 60, "i2v-pro")


@pytest.fixture
def warnings_of(monkeypatch, caplog):
    """Loads the settings; what was warned of."""
    monkeypatch.setattr(settings, "_warned", set())
    monkeypatch.setattr(settings.log, "propagate", True)

    def load():
        caplog.clear()
        settings.load()
        return caplog.messages

    return load


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "HOME", "XDG_STATE_HOME", "TZ", "no_such_name"),
        *(
            "PREFECT_HOME",
            "PREFECT_LOGGING_SETTINGS_PATH",
            "PREFECT_PROFILES_PATH",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL",
            "PREFECT_API_DATABASE_CONNECTION_URL",
            "PREFECT_API_DATABASE_HOST",
            "PREFECT_API_SERVICES_SCHEDULER_ENABLED",
        ),
        *("HTTPS_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_DATA_PATH"),
        *("AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "vibedream_api_key", "MYREELSHEET_X"),
    ],
)
def test_dotenv_sets_nothing_that_makes_programs_run_or_send_elsewhere(here, name, warnings_of):
    os.environ.pop(name, None)
    (here / ".env").write_text(f"{name}=secret-value\n")
    (warned,) = warnings_of()
    assert warned.startswith(f".env cannot set {name}. It can set only VIBEDREAM_*, REELSHEET_*, ")
    assert "secret-value" not in warned
    assert name not in os.environ
    assert warnings_of() == [], "once"


@pytest.mark.parametrize("name", ["PATH", "HOME", "PREFECT_HOME", "HTTPS_PROXY"])
def test_a_name_that_dotenv_cannot_set_is_named_also_where_the_environment_has_another_value(here, name, warnings_of):
    os.environ[name] = "/ours"
    (here / ".env").write_text(f"{name}=/theirs\n")
    (warned,) = warnings_of()
    assert warned.startswith(f".env cannot set {name}. ")
    assert os.environ[name] == "/ours"


def test_a_name_that_has_the_same_value_in_the_environment_is_no_matter(here, warnings_of):
    os.environ["PATH"] = "/ours"
    (here / ".env").write_text("PATH=/ours\n")
    assert warnings_of() == []


@pytest.mark.parametrize(
    "name",
    [
        *("VIBEDREAM_API_KEY", "REELSHEET_LEDGER_URL", "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"),
        *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"),
    ],
)
def test_dotenv_sets_keys_addresses_and_our_own_settings(here, name, warnings_of):
    os.environ.pop(name, None)
    (here / ".env").write_text(f"{name}=x\n")
    assert warnings_of() == []
    assert os.environ[name] == "x"


@pytest.mark.parametrize(
    ("address", "key", "to"),
    [
        ("VIBEDREAM_BASE_URL", "VIBEDREAM_API_KEY", "https://api.elsewhere.test"),
        ("PREFECT_API_URL", "PREFECT_API_KEY", "https://prefect.elsewhere.test/api"),
        ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "https://prefect.elsewhere.test/api"),
        ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "https://s3.elsewhere.test"),
    ],
)
def test_an_address_from_dotenv_beside_a_key_from_the_environment_is_said(here, address, key, to, warnings_of):
    os.environ.pop(address, None)
    os.environ[key] = "a-key-of-the-environment"
    (here / ".env").write_text(f"{address}={to}\n")
    assert warnings_of() == [f"{address} comes from .env: {to}. {key} from the environment is used there."]


def test_an_address_beside_its_own_key_is_not_worth_a_word(here, warnings_of):
    (here / ".env").write_text("VIBEDREAM_BASE_URL=https://api.elsewhere.test\nVIBEDREAM_API_KEY=x\n")
    assert warnings_of() == []


@pytest.mark.parametrize(
    "name", ["API_KEY", "BASE_URL", "MODEL", "PRICE_CENTS", "REELSHEET_API_KEY", "REELSHEET_DAILY_CAP_CENTS"]
)
def test_a_variable_of_another_program_is_not_read(here, name):
    before = settings.load()
    os.environ[name] = "9"
    assert settings.load() == before


def test_a_dotenv_that_is_no_text_is_told(here):
    (here / ".env").write_bytes(b"\xff\xfeV\0I\0")
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read"):
        settings.load()
    (here / ".env").write_bytes("VIBEDREAM_API_KEY=x\n".encode("utf-16-le"))
    with pytest.raises(ConfigurationError, match=r"\.env is not UTF-8 text"):
        settings.load()


def test_a_key_that_is_no_text_is_left_to_whoever_uses_it(here):
    os.environ["VIBEDREAM_API_KEY"] = "of-another-encoding-\udcff"
    assert settings.load().account


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("api.vibedream.ai", "must be an address like"),
        ("http://api.vibedream.ai", "must start with https://"),
        ("http://127.0.0.1.example.com", "must start with https://"),
        ("http://10.0.0.1", "must start with https://"),
        ("http://127.0.0.1\\@example.com", "must be an address like"),
        ("https://user@example.com", "must be an address like"),
        ("https://:password@example.com", "must be an address like"),  # httpx would send it in the key's place
        ("https://example.com:port", "must be an address like"),
        ("https://example.com:99999", "must be an address like"),
        ("https://exa mple.com", "must be an address like"),
        ("https://example.com/?a=b", "must be an address like"),
        ("https://[::1", "Invalid IPv6"),
        ("https://api.vibedream.ai/api/v1/", "without the /api/v1"),
    ],
)
def test_an_address_that_cannot_be_the_api_s_is_refused(here, address, expected):
    os.environ["VIBEDREAM_BASE_URL"] = address
    with pytest.raises(ConfigurationError, match=expected) as wrong:
        settings.load()
    assert "password" not in str(wrong.value)


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("https://API.vibedream.ai/", "https://api.vibedream.ai"),
        ("https://gateway.example.com:8443/video", "https://gateway.example.com:8443/video"),
        ("http://localhost:8780", "http://localhost:8780"),
        ("http://[::1]:8780", "http://[::1]:8780"),
    ],
)
def test_an_address_is_taken_in_one_spelling(here, address, meant):
    os.environ["VIBEDREAM_BASE_URL"] = address
    assert settings.load().base_url == meant


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REELSHEET_DAILY_CAP_USD", "a lot"),
        ("REELSHEET_PRICE_CENTS", "0.54"),
        ("REELSHEET_PRICE_CENTS", "0"),
        ("REELSHEET_PRICE_CENTS", "-54"),
        ("REELSHEET_PRICE_CENTS", "9" * 20),
        ("REELSHEET_SUBMIT_TIMEOUT", "nan"),
        ("REELSHEET_ALLOW_PRIVATE_HOSTS", "perhaps"),
        ("REELSHEET_MODEL", "../other"),
    ],
)
def test_what_is_wrong_is_told_by_its_name(here, name, value):
    os.environ[name] = value
    with pytest.raises(ConfigurationError, match=f"The settings cannot be used: {name}: "):
        settings.load()


@pytest.mark.parametrize("address", ["http://api.example.com", "https://api.vibedream.ai/api/v1", "https://"])
def test_a_setting_is_named_once(here, address):
    os.environ["VIBEDREAM_BASE_URL"] = address
    with pytest.raises(ConfigurationError) as raised:
        settings.load()
    assert str(raised.value).count("VIBEDREAM_BASE_URL") == 1


@pytest.mark.parametrize(
    "written",
    [
        "vd-'1", " vd-'1\n", "'vd-'1'", '"vd-\'1"', "Bearer vd-'1", "bearer\tvd-'1", '"Bearer vd-\'1"', "Bearer \"vd-'1\"",
        "Authorization: Bearer vd-'1", "\u201cvd-'1\u201d", "VIBEDREAM_API_KEY=vd-'1",
    ],
)  # fmt: skip
def test_a_key_is_taken_out_of_quotes_and_from_behind_bearer(monkeypatch, caplog, written):
    monkeypatch.setattr(settings, "_warned", set())
    monkeypatch.setenv("VIBEDREAM_API_KEY", written)
    loaded = settings.load()
    assert loaded.api_key is not None
    assert loaded.api_key.get_secret_value() == "vd-'1"
    assert ("only the key itself is used" in caplog.text) is (written.strip() != "vd-'1")
    assert "vd-" not in caplog.text


@pytest.mark.parametrize("written", ["Bearer", "''", '"Bearer "', " "])
def test_quotes_without_a_key_are_none(monkeypatch, written):
    monkeypatch.setenv("VIBEDREAM_API_KEY", written)
    assert settings.load().api_key is None


def test_a_key_may_begin_with_any_letters(monkeypatch):
    monkeypatch.setenv("VIBEDREAM_API_KEY", "BearerOfKeys")
    assert settings.load().api_key.get_secret_value() == "BearerOfKeys"
