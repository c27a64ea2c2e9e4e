"""This machine's folders, time zone, memory, threads and open files."""

import os
import resource
import threading

import pytest

from reelsheet.surroundings import machine


def said(found) -> str:
    return " ".join(map(str, found))


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", ":Mars/Olympus", "Europe/Berlim", ":::/bad\\", "../../etc/passwd", "\u65e5"]
)
def test_a_time_zone_that_does_not_exist_is_named(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    assert "is no time zone. Write it like Europe/Berlin" in said(machine.time_zone())


@pytest.mark.parametrize(
    "zone",
    ["", "UTC", "Europe/Berlin", ":Europe/Berlin", "EST5EDT", "CET-1CEST,M3.5.0,M10.5.0/3", "<+03>-3", "UTC0", "GMT+3"],
)
def test_time_zones_as_the_c_library_reads_them_are_no_problem(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    assert said(machine.time_zone()) == ""


@pytest.mark.parametrize("place", ["file", "file/below", "/dev/full", "/proc/no/such"])
def test_a_state_folder_that_cannot_be_written_is_named(place, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / place))
    assert said(machine.state_folder()).startswith(
        f"XDG_STATE_HOME: {tmp_path / place / 'reelsheet'} cannot be written ("
    )


def test_a_full_disk_is_told_with_what_is_free(monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_250_000}))
    assert "(only 1.2 MB are free)" in said(machine.state_folder())


def test_a_user_without_a_home_is_told(monkeypatch):
    def no_home() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert said(machine.state_folder()).startswith("HOME: it is not set, and this user has no home folder. Set HOME")


def test_no_folder_for_temporary_files_is_told(monkeypatch):
    def none() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/a']")

    monkeypatch.setattr(machine.tempfile, "gettempdir", none)
    assert said(machine.temporary_folder()).startswith("TMPDIR: there is no folder for temporary files (No usable")


@pytest.fixture
def limits(monkeypatch):
    """The limit of open files as the system would keep it; soft, hard."""
    kept = {"now": (40, 40)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: kept["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: kept.update(now=wanted))
    return kept


def test_the_limit_of_open_files_is_raised_as_far_as_it_may(limits):
    limits["now"] = (256, 1_048_576)
    assert said(machine.open_files(5_000)) == ""
    assert limits["now"] == (machine.FILES_WANTED, 1_048_576)
    limits["now"] = (64, 300)
    assert said(machine.open_files(5_000)) == ""
    assert limits["now"] == (300, 300)


def test_too_few_open_files_are_told_by_what_the_run_needs(limits):
    assert said(machine.open_files(1)) == ""
    assert said(machine.open_files(20)).startswith(
        "ulimit -n: this process may open 40 files, and a run needs 116. Raise the limit (`ulimit -n 1024`"
    )
    assert "needs 256" in said(machine.open_files(100_000))


def test_a_limit_of_this_process_is_only_ever_raised():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    list(machine.open_files(1))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
    assert os.getpid()


@pytest.mark.parametrize(
    ("addresses", "file_size", "told"),
    [
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, ""),
        (4_000_000_000, 500_000_000, ""),
        (700_000_000, 500_000_000, "ulimit -v: this process may have 700.0 MB of addresses, and a run needs 1,500"),
        (4_000_000_000, 100_000, "ulimit -f: this process may write 0.1 MB into one file, and a run needs 100"),
    ],
)
def test_limits_that_would_end_a_run_in_the_middle_are_told(addresses, file_size, told, monkeypatch):
    values = {resource.RLIMIT_AS: addresses, resource.RLIMIT_FSIZE: file_size}
    monkeypatch.setattr(resource, "getrlimit", lambda what: (values[what], values[what]))
    assert said(machine.limits()).startswith(told)
    assert bool(said(machine.limits())) is bool(told)


def test_too_few_threads_are_told_and_none_of_them_stays(monkeypatch):
    start, before, allowed = threading.Thread.start, threading.active_count(), iter(range(10))

    def start_ten(thread: threading.Thread) -> None:
        if next(allowed, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    assert said(machine.threads()) == ""
    monkeypatch.setattr(threading.Thread, "start", start_ten)
    assert said(machine.threads()).startswith("ulimit -u: this process may start 10 threads, and a run needs 24. Raise")
    assert threading.active_count() == before
