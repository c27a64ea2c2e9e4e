"""What the code below the command line logs stands on stderr."""

import logging

from reelsheet.cli import print_message


def show_log() -> None:
    """Show warnings, each as one line."""
    logger = logging.getLogger("reelsheet")
    logger.setLevel(logging.WARNING)
    logger.handlers = [_MessageHandler()]
    logger.propagate = False


class _MessageHandler(logging.Handler):
    """Each record as one line on the present sys.stderr, which the live display replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        print_message(record.getMessage())
