"""Prefect's own settings, tried by reading them: Prefect does not name those that it refuses."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from pydantic import ValidationError

from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.prefect_setup import active_profile
from reelsheet.surroundings.problems import Problem, UnusableSurroundings


def check() -> None:
    """Raises UnusableSurroundings where Prefect does not accept a setting of the environment or of its profile."""
    from pydantic_settings.exceptions import SettingsError

    try:
        with _without_words_of_this_thread():
            from prefect.settings.models.root import Settings

        Settings()
    except ValidationError as error:
        raise UnusableSurroundings(_problems(error)) from None
    except SettingsError as error:
        named = re.search(r'field "(\w+)"', str(error))
        names = _names(named[1] if named else "", None)
        raise UnusableSurroundings([wrong.PREFECT_VALUE(names, reason="it is no JSON")]) from None


@contextmanager
def _without_words_of_this_thread() -> Iterator[None]:
    """Prefect prints the same problem when it is imported, on many lines."""
    quiet = _Quiet(sys.stderr, threading.get_ident())
    before, shown = sys.stderr, cast("TextIO", quiet)
    sys.stderr = shown
    try:
        yield
    finally:
        quiet.thread = None
        if sys.stderr is shown:  # a line that moves may stand in its place meanwhile
            sys.stderr = before


class _Quiet:
    """stderr, except for what `thread` writes."""

    def __init__(self, stream: TextIO, thread: int | None) -> None:
        self._stream, self.thread = stream, thread

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self.thread else self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _problems(error: ValidationError) -> list[Problem]:
    """One for each value; what follows from a wrong one is left out."""
    return [
        wrong.PREFECT_VALUE(
            _names(str(problem["loc"][-1]) if problem["loc"] else "", problem["input"]),
            reason=problem["msg"].removeprefix("Value error, "),
        )
        for problem in error.errors(include_url=False)
        if problem["type"] != "default_factory_not_called"
    ]


def _names(field: str, value: object) -> str:
    """The settings that are meant: with this value, else those whose name ends like the field."""
    given = active_profile().settings | {key: text for key, text in os.environ.items() if key.startswith("PREFECT_")}
    ending = f"_{field.upper()}"
    same = [name for name, text in given.items() if isinstance(value, str) and text == value]
    names = [name for name in same or given if name.endswith(ending)] or same
    return " or ".join(sorted(names)) or f"PREFECT_…{ending}"
