"""REELSHEET_S3_EXTRA_ARGS: what a bucket's policy demands of each object, in boto3's words.

storage reads it from the environment, as boto3 reads AWS_*; Settings checks it before anything is spent.
"""

import json
import os
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from reelsheet.errors import ConfigurationError

NAME: Final = "REELSHEET_S3_EXTRA_ARGS"

# fmt: off
_TEXTS: Final = frozenset({
    "ACL", "CacheControl", "ContentDisposition", "ContentLanguage", "ExpectedBucketOwner", "GrantFullControl",
    "GrantRead", "GrantReadACP", "GrantWriteACP", "ObjectLockEventHold", "ObjectLockLegalHoldStatus", "ObjectLockMode",
    "RequestPayer", "SSEKMSEncryptionContext", "SSEKMSKeyId", "ServerSideEncryption", "StorageClass", "Tagging",
    "WebsiteRedirectLocation",
})
_TIMES: Final = frozenset({"Expires", "ObjectLockRetainUntilDate"})
_FLAGS: Final = frozenset({"BucketKeyEnabled"})
_NUMBERS: Final = frozenset({"ObjectLockEventHoldDurationDays", "ObjectLockEventHoldDurationYears"})
_OURS: Final = frozenset({
    "Body", "Bucket", "ChecksumAlgorithm", "ContentEncoding", "ContentLength", "ContentMD5", "ContentType", "IfMatch",
    "IfNoneMatch", "Key", "Metadata", "WriteOffsetBytes",
})
# fmt: on
_EXAMPLE: Final = '{"ServerSideEncryption": "aws:kms"}'


def parse(text: str) -> dict[str, Any]:
    """Arguments of boto3's put_object. Raises ValueError, with a sentence."""
    try:
        given = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(f"{NAME} must be a JSON object like {_EXAMPLE}")  # noqa: TRY004 - pydantic takes ValueError
    for name, value in given.items():
        _check(name, value)
    return given


@lru_cache(maxsize=32)
def _parsed(text: str) -> dict[str, Any]:
    try:
        return parse(text) if text else {}
    except ValueError as error:
        raise ConfigurationError(f"The settings cannot be used: {error}.") from None


def current() -> dict[str, Any]:
    """What this process's environment says. Raises ConfigurationError."""
    return _parsed(os.environ.get(NAME, "").strip())


def _check(name: str, value: object) -> None:
    if name in _OURS or name.startswith("Checksum"):
        raise ValueError(f"{NAME} must not hold {name}, which reelsheet sets itself")
    if name.startswith("SSECustomer"):
        raise ValueError(f"{NAME} must not hold {name}: nobody could open a link to a clip under a key of your own")
    if name in _FLAGS:
        fits, kind = isinstance(value, bool), "true or false"
    elif name in _NUMBERS:
        fits, kind = isinstance(value, int) and not isinstance(value, bool) and value > 0, "a whole number"
    elif name in _TIMES:
        fits, kind = isinstance(value, str) and _is_time(value), 'a time like "2027-01-31T00:00:00Z"'
    elif name in _TEXTS:
        fits, kind = isinstance(value, str) and value != "" and value.isprintable(), "text in quotes"
    else:
        known = ", ".join(sorted(_TEXTS | _TIMES | _FLAGS | _NUMBERS))
        raise ValueError(f"{NAME} holds {name[:60]!r}, which is not one of: {known}")
    if not fits:
        raise ValueError(f"{NAME}: the value of {name} must be {kind}")


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(name)
