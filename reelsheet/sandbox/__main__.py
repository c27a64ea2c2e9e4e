"""`python -m reelsheet.sandbox '{"latency": 2}'`: see `configuration.Configuration`."""

import os
import sys

from reelsheet.sandbox.serve import main

if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(code)  # a clip that is still being rendered is not waited for
