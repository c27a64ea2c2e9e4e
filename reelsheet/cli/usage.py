"""What is wrong with a command line, in one sentence and in the words of `--help`."""

import difflib
from typing import Final

from cyclopts import App, CycloptsError
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from reelsheet.cli import verbs_of

# Flags that pay, that let money be spent without a question, or that allow paying again.
SPENDING: Final = frozenset(
    {"--yes", "--fresh", "--retry-unknown", "--new-run", "--include-hidden", "--abandon", "--no-preflight"}
)
_SYNONYMS: Final = {
    **dict.fromkeys(("dest", "destination", "output", "out", "target", "bucket", "folder", "dir"), "--to"),
    **dict.fromkeys(("budget", "cap", "cost", "max", "max-price", "max-usd", "max-cost-usd"), "--max-cost"),
    **dict.fromkeys(("tab", "worksheet"), "--sheet"),
    **dict.fromkeys(("filter", "only"), "--where"),
    "max-rows": "--limit",
    "parallel": "--concurrency",
    "timeout": "--deadline",
}
_KINDS: Final = {int: "a whole number", float: "a number"}
_BOUNDS: Final = {"Must be >= ": "must be at least ", "Must be <= ": "must be at most "}


def sentence(error: CycloptsError, app: App) -> str:
    """One sentence, without the hint where to read more."""
    verb = " ".join(error.command_chain or ())
    match error:
        case MissingArgumentError(argument=argument) if argument is not None:
            name = error.keyword or argument.name
            return f"{name} needs a value after it." if name.startswith("-") else f"`reelsheet {verb}` needs {name}."
        case UnusedCliTokensError(unused_tokens=[first, *_]):
            return f"{first!r} is one word too many; put text with spaces in quotes."
        case CoercionError(token=token) if token is not None:
            kind = _KINDS.get(error.target_type or str, "no value")
            return f"{token.keyword or 'That'} takes {kind}, not {token.value!r}."
        case ValidationError(argument=argument, exception_message=message) if argument is not None:
            for sign, words in _BOUNDS.items():
                message = message.replace(sign, words)
            return f"{argument.name} {message}"
        case UnknownOptionError(token=token):
            word = token.keyword or token.value
            hint = _meant(word, verb, app)
            return f"There is no {word}." + (f" Did you mean {hint}?" if hint else "")
        case UnknownCommandError(unused_tokens=[first, *_]):
            return _no_command(first, app)
        case RepeatArgumentError(token=token):
            return f"{token.keyword} is given twice."
        case _:
            text = " ".join(str(error).split())
            return text if text.endswith((".", "?")) else f"{text}."


def _meant(word: str, verb: str, app: App) -> str:
    """The flag of a verb that is spelt most like `word`, or that has this meaning; "" where there is none.

    A flag that spends, or leads to spending, is never suggested: who takes a hint has not read what it does.
    """
    if verb not in app:
        return ""
    arguments = app[verb].assemble_argument_collection()
    flags = [name for argument in arguments for name in argument.names if name.startswith("--")]
    flags = [flag for flag in flags if flag not in SPENDING and not flag.startswith("--no-")]
    plain = word.partition("=")[0].lower()
    if (same := _SYNONYMS.get(plain.strip("-"))) in flags:
        return str(same)
    return next(iter(difflib.get_close_matches(plain, flags, n=1, cutoff=0.7)), "")


def _no_command(word: str, app: App) -> str:
    if word.startswith("-"):
        return f"{word} needs a command beside it, such as run."
    close = difflib.get_close_matches(word, verbs_of(app), n=1)
    return f"There is no command {word!r}." + (f" Did you mean {close[0]}?" if close else "")
