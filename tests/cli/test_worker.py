"""`worker`: what keeps Prefect from starting is told as for a run."""

import pytest

from reelsheet.cli import call


@pytest.mark.parametrize(
    ("name", "value"),
    [("PREFECT_PROFILE", "nobody"), ("SSL_CERT_FILE", "/nowhere/ca.pem"), ("ALL_PROXY", "socks5://127.0.0.1:1")],
)
def test_a_setting_that_no_worker_could_use_is_exit_2(name, value, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for bypass in ("NO_PROXY", "no_proxy"):  # the command adds this machine's names
        monkeypatch.setenv(bypass, "")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv(name, value)
    assert call(["worker"]) == 2
    assert f"{name}: " in capsys.readouterr().err
