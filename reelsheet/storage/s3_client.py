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
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from reelsheet import __version__
from reelsheet.errors import ConfigurationError
from reelsheet.redaction import clean, silence_http_loggers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS: Final = 8  # of one request, with botocore's backoff: about half a minute
CONNECTIONS: Final = 64
REGION_RETRY_S: Final = 60.0  # before a bucket's region is asked for again, where S3 was not reached
_BUILDING: Final = threading.Lock()  # sessions are not safe to build in two threads at once
_REGIONS: Final[dict[tuple[tuple[tuple[str, str], ...], str], tuple[str | None, float]]] = {}  # and until when

# S3's error codes and statuses, and names of botocore's exceptions
_MISSING: Final = "NoSuchKey NoSuchUpload NoSuchObject NotFound 404"
_CONNECTION: Final = (
    "EndpointConnectionError ConnectTimeoutError ConnectionClosedError ReadTimeoutError ProxyConnectionError SSLError"
)
_GARBLED: Final = (
    "BadDigest InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch FlexibleChecksumError "
    "IncompleteBody IncompleteReadError ResponseStreamingError"
)


def _by_code(sentences: dict[str, str]) -> dict[str, str]:
    return {code: sentence for codes, sentence in sentences.items() for code in codes.split()}


# What happened and how to fix it, after "S3: writing s3://bucket/key".
_SYSTEMIC: Final = _by_code({  # every row will meet it
    "AccessDenied AllAccessDisabled AccountProblem Forbidden 403":
        "is denied; let these credentials do {permission}.",
    "NoSuchBucket":
        "failed, because there is no bucket {bucket}; create it or correct its name.",
    "ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired":
        "failed, because the AWS credentials have expired; sign in again and repeat the command.",
    "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken AuthFailure 401":
        "failed, because the AWS key is not accepted ({code}); check AWS_ACCESS_KEY_ID and its secret.",
    "NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError SSOTokenLoadError "
    "UnauthorizedSSOTokenError ProfileNotFound NoAuthTokenError":
        "failed, because there are no usable AWS credentials ({code}); "
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and sign in.",
    "RequestTimeTooSkewed":
        "failed, because this machine's clock is {skew}; set the clock and repeat the command.",
    # RecursionError: botocore asks for the region of a bucket that has moved, and the answer is that it moved
    "PermanentRedirect 301 307 AuthorizationHeaderMalformed IllegalLocationConstraintException NoRegionError "
    "InvalidRegionError RecursionError":
        "failed, because the bucket is in {region}; set AWS_DEFAULT_REGION to it.",
    "InvalidBucketName ParamValidationError":
        "failed, because {bucket!r} is not a possible bucket name; correct the destination.",
    "QuotaExceeded InsufficientStorage XMinioStorageFull 507":
        "failed, because the storage is full ({code}); make room or use another destination.",
    _CONNECTION:
        "failed, because {where} cannot be reached ({code}); check the network and AWS_ENDPOINT_URL_S3.",
})  # fmt: skip
_SENTENCES: Final = _SYSTEMIC | _by_code({
    "SlowDown Throttling ThrottlingException ServiceUnavailable 503 429":
        "failed, because S3 asks to slow down ({code}); repeat the command later, at no cost.",
    _GARBLED:
        "failed its checksum or was cut ({code}); repeat the command, and if that persists "
        "set AWS_REQUEST_CHECKSUM_CALCULATION and AWS_RESPONSE_CHECKSUM_VALIDATION to when_required.",
    "MissingContentLength 411 NotImplemented 501":
        "is beyond this endpoint ({code}); set AWS_REQUEST_CHECKSUM_CALCULATION=when_required.",
    _MISSING: "failed, because it is not there.",
})  # fmt: skip
_KMS: Final = "is denied by the bucket's encryption key ({code}); let these credentials use it."
_OTHER: Final = "failed ({code}); repeat the command, and look at the bucket's settings if that persists."

_ACTIONS: Final = {
    "s3:GetObject": "reading",
    "s3:PutObject": "writing",
    "s3:DeleteObject": "deleting",
    "s3:ListBucket": "listing",
    "s3:AbortMultipartUpload": "cleaning up uploads in",
    "s3:ListBucketMultipartUploads": "listing unfinished uploads in",
}


