"""reelsheet: a spreadsheet of pictures and prompts in, finished clips in S3 out.

Nothing here knows of Prefect: `flows` and `tasks` call these parts, never the other way round
(the command line in `reelsheet.cli` is the outermost door and calls the flows).
"""

TYPE_CHECKING = False  # `typing` is not imported before the command line has taken care of signals
if TYPE_CHECKING:
    from typing import Any

    from reelsheet.results.earlier import read_results as read_results

__version__ = "0.1.0"
__all__ = ["__version__", "read_results"]


def __getattr__(name: str) -> "Any":
    """`read_results`, imported when it is first used: its parts take longer to import than `--help` may take."""
    if name == "read_results":
        from reelsheet.results.earlier import read_results

        return read_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
