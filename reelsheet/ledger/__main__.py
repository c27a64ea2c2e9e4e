"""`python -m reelsheet.ledger`: bring the ledger's tables up to date, before anything else runs."""

import sys

from reelsheet import settings
from reelsheet.errors import ReelsheetError
from reelsheet.ledger import Ledger


def main() -> int:
    """Exit code 0, or 2 with a sentence on stderr."""
    try:
        ledger = Ledger.open(settings.load().ledger_url)
    except ReelsheetError as error:
        sys.stderr.write(f"reelsheet: {error}\n")
        return error.exit_code
    sys.stderr.write(f"reelsheet: the ledger at {ledger.shown} is up to date.\n")
    ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
