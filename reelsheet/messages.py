"""What people are told: what happened, and what to do, in words of one careful person."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reelsheet.money import dollars
from reelsheet.redaction import clean

if TYPE_CHECKING:
    from reelsheet.errors import LedgerError
    from reelsheet.ledger import Attempt, OverBudget
    from reelsheet.provider.classification import SubmitResult
    from reelsheet.provider.client import PollResult


def no_answer(answer: "SubmitResult") -> str:
    """The POST's answer proves nothing."""
    if answer.status is None:
        happened = answer.message or "no answer"
    else:
        happened = f"HTTP {answer.status}" + (f", {answer.message}" if answer.message else "")
        if 200 <= answer.status < 300:
            happened += ", without an id that could be read"
    return f"Sent, but the answer was lost ({happened}): it may be running and charged. {_SETTLE}"


def unsigned_image(error: BaseException) -> str:
    """The picture's own address could not be made into one that the provider can fetch."""
    told = clean(str(error), limit=160) or type(error).__name__
    return f"The picture's address could not be prepared for the provider ({told}); nothing was sent for this row."


def crashed_while_sending(attempt: "Attempt") -> str:
    """A claim without an id."""
    at = datetime.fromtimestamp(attempt.claimed_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"The run ended at {at} UTC just while this row was being sent: it may be running and charged. {_SETTLE}"


def sent_by_another(attempt: "Attempt") -> str:
    """A claim of a run that is alive, for which this one did not wait to the end."""
    return (
        f"Run {attempt.run_id} was sending this row while this one ended: it may be running and charged. "
        "Repeat the command to see what became of it, at no cost."
    )


_SETTLE = (
    "Look in the provider's dashboard, then `reelsheet resolve` it with the prediction's id or --abandon, "
    "or accept a second charge with --retry-unknown."
)


def refused(answer: "SubmitResult") -> str:
    """A 4xx of this row's own."""
    told = f": {answer.message.rstrip('.')}" if answer.message else ""
    if answer.status in {404, 405}:
        todo = "If every row says so, check VIBEDREAM_BASE_URL and REELSHEET_MODEL; else change the row, and run again."
    else:
        todo = "Change the picture's address or the prompt, and run again."
    return f"The provider did not accept this row (HTTP {answer.status}{told}). Nothing was charged. {todo}"


def generation_failed(look: "PollResult") -> str:
    """The provider's verdict."""
    told = look.message.rstrip(".") if look.message else "no reason given"
    return (
        f"The provider could not make this clip: {told}. It may have been charged; change the picture or the prompt, "
        "or use `reelsheet retry` for another paid try."
    )


def failed_before() -> str:
    return "The provider failed this clip in an earlier run; `reelsheet retry` pays for another try."


def key_refused(told: str) -> str:
    said = f" ({told})" if told else ""
    return f"The provider refused the API key{said}; check VIBEDREAM_API_KEY and run again. Nothing more was sent."


def key_refused_paid() -> str:
    return (
        "Paid for, but the provider refused the API key when asked for the clip; "
        "mend VIBEDREAM_API_KEY and run again at no cost."
    )


def no_balance(told: str) -> str:
    said = f" ({told})" if told else ""
    return f"The provider account has no balance left{said}; top it up and run the same command again."


def unreachable(told: str) -> str:
    said = f" ({told})" if told else ""
    return (
        f"The provider could not be reached{said}; nothing was sent. "
        "Check the network and VIBEDREAM_BASE_URL, then run again."
    )


def provider_down(told: str) -> str:
    said = f" ({told})" if told else ""
    return (
        f"Several submissions in a row had no definite answer{said}, so submitting was stopped; "
        "run again when the provider is well."
    )


def all_failed(count: int, told: str) -> str:
    return f"The first {count} predictions have all failed, so submitting was stopped. The last one: {told}"


def rate_limited(seconds: float | None) -> str:
    when = "" if seconds is None else f" and asks for a pause of {seconds / 60:.0f} minutes or more"
    return f"The provider refuses more submissions for now (HTTP 429){when}; run the same command again later."


def over_budget(over: "OverBudget", price_cents: int) -> str:
    which = "--max-cost" if over.which == "run" else "REELSHEET_DAILY_CAP_USD"
    return (
        f"Not attempted: another {dollars(price_cents)} would pass the cap of {dollars(over.cap_cents)}; "
        f"raise {which} and run again to go on."
    )


def other_price(expected: int, quoted: int) -> str:
    return (
        f"The provider quotes {dollars(quoted)} a clip where {dollars(expected)} was expected; "
        "the cap is held with the new price."
    )


def ledger_down(error: "LedgerError") -> str:
    return f"{error} Run the same command again when it is mended."


def interrupted() -> str:
    return "Not attempted: the run was stopped before this row's turn; run the same command again to go on."


def interrupted_paid() -> str:
    return "Paid for and not collected yet; run the same command again to fetch it at no cost."


def deadline(prediction: str, seconds: float, last: str) -> str:
    said = f" (last answer: {last})" if last else ""
    return (
        f"Still not ready after {seconds:g} s{said}; prediction {prediction} is paid for, "
        "run again later to fetch it at no cost."
    )


def poll_rejected(prediction: str, last: str) -> str:
    return (
        f"The provider does not answer for prediction {prediction} ({last}); it is paid for, "
        "run again later or ask their support."
    )


def lost(prediction: str) -> str:
    return f"Paid for, but the provider does not know prediction {prediction} any more; ask their support about it."


def paid_without_id() -> str:
    return (
        "Paid for by an earlier run, but no prediction id is known here; ask the provider's support, "
        "or `reelsheet run` it to pay again."
    )


def no_output(prediction: str) -> str:
    return (
        f"The provider says that prediction {prediction} is complete but gives no clip; "
        "run again at no cost, or ask their support."
    )


def no_link(prediction: str, told: str) -> str:
    said = f" ({told})" if told else ""
    return f"The provider gave no link to the clip of prediction {prediction}{said}; run again to fetch it at no cost."