def client(region: str | None = None, attempts: int = ATTEMPTS) -> "S3Client":
    """The client of this process and environment; safe in threads. Raises ConfigurationError if there is none."""
    with _BUILDING:
        return _client(_environment(), region, attempts)


def region_of(bucket: str) -> str | None:
    """The bucket's own region, which a link into it must be signed for; None where S3 does not say. Asked once."""
    key = (_environment(), bucket)
    region, valid_until = _REGIONS.get(key, (None, 0.0))
    if time.monotonic() >= valid_until:
        valid_until = math.inf
        try:
            region = client(attempts=2).head_bucket(Bucket=bucket).get("BucketRegion")
        except failures() as error:
            region = _headers_of(error).get("x-amz-bucket-region")  # a refusal says it as well
            if not region and is_connection(error):
                valid_until = time.monotonic() + REGION_RETRY_S
        _REGIONS[key] = region, valid_until
    return region or None


def endpoint() -> str:
    """Scheme and host of the S3 in use, for people."""
    parts = urlsplit(client().meta.endpoint_url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def code_of(error: BaseException) -> str:
    """S3's error code ("NoSuchKey", "403"), or the exception's name where S3 did not answer."""
    response = _response_of(error)
    if isinstance(response.get("Error"), dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return str(response["Error"].get("Code") or status or "unknown")
    return type(error).__name__


def is_missing(error: BaseException) -> bool:
    """The object is not there (HEAD cannot tell this from a missing bucket)."""
    return code_of(error) in _MISSING.split()


def is_systemic(error: BaseException) -> bool:
    """Every row will meet it: denied, no bucket, credentials, clock, full; or no connection after every repeat."""
    return code_of(error) in _SYSTEMIC or code_of(error).startswith("KMS.")


def is_connection(error: BaseException) -> bool:
    """S3 was not reached: waiting may help."""
    return code_of(error) in _CONNECTION.split()


def is_garbled(error: BaseException) -> bool:
    """What arrived is not what was sent: sending it again may help."""
    return code_of(error) in _GARBLED.split()


def failures() -> tuple[type[Exception], ...]:
    """What a call of the client may raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError, RecursionError)


def explain(error: BaseException, action: str, bucket: str, key: str = "") -> str:
    """One sentence: what was tried (`action` as IAM names it: s3:PutObject), where, what happened, how to fix it."""
    code = code_of(error)
    resource = f"{bucket}/{key}" if key and not action.startswith("s3:List") else bucket
    sentence = _KMS if code.startswith("KMS.") else _SENTENCES.get(code, _OTHER)
    happened = sentence.format(
        bucket=bucket,
        code=code,
        permission=f"{action} on arn:aws:s3:::{resource}",
        skew=_skew(error),
        region=_region(error),
        where=_where(error),
    )
    return f"S3: {_ACTIONS.get(action, action)} {f's3://{bucket}/{key}'.rstrip('/')} {happened}"


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
            f"The S3 client cannot be set up ({type(error).__name__}: {clean(str(error), limit=200)}); "
            "check AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3 and the AWS configuration file."
        ) from error
    return made


def _response_of(error: BaseException) -> dict[str, Any]:
    """S3's answer, as botocore has read it; empty where there was none."""
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}


def _headers_of(error: BaseException) -> dict[str, str]:
    return dict(_response_of(error).get("ResponseMetadata", {}).get("HTTPHeaders", {}))


def _skew(error: BaseException) -> str:
    try:
        theirs = parsedate_to_datetime(_headers_of(error).get("date", ""))
    except ValueError:
        return "wrong by more than S3 tolerates"
    ahead_s = (datetime.now(UTC) - theirs).total_seconds()
    return f"{abs(ahead_s) / 60:,.0f} minutes {'ahead' if ahead_s > 0 else 'behind'}"


def _region(error: BaseException) -> str:
    region = _response_of(error).get("Error", {}).get("Region") or _headers_of(error).get("x-amz-bucket-region")
    return f"the region {region}" if region else "another region"


def _where(error: BaseException) -> str:
    address = getattr(error, "kwargs", {}).get("endpoint_url")
    return (urlsplit(address).hostname if isinstance(address, str) else None) or "the S3 endpoint"
