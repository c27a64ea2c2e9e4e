"""The embedded server: what is said where it does not start."""

from flows.embedded_server import EmbeddedServer


def test_the_last_error_of_this_start_is_told_and_no_older_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    log = tmp_path / "reelsheet-server.log"
    log.write_text("OSError: of yesterday\n")
    server = EmbeddedServer()
    server._log_start = log.stat().st_size
    assert server._last_words() == ""
    with log.open("a") as file:
        file.write(
            "Traceback\n  File x\nalembic.util.exc.CommandError: Can't locate revision\nApplication startup failed\n"
        )
    assert server._last_words() == "alembic.util.exc.CommandError: Can't locate revision"
    log.unlink()
    assert server._last_words() == ""
