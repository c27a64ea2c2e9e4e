"""A row's identity: a hash of what the provider would be asked for. One identity is paid for once."""

import hashlib
import json
import re
import unicodedata
from functools import lru_cache

from reelsheet.manifest.image_url import strip_blanks
from reelsheet.manifest.rows import Row
from reelsheet.redaction import unsigned
from reelsheet.settings import Settings, normal_api
from reelsheet.web import share_links

API_DIGITS = 8  # at the end of an identity: two identities with the same ones belong to one API address

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_LINE_END = re.compile(r"\r\n?")


def identity(*, api: str, model: str, image: str, prompt: str | None, expansion: bool | None, take: int) -> str:
    """64 hex digits over API address, model, image, prompt, prompt expansion and take.

    What programs change by themselves does not count: see `image_key` and `prompt_key`. The last digits stand for the
    API's address alone. Raises ValueError where there is no image.
    """
    if not strip_blanks(image) or not api or not model:
        raise ValueError("an identity needs an API address, a model and an image")
    api = normal_api(api)
    request = [api, model, image_key(image), prompt_key(prompt), expansion, take]
    return _digest(request)[:-API_DIGITS] + _api_digits(api)


def identity_of(row: Row, settings: Settings) -> str:
    """The identity of a valid row under these settings."""
    return identity(
        api=settings.base_url,
        model=settings.model,
        image=row.picture.identity if row.picture else row.image,
        prompt=row.prompt,
        expansion=row.expansion,
        take=row.take,
    )


def is_identity(text: str) -> bool:
    return _IDENTITY.fullmatch(text) is not None


def is_of_api(identity: str, api: str) -> bool:
    """True when an identity was made for this API address."""
    return identity.endswith(_api_digits(normal_api(api)))


def image_key(image: str) -> str:
    """An image's address as it counts: without blanks around it and signatures; a share link in one form."""
    return share_links.canonical(unsigned(strip_blanks(image)))


def image_key_of(row: Row) -> str:
    """The image of a row as it counts: of a file, its content."""
    return row.picture.identity if row.picture else image_key(row.image)


def prompt_key(prompt: str | None) -> str | None:
    """A prompt as it counts: line ends are \\n, letters composed (NFC), no blanks around it; None where it is blank."""
    text = unicodedata.normalize("NFC", _LINE_END.sub("\n", prompt or ""))
    return strip_blanks(text) or None


@lru_cache(maxsize=16)
def _api_digits(api: str) -> str:
    return _digest([api])[:API_DIGITS]


def _digest(value: object) -> str:
    return hashlib.sha256(_encode(value).encode()).hexdigest()
