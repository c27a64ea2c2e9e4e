"""What an answer to a poll says of a prediction, as the API's page has it or as other APIs of this kind do.

The page: `id`, a `status` of processing, completed or failed, and `outputs`, a list of addresses. Other words and
places are understood where they can mean one thing only, and named in `odd`. An answer is believed only if it has the
prediction's own id.
"""

import json
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from reelsheet.outcomes import ErrorCode
from reelsheet.provider.classification import ID_NAMES
from reelsheet.provider.error_body import MODERATION, excerpt, read_error, whole_number
from reelsheet.redaction import clean

OUTPUTS_LIMIT: Final = 16
DEPTH_LIMIT: Final = 4  # of objects and lists within each other, around an output's address

COMPLETED: Final = frozenset(
    {"completed", "complete", "succeeded", "succeed", "success", "successful", "done", "finished", "finish"}
)
# completed only if there is an output
WITH_OUTPUTS: Final = frozenset({"ready", "available", "ok", "processed", "finalized"})
MODERATED: Final = frozenset(
    {"nsfw", "moderated", "blocked", "flagged", "content_moderated", "request_moderated", "content_filtered",
     "content_blocked"}
)  # fmt: skip
FAILED: Final = MODERATED | {
    "failed", "fail", "failure", "error", "errored", "cancelled", "canceled", "cancel", "rejected", "expired",
    "timeout", "timed_out", "aborted", "unsuccessful", "terminated", "killed", "denied", "refused",
}  # fmt: skip
RUNNING: Final = frozenset(
    {"processing", "queued", "queueing", "queuing", "pending", "starting", "started", "running", "in_progress",
     "in_queue", "waiting", "created", "submitted", "scheduled", "preparing", "generating", "rendering", "initializing"}
)  # fmt: skip

_ENVELOPES: Final = ("data", "prediction", "result")  # where others put the prediction
_STATUSES: Final = ("status", "state")
_OUTPUTS: Final = ("outputs", "output", "videos", "video", "video_url", "videoUrl", "result", "results", "urls", "url")
_ADDRESSES: Final = (
    "url", "video_url", "videoUrl", "video", "download_url", "downloadUrl", "uri", "href", "src", "link",
    "signed_url", "signedUrl", "file_url", "fileUrl", "file", "mp4",
)  # fmt: skip
_WEB: Final = re.compile(r"\s*https?://", re.IGNORECASE)
_PREFIX: Final = re.compile(r"(?:(?:status|state|job|task|prediction|video|generation)_)+")  # as enumerations write it
_FILM: Final = re.compile(r"\.(?:mp4|mov|m4v|webm)$", re.IGNORECASE)
_STILL: Final = re.compile(r"\.(?:jpe?g|png|gif|webp|avif)$", re.IGNORECASE)

Link = Callable[[object], str]  # an output's address in full; "" for what is none


