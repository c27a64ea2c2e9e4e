"""What a results file that is fed back says of a row."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_ATTEMPT: Final = re.compile(r"([0-9]{1,15})(?:[.,]0*)?")  # with the decimals that a program added


def attempt_of(cell: str) -> int | None:
    """The number of an attempt; None where a cell holds none."""
    match = _ATTEMPT.fullmatch(cell)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Earlier:
    """The cells of the result columns, as far as a later run needs them; "" for those that are not there."""

    status: str
    attempt: int | None
    identity: str
    prediction_id: str
    review: str
    error_code: str = ""
    run_id: str = ""
    error: str = ""
    image_sha256: str = ""
    image_input: str = ""

    @classmethod
    def of(cls, cell: Callable[[str], str]) -> "Earlier":
        """`cell`: a result column's name → its cell."""
        return cls(
            status=cell("status").casefold(),
            attempt=attempt_of(cell("attempt")),
            identity=cell("identity"),
            prediction_id=cell("prediction_id"),
            review=cell("review"),
            error_code=cell("error_code").casefold(),
            run_id=cell("run_id"),
            error=cell("error"),
            image_sha256=cell("image_sha256"),
            image_input=cell("image_input"),
        )
