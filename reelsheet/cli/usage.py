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

_KINDS: Final = {int: "a whole number", float: "a number"}
_BOUNDS: Final = {"Must be >= ": "must be at least ", "Must be <= ": "must be at most "}


def sentence(error: CycloptsError, app: App) -> str:
    """One sentence, without the hint where to read more."""
    match error:
        case MissingArgumentError(argument=argument) if argument is not None:
            return _missing(error.keyword or argument.name, " ".join(error.command_chain or ()))
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
            _, _, hint = _one_line(error).partition(" Did you mean ")
            return f"There is no {token.keyword or token.value}." + (f" Did you mean {hint}" if hint else "")
        case UnknownCommandError(unused_tokens=[first, *_]):
            return _no_verb(first, app)
        case RepeatArgumentError(token=token):
            return f"{token.keyword} is given twice."
        case _:
            text = _one_line(error)
            return text if text.endswith((".", "?")) else f"{text}."


def _missing(name: str, verb: str) -> str:
    if name.startswith("-"):
        return f"{name} needs a value after it."
    return f"`reelsheet {verb}` needs {name}."


def _no_verb(word: str, app: App) -> str:
    if word.startswith("-"):
        return f"{word} needs a verb beside it, such as run."
    close = difflib.get_close_matches(word, [name for name in app if not name.startswith("-")], n=1)
    return f"There is no verb {word!r}." + (f" Did you mean {close[0]}?" if close else "")


def _one_line(error: CycloptsError) -> str:
    return " ".join(str(error).split())
