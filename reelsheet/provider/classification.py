"""What the answer to a submission proves: the one table that decides whether a row may be submitted again.

| what happened                                   | outcome      | then                                        |
|-------------------------------------------------|--------------|---------------------------------------------|
| no connection, or an error before the first byte| NOT_SENT     | sent again after a pause                    |
| 2xx with a usable id                            | ACCEPTED     | paid; polled, never sent again              |
| 2xx without one, cut off, HTML                  | UNKNOWN      | may be paid; a person decides               |
| 402, or any 4xx whose body says: no credit      | NO_BALANCE   | not accepted; the run stops submitting      |
| 429                                             | THROTTLED    | not accepted; sent again when there is room |
| 401, or a 400 or 422 whose body names the key    | KEY_REFUSED  | not accepted; the run stops submitting      |
| 403 with a web page                             | FIREWALL     | not accepted; the run stops submitting      |
| 403 about this row: its content, its picture    | REJECTED     | not accepted; five in a row stop the run    |
| any other 403                                   | KEY_REFUSED  | not accepted; the run stops submitting      |
| 408, 409, 425, 499                              | UNKNOWN      | proxies say these of requests that arrived  |
| any other 4xx                                   | REJECTED     | not accepted; final for the row             |
| 1xx, 3xx (never followed), 5xx                  | UNKNOWN      | a gateway may have passed it on             |
| anything after the first byte: timeout, cut, RST| UNKNOWN      | may be paid; a person decides               |

502 and 503 are UNKNOWN too: gateways answer so when the provider hung up after it had read the request.
A poll asks the same table what a 4xx is about (`Refusal`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reelsheet.money import quoted_cents
from reelsheet.provider.error_body import ErrorBody, excerpt, json_object, read_error, whole_number
from reelsheet.redaction import clean

ID_NAMES = ("id", "prediction_id", "predictionId")  # the API's page has the first
PREDICTION_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,200}")
PROVES_NOTHING = frozenset({408, 409, 425, 499})


class SubmitOutcome(StrEnum):
    """What is certain after a POST."""

    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    KEY_REFUSED = "key_refused"
    NO_BALANCE = "no_balance"
    FIREWALL = "firewall"
    UNKNOWN = "unknown"


class Refusal(StrEnum):
    """What an answered 4xx is about."""

    ROW = "row"
    KEY = "key"
    BALANCE = "balance"
    RATE = "rate"
    FIREWALL = "firewall"
    NOTHING = "nothing"  # it proves nothing


_OUTCOMES = {
    Refusal.ROW: SubmitOutcome.REJECTED,
    Refusal.KEY: SubmitOutcome.KEY_REFUSED,
    Refusal.BALANCE: SubmitOutcome.NO_BALANCE,
    Refusal.RATE: SubmitOutcome.THROTTLED,
    Refusal.FIREWALL: SubmitOutcome.FIREWALL,
    Refusal.NOTHING: SubmitOutcome.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """One submission's outcome, and what the answer says beside it."""

    outcome: SubmitOutcome
    status: int | None = None  # HTTP; None where there was no response
    prediction_id: str = ""
    price_cents: int | None = None  # as quoted; None: not at all, or not as a price
    odd_quote: str = ""  # a quote that is no price, for people
    estimate: Any = None  # `estimatedTime` as it came
    message: str = ""  # the provider's own words, cleaned
    retry_after_s: float | None = None
    moderated: bool = False  # it speaks of content that is not allowed
    is_page: bool = False  # a web page said it, not the API


