"""What an answer to the POST proves, in one place. Whoever asks "may it be sent again?" asks here.

| what happened                                   | proof        | then                                        |
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

502 and 503 are UNKNOWN too: a gateway says them of an upstream that hung up after it had read the request.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reelsheet.money import quoted_cents

ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,200}")
PROVES_NOTHING = frozenset({408, 409, 425, 499})
NO_CREDIT = frozenset(
    {"insufficient_credits", "insufficient_credit", "insufficient_balance", "insufficient_funds", "insufficient_quota",
     "no_balance", "payment_required", "billing_hard_limit_reached", "quota_exceeded", "out_of_credits"}
)  # fmt: skip
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
    """A POST's outcome. `told` is what the provider said, cleaned; `retry_after` in seconds."""

    proof: SubmitOutcome
    status: int | None = None
    prediction_id: str = ""
    cents: int | None = None
    estimate: Any = None
    told: str = ""
    retry_after: float | None = None
    moderated: bool = False


def classify_response(
    status: int, headers: Mapping[str, str], body: bytes, *, whole: bool, retry_after: float | None
) -> SubmitResult:
    """What a response proves. `whole` is False where the body was cut off or grew beyond what is read."""
    data = _object(body) if whole else None
    told = _told(data, body, headers)
    if 200 <= status < 300:
        found = _id(data, headers) if data is not None or not body.strip() else _id_in_fragment(body)
        if not found:
            return SubmitResult(SubmitOutcome.UNKNOWN, status, told=told or _excerpt(body))
        cents = quoted_cents(data.get("costCents")) if data else None
        return SubmitResult(
            SubmitOutcome.ACCEPTED, status, found, cents, data.get("estimatedTime") if data else None, told, retry_after
        )
    code = _code(data)
    if status == 402 or (400 <= status < 500 and status not in PROVES_NOTHING and code in NO_CREDIT):
        return SubmitResult(SubmitOutcome.NO_BALANCE, status, told=told)
    if status == 429:
        return SubmitResult(SubmitOutcome.THROTTLED, status, told=told, retry_after=retry_after)
    if status in {401, 403}:
        return SubmitResult(SubmitOutcome.KEY_REFUSED, status, told=told)
    if 400 <= status < 500 and status not in PROVES_NOTHING:
        moderated = "moderat" in code or "content_policy" in code or bool(MODERATION.search(told))
        return SubmitResult(SubmitOutcome.REJECTED, status, told=told, moderated=moderated)
    if 300 <= status < 400 and headers.get("location"):
        told = f"a redirect to {_excerpt(headers['location'].encode('utf-8', 'replace'))}, which is never followed"
    return SubmitResult(SubmitOutcome.UNKNOWN, status, told=told)


def usable_id(value: object) -> str:
    """The id where it is one: text of at most 200 safe characters; else ""."""
    return value if isinstance(value, str) and ID.fullmatch(value) else ""


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _id(data: dict[str, Any] | None, headers: Mapping[str, str]) -> str:
    """Where the API's page puts it, else where other APIs of this kind do; never an `id` that is none."""
    data = data or {}
    inner = data.get("data")
    found = usable_id(data.get("id")) or (usable_id(inner.get("id")) if isinstance(inner, dict) else "")
    if found or "id" in data:
        return found
    return _id_in_address(headers.get("location", ""))


def _id_in_address(address: str) -> str:
    """…/predictions/ID → ID."""
    if "/predictions/" not in address:
        return ""
    return usable_id(re.split("[?#]", address)[0].rstrip("/").rpartition("/predictions/")[2])


def _id_in_fragment(body: bytes) -> str:
    """A complete `"id": "…"` of an object that was cut off somewhere behind it."""
    decoder = json.JSONDecoder()
    text = body.decode("utf-8", "replace")
    at = _past(text, 0, "{")
    try:
        while at is not None:
            name, end = decoder.raw_decode(text, at)
            start = _past(text, end, ":")
            if start is None or not isinstance(name, str):
                break
            value, end = decoder.raw_decode(text, start)
            at = _past(text, end, ",")
            if name == "id":
                return usable_id(value)
    except (ValueError, RecursionError):
        pass
    return ""


def _past(text: str, at: int, sign: str) -> int | None:
    """Where the next thing begins behind `sign`; None where something else is there."""
    match = re.compile(rf"\s*{re.escape(sign)}\s*").match(text, at)
    return match.end() if match else None


def _excerpt(body: bytes) -> str:
    """The beginning of a body that says nothing for people, for whoever looks for what it was."""
    from reelsheet.redaction import clean

    return clean(body[:65_536].decode("utf-8", "replace"), limit=160)


def _code(data: dict[str, Any] | None) -> str:
    if data is None:
        return ""
    inner = data.get("error")
    for value in (data.get("code"), inner.get("code") if isinstance(inner, dict) else None, data.get("type"), inner):
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.-]{0,60}", value):
            return value.casefold().replace("-", "_")
    return ""


def _told(data: dict[str, Any] | None, body: bytes, headers: Mapping[str, str]) -> str:
    """The provider's own words, whatever shape they came in; "" where it said nothing for people."""
    from reelsheet.redaction import clean

    if data is not None:
        for value in _words(data):
            return clean(value)
        return ""
    text = body[:65_536].decode("utf-8", "replace")  # more than `clean` keeps: it alone cuts, after masking
    if "html" in headers.get("content-type", "").lower() or text.lstrip()[:1] == "<":
        title = re.search(r"<title[^<>]{0,200}>([^<]{1,2000})", text, re.IGNORECASE)
        return f"a web page: {clean(title[1], limit=200)}" if title else "a web page"
    return clean(text)


def _words(data: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name in ("error", "errors", "message", "detail", "details", "title", "msg", "reason"):
        value = data.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            texts = (value.get(inner) for inner in ("message", "msg", "detail", "error"))
            value = next((text for text in texts if isinstance(text, str)), None)
        if isinstance(value, str) and value.strip():
            found.append(value)
    # The longest says most: {"error": "Unprocessable", "message": "prompt is too long"}.
    return sorted(found, key=len, reverse=True)
