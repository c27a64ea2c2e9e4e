"""The command line: the outermost door. It reads flags, calls the flows, and says how it went.

Nothing heavy is imported before a verb needs it, so that `--help` comes at once.
"""

import io
import os
import sys
from collections.abc import Sequence

VERBS = ("demo", "plan", "run", "retry", "resolve", "status", "report", "sandbox", "init", "doctor")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code. Bad usage and bad input never show a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a sign for something is no reason to fail
    code = call(list(sys.argv[1:] if arguments is None else arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    if code >= 128:
        # Everything is written. A thread that still hangs on a slow network must not hold up who asked for the end.
        os._exit(code)
    sys.exit(code)


def call(arguments: list[str]) -> int:
    """One command, its exit code."""
    from cyclopts import CycloptsError

    from reelsheet.cli.verbs import app
    from reelsheet.errors import ReelsheetError

    _this_machine_directly()
    try:
        result = app(verb_first(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        from reelsheet.cli.usage import sentence

        say(f"{sentence(error, app)} `reelsheet {_verb_of(arguments)}--help` shows how it is meant.")
        return 2
    except ReelsheetError as error:
        say(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # the terminal has put ^C at the end of a line
        say("Interrupted. Whatever was sent before is in the ledger; the same command again pays for nothing twice.")
        return 130
    except Exception as error:  # noqa: BLE001 - the last door: a person gets a sentence, the traceback goes to a file
        return unforeseen(error)
    return result if isinstance(result, int) else 0


def _this_machine_directly() -> None:
    """A proxy of the surroundings is for other machines: Prefect's server and the sandbox are on this one."""
    if any(name.lower() in {"http_proxy", "https_proxy", "all_proxy"} for name in os.environ):
        told = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if told.strip() != "*":
            named = [*filter(None, (name.strip() for name in told.split(","))), "127.0.0.1", "localhost", "::1"]
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys(named))


def unforeseen(error: Exception) -> int:
    """A bug of ours: the ledger is as true as ever, the traceback is kept for whoever mends it."""
    import traceback

    from reelsheet.redaction import clean
    from reelsheet.settings import state_home

    key = os.environ.get("VIBEDREAM_API_KEY", "")
    kept = state_home() / "unforeseen-error.log"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(traceback.format_exception(error)).splitlines()
        kept.write_text("\n".join(clean(line, (key,), limit=2000) for line in lines) + "\n", encoding="utf-8")
        where = f" What happened is in {kept}."
    except OSError:
        where = ""
    say(
        f"Something went wrong that was not foreseen ({clean(f'{type(error).__name__}: {error}', (key,))})."
        f"{where} Nothing is lost: run the same command again, and report it if it stays."
    )
    return 3


def say(text: str) -> None:
    """One line for people, on stderr, with nothing in it that a terminal would obey."""
    from reelsheet.redaction import visible

    sys.stderr.write(f"reelsheet: {visible(text)}\n")


def verb_first(arguments: list[str]) -> list[str]:
    """`reelsheet --json run m.csv` means `reelsheet run --json m.csv`."""
    if not arguments or not arguments[0].startswith("-"):
        return arguments
    for at, word in enumerate(arguments):
        if word in VERBS and (at == 0 or not _takes_value(arguments[at - 1])):
            return [word, *arguments[:at], *arguments[at + 1 :]]
    return arguments


_SWITCHES = {"--json", "--yes", "-y", "--fresh", "--retry-unknown", "--no-preflight", "--abandon", "--help", "-h"}


def _takes_value(word: str) -> bool:
    return word.startswith("-") and "=" not in word and word not in _SWITCHES


def _verb_of(arguments: list[str]) -> str:
    found = next((word for word in arguments if word in VERBS), "")
    return f"{found} " if found else ""
