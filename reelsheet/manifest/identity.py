"""A row's identity: a hash of what the provider would be asked for. One identity is paid for once."""

import hashlib
import json

from reelsheet.manifest.rows import Row
from reelsheet.redaction import unsigned
from reelsheet.settings import Settings

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def identity(*, api: str, model: str, image: str, prompt: str | None, expansion: bool | None, take: int) -> str:
    """64 hex digits over API address, model, image, prompt, prompt expansion and take.

    `image` is the address as the sheet gives it; signature parameters do not count, so that
    the same picture presigned twice is one. Raises ValueError where there is no image.
    """
    if not image.strip() or not api or not model:
        raise ValueError("an identity needs an API address, a model and an image")
    request = [api.rstrip("/"), model, unsigned(image), prompt or None, expansion, take]
    return hashlib.sha256(_encode(request).encode()).hexdigest()


def identity_of(row: Row, settings: Settings) -> str:
    """The identity of a valid row under these settings."""
    return identity(
        api=settings.base_url,
        model=settings.model,
        image=row.image,
        prompt=row.prompt,
        expansion=row.expansion,
        take=row.take,
    )
