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
        ("REELSHEET_SUBMIT_TIMEOUT", "nan"),
        ("REELSHEET_ALLOW_PRIVATE_HOSTS", "perhaps"),
        ("REELSHEET_MODEL", "../other"),
    ],
)
def test_what_is_wrong_is_told_by_its_name(here, name, value):
    os.environ[name] = value
    with pytest.raises(ConfigurationError, match=f"The settings cannot be used: {name}: "):
        settings.load()
