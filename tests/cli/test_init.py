"""`init`: a folder to start from."""

import json
import stat
from pathlib import Path

import pytest

from reelsheet import settings
from reelsheet.cli import call
from reelsheet.cli.init import ENV, FILES, write_starter
from reelsheet.errors import UsageError
from reelsheet.manifest import rows

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_a_new_folder_holds_a_manifest_that_can_be_read(tmp_path):
    assert write_starter(str(tmp_path / "spring")) == 0
    found = rows.read(str(tmp_path / "spring" / "manifest.csv"))
    assert len(found.rows) == 8
    assert all(row.prompt and (tmp_path / "spring" / row.image).is_file() for row in found.rows)


def test_its_sample_can_be_run_as_it_is(tmp_path, sandbox, monkeypatch, capsys):
    write_starter(str(tmp_path / "spring"))
    monkeypatch.chdir(tmp_path / "spring")
    capsys.readouterr()
    assert call(["plan", "manifest.csv", "--to", f"s3://{sandbox.bucket}/spring", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["pay"], plan["duplicates"], plan["invalid"]) == (7, 1, 0)


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


def picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))


def test_a_folder_of_pictures_becomes_a_sheet_with_a_row_for_each_in_natural_order(tmp_path, capsys):
    shots = tmp_path / "my shots"
    (shots / "more").mkdir(parents=True)
    for name in ("shot-10.png", "Shot-2.png", "shot-1.PNG", "=1+1.png", ".hidden.png", "no-ending"):
        picture(shots / name)
    (shots / "notes.txt").write_text("no picture")
    (shots / "fake.jpg").write_text("SECRET=1")
    (shots / "link.png").symlink_to(shots / "shot-10.png")
    assert write_starter(str(tmp_path / "spring"), str(shots)) == 0
    found = rows.read(str(tmp_path / "spring" / "manifest.csv"))
    assert list(found.columns) == ["id", "image", "prompt"]
    assert [row.id for row in found.rows] == ["1+1", "no-ending", "shot-1", "Shot-2", "shot-10"]
    assert list(found.table["image"]) == ["./=1+1.png", "no-ending", "shot-1.PNG", "Shot-2.png", "shot-10.png"]
    assert not any(found.table["prompt"])
    output = capsys.readouterr().out
    assert f"Run `reelsheet plan manifest.csv --pictures '{shots}'` in" in output


def test_pictures_beside_the_sheet_need_no_flag(tmp_path, capsys):
    picture(tmp_path / "a.png")
    write_starter(str(tmp_path), str(tmp_path))
    assert "1 row, one for each picture" in (output := capsys.readouterr().out)
    assert "--pictures" not in output


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_pictures_is_refused_before_anything_is_written(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="--pictures"):
        write_starter(str(tmp_path / "spring"), str(tmp_path / name))
    assert not (tmp_path / "spring").exists()