def classify_response(
    status: int, headers: Mapping[str, str], body: bytes, *, complete: bool, retry_after_s: float | None
) -> SubmitResult:
    """What a response to a submission proves. `complete` is False where the body was cut off or is too long."""
    data = json_object(body) if complete else None
    error = read_error(data, body, headers)
    message = error.message or excerpt(body)
    if 200 <= status < 300:
        prediction_id = _id(data, headers) if data is not None or not body.strip() else _id_in_fragment(body)
        if not prediction_id:
            return SubmitResult(SubmitOutcome.UNKNOWN, status, message=message)
        data = data or {}
        quote = data.get("costCents")
        price_cents = quoted_cents(quote)
        return SubmitResult(
            SubmitOutcome.ACCEPTED, status, prediction_id, price_cents, _shown(quote) if price_cents is None else "",
            data.get("estimatedTime"), message, retry_after_s,
        )  # fmt: skip
    if 300 <= status < 400 and headers.get("location"):
        target = excerpt(headers["location"].encode("utf-8", "replace"))
        message = f"a redirect to {target}, which is never followed"
    return SubmitResult(
        _OUTCOMES[refusal(status, error, retry_after_s)], status, message=message, retry_after_s=retry_after_s,
        moderated=error.is_moderation, is_page=error.is_page,
    )  # fmt: skip


def refusal(status: int, error: ErrorBody, retry_after_s: float | None) -> Refusal:
    """What a 4xx is about, by its status and its body; the answer to a POST and to a GET mean the same."""
    if not 400 <= status < 500 or status in PROVES_NOTHING:
        return Refusal.NOTHING
    if status == 402 or (not error.is_page and error.says_no_credit):
        return Refusal.BALANCE
    if status == 401:
        return Refusal.KEY
    if error.is_page:  # only the status counts: the words are those of a firewall or a proxy
        return {403: Refusal.FIREWALL, 429: Refusal.RATE}.get(status, Refusal.ROW)
    if error.says_quota_is_used_up and retry_after_s is None:
        return Refusal.BALANCE
    if status == 429:
        return Refusal.RATE
    if status == 403:
        return Refusal.ROW if error.is_about_row else Refusal.KEY
    return Refusal.KEY if status in {400, 422} and error.names_the_key else Refusal.ROW


def _shown(quote: object) -> str:
    """What stands in a price's place; "" for nothing."""
    if quote is None or isinstance(quote, dict | list):
        return "" if quote is None else "a list or an object"
    return clean(json.dumps(quote), limit=60)


def usable_id(value: object) -> str:
    """The prediction id where it is one: text of at most 200 safe characters; else ""."""
    return value if isinstance(value, str) and PREDICTION_ID.fullmatch(value) else ""


def _id(data: dict[str, Any] | None, headers: Mapping[str, str]) -> str:
    """Where the API's page puts it, else where other APIs of this kind do. An unusable `id` is not replaced."""
    data = data or {}
    inner = data.get("data")
    levels = (data, inner) if isinstance(inner, dict) else (data,)
    found = [next((level[name] for name in ID_NAMES if name in level), None) for level in levels]
    prediction_id = next(filter(None, map(usable_id, found)), "")
    if prediction_id or "id" in data:
        return prediction_id
    _, marker, rest = re.split("[?#]", headers.get("location", ""))[0].rstrip("/").rpartition("/predictions/")
    return usable_id(rest) if marker else ""


def _id_in_fragment(body: bytes) -> str:
    """A complete `"id": "…"` in a JSON object that was cut off somewhere behind it."""
    decoder = json.JSONDecoder(parse_int=whole_number)
    text = body.decode("utf-8", "replace")
    position = _skip(text, 0, "{")
    try:
        while position is not None:
            name, end = decoder.raw_decode(text, position)
            start = _skip(text, end, ":")
            if start is None or not isinstance(name, str):
                break
            value, end = decoder.raw_decode(text, start)
            position = _skip(text, end, ",")
            if name == "id":
                return usable_id(value)
    except (ValueError, RecursionError):
        pass
    return ""


def _skip(text: str, position: int, sign: str) -> int | None:
    """The position behind `sign` and the blanks around it; None where something else stands there."""
    match = re.compile(rf"\s*{re.escape(sign)}\s*").match(text, position)
    return match.end() if match else None
