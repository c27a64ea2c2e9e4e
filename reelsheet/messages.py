"""The sentences of results and log: each says what happened and what to do."""

from typing import Final

from reelsheet.errors import LedgerError
from reelsheet.money import dollars
from reelsheet.outcomes import ErrorCode, Status, utc
from reelsheet.redaction import clean

NO_KEY: Final = "There is no API key: set VIBEDREAM_API_KEY in the environment or in .env. Nothing was spent."
OTHER_API: Final = (
    "This worker is set up for another provider or model than the run: "
    "give every worker the same VIBEDREAM_BASE_URL and REELSHEET_MODEL."
)
FAILED_BEFORE: Final = "The provider failed this clip in an earlier run; `reelsheet retry` pays for another attempt."
KEY_REFUSED_PAID: Final = (
    "Paid for, but the provider refused the API key when asked for the clip; "
    "fix VIBEDREAM_API_KEY and run again at no cost."
)
INTERRUPTED: Final = "Not attempted: the run stopped before this row; run the same command again to continue."
INTERRUPTED_PAID: Final = "Paid for, but not fetched yet; run the same command again to fetch it at no cost."
PAID_WITHOUT_ID: Final = (
    "Paid for by an earlier run, but nothing here knows its prediction id; ask the provider's support, "
    "or pay again with --fresh. If the row was never paid for, clear its result cells."
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


def not_uploaded(error: BaseException) -> str:
    """The file of a row's picture did not come to the destination."""
    reason = clean(str(error) or type(error).__name__, limit=400).rstrip(".")
    return f"The picture could not be uploaded ({reason}); nothing was paid for this row. Run the same command again."


def unsigned_image(error: BaseException) -> str:
    """No address could be made that the provider can fetch the picture from."""
    reason = clean(str(error), limit=160) or type(error).__name__
    return f"The picture's address could not be prepared for the provider ({reason}); nothing was sent for this row."


def crashed_while_sending(claimed_at: float) -> str:
    """A claim without an id, whose run is gone."""
    return (
        f"The run ended at {utc(claimed_at):%Y-%m-%d %H:%M:%S} UTC while it was sending this row: the clip may be in "
        f"progress and charged. {_SETTLE}"
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


SETTLE_UNKNOWN: Final = (
    "Look for each in the provider's dashboard, and settle it with the id that is shown there, or with --abandon in "
    "place of --id PREDICTION where the dashboard shows none."
)


def refused(http_status: int | None, words: str) -> str:
    """An answered 4xx that concerns this row alone."""
    reason = _after_colon(words)
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


def key_unanswered(words: str) -> str:
    """Nothing was sent yet, and what is sent to a provider that says nothing may be charged."""
    return (
        f"The provider did not answer when it was asked about the API key{_in_brackets(words)}; check "
        "VIBEDREAM_BASE_URL, or run again later. Nothing was sent."
    )


def forbidden(words: str) -> str:
    """A 403 that is not about the row."""
    return (
        f"The provider does not let this API key or its account make clips (HTTP 403{_after_colon(words)}); "
        "check both in the provider's dashboard and run again. Nothing more was sent."
    )


def all_forbidden(count: int, words: str) -> str:
    """Each seemed to be about its row."""
    return (
        f"The provider refused {count} rows in a row with HTTP 403 and accepted none{_in_brackets(words)}, so "
        "submitting was stopped: the API key or its account may be blocked. Check both in the provider's dashboard and "
        "run again."
    )


def firewall(words: str) -> str:
    return (
        f"A firewall answered in the provider's place (HTTP 403{_after_colon(words)}). Nothing more was sent. "
        "Try another network, check VIBEDREAM_BASE_URL, or ask the provider's support to let this address through; "
        "then run again."
    )


def only_web_pages(http_status: int | None, words: str) -> str:
    return (
        f"Several submissions in a row were answered with a web page (HTTP {http_status}{_after_colon(words)}), so "
        "submitting was stopped. Check VIBEDREAM_BASE_URL and the proxy in between, then run again."
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


def name_was_taken(key: str, own_key: str) -> str:
    """Both keys below the destination."""
    return f"{key} is another clip, probably of this row and of another ledger, so this one is stored as {own_key}."


def no_price(quote: str, booked_cents: int) -> str:
    """`quote`: what stood in the price's place."""
    return f"The provider quoted {quote}, which is no price; the clip is booked at {dollars(booked_cents)}."


def excessive_price(expected: int, quoted: int) -> str:
    return (
        f"The provider quotes {dollars(quoted)} for a clip where {dollars(expected)} was expected, so submitting was "
        "stopped. Check the price with the provider; if it is right, set REELSHEET_PRICE_CENTS to it and run again."
    )


def ledger_down(error: LedgerError) -> str:
    return f"{error} Run the same command again when it is fixed."


def other_ledger(shown: str, run_id: str) -> str:
    return f"The ledger at {shown} knows no run {run_id}: every worker needs the same REELSHEET_LEDGER_URL."


def copy_failed(error: BaseException) -> str:
    """An error that nobody foresaw."""
    return (
        f"The clip is ready, but could not be stored: unexpected error ({_named(error)}). "
        "Run again to store it at no cost; report the error if it comes back."
    )


def copies_failed(count: int, last_error: str) -> str:
    return f"{count} clips in a row could not be stored, so submitting was stopped. The last error: {last_error}"


def step_failed(error: BaseException) -> str:
    """An error that nobody foresaw, before there was a clip."""
    return f"Unexpected error ({_named(error)}). Run the same command again; report the error if it comes back."


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


def odd_answer(odd: str) -> str:
    return f"The provider's answer is not as its API's page says, but can mean one thing only: it has {odd}."


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


def _named(error: BaseException) -> str:
    words = clean(str(error), limit=200).rstrip(".")
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _after_colon(words: str) -> str:
    return f": {words.rstrip('.')}" if words else ""


_LEFT_OUT: Final = {
    ErrorCode.HIDDEN: "the row is hidden in the workbook; show it or add --include-hidden, and run again",
    ErrorCode.NOT_CHOSEN: "--where did not choose the row; choose it with --where, and run again",
}


def left_out(code: ErrorCode, status: Status) -> str:
    """A row that was not to be run. `status`: undelivered where its clip is paid for."""
    if status is Status.UNDELIVERED:
        return f"Paid for, but not fetched: {_LEFT_OUT[code]} to fetch it at no cost."
    return f"Not attempted: {_LEFT_OUT[code]}."


def redo_left_out(code: ErrorCode) -> str:
    """Redo is written on a row that was not to be run."""
    return f"Redo was not followed: {_LEFT_OUT[code]}."


def _in_brackets(words: str) -> str:
    return f" ({words})" if words else ""


# Clips that are odd beside their picture or the others


def clip_shape_differs(clip: tuple[int, int], picture: tuple[int, int]) -> str:
    """Sizes in pixels: width, height."""
    sizes = f"{clip[0]} by {clip[1]} pixels, its picture {picture[0]} by {picture[1]}"
    return f"The clip has another shape than its picture: it has {sizes}. Look whether it is cropped or stretched."


def clip_length_differs(seconds: float, usual_seconds: float) -> str:
    return f"The clip is {seconds:.1f} s long, the others of this run are about {usual_seconds:.1f} s; look at it."


def clip_bytes_equal(other: str) -> str:
    """`other` names another row, which asked for something else."""
    return (
        f"The clip is the same file, byte for byte, as that of {other}, which asked for something else; look at both."
    )


# A results table that is given again


REDO_WITHOUT_CELLS: Final = (
    "redo was not followed: the row's cells in the columns identity and attempt, which say what clip is meant, are "
    "missing. Write redo in a results table that still has them."
)
REDO_OF_NOTHING: Final = "redo was not followed: neither this ledger nor the destination knows a paid clip of this row."
REDO_OF_UNKNOWN: Final = (
    "redo was not followed: the row may have been charged already. Settle that first, with `reelsheet resolve` or "
    "--retry-unknown."
)
REDO_OF_UNDELIVERED: Final = (
    "redo was not followed: the clip is paid for, but not here yet. It is fetched at no cost; look at it first, and "
    "write redo in the new results if you want another."
)


def redo_is_over(named: int, latest: int) -> str:
    return (
        f"redo was not followed: attempt {named} was replaced by attempt {latest} already. To replace that one, write "
        "redo in the latest results."
    )


def not_a_review(text: str) -> str:
    return f"The review cell says '{clean(text, limit=40)}', which pays nothing; only the word redo asks for a clip."


def stays_as_paid(differences: str) -> str:
    """`differences`: what reads otherwise, without a full stop."""
    return (
        f"This row was changed after it was paid for: {differences}. It stays as it was, and nothing more is paid. "
        "For a clip of the row as it is now, write redo in its review cell or use --fresh."
    )


def stays_with_problems(problems: str) -> str:
    return f"This row cannot be made as it reads now, and stays as it was paid for. {problems}"


def is_copy(owner: str) -> str:
    return (
        f"This row is a copy of {owner}, whose results it carries, with other text. It is not paid for; clear its "
        "result cells to order it."
    )


def lost_letters(column: str) -> str:
    return (
        f"{column} lost letters when a program saved this table: they read ? now. The row is held back and not sent; "
        "restore the text (a new download of the results has it), and save tables as 'CSV UTF-8'."
    )


NO_PROMPT_SENT: Final = (
    "Column 'prompt_sent' is empty or gone, and this row's run made the prompts with --prompt; write the row's prompt "
    "into that column, or give --prompt again, which makes the prompts of all rows."
)


def cap_below_price(cap: str, price: str) -> str:
    return (
        f"--max-cost {cap} is less than one clip costs ({price}), so nothing is paid for: the rows are skipped "
        "(status skipped, code over_budget). If you wrote $20, the shell took it for something else: write --max-cost "
        "20."
    )


LOST_PROMPT: Final = (
    "The prompt that --prompt made for this row is gone: the table has no column 'prompt_sent' any more. The row is "
    "held back and not sent; take a new download of the results, or give --prompt again."
)


PAID_UNDER_ANOTHER_ADDRESS: Final = (
    "The same row was paid for under another address of its picture. Addresses like this one change with every export, "
    "so reelsheet cannot know if the picture is the same; if it is, take the row out, or run the earlier results."
)


def paid_under_other_addresses(count: int, cost: str) -> str:
    rows = "1 row was" if count == 1 else f"{count:,} rows were"
    return (
        f"{rows} paid for before under another address of the picture and would be paid for again ({cost}): addresses "
        "like these change with every export. If the pictures are the same, run the earlier results instead."
    )


def redo_without_columns(column: str, count: int) -> str:
    cells = "1 cell says" if count == 1 else f"{count:,} cells say"
    return (
        f"{cells} redo in the column {column}, but this sheet lacks the result columns identity and attempt, which "
        "say what clip is meant, so redo was not followed. Write it in a results table that still has them."
    )


# Of kinds of rows, in the plan. {rows}: their count, {names}: the first of them, {cost}: dollars, [one row|several].
EDIT_NOTES: Final = {
    "redone": "{rows} with redo ({names}): [the new clip costs|the new clips cost] {cost}.",
    "renewed": "{rows} [is|are] made again as [it is|they are] now, because of --fresh ({names}): {cost}.",
    "edited": (
        "{rows} changed after [it was|they were] paid for ({names}). [It stays as it was|They stay as they were], and "
        "nothing more is paid. For [a clip of the row as it is|clips of the rows as they are] now ({cost}), write redo "
        "in the review [cell|cells] or use --fresh."
    ),
    "broken": (
        "{rows} cannot be made as [it is|they are] now ({names}). [It was|They were] paid for before; nothing more "
        "is paid."
    ),
    "copy": (
        "{rows} [is a copy|are copies] of other rows with their results ({names}), and not paid for. To order the new "
        "text ({cost}), clear the result cells of [this row|these rows]."
    ),
    "damaged": (
        "{rows} lost letters when a program saved this table ({names}). [It is|They are] held back and not sent "
        "({cost}); restore the text, and save tables as 'CSV UTF-8'."
    ),
    "unrendered": (
        "{rows} lost the prompt that --prompt made ({names}): the column 'prompt_sent' is gone. [It is|They are] held "
        "back and not sent ({cost}); take a new download of the results, or give --prompt again."
    ),
    "foreign": (
        "{rows} [has|have] results of another API address ({names}). Here [it is a new order|they are new orders]: "
        "{cost} where nothing was paid yet."
    ),
}
