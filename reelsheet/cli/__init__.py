"""The command line: it reads flags, calls the flows, and says how it went.

Nothing heavy is imported before a verb needs it, so that `--help` comes at once, and nothing at all before signals
are taken care of.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from cyclopts import App


def main(arguments: "Sequence[str] | None" = None) -> None:
    """Run one command and exit with its code. Bad usage and bad input never show a traceback."""
    from reelsheet.cli.interrupts import interrupts

    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] != ["worker"]:  # it has handlers of its own
        interrupts.install()
    else:
        from reelsheet.cli.worker import end_on_signal

        end_on_signal()
    from reelsheet.cli import streams

    streams.prepare()
    from reelsheet.cli.log import show_log

    show_log()
    _demand_folder()
    _keep_folder_out_of_imports()
    code = call(words)
    sys.stdout.flush()
    sys.stderr.flush()
    if code >= 128 or interrupts.leaves_tasks or interrupts.is_finished():
        # Everything is written. A thread that still waits for a slow network must not delay the end, and while Python
        # takes its modules apart, for a third of a second after a run, a signal would end it without a code.
        os._exit(code)
    sys.exit(code)


def call(arguments: list[str]) -> int:
    """One command, its exit code."""
    from cyclopts import CycloptsError

    from reelsheet.cli.interrupts import MESSAGE
    from reelsheet.cli.verbs import app
    from reelsheet.errors import ReelsheetError

    _bypass_proxy_for_localhost()
    words = verb_first(arguments, app)
    try:
        result = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        from reelsheet.cli.usage import sentence

        verb = f"{words[0]} " if words and words[0] in verbs_of(app) else ""
        print_message(f"{sentence(error, app)} See `reelsheet {verb}--help`.")
        return 2
    except ReelsheetError as error:
        print_message(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # the terminal has put ^C at the end of a line
        print_message(MESSAGE)
        return 130
    except Exception as error:  # noqa: BLE001 - the last resort: a person gets a sentence, the traceback goes to a file
        return unexpected(error)
    return result if isinstance(result, int) else 0


def _demand_folder() -> None:
    """Exits where somebody has removed the working folder, which every path is relative to."""
    from pathlib import Path

    try:
        Path.cwd()
    except FileNotFoundError:
        print_message("The folder that you are in no longer exists: change to another one. Nothing was spent.")
        sys.exit(2)


def _keep_folder_out_of_imports() -> None:
    """No module of the working folder is imported, here or in a process that is started from here.

    Python looks there when it is started with -c, or where PYTHONPATH has an empty or relative part.
    """
    from pathlib import Path

    named = os.environ.get("PYTHONPATH", "")
    parts = named.split(os.pathsep) if named else []
    absolute = [part for part in parts if Path(part).is_absolute()]
    unwanted = {str(Path(part).absolute()) for part in parts if part not in absolute} | {"", "."}
    unwanted.discard(str(Path(__file__).parents[2]))  # reelsheet's own checkout
    sys.path[:] = [part for part in sys.path if part not in unwanted]
    if parts:
        os.environ["PYTHONPATH"] = os.pathsep.join(absolute)
    os.environ["PYTHONSAFEPATH"] = "1"


def _bypass_proxy_for_localhost() -> None:
    """A proxy from the environment is for other machines; Prefect's server and the sandbox are on this one."""
    if any(name.lower() in {"http_proxy", "https_proxy", "all_proxy"} for name in os.environ):
        no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if no_proxy.strip() != "*":
            hosts = [*filter(None, (host.strip() for host in no_proxy.split(","))), "127.0.0.1", "localhost", "::1"]
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys(hosts))


def unexpected(error: Exception) -> int:
    """A bug of ours. The ledger is as true as ever; the traceback is kept for whoever fixes the bug."""
    import traceback

    from reelsheet.errors import ConfigurationError
    from reelsheet.redaction import clean
    from reelsheet.settings import state_home

    key = os.environ.get("VIBEDREAM_API_KEY", "")
    try:
        log = state_home() / "unexpected-error.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(traceback.format_exception(error)).splitlines()
        log.write_text("\n".join(clean(line, (key,), limit=2000) for line in lines) + "\n", encoding="utf-8")
        where = f" Details are in {log}."
    except (OSError, ConfigurationError):
        where = ""
    print_message(
        f"Unexpected error ({clean(f'{type(error).__name__}: {error}', (key,))}).{where} "
        "Nothing is lost: run the same command again, and report the error if it comes back."
    )
    return 3


def print_message(text: str) -> None:
    """One line for people, on stderr, with nothing in it that a terminal would obey."""
    from reelsheet.redaction import visible

    sys.stderr.write(f"reelsheet: {visible(text)}\n")


def print_json(value: "Mapping[str, Any]") -> None:
    """One object on a line of stdout, for scripts."""
    import json

    sys.stdout.write(json.dumps(value) + "\n")


def verb_first(arguments: list[str], app: "App") -> list[str]:
    """`reelsheet --json run m.csv` means `reelsheet run --json m.csv`."""
    if not arguments or not arguments[0].startswith("-"):
        return arguments
    verbs = verbs_of(app)
    for position, word in enumerate(arguments):
        if word in verbs and (position == 0 or not _takes_value(arguments[position - 1], app)):
            return [word, *arguments[:position], *arguments[position + 1 :]]
    return arguments


def _takes_value(word: str, app: "App") -> bool:
    """Whether `word` is a flag whose value is the word after it."""
    arguments = [argument for verb in verbs_of(app) for argument in app[verb].assemble_argument_collection()]
    return any(word in argument.names and argument.hint is not bool for argument in arguments)


def verbs_of(app: "App") -> list[str]:
    """Every verb, without the flags that stand beside them."""
    return [name for name in app if not name.startswith("-")]
