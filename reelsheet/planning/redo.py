"""The review cell of a results table: `redo` asks for another clip in place of the one it names; no other word pays."""

import unicodedata
from typing import Final

from reelsheet import messages
from reelsheet.ledger import VACANT, Attempt, State
from reelsheet.manifest.earlier import Earlier
from reelsheet.outcomes import ErrorCode, Status

REDO: Final = "redo"
OK: Final = "ok"
_NOT_TRIED: Final = frozenset({Status.SKIPPED, Status.INVALID, ""})  # such a row is made from its cells anyway
# A paid clip that will not come, however often it is fetched.
_GONE: Final = frozenset({ErrorCode.LOST, ErrorCode.NO_OUTPUT, ErrorCode.ASSET_UNAVAILABLE, ErrorCode.ASSET_CORRUPT})


def word(review: str) -> str:
    """A review cell as it counts: without case, blanks and punctuation. "REDO!" → "redo"."""
    return "".join(sign for sign in review if unicodedata.category(sign)[0] not in "ZPC").casefold()


def is_asked(earlier: Earlier | None) -> bool:
    return earlier is not None and word(earlier.review) == REDO


def is_heard(earlier: Earlier | None, latest: Attempt | None) -> bool:
    """A person asks for another clip in place of this very attempt, and may have it."""
    if earlier is None or latest is None or earlier.attempt != latest.number:
        return False
    return is_asked(earlier) and refusal(earlier, latest) is None


def refusal(earlier: Earlier, latest: Attempt | None, *, is_edited: bool = False) -> str | None:
    """Why redo pays nothing, as a sentence; None where it pays, or where the row is made anyway.

    `latest` is the latest attempt of the identity that the row names. `is_edited`: the row asks for something else by
    now, so that the clip of that attempt would not be the one that is wanted.
    """
    if earlier.status in _NOT_TRIED and earlier.attempt is None:
        return None
    if not earlier.identity or earlier.attempt is None:
        return messages.REDO_WITHOUT_CELLS
    if latest is None:
        return messages.REDO_OF_NOTHING
    if latest.state in VACANT:
        return None
    if latest.number != earlier.attempt:
        return messages.redo_is_over(earlier.attempt, latest.number)
    if is_edited:
        return None
    if latest.state in {State.UNKNOWN, State.CLAIMED}:
        return messages.REDO_OF_UNKNOWN
    is_undelivered = latest.state == State.SUBMITTED or earlier.status == Status.UNDELIVERED
    if is_undelivered and latest.state != State.FAILED and earlier.error_code not in _GONE:
        return messages.REDO_OF_UNDELIVERED
    return None
