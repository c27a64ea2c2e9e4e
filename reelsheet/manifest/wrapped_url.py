"""A good address inside something: what programs put around the pictures' addresses that they export."""

import html
import json
import re
from typing import Final

from reelsheet.manifest.image_url import is_address

_ATTRIBUTE: Final = re.compile(r"\b(src|href)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+))", re.IGNORECASE)
_TAG: Final = re.compile(r"<\s*(?:img|a|source|picture|figure)\b", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"(?:https?|s3)://[^\s<>\"“”„«»`]+", re.IGNORECASE)
_AMPERSAND: Final = re.compile(r"&(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)  # also &amp;amp;
_NOTE_BEHIND: Final = re.compile(r"(?<!\s)\s+[(\[][^()\[\]]*[)\]]")  # https://… (front)
_TITLE: Final = re.compile(r"(?<!\s)\s+(?:\"[^\"]*\"|'[^']*')(?=\s*\))")  # ![](https://… "front")
_CLOSING: Final = re.compile(r"[\s\"'“”„«»`<>)\]}.,;:|!]*")
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}
_LONGEST_LABEL: Final = 200  # characters before the address


def unescaped(address: str) -> str:
    """Without the `&amp;` of HTML and XML for `&`."""
    return _AMPERSAND.sub("&", address)


def unwrapped(text: str) -> list[str]:
    """The addresses inside `text`, which is none itself; [] where they are not all that it says."""
    if _TAG.search(text):
        found = [
            (match[1].lower(), html.unescape(match[2] or match[3] or match[4] or ""))
            for match in _ATTRIBUTE.finditer(text)
        ]
        found.sort(key=lambda pair: pair[0] != "src")
        return [address.strip() for _, address in found if is_address(address.strip())]
    if text[:1] in {"[", "{"} and (listed := _in_json(text)):
        return listed
    text = _TITLE.sub("", text)
    matches = list(_ADDRESS.finditer(text))
    before = text[: matches[0].start()] if matches else text
    if (
        not matches
        or "://" in before
        or len(before) > _LONGEST_LABEL
        or re.match(r"\s*[a-z][a-z0-9+.-]*:\S", before, re.IGNORECASE)
    ):
        return []
    addresses = [_bare(match[0], text[match.start() - 1 : match.start()]) for match in matches]
    behind = text[matches[-1].end() :]
    if not _CLOSING.fullmatch(_NOTE_BEHIND.sub("", behind)):
        return []  # it goes on, as an address with spaces does
    return addresses


def _in_json(text: str) -> list[str]:
    try:
        left = [json.loads(text)]
    except (ValueError, RecursionError):
        return []
    found: list[str] = []
    while left:  # the next one is the last
        value = left.pop()
        if isinstance(value, str) and is_address(value):
            found.append(value)
        elif isinstance(value, list | dict):
            left.extend(reversed(value.values() if isinstance(value, dict) else value))
    return found


def _bare(address: str, sign_before: str) -> str:
    """Without what closes the wrapper around it: quotes, full stops, brackets that it does not open itself."""
    address = address.partition("[/")[0]
    if sign_before == "'":
        address = address.partition("'")[0]
    if sign_before in {"*", "_"}:  # **https://…**
        address = address.rstrip(sign_before)
    for sign in (")", "]", "}"):
        # ![](https://…) and [{"url":"https://…"}] close what was opened before
        while (place := _unopened(address, sign)) >= 0:
            address = address[:place]
    return address.rstrip("'.,;:|!\\")


def _unopened(address: str, sign: str) -> int:
    depth = 0
    for place, other in enumerate(address):
        depth += (other == _PAIRS[sign]) - (other == sign)
        if depth < 0:
            return place
    return -1
