"""Streams that the caller has closed."""

import sys

import pytest

from reelsheet.cli import main


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_changes_no_exit_code(monkeypatch, closed):
    monkeypatch.setattr(sys, closed, None)
    for arguments, code in ((["--version"], 0), (["--help"], 0), (["run", "m.csv", "--concurrency", "0"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code
    getattr(sys, closed).close()
