"""Prefect's settings: what it does not accept is told with the setting's name."""

import sys

import pytest

from flows import prefect_settings
from reelsheet.surroundings.problems import UnusableSurroundings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_API_REQUEST_TIMEOUT", "abc"),
        ("PREFECT_LOGGING_LEVEL", "LOUD"),
        ("PREFECT_SERVER_API_PORT", "abc"),
        ("PREFECT_CLIENT_MAX_RETRIES", "many"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", "{bad"),
        ("PREFECT_RESULTS_PERSIST_BY_DEFAULT", "perhaps"),
    ],
)
def test_a_value_that_prefect_does_not_accept_is_named(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UnusableSurroundings) as error:
        prefect_settings.check()
    assert str(error.value).startswith(f"{name}: Prefect does not accept its value (")
    assert "http" not in str(error.value)


def test_a_value_of_the_profile_is_named_as_well(monkeypatch, tmp_path):
    file = tmp_path / "profiles.toml"
    file.write_text('active = "team"\n[profiles.team]\nPREFECT_API_REQUEST_TIMEOUT = "soon"\n')
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(file))
    with pytest.raises(UnusableSurroundings, match="PREFECT_API_REQUEST_TIMEOUT: "):
        prefect_settings.check()


def test_settings_that_prefect_accepts_are_no_problem():
    before = sys.stderr
    prefect_settings.check()
    assert sys.stderr is before


def test_only_the_thread_that_imports_is_not_heard(capsys):
    with prefect_settings._without_words_of_this_thread():
        sys.stderr.write("unheard")
        sys.stderr.thread = None  # as another thread would be
        sys.stderr.write("heard")
    assert capsys.readouterr().err == "heard"
