"""Runs `module:function` as a program would, and writes down what its process cost.

    python -m benchmarks.measured REPORT module:function ARGUMENTS…

CPU in seconds of user and system time: `client` is this process, `children` those it has started and seen end.
"""

import atexit
import importlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import NoReturn


def main() -> None:
    report, what, *arguments = sys.argv[1:]
    atexit.register(_write, Path(report))  # registered first, so that it runs last
    leave = os._exit  # by which a run ends, without what is registered

    def write_and_leave(status: int) -> NoReturn:
        _write(Path(report))
        leave(status)

    os._exit = write_and_leave
    module, _, function = what.partition(":")
    sys.argv = [module, *arguments]
    getattr(importlib.import_module(module), function)()


def _write(report: Path) -> None:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {
        "client": own.ru_utime + own.ru_stime,
        "children": children.ru_utime + children.ru_stime,
        "peak_mb": _peak_mb(own.ru_maxrss),
    }
    report.write_text(json.dumps(told))


def _peak_mb(fallback_kb: int) -> float:
    """Of this program alone: `ru_maxrss` begins with what its parent had when it forked."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return fallback_kb / 1024
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), fallback_kb) / 1024


if __name__ == "__main__":
    main()
