"""What the answer to a submission proves: the one table that decides whether a row may be submitted again.

| what happened                                   | outcome      | then                                        |
|-------------------------------------------------|--------------|---------------------------------------------|
| no connection, or an error before the first byte| NOT_SENT     | sent again after a pause                    |
| 2xx with a usable id                            | ACCEPTED     | paid; polled, never sent again              |
| 2xx without one, cut off, HTML                  | UNKNOWN      | may be paid; a person decides               |
| 429                                             | THROTTLED    | not accepted; sent again when there is room |
| 402, or any 4xx whose code says: no credit      | NO_BALANCE   | not accepted; the run stops submitting      |
| 401, 403                                        | KEY_REFUSED  | not accepted; the run stops submitting      |
| 408, 409, 425, 499                              | UNKNOWN      | proxies say these of requests that arrived  |
| any other 4xx                                   | REJECTED     | not accepted; final for the row             |
| 1xx, 3xx (never followed), 5xx                  | UNKNOWN      | a gateway may have passed it on             |
| anything after the first byte: timeout, cut, RST| UNKNOWN      | may be paid; a person decides               |

502 and 503 are UNKNOWN too: gateways answer so when the provider hung up after it had read the request.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reelsheet.money import quoted_cents
from reelsheet.redaction import clean

PREDICTION_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,200}")
PROVES_NOTHING = frozenset({408, 409, 425, 499})
NO_CREDIT = frozenset(
    {"insufficient_credits", "insufficient_credit", "insufficient_balance", "insufficient_funds", "insufficient_quota",
     "no_balance", "payment_required", "billing_hard_limit_reached", "quota_exceeded", "out_of_credits"}
)  # fmt: skip
BODY_SHOWN_BYTES = 65_536  # of a body that is no JSON; `clean` cuts further, after it has masked secrets
MODERATION = re.compile(
    r"\b(moderat\w*|nsfw|safety|content[ _-]polic\w+|flagged|prohibited|sensitive)\b", re.IGNORECASE
)


class SubmitOutcome(StrEnum):
    """What is certain after a POST."""

    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    KEY_REFUSED = "key_refused"
    NO_BALANCE = "no_balance"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """One submission's outcome, and what the answer says beside it."""

    outcome: SubmitOutcome
    status: int | None = None  # HTTP; None where there was no response
    prediction_id: str = ""
    price_cents: int | None = None  # as quoted
    estimate: Any = None  # `estimatedTime` as it came
    message: str = ""  # the provider's own words, cleaned
    retry_after_s: float | None = None
    moderated: bool = False


def classify_response(
    status: int, headers: Mapping[str, str], body: bytes, *, complete: bool, retry_after_s: float | None
) -> SubmitResult:
    """What a response to a submission proves. `complete` is False where the body was cut off or is too long."""
    data = _json_object(body) if complete else None
    message = provider_message(data, body, headers)
    if 200 <= status < 300:
        prediction_id = _id(data, headers) if data is not None or not body.strip() else _id_in_fragment(body)
        if not prediction_id:
            return SubmitResult(SubmitOutcome.UNKNOWN, status, message=message or _excerpt(body))
        data = data or {}
        return SubmitResult(
            SubmitOutcome.ACCEPTED, status, prediction_id, quoted_cents(data.get("costCents")),
            data.get("estimatedTime"), message, retry_after_s,
        )  # fmt: skip
    code = _error_code(data)
    is_final = 400 <= status < 500 and status not in PROVES_NOTHING
    if status == 402 or (is_final and code in NO_CREDIT):
        return SubmitResult(SubmitOutcome.NO_BALANCE, status, message=message)
    if status == 429:
        return SubmitResult(SubmitOutcome.THROTTLED, status, message=message, retry_after_s=retry_after_s)
    if status in {401, 403}:
        return SubmitResult(SubmitOutcome.KEY_REFUSED, status, message=message)
    if is_final:
        moderated = "moderat" in code or "content_policy" in code or bool(MODERATION.search(message))
        return SubmitResult(SubmitOutcome.REJECTED, status, message=message, moderated=moderated)
    if 300 <= status < 400 and headers.get("location"):
        target = _excerpt(headers["location"].encode("utf-8", "replace"))
        message = f"a redirect to {target}, which is never followed"
    return SubmitResult(SubmitOutcome.UNKNOWN, status, message=message)


def usable_id(value: object) -> str:
    """The prediction id where it is one: text of at most 200 safe characters; else ""."""
    return value if isinstance(value, str) and PREDICTION_ID.fullmatch(value) else ""


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _id(data: dict[str, Any] | None, headers: Mapping[str, str]) -> str:
    """Where the API's page puts it, else where other APIs of this kind do. An unusable `id` is not replaced."""
    data = data or {}
    inner = data.get("data")
    prediction_id = usable_id(data.get("id")) or (usable_id(inner.get("id")) if isinstance(inner, dict) else "")
    if prediction_id or "id" in data:
        return prediction_id
    _, marker, rest = re.split("[?#]", headers.get("location", ""))[0].rstrip("/").rpartition("/predictions/")
    return usable_id(rest) if marker else ""


def _id_in_fragment(body: bytes) -> str:
    """A complete `"id": "…"` in a JSON object that was cut off somewhere behind it."""
    decoder = json.JSONDecoder()
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


def _excerpt(body: bytes) -> str:
    """The beginning of a body that has no message, so that a person can tell what it was."""
    return clean(body[:BODY_SHOWN_BYTES].decode("utf-8", "replace"), limit=160)


def _error_code(data: dict[str, Any] | None) -> str:
    """The error's code in lower case with underscores; "" where there is none."""
    if data is None:
        return ""
    inner = data.get("error")
    for value in (data.get("code"), inner.get("code") if isinstance(inner, dict) else None, data.get("type"), inner):
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.-]{0,60}", value):
            return value.casefold().replace("-", "_")
    return ""


def provider_message(data: dict[str, Any] | None, body: bytes, headers: Mapping[str, str]) -> str:
    """The provider's own words in whatever shape they came, cleaned; "" where there are none for people."""
    if data is not None:
        # The longest says most: {"error": "Unprocessable", "message": "prompt is too long"}.
        return clean(max(_texts(data), key=len, default=""))
    text = body[:BODY_SHOWN_BYTES].decode("utf-8", "replace")
    if "html" in headers.get("content-type", "").lower() or text.lstrip()[:1] == "<":
        title = re.search(r"<title[^<>]{0,200}>([^<]{1,2000})", text, re.IGNORECASE)
        return f"a web page: {clean(title[1], limit=200)}" if title else "a web page"
    return clean(text)


def _texts(data: dict[str, Any]) -> Iterator[str]:
    """Every text that may be the error's explanation."""
    for name in ("error", "errors", "message", "detail", "details", "title", "msg", "reason"):
        value = data.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            texts = (value.get(inner) for inner in ("message", "msg", "detail", "error"))
            value = next((text for text in texts if isinstance(text, str)), None)
        if isinstance(value, str) and value.strip():
            yield value
