"""The S3 client, and what its errors mean to a person.

Credentials, region and endpoint are read as boto3 reads them (AWS_*, profiles, roles; AWS_ENDPOINT_URL_S3 for others).
One layer of retries: botocore's own, made explicit here. Nothing else of this project repeats a single S3 request.
"""

import math
import os
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from reelsheet import __version__
from reelsheet.errors import ConfigurationError
from reelsheet.redaction import clean, silence_http_loggers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS: Final = 8  # of one request, with botocore's backoff: about half a minute
CONNECTIONS: Final = 64
ASK_AGAIN: Final = 60.0  # seconds, for a bucket's region where S3 was not reached
_BUILDING: Final = threading.Lock()  # sessions are not safe to build in two threads at once
_REGIONS: Final[dict[tuple[tuple[tuple[str, str], ...], str], tuple[str | None, float]]] = {}  # and until when

_DENIED: Final = frozenset(("AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "403"))
_BAD_KEY: Final = frozenset(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure", "401"))
_EXPIRED: Final = frozenset(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"))
_NO_BUCKET: Final = frozenset(("NoSuchBucket",))
_BAD_NAME: Final = frozenset(("InvalidBucketName", "ParamValidationError"))
_CLOCK: Final = frozenset(("RequestTimeTooSkewed",))
_REGION: Final = frozenset(
    (
        *("PermanentRedirect", "301", "307", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
        *("NoRegionError", "InvalidRegionError"),
        "RecursionError",  # botocore asks for the region of a bucket that has moved, and the answer is that it moved
    )
)
_FULL: Final = frozenset(("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"))
_THROTTLED: Final = frozenset(("SlowDown", "Throttling", "ThrottlingException", "ServiceUnavailable", "503", "429"))
_GARBLED: Final = frozenset(
    (
        *("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
        *("FlexibleChecksumError", "IncompleteBody", "IncompleteReadError", "ResponseStreamingError"),
    )
)
_NO_TRAILERS: Final = frozenset(("MissingContentLength", "411", "NotImplemented", "501"))
_MISSING: Final = frozenset(("NoSuchKey", "NoSuchUpload", "NoSuchObject", "NotFound", "404"))
_CONNECTION: Final = frozenset(
    (
        *("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ReadTimeoutError"),
        *("ProxyConnectionError", "SSLError"),
    )
)
_CREDENTIALS: Final = frozenset(
    (
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        *("SSOTokenLoadError", "UnauthorizedSSOTokenError", "ProfileNotFound", "NoAuthTokenError"),
    )
)
_FATAL: Final = (
    _DENIED | _BAD_KEY | _EXPIRED | _NO_BUCKET | _BAD_NAME | _CLOCK | _REGION | _FULL | _CONNECTION | _CREDENTIALS
)

# what happened and what mends it, after "S3: writing s3://bucket/key "
_SENTENCES: Final[tuple[tuple[frozenset[str], str], ...]] = (
    (_DENIED, "is denied; let these credentials do {permit}."),
    (_NO_BUCKET, "failed, because there is no bucket {bucket}; create it or correct its name."),
    (_EXPIRED, "failed, because the AWS credentials have expired; sign in again and repeat the command."),
    (_BAD_KEY, "failed, because the AWS key is not accepted ({code}); check AWS_ACCESS_KEY_ID and its secret."),
    (
        _CREDENTIALS,
        (
            "failed, because there are no usable AWS credentials ({code}); "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and sign in."
        ),
    ),
    (_CLOCK, "failed, because this machine's clock is {skew}; set the clock and repeat the command."),
    (_REGION, "failed, because the bucket is in {region}; set AWS_DEFAULT_REGION to it."),
    (_BAD_NAME, "failed, because {bucket!r} is not a possible bucket name; correct the destination."),
    (_FULL, "failed, because the storage is full ({code}); make room or use another destination."),
    (_CONNECTION, "failed, because {where} cannot be reached ({code}); check the network and AWS_ENDPOINT_URL_S3."),
    (_THROTTLED, "failed, because S3 asks to slow down ({code}); repeat the command later, at no cost."),
    (
        _GARBLED,
        (
            "failed its checksum or was cut ({code}); repeat the command, and if that persists "
            "set AWS_REQUEST_CHECKSUM_CALCULATION and AWS_RESPONSE_CHECKSUM_VALIDATION to when_required."
        ),
    ),
    (_NO_TRAILERS, "is beyond this endpoint ({code}); set AWS_REQUEST_CHECKSUM_CALCULATION=when_required."),
    (_MISSING, "failed, because it is not there."),
)
_OTHER: Final = "failed ({code}); repeat the command, and look at the bucket's settings if that persists."

_WORDS: Final = {
    "s3:GetObject": "reading",
    "s3:PutObject": "writing",
    "s3:DeleteObject": "deleting",
    "s3:ListBucket": "listing",
    "s3:AbortMultipartUpload": "tidying up uploads in",
    "s3:ListBucketMultipartUploads": "listing unfinished uploads in",
}


def client(region: str | None = None, attempts: int = ATTEMPTS) -> "S3Client":
    """The client of this process and environment; safe in threads. Raises ConfigurationError if there is none."""
    with _BUILDING:
        return _client(_environment(), region, attempts)


def region_of(bucket: str) -> str | None:
    """The bucket's own region, which a link into it must be signed for; None where S3 does not say. Asked once."""
    asked = (_environment(), bucket)
    found, until = _REGIONS.get(asked, (None, 0.0))
    if time.monotonic() >= until:
        until = math.inf
        try:
            found = client(attempts=2).head_bucket(Bucket=bucket).get("BucketRegion")
        except failures() as error:
            found = _headers_of(error).get("x-amz-bucket-region")  # a refusal says it as well
            if not found and is_connection(error):
                until = time.monotonic() + ASK_AGAIN
        _REGIONS[asked] = found, until
    return found or None


def endpoint() -> str:
    """Scheme and host of the S3 in use, for people."""
    parts = urlsplit(client().meta.endpoint_url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def code_of(error: BaseException) -> str:
    """S3's error code ("NoSuchKey", "403"), or the exception's name where S3 did not answer."""
    response = getattr(error, "response", None)
    if isinstance(response, dict) and isinstance(response.get("Error"), dict):
        return str(response["Error"].get("Code") or _status_of(error) or "unknown")
    return type(error).__name__


def is_missing(error: BaseException) -> bool:
    """The object is not there (HEAD cannot tell this from a missing bucket)."""
    return code_of(error) in _MISSING


def is_fatal(error: BaseException) -> bool:
    """It concerns every row: denied, no bucket, credentials, clock, full; or no connection after every repeat."""
    return code_of(error) in _FATAL or code_of(error).startswith("KMS.")


def is_connection(error: BaseException) -> bool:
    """S3 was not reached: waiting may help."""
    return code_of(error) in _CONNECTION


def is_garbled(error: BaseException) -> bool:
    """What arrived is not what was sent: sending it again may help."""
    return code_of(error) in _GARBLED


def failures() -> tuple[type[Exception], ...]:
    """What a call of the client may raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError, RecursionError)


def explain(error: BaseException, action: str, bucket: str, key: str = "") -> str:
    """One sentence: what was tried (`action` as IAM names it: s3:PutObject), where, what happened, what mends it."""
    code = code_of(error)
    listing = action.startswith("s3:List")
    permit = f"{action} on arn:aws:s3:::{bucket}{'' if listing or not key else f'/{key}'}"
    if code.startswith("KMS."):
        sentence = "is denied by the bucket's encryption key ({code}); let these credentials use it."
    else:
        sentence = next((sentence for codes, sentence in _SENTENCES if code in codes), _OTHER)
    told = sentence.format(
        bucket=bucket, code=code, permit=permit, skew=_skew(error), region=_region(error), where=_where(error)
    )
    return f"S3: {_WORDS.get(action, action)} {f's3://{bucket}/{key}'.rstrip('/')} {told}"


def _environment() -> tuple[tuple[str, str], ...]:
    """AWS_*, which tests and the sandbox change within one process."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


@lru_cache(maxsize=32)
def _client(_environment: tuple[tuple[str, str], ...], region: str | None, attempts: int) -> "S3Client":
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    silence_http_loggers()
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10,
        read_timeout=30,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        signature_version="s3v4",  # presigned links otherwise use the old kind in us-east-1
        user_agent_extra=f"reelsheet/{__version__}",
    )
    try:
        made: S3Client = boto3.session.Session().client("s3", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"The S3 client cannot be set up ({type(error).__name__}: {_told(error)}); "
            "check AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3 and the AWS configuration file."
        ) from error
    return made


def _told(error: BaseException) -> str:
    """botocore's own words, which may quote an endpoint with a password in it."""
    return clean(str(error), limit=200)


def _status_of(error: BaseException) -> int | None:
    response = getattr(error, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def _headers_of(error: BaseException) -> dict[str, str]:
    response = getattr(error, "response", None) or {}
    return dict(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))


def _skew(error: BaseException) -> str:
    try:
        theirs = parsedate_to_datetime(_headers_of(error).get("date", ""))
    except ValueError:
        return "wrong by more than S3 tolerates"
    off = (datetime.now(UTC) - theirs).total_seconds()
    return f"{abs(off) / 60:,.0f} minutes {'ahead' if off > 0 else 'behind'}"


def _region(error: BaseException) -> str:
    response = getattr(error, "response", None) or {}
    named = response.get("Error", {}).get("Region") or _headers_of(error).get("x-amz-bucket-region")
    return f"the region {named}" if named else "another region"


def _where(error: BaseException) -> str:
    address = getattr(error, "kwargs", {}).get("endpoint_url")
    parts = urlsplit(address) if isinstance(address, str) else None
    return parts.hostname if parts and parts.hostname else "the S3 endpoint"
