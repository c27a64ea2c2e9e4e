"""The sentences of results and log: each says what happened and what to do."""

from datetime import UTC, datetime
from typing import Final

from reelsheet.errors import LedgerError
from reelsheet.money import dollars
from reelsheet.redaction import clean

NO_KEY: Final = "There is no API key: set VIBEDREAM_API_KEY in the environment or in .env. Nothing was spent."
FAILED_BEFORE: Final = "The provider failed this clip in an earlier run; `reelsheet retry` pays for another attempt."
KEY_REFUSED_PAID: Final = (
    "Paid for, but the provider refused the API key when asked for the clip; "
    "fix VIBEDREAM_API_KEY and run again at no cost."
)
INTERRUPTED: Final = "Not attempted: the run stopped before this row; run the same command again to continue."
INTERRUPTED_PAID: Final = "Paid for, but not fetched yet; run the same command again to fetch it at no cost."
PAID_WITHOUT_ID: Final = (
    "Paid for by an earlier run, but no prediction id is known here; ask the provider's support, "
    "or use `reelsheet run` to pay again."
)


def no_answer(http_status: int | None, words: str) -> str:
    """What came back does not prove whether the row was accepted. `words` are the provider's or the network's."""
    if http_status is None:
        happened = words or "no answer"
    else:
        happened = f"HTTP {http_status}" + (f", {words}" if words else "")
        if 200 <= http_status < 300:
            happened += ", without a readable id"
    return f"Sent, but the answer was lost ({happened}): the clip may be in progress and charged. {_SETTLE}"


def unsigned_image(error: BaseException) -> str:
    """No address could be made that the provider can fetch the picture from."""
    reason = clean(str(error), limit=160) or type(error).__name__
    return f"The picture's address could not be prepared for the provider ({reason}); nothing was sent for this row."


def crashed_while_sending(claimed_at: float) -> str:
    """A claim without an id, whose run is gone."""
    time = datetime.fromtimestamp(claimed_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"The run ended at {time} UTC while it was sending this row: the clip may be in progress and charged. {_SETTLE}"
    )


def sent_by_another(run_id: str) -> str:
    """A claim of a run that is alive; this run ended before it had an answer."""
    return (
        f"Run {run_id} was sending this row when this run ended: the clip may be in progress and charged. "
        "Run the same command again to see what happened to it, at no cost."
    )


_SETTLE = (
    "Look in the provider's dashboard, then use `reelsheet resolve` with the prediction's id or --abandon, "
    "or accept a possible second charge with --retry-unknown."
)


def refused(http_status: int | None, words: str) -> str:
    """An answered 4xx that concerns this row alone."""
    reason = f": {words.rstrip('.')}" if words else ""
    if http_status in {404, 405}:
        advice = (
            "If every row says so, check VIBEDREAM_BASE_URL and REELSHEET_MODEL; else change the row. Then run again."
        )
    else:
        advice = "Change the picture's address or the prompt, and run again."
    return f"The provider did not accept this row (HTTP {http_status}{reason}). Nothing was charged. {advice}"


def generation_failed(words: str) -> str:
    """The prediction failed."""
    reason = words.rstrip(".") or "no reason given"
    return (
        f"The provider could not make this clip: {reason}. It may have been charged; change the picture or the prompt, "
        "or use `reelsheet retry` to pay for another attempt."
    )


def key_refused(words: str) -> str:
    return (
        f"The provider refused the API key{_in_brackets(words)}; check VIBEDREAM_API_KEY and run again. "
        "Nothing more was sent."
    )


def no_balance(words: str) -> str:
    return f"The provider account has no balance left{_in_brackets(words)}; top it up and run the same command again."


def unreachable(words: str) -> str:
    return (
        f"The provider could not be reached{_in_brackets(words)}; nothing was sent. "
        "Check the network and VIBEDREAM_BASE_URL, then run again."
    )


def provider_down(words: str) -> str:
    return (
        f"Several submissions in a row had no definite answer{_in_brackets(words)}, so submitting was stopped; "
        "run again when the provider works again."
    )


def all_failed(count: int, last_error: str) -> str:
    return f"The first {count} predictions all failed, so submitting was stopped. The last error: {last_error}"


def rate_limited(seconds: float | None) -> str:
    when = "" if seconds is None else f" and asks for a pause of {seconds / 60:.0f} minutes or more"
    return f"The provider refuses more submissions for now (HTTP 429){when}; run the same command again later."


def over_budget(cap: str, cap_cents: int, price_cents: int) -> str:
    """`cap`: "run" or "day"."""
    setting = "--max-cost" if cap == "run" else "REELSHEET_DAILY_CAP_USD"
    return (
        f"Not attempted: another {dollars(price_cents)} would go over the cap of {dollars(cap_cents)}; "
        f"raise {setting} and run again to continue."
    )


def other_price(expected: int, quoted: int) -> str:
    return (
        f"The provider quotes {dollars(quoted)} a clip where {dollars(expected)} was expected; "
        "the cap is kept with the new price."
    )


def ledger_down(error: LedgerError) -> str:
    return f"{error} Run the same command again when it is fixed."


def deadline(prediction: str, seconds: float, last: str) -> str:
    waited = f"{seconds:g} s" + (f" (last answer: {last})" if last else "")
    return f"Not ready after {waited}; prediction {prediction} is paid for, run again later to fetch it at no cost."


def poll_rejected(prediction: str, last: str) -> str:
    return (
        f"The provider does not answer for prediction {prediction} ({last}); it is paid for, "
        "run again later or ask their support."
    )


def lost(prediction: str) -> str:
    return f"Paid for, but the provider does not know prediction {prediction} any more; ask their support about it."


def no_output(prediction: str) -> str:
    return (
        f"The provider says that prediction {prediction} is complete but gives no clip; "
        "run again at no cost, or ask their support."
    )


def no_link(prediction: str, words: str) -> str:
    return (
        f"The provider gave no link to the clip of prediction {prediction}{_in_brackets(words)}; "
        "run again to fetch it at no cost."
    )


def _in_brackets(words: str) -> str:
    return f" ({words})" if words else ""