class Phase(StrEnum):
    """What a poll shows."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    MISSING = "missing"  # 404, 410
    KEY_REFUSED = "key_refused"
    NO_BALANCE = "no_balance"  # a blip for the prediction, which is paid for
    REJECTED = "rejected"  # 400, 422: a bug or a changed API; a 403 about this prediction
    THROTTLED = "throttled"
    BLIP = "blip"  # says nothing of the prediction


@dataclass(frozen=True, slots=True)
class PollResult:
    """One poll."""

    phase: Phase
    message: str = ""  # the provider's or the network's words, cleaned
    outputs: tuple[str, ...] = ()  # addresses
    more_outputs: int = 0  # beyond OUTPUTS_LIMIT
    error_code: ErrorCode = ErrorCode.GENERATION_FAILED
    completed_at: datetime | None = None
    generation_s: float | None = None  # from creation to completion by the provider's clock
    retry_after_s: float | None = None
    gone: bool = False  # 410
    odd: str = ""  # what is not as the API's page says, and was understood


def read_prediction(prediction_id: str, body: bytes, link: Link) -> PollResult:
    """The body of a 200."""
    try:
        data = json.loads(body, parse_int=whole_number)
    except (ValueError, RecursionError):
        return PollResult(Phase.BLIP, "an answer that is no JSON")
    if not isinstance(data, dict):
        return PollResult(Phase.BLIP, "an answer that is no object")
    levels = _about(prediction_id, data)
    if not levels:
        return PollResult(Phase.BLIP, "an answer about another prediction")
    outputs_place, links = _outputs(levels, link)
    statuses = [(name, level[name]) for level in levels for name in _STATUSES if isinstance(level.get(name), str)]
    known = [(name, text, phase) for name, text in statuses if (phase := _phase(text, links)) is not None]
    if not known:
        status = statuses[0][1] if statuses else levels[0].get("status")
        if status is None:
            return PollResult(Phase.RUNNING, "an answer without a status")
        shown = clean(status if isinstance(status, str) else json.dumps(status))[:60]
        return PollResult(Phase.RUNNING, f"an unknown status {shown!r}")
    place, status, phase = known[0]
    if any(other is not phase for _, _, other in known):  # a later answer may say which of them it is
        return PollResult(Phase.RUNNING, "an answer with statuses that contradict each other")
    if phase is Phase.RUNNING:
        return PollResult(Phase.RUNNING)
    completed_at = _moment(_first(levels, "completedAt", "completed_at"))
    odd = [
        f"the status {clean(status)[:60]!r}" if status not in {"completed", "failed"} else "",
        f"the status under {place!r}" if place != "status" else "",
        f"the prediction inside {_envelope_of(data, levels)!r}" if levels[0] is not data else "",
    ]
    if phase is Phase.FAILED:
        message = next((said for level in levels if (said := read_error(dict(level), body, {}).message)), "")
        if not message and (error := _first(levels, "error")):  # in a shape that nobody foresaw
            message = excerpt(json.dumps(error).encode())
        is_moderated = _word(status) in MODERATED or bool(MODERATION.search(message))
        return PollResult(
            Phase.FAILED,
            message or ("" if _word(status) == "failed" else f"status {_word(status)}"),
            error_code=ErrorCode.MODERATED if is_moderated else ErrorCode.GENERATION_FAILED,
            completed_at=completed_at,
            odd=", ".join(filter(None, odd)),
        )
    odd.append(f"the clip under {outputs_place!r}" if links and outputs_place != "outputs" else "")
    created_at = _moment(_first(levels, "createdAt", "created_at"))
    return PollResult(
        Phase.COMPLETED,
        outputs=tuple(links[:OUTPUTS_LIMIT]),
        more_outputs=max(0, len(links) - OUTPUTS_LIMIT),
        completed_at=completed_at,
        generation_s=(completed_at - created_at).total_seconds() if completed_at and created_at else None,
        odd=", ".join(filter(None, odd)),
    )


def _about(prediction_id: str, data: dict[str, Any]) -> list[Mapping[str, Any]]:
    """The objects of an answer that speak of this prediction, the one with its id first; none: it is about another."""
    inner = [level for name in _ENVELOPES if isinstance(level := data.get(name), dict)]
    ours: list[Mapping[str, Any]] = [level for level in (data, *inner) if _id_of(level) == prediction_id]
    if not ours:
        return []
    if ours[0] is data:  # what it envelops, unless that is another's
        return [data, *(level for level in inner if _id_of(level) in {prediction_id, None})]
    return ours


def _id_of(level: Mapping[str, Any]) -> str | None:
    """None: it has none. "": several, or one that is no text."""
    ids = {level[name] if isinstance(level[name], str) else "" for name in ID_NAMES if name in level}
    return None if not ids else ids.pop() if len(ids) == 1 else ""


def _envelope_of(data: dict[str, Any], levels: list[Mapping[str, Any]]) -> str:
    return next(name for name in _ENVELOPES if data.get(name) is levels[0])


def _word(status: str) -> str:
    words = re.sub(r"[\s-]+|(?<=[a-z])(?=[A-Z])", "_", status.strip(" \t\r\n.!"))
    return _PREFIX.sub("", words.casefold(), count=1)


def _phase(status: str, links: list[str]) -> Phase | None:
    """None for a word that nobody has heard of."""
    word = _word(status)
    if word in COMPLETED or (word in WITH_OUTPUTS and links):
        return Phase.COMPLETED
    return Phase.FAILED if word in FAILED else Phase.RUNNING if word in RUNNING else None


def _outputs(levels: list[Mapping[str, Any]], link: Link) -> tuple[str, list[str]]:
    """Where the outputs' addresses are, and which: the first place that has any."""
    for level in levels:
        for name in _OUTPUTS:
            texts = [text for text in _addresses(level.get(name)) if name == "outputs" or _WEB.match(text)]
            if links := [address for text in texts if (address := link(text))]:
                has_objects = not (isinstance(level[name], list) and all(isinstance(one, str) for one in level[name]))
                return _named(name, is_odd=has_objects), _films(links)
    return _only_film(levels, link)


def _only_film(levels: list[Mapping[str, Any]], link: Link) -> tuple[str, list[str]]:
    """Where the only address of a film in the answer is, under whatever name, and that address."""
    ours = {_id_of(levels[0]), None}
    found: dict[str, str] = {}  # address → the place where it was first
    for place, value in ((place, value) for level in levels for place, value in level.items()):
        for text in filter(_WEB.match, _texts(value, ours)):
            if (address := link(text)) and _FILM.search(urlsplit(address).path):
                found.setdefault(address, place)
    if len(found) != 1:
        return "", []
    [(address, place)] = found.items()
    return _named(place, is_odd=True), [address]


def _named(place: str, *, is_odd: bool) -> str:
    return f"{place} (in another form)" if place == "outputs" and is_odd else place


def _texts(value: object, ours: Container[str | None], depth: int = 0) -> Iterator[str]:
    """Every text in a value of JSON, but not in objects whose id is not among `ours`."""
    if isinstance(value, str):
        yield value
    elif depth <= DEPTH_LIMIT and (isinstance(value, list) or (isinstance(value, dict) and _id_of(value) in ours)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one, ours, depth + 1)


def _films(links: list[str]) -> list[str]:
    """Without the pictures among them, which are previews of the others."""
    paths = [urlsplit(link).path for link in links]
    if not any(map(_FILM.search, paths)):
        return links
    return [link for link, path in zip(links, paths, strict=True) if not _STILL.search(path)]


def _addresses(value: object, depth: int = 0) -> Iterator[str]:
    """Of a text, an object with one of the usual names for an address, a list of these, or any of it as JSON."""
    if depth > DEPTH_LIMIT:
        return
    if isinstance(value, str):
        try:
            inner = json.loads(value) if value.lstrip()[:1] in {"[", "{"} else None
        except (ValueError, RecursionError):
            inner = None
        if inner is None:
            yield value
        else:
            yield from _addresses(inner, depth + 1)
    elif isinstance(value, list):
        for one in value:
            yield from _addresses(one, depth + 1)
    elif isinstance(value, dict):
        name = next((name for name in _ADDRESSES if value.get(name)), None) or (
            next((name for name in _OUTPUTS if value.get(name)), None)
        )
        if name is not None:
            yield from _addresses(value[name], depth + 1)


def _first(levels: list[Mapping[str, Any]], *names: str) -> object:
    return next((level[name] for level in levels for name in names if level.get(name)), None)


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no time, or one before the year 1
        return None
    return moment if 2000 <= moment.year < 9999 else None  # later ones cannot be made from a timestamp again
