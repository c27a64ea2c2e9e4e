"""`python -m reelsheet.sandbox`: one JSON line with the addresses on stdout when everything answers."""

import json
import os
import sys

from reelsheet.errors import ReelsheetError
from reelsheet.sandbox.serve import parse, run


def announce(addresses: dict[str, str]) -> None:
    """One line, for whoever started this process."""
    sys.stdout.write(json.dumps(addresses) + "\n")
    sys.stdout.flush()


def main() -> int:
    """130 after Ctrl-C, or 2 with a sentence on stderr."""
    try:
        run(parse(), announce)
    except ReelsheetError as error:
        sys.stderr.write(f"reelsheet: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a clip that is still being rendered is nobody's any more
