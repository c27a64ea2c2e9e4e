"""A flow whose parameters show as a form: Prefect reads their descriptions from the docstring, and only there."""

import inspect
from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from prefect import Flow
from pydantic.fields import FieldInfo

P = ParamSpec("P")
R = TypeVar("R")


def form(name: str, *, run_name: Callable[[], str]) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """`flow`, with the sentences of the parameters' `Field(description=…)` where Prefect looks for them.

    No retries and no kept results: the ledger knows better what was done.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        about = inspect.getdoc(function) or ""
        function.__doc__ = f"{about}\n\nArgs:\n" + "".join(
            f"    {parameter}: {sentence}\n" for parameter, sentence in sentences(function).items()
        )
        return Flow(
            function,
            name=name,
            description=about,
            flow_run_name=run_name,
            validate_parameters=True,
            persist_result=False,
            retries=0,
        )

    return decorate


def sentences(function: Callable[..., object]) -> dict[str, str]:
    """parameter → its description."""
    found: dict[str, str] = {}
    for parameter, hint in get_type_hints(function, include_extras=True).items():
        if get_origin(hint) is Annotated:
            field = next((extra for extra in get_args(hint)[1:] if isinstance(extra, FieldInfo)), None)
            if field is not None and field.description:
                found[parameter] = field.description
    return found
