"""A flow whose parameters show as a form in Prefect's UI, with the bounds and sentences of `reelsheet.options`."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Annotated, ParamSpec, TypeVar, get_args, get_type_hints

from cyclopts import Parameter
from cyclopts.validators import Number
from prefect import Flow
from pydantic import Field
from pydantic.fields import FieldInfo

from reelsheet.options import NOT_FLOW_PARAMETERS, Options

P = ParamSpec("P")
R = TypeVar("R")


def form(name: str, *, run_name: Callable[[], str]) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """`flow`, with one parameter for each option of a run where the function takes `**options`.

    Prefect reads the parameters' descriptions from the docstring, and only there. No retries and no kept results: the
    ledger knows better what was done.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        signature = _signature(function)
        description = inspect.getdoc(function) or ""
        function.__signature__ = signature  # type: ignore[attr-defined]
        function.__doc__ = f"{description}\n\nArgs:\n" + "".join(
            f"    {parameter.name}: {_sentence(parameter)}\n" for parameter in signature.parameters.values()
        )
        return Flow(
            function,
            name=name,
            description=description,
            flow_run_name=run_name,
            validate_parameters=True,
            persist_result=False,
            retries=0,
        )

    return decorate


def _signature(function: Callable[..., object]) -> inspect.Signature:
    signature = inspect.signature(function, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    takes_options = len(own) < len(signature.parameters)
    return signature.replace(parameters=[*own, *_option_parameters()]) if takes_options else signature


def _option_parameters() -> Iterator[inspect.Parameter]:
    hints = get_type_hints(Options, include_extras=True)
    for option in fields(Options):
        if option.name in NOT_FLOW_PARAMETERS:
            continue
        kind, flag = get_args(hints[option.name])
        yield inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=option.default,
            annotation=Annotated[kind, _field(flag)],
        )


def _field(flag: Parameter) -> FieldInfo:
    validators = flag.validator if isinstance(flag.validator, tuple) else ()
    bounds = next(iter(validators), Number())
    info: FieldInfo = Field(description=flag.help, ge=bounds.gte, le=bounds.lte)
    return info


def _sentence(parameter: inspect.Parameter) -> str:
    info = next(extra for extra in get_args(parameter.annotation) if isinstance(extra, FieldInfo))
    return info.description or ""
