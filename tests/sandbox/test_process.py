"""The sandbox as a process: what it tells, what survives it, and that it never stays behind."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import boto3
import httpx
import pytest

from reelsheet.errors import ConfigurationError, UsageError
from reelsheet.sandbox.process import SandboxProcess
from reelsheet.storage.destination import open_destination


def gone(pid: int) -> bool:
    """True when no such process runs within ten seconds."""
    for _ in range(1000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def headers(sandbox: SandboxProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {sandbox.key}"}


def post(sandbox: SandboxProcess, prompt: str) -> str:
    answer = httpx.post(
        f"{sandbox.api}/api/v1/models/i2v-pro/generate",
        json={"image": "https://e.com/a.jpg", "prompt": prompt},
        headers=headers(sandbox),
        trust_env=False,
    )
    return answer.json()["id"]


def poll(sandbox: SandboxProcess, identifier: str) -> dict:
    url = f"{sandbox.api}/api/v1/predictions/{identifier}"
    return httpx.get(url, headers=headers(sandbox), trust_env=False).json()


def test_its_s3_verifies_checksums_as_amazon_does(sandbox):
    assert open_destination(f"s3://{sandbox.bucket}/probed").probe() == ()


def test_the_environment_points_boto3_and_reelsheet_at_it(sandbox):
    environment = sandbox.environment()
    assert environment["VIBEDREAM_BASE_URL"] == sandbox.api
    assert environment["REELSHEET_ALLOW_PRIVATE_HOSTS"] == "1"
    names = [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]]
    assert sandbox.bucket in names
    assert all(address.startswith("http://127.0.0.1:") for address in (sandbox.api, sandbox.s3, sandbox.assets))


def test_the_sample_pictures_are_served_and_nothing_else(sandbox):
    answer = httpx.get(f"{sandbox.pictures}/perfume-dusk.jpg", trust_env=False)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content.startswith(b"\xff\xd8\xff")
    for name in ("..%2fmanifest.csv", "nothing.jpg", "perfume-dusk"):
        assert httpx.get(f"{sandbox.pictures}/{name}", trust_env=False).status_code == 404


@pytest.mark.slow
def test_a_sandbox_with_a_state_folder_knows_its_predictions_and_its_address_again(tmp_path):
    sandbox = SandboxProcess(latency=0, clips="tiny", state=tmp_path / "state", cache=tmp_path / "cache")
    sandbox.start()
    try:
        done = post(sandbox, "done")
        assert poll(sandbox, done)["status"] == "completed"
        sandbox.settings(latency=2)
        pending = post(sandbox, "pending")
        api = sandbox.api
        sandbox._process.terminate()
        assert sandbox._process.wait(15) == 143
        sandbox.close()
        sandbox.start()
        assert sandbox.api == api
        assert poll(sandbox, done)["status"] == "completed"
        assert [charge["id"] for charge in sandbox.charges()] == [done, pending]
        while poll(sandbox, pending)["status"] == "processing":
            time.sleep(0.05)
        assert poll(sandbox, pending)["status"] == "completed"
    finally:
        sandbox.close()


@pytest.mark.slow
def test_it_dies_with_whoever_started_it_even_by_kill(tmp_path):
    script = (
        "import sys, time\n"
        "from reelsheet.sandbox.process import SandboxProcess\n"
        f"sandbox = SandboxProcess(clips='tiny', cache={str(tmp_path)!r}); sandbox.start()\n"
        "print(sandbox.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    children = Path(f"/proc/{pid}/task/{pid}/children")
    storage = [int(child) for child in children.read_text().split()] if children.exists() else []
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)
    assert all(gone(child) for child in storage)


@pytest.mark.slow
def test_a_signal_ends_it_and_its_storage_at_once_even_while_it_renders(tmp_path):
    with SandboxProcess(clips="real", cache=tmp_path) as sandbox:
        httpx.post(
            f"{sandbox.api}/api/v1/models/i2v-pro/generate",
            json={"image": f"{sandbox.pictures}/perfume-dusk.jpg", "prompt": "orbit"},
            headers=headers(sandbox),
            trust_env=False,
        )
        children = Path(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children")
        storage = [int(child) for child in children.read_text().split()] if children.exists() else []
        sandbox._process.terminate()
        sandbox._process.wait(15)
        assert all(gone(child) for child in storage)


def test_a_port_that_is_taken_is_a_sentence_not_a_trace(sandbox):
    taken = int(sandbox.api.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=f"Port {taken} of this machine is taken"):
        SandboxProcess(port=taken).start()


def test_an_option_that_makes_no_sense_is_a_sentence():
    with pytest.raises(UsageError, match="--fail-rate: Input should be less than or equal to 1"):
        SandboxProcess(fail_rate=2)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "av" else object())
    with pytest.raises(ConfigurationError, match=r"\(av\).*\.\[sandbox\]"):
        SandboxProcess().start()


def test_starting_one_needs_none_of_its_parts_in_this_process():
    check = (
        "import sys, reelsheet.sandbox.process, reelsheet.sandbox.samples\n"
        "heavy = {'fastapi', 'uvicorn', 'av', 'numpy', 'moto', 'boto3', 'PIL', 'httpx'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.slow
def test_on_a_terminal_it_says_what_works_as_pasted_into_another_one(tmp_path):
    ours, theirs = pty.openpty()
    command = Path(sys.executable).with_name("reelsheet")
    flags = ("--port", "0", "--s3-port", "0", "--clips", "tiny", "--latency", "0.1")
    process = subprocess.Popen([command, "sandbox", *flags], stdout=theirs, stdin=theirs)
    try:
        said = ""
        while "reference" not in said:
            said += os.read(ours, 4096).decode()
        lines = [line for line in said.splitlines() if line.startswith("export") or " run http" in line]
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
        pasted = "\n".join(lines) + " --yes"
        done = subprocess.run(
            ["/bin/sh", "-c", pasted], env=bare, cwd=tmp_path, capture_output=True, text=True, check=False
        )
    finally:
        process.terminate()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, len(lines)) == (0, 4), done.stderr
    assert "8 succeeded" in done.stdout
