"""What the body of a refusal says, in whatever shape it came: JSON of any form, text, or a web page."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from reelsheet.redaction import clean

SHOWN_BYTES: Final = 65_536  # of a body that is no JSON; `clean` cuts further, after it has masked secrets
MODERATION: Final = re.compile(
    r"\b(moderat\w*|nsfw|safety|content[ _-]polic\w+|flagged|prohibited|sensitive)\b", re.IGNORECASE
)

_EXPLANATIONS: Final = (
    "error", "errors", "message", "detail", "details", "title", "msg", "reason",
    "error_message", "errorMessage", "failure_reason", "failureReason",
)  # fmt: skip
_CODES: Final = ("code", "error_code", "errorCode", "type", "reason", "status", "category", "param", "field", "error")
_CODE: Final = re.compile(r"[A-Za-z][\w.-]{0,60}")
_FIREWALL_TEXT: Final = re.compile(r"\s*error code: 1\d{3}\s*")  # Cloudflare's, for clients that are no browsers

# In these, the "_" of a code is a blank. They choose what people are told and whether the run goes on; they never make
# a row be sent again.
_NO_CREDIT: Final = re.compile(
    r"(insufficient|not enough|out of|no (more|remaining)?) ?(account |remaining )?(credit|balance|fund|quota)"
    r"|(credit|balance|fund)s? (is |are |has been |have been )?(insufficient|too low|exhausted|depleted|used up)"
    r"|\bno balance|payment required|billing (hard limit|details|not active|is not active)",
    re.IGNORECASE,
)
_QUOTA: Final = re.compile(r"quota (limit )?(exceeded|exhausted|reached)|exceeded .{0,40}\bquota", re.IGNORECASE)
_RATE: Final = re.compile(r"per (second|minute|hour)|\brate|requests|concurren|too many|try again|slow", re.IGNORECASE)
_BAD_KEY: Final = re.compile(
    r"(api|access) (key|token) (is |was |has been )?(not valid|invalid|missing|expired|revoked|disabled)"
    r"|(invalid|expired|revoked|missing|unknown) (api|access) (key|token)|\bunauthenticated\b|^unauthorized\b"
    r"|authentication (error|failed|required)",
    re.IGNORECASE,
)
_ABOUT_ROW: Final = re.compile(
    r"moderat|nsfw|content (polic|filter|safety|violation|restriction)|(usage|safety) polic|polic(y|ies) violation"
    r"|acceptable use|guideline|safety|unsafe|flagged|prohibited content|sensitive|sexual|explicit (content|material)"
    r"|violen|copyright|\bprompts?\b|\b(image|picture|photo|img)s?\b(?! ?(to|2) ?video| generation| model)",
    re.IGNORECASE,
)
_ABOUT_ACCOUNT: Final = re.compile(
    r"\bapi ?keys?\b|credential|\btoken\b|permission|\bscopes?\b|subscri|\bplan\b|(not |un)authori[sz]ed|\bip\b|country"
    r"|\b(account|user|organi[sz]ation|team|project|workspace|key|address) (is|are|was|were|has been|have been) ",
    re.IGNORECASE,
)
_ACCOUNT_CODE: Final = re.compile(r"\b(key|credential|account|subscription|plan)")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """`message` are the provider's own words, cleaned; `codes` its codes in small letters, blanks between their words.

    `is_page`: a web page, or what a firewall sends in place of one. Whoever wrote it, it was not the API.
    """

    message: str
    codes: str = ""
    is_page: bool = False

    @property
    def says_no_credit(self) -> bool:
        by_words = _NO_CREDIT.search(self.message) and not re.search(r"\bprompt\b", self.message, re.IGNORECASE)
        return bool(_NO_CREDIT.search(self.codes) or by_words)

    @property
    def says_quota_is_used_up(self) -> bool:
        """A quota that does not come back with the next minute."""
        text = f"{self.codes}, {self.message}"
        return bool(_QUOTA.search(text)) and not _RATE.search(text)

    @property
    def names_the_key(self) -> bool:
        return bool(_BAD_KEY.search(self.codes) or _BAD_KEY.search(self.message))

    @property
    def is_about_row(self) -> bool:
        """The content of this row is refused, and not whoever asks."""
        if _ABOUT_ROW.search(self.codes):
            return True
        is_about_account = _ABOUT_ACCOUNT.search(self.message) or _ACCOUNT_CODE.search(self.codes)
        return bool(_ABOUT_ROW.search(self.message)) and not is_about_account

    @property
    def is_moderation(self) -> bool:
        return not self.is_page and bool(MODERATION.search(self.codes) or MODERATION.search(self.message))


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that `body` is; None for anything else."""
    try:
        data = json.loads(body, parse_int=whole_number)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def whole_number(digits: str) -> int | float:
    """Python refuses to read a number of thousands of digits; the answer around it may still hold an id."""
    return int(digits) if len(digits) <= 30 else float(digits)


def read_error(data: dict[str, Any] | None, body: bytes, headers: Mapping[str, str]) -> ErrorBody:
    """`data`: the body as `json_object` read it."""
    if data is not None:
        # The longest says most: {"error": "Unprocessable", "message": "prompt is too long"}.
        message = clean(max(_texts(data), key=len, default=""))
        return ErrorBody(message, ", ".join(_codes(data)), is_page=data.get("cloudflare_error") is True)
    text = body[:SHOWN_BYTES].decode("utf-8-sig", "replace")
    if "html" in headers.get("content-type", "").lower() or text.lstrip()[:1] == "<":
        title = re.search(r"<title[^<>]{0,200}>([^<]{1,2000})", text, re.IGNORECASE)
        message = f"a web page: {clean(title[1], limit=200)}" if title else "a web page"
        return ErrorBody(message, is_page=True)
    return ErrorBody(clean(text), is_page=bool(_FIREWALL_TEXT.fullmatch(text)))


def excerpt(body: bytes) -> str:
    """The beginning of a body that has no message, so that a person can tell what it was; "" if it has no word."""
    text = clean(body[:SHOWN_BYTES].decode("utf-8", "replace"), limit=160)
    return text if re.search(r"\w", text) else ""


def _codes(data: dict[str, Any]) -> Iterator[str]:
    """Every code, of the error itself and of what stands one level deeper."""
    for level in (data, *map(_first, (data.get(name) for name in _EXPLANATIONS))):
        if isinstance(level, dict):
            for value in (level.get(name) for name in _CODES):
                if isinstance(value, str) and _CODE.fullmatch(value):
                    yield re.sub(r"[_.-]+|(?<=[a-z])(?=[A-Z])", " ", value).casefold()


def _texts(data: dict[str, Any]) -> Iterator[str]:
    """Every text that may be the error's explanation."""
    return filter(str.strip, (_text(data.get(name)) for name in _EXPLANATIONS))


def _text(value: object) -> str:
    """A text, a number, the explanation in an object, or else what it names: {"prompt": ["is too long"]}."""
    value = _first(value)
    if not isinstance(value, dict):
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    inner = map(value.get, ("message", "msg", "detail", "error"))
    if text := next((text for text in inner if isinstance(text, str)), ""):
        return text
    named = {name: inner for name, inner in value.items() if not isinstance(_first(inner), dict | list)}
    return "; ".join(f"{name}: {text}" for name, inner in named.items() if (text := _text(inner)))


def _first(value: object) -> object:
    """Of a list of errors, the first one."""
    return value[0] if isinstance(value, list) and value else value
