"""`init`: a folder to start from."""

import stat
from pathlib import Path

import pytest

from reelsheet import settings
from reelsheet.cli.init import ENV, FILES, write_starter
from reelsheet.errors import UsageError
from reelsheet.manifest import rows

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_a_new_folder_holds_a_manifest_that_can_be_read(tmp_path):
    assert write_starter(str(tmp_path / "spring")) == 0
    found = rows.read(str(tmp_path / "spring" / "manifest.csv"))
    assert len(found.rows) == 3
    assert all(not row.problems and row.prompt and row.image.startswith("https://") for row in found.rows)


def test_only_its_owner_can_read_the_key(tmp_path):
    write_starter(str(tmp_path))
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_the_starter_settings_are_usable_as_they_are(tmp_path, monkeypatch):
    write_starter(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert settings.load().api_key is None


def test_every_setting_that_the_starter_names_exists():
    named = {line.lstrip("# ").partition("=")[0] for line in ENV.splitlines() if "=" in line}
    assert {name for name in named if not name.startswith("AWS_")} <= settings.env_names()


def test_nothing_that_is_there_is_touched(tmp_path, capsys):
    (tmp_path / "manifest.csv").write_text("mine")
    (tmp_path / ".env").symlink_to(tmp_path / "nowhere")
    assert write_starter(str(tmp_path)) == 0
    assert (tmp_path / "manifest.csv").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    output = capsys.readouterr().out
    assert "manifest.csv exists already and stays as it is" in output
    assert f"{tmp_path / 'README.md'}\n" in output


def test_it_says_where_the_settings_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_starter("spring")
    assert "Run `reelsheet doctor` in spring, where .env is read." in capsys.readouterr().out
    write_starter(".")
    assert ".env. Run `reelsheet doctor`." in capsys.readouterr().out


def test_a_second_time_changes_nothing(tmp_path):
    write_starter(str(tmp_path))
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    assert write_starter(str(tmp_path)) == 0
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before


def test_the_readme_has_ten_lines_at_most(tmp_path):
    write_starter(str(tmp_path))
    assert len((tmp_path / "README.md").read_text().splitlines()) <= 10


def test_in_a_git_checkout_the_key_is_kept_out_of_it(tmp_path):
    (tmp_path / ".git").mkdir()
    write_starter(str(tmp_path / "clips"))
    assert ".env" in (tmp_path / "clips" / ".gitignore").read_text().splitlines()


def test_a_gitignore_of_ones_own_is_left_and_what_it_lacks_is_told(tmp_path, capsys):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n")
    write_starter(str(tmp_path))
    assert (tmp_path / ".gitignore").read_text() == "*.log\n"
    assert "Add a line `.env`" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_starter(str(tmp_path / "file" / "below"))
