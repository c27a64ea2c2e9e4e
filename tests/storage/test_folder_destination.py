"""Folders: trouble with the disk, hidden files, and leftovers."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.storage.destination import open_destination
from reelsheet.storage.errors import ObjectConflict, StorageError

MINE = {"identity": "1" * 64, "attempt": "1", "prediction-id": "p-1", "cost-cents": "54", "run-id": "r"}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="a file is where a folder should be"):
        open_destination(str(file / "out")).probe()

    def deny(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(ConfigurationError, match=r"not permitted; make .* writable"):
        open_destination(str(tmp_path / "out")).probe()


@pytest.mark.parametrize("place", ["/proc/1/out", "/dev/null/out", "a-file", "dangling", "loop", "x" * 300])
def test_the_sentence_is_about_the_folder_and_not_about_a_file_that_nobody_knows(place, tmp_path):
    (tmp_path / "a-file").touch()
    (tmp_path / "dangling").symlink_to("/proc/1/out")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigurationError) as caught:
        open_destination(str(tmp_path / place)).probe()
    assert Path(place).name[:40] in str(caught.value).replace("/proc/1/out", "/proc/1/out dangling")
    assert ".reelsheet" not in str(caught.value)


@pytest.mark.parametrize("name", ["videos", "runs"])
@pytest.mark.parametrize("target", ["", "/proc/1/out"])
def test_a_file_in_place_of_a_folder_that_a_run_fills_is_refused(in_folder, name, target):
    path = in_folder.root / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target) if target else path.touch()
    with pytest.raises(ConfigurationError, match=f"{path}"):
        in_folder.probe()
    assert sorted(in_folder.root.iterdir()) == [path]


def test_a_nearly_full_disk_is_a_warning(in_folder, monkeypatch):
    real = os.statvfs

    def nearly_full(path):
        found = list(real(path))
        found[4] = 10
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", nearly_full)
    assert "are free" in in_folder.probe()[0]


@pytest.mark.parametrize(
    ("number", "message", "systemic"),
    [
        (errno.ENOSPC, "is full; make room", True),
        (errno.EDQUOT, "is full; make room", True),
        (errno.EROFS, "not permitted", True),
        (errno.EIO, "check the disk", True),
        (errno.ENAMETOOLONG, "shorter one, a clip's with --name", False),
    ],
)
def test_a_disk_error_is_explained_and_leaves_no_file(in_folder, monkeypatch, number, message, systemic):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    up = in_folder.open_upload("videos/a.mp4", "video/mp4", MINE)
    up.part(b"film")
    with pytest.raises(StorageError, match=message) as caught:
        up.complete("0" * 64)
    up.abort()
    assert caught.value.systemic is systemic
    assert [path for path in in_folder.root.rglob("*") if path.is_file()] == []


def test_a_file_system_without_metadata_is_enough(in_folder, monkeypatch, upload):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    upload(in_folder, "videos/a.mp4", b"film")
    assert in_folder.stat("videos/a.mp4").metadata == {}


def test_a_folder_where_a_clip_should_be_is_a_conflict(in_folder):
    (in_folder.root / "videos" / "a.mp4").mkdir(parents=True)
    with pytest.raises(ObjectConflict):
        in_folder.stat("videos/a.mp4")


def test_a_pipe_or_a_device_is_never_replaced_by_a_file(in_folder):
    in_folder.root.mkdir()
    os.mkfifo(in_folder.root / "clip.mp4")
    with pytest.raises(ObjectConflict, match="is not a file, but one should be there"):
        in_folder.write("clip.mp4", b"clip", "video/mp4")
    assert [path.is_fifo() for path in in_folder.root.iterdir()] == [True]


def test_hidden_files_are_no_part_of_a_folder_s_listing(in_folder):
    in_folder.write("videos/a.mp4", b"film", "video/mp4")
    (in_folder.root / "videos" / ".DS_Store").write_bytes(b"x")
    (in_folder.root / ".git").mkdir()
    (in_folder.root / ".git" / "x").write_bytes(b"x")
    assert in_folder.listing() == {"videos/a.mp4": 4}


def test_a_writer_that_is_killed_leaves_nothing_to_see(in_folder):
    code = (
        "import os, signal, sys; from reelsheet.storage.destination import open_destination\n"
        "up = open_destination(sys.argv[1]).open_upload('videos/a.mp4', 'video/mp4', {})\n"
        "up.part(bytes(1000)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, in_folder.address], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert in_folder.listing() == {}
    assert in_folder.stat("videos/a.mp4") is None
    (leftover,) = [path for path in in_folder.root.rglob("*") if path.is_file()]
    os.utime(leftover, (time.time() - 7200,) * 2)
    assert in_folder.sweep() == 1


def test_only_stale_leftovers_are_swept_from_a_folder(in_folder):
    old, new = in_folder.open_upload("videos/a.mp4", "", {}), in_folder.open_upload("videos/b.mp4", "", {})
    for up in (old, new):
        up.part(b"film")
    os.utime(old._temporary, (time.time() - 7200,) * 2)
    assert in_folder.sweep() == 1
    assert in_folder.sweep() == 0
    new.complete("0" * 64)
    old.abort()
    assert in_folder.listing() == {"videos/b.mp4": 4}


def test_a_pipe_or_a_device_in_a_foreign_folder_is_not_waited_for(in_folder):
    videos = in_folder.root / "videos"
    videos.mkdir(parents=True)
    os.mkfifo(videos / "pipe.mp4")
    (videos / "zero.mp4").symlink_to("/dev/zero")
    (videos / "folder.mp4").mkdir()
    assert in_folder.listing("videos/") == {}
    for name in ("pipe.mp4", "zero.mp4"):
        for look in (in_folder.stat, in_folder.read):
            with pytest.raises(ObjectConflict, match=f"{name} is not a file, but one should be there"):
                look(f"videos/{name}")


def test_a_link_in_a_foreign_folder_carries_no_file_from_elsewhere(in_folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    in_folder.write("videos/real.mp4", b"film", "video/mp4")
    (in_folder.root / "videos" / "stolen.mp4").symlink_to(secret)
    (in_folder.root / "videos" / "same.mp4").symlink_to("real.mp4")
    assert in_folder.listing() == {"videos/real.mp4": 4, "videos/same.mp4": 4}
    assert in_folder.read("videos/same.mp4") == b"film"
    for look in (in_folder.stat, in_folder.read):
        with pytest.raises(ObjectConflict, match="a link to a file outside"):
            look("videos/stolen.mp4")


def test_a_folder_on_another_disk_may_be_linked(in_folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    in_folder.root.mkdir()
    (in_folder.root / "videos").symlink_to(disk)
    in_folder.write("videos/a.mp4", b"film", "video/mp4")
    assert in_folder.read("videos/a.mp4") == b"film"
