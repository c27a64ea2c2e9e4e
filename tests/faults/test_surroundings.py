"""The whole command in surroundings that are wrong: exit 2, the setting's name, nothing spent, no traceback."""

import os
import socket
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture
def run(bench, tmp_path):
    """The command on one row, with these variables (None: unset); its exit code and what it says."""

    def once(variables: dict[str, str | None], to: str = "") -> tuple[int, str]:
        environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")} | variables
        done = subprocess.run(
            [sys.executable, "-P", "-c", "from reelsheet.cli import main; main()", "run", str(bench.sheet(["one"])),
             "--to", to or str(bench.destination), "--yes"],
            env={name: value for name, value in environment.items() if value is not None},
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=150, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr.decode()

    return once


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_API_URL", "http://127.0.0.1:9/api"),
        ("PREFECT_HOME", "/dev/full"),
        ("PREFECT_PROFILE", "nobody"),
        ("PREFECT_LOGGING_LEVEL", "LOUD"),
        ("PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK", "s3-bucket/nobody"),
        ("PREFECT_LOGGING_SETTINGS_PATH", "/nowhere/logging.yml"),
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("HTTPS_PROXY", "http://127.0.0.1:abc"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("TZ", "Mars/Olympus"),
    ],
)
def test_a_wrong_setting_is_exit_2_with_its_name(name, value, run, bench):
    code, said = run({name: value})
    assert code == 2, said
    assert f"reelsheet: {name}: " in said
    assert "Traceback" not in said
    assert "plugins" not in said
    assert not bench.charged()


def test_a_server_that_hangs_is_waited_for_ten_seconds(run, bench):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        code, said = run({"PREFECT_API_URL": f"http://127.0.0.1:{listener.getsockname()[1]}/api"})
    assert code == 2
    assert "PREFECT_API_URL: http://127.0.0.1" in said
    assert "does not answer within 10 s" in said
    assert not bench.charged()


def test_what_a_run_does_not_need_does_not_stop_it(run, bench):
    of_aws = {"AWS_PROFILE": "nobody", "AWS_MAX_ATTEMPTS": "abc"}
    code, said = run(of_aws | {"HTTPS_PROXY": "http://127.0.0.1:9", "PREFECT_SERVER_API_BASE_PATH": "/elsewhere"})
    assert code == 0, said
    assert sum(bench.charged().values()) == 1


def test_a_login_for_another_server_and_prefects_own_tests_change_nothing(run, bench):
    logins = {"PREFECT_SERVER_API_AUTH_STRING": "admin:mine", "PREFECT_API_AUTH_STRING": "admin:of-another"}
    code, said = run(logins | {"PREFECT_TEST_MODE": "1", "PREFECT_DEBUG_MODE": "1"})
    assert code == 0, said
    assert "prefect" not in said
    assert sum(bench.charged().values()) == 1


@pytest.mark.parametrize(("letter", "kilobytes"), [("v", 1_200_000), ("v", 600_000), ("v", 120_000), ("f", 400)])
def test_a_small_limit_is_named(letter, kilobytes, bench, tmp_path):
    """Of addresses; of a file's size, which the ledger would reach in the middle of a run."""
    kilobytes *= 2 if letter == "f" else 1  # dash counts in 512 bytes there
    command = f'ulimit -{letter} {kilobytes}; exec "$0" -P -c "from reelsheet.cli import main; main()" "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, "run", bench.sheet(["one"]), "--to", bench.destination, "--yes"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=150, check=False,
    )  # fmt: skip
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert said.splitlines()[-1].startswith(f"reelsheet: ulimit -{letter}: this process may ")
    assert not bench.charged()
