"""The S3 client.

Credentials, region and endpoint are read as boto3 reads them (AWS_*, profiles, roles; AWS_ENDPOINT_URL_S3 for others).
One layer of retries: botocore's own, made explicit here. Nothing else of this project repeats a single S3 request.
"""

import logging
import math
import os
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from reelsheet import __version__
from reelsheet.redaction import register_secret, silence_http_loggers
from reelsheet.settings import tell_of_endpoints
from reelsheet.storage import s3_errors
from reelsheet.storage.stored_object import Link
from reelsheet.surroundings import aws, network
from reelsheet.surroundings.problems import UnusableSurroundings, demand

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.endpoint import Endpoint
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client

ATTEMPTS: Final = 8  # of one request, with botocore's backoff: about half a minute
SILENT_ATTEMPTS: Final = 2  # of one to an S3 that has never answered its method; each waits READ_S
CONFLICT_ATTEMPTS: Final = 6  # of one that meets another request for the same object: about five seconds
CONNECT_S: Final = 10
READ_S: Final = 30  # for the next bytes, however many are to come
CONNECTIONS: Final = 64
SECRET_CHARACTERS: Final = 16  # of a key that is masked in every text; shorter ones are a sandbox's
LONGEST_LINK_S: Final = 7 * 24 * 3600  # S3 signs for a week at most
SESSION_S: Final = 12 * 3600  # the longest that a role's credentials last
REGION_RETRY_S: Final = 60.0  # before a bucket's region is asked for again, where S3 was not reached
_CREDENTIALS: Final[WeakKeyDictionary["S3Client", "Credentials"]] = WeakKeyDictionary()
_ANSWERED: Final[set[tuple[str, str]]] = set()  # endpoints and methods: some S3 answer GET and are silent to PUT
_BUILDING: Final = threading.Lock()  # sessions are not safe to build in two threads at once
_REGIONS: Final[dict[tuple[tuple[tuple[str, str], ...], str], tuple[str | None, float]]] = {}  # and until when


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
        except s3_errors.failures() as error:
            region = s3_errors.headers_of(error).get("x-amz-bucket-region")  # a refusal says it as well
            if not region and s3_errors.is_connection(error):
                valid_until = time.monotonic() + REGION_RETRY_S
        _REGIONS[key] = region, valid_until
    return region or None


def presign_get(bucket: str, key: str, seconds: float, **parameters: str) -> Link:
    """A link that opens an object without credentials, and its end: not later than that of the credentials.

    What a link of a week would need is lasting credentials; those of a role end within hours.
    """
    signer, now = client(region_of(bucket)), datetime.now(UTC)
    seconds = min(seconds, LONGEST_LINK_S)
    location = {"Bucket": bucket, "Key": key, **parameters}
    url = signer.generate_presigned_url("get_object", Params=location, ExpiresIn=int(seconds))
    credentials_end = _credentials_end(_CREDENTIALS.get(signer), now)
    return Link(url, min(filter(None, (now + timedelta(seconds=seconds), credentials_end))))


def _credentials_end(credentials: "Credentials | None", now: datetime) -> datetime | None:
    """None for those without an end. A session whose end nobody says lasts SESSION_S at the latest."""
    if credentials is None:
        return None
    known: datetime | None = getattr(credentials, "_expiry_time", None)
    return known or (now + timedelta(seconds=SESSION_S) if credentials.token else None)


def endpoint() -> str:
    """Scheme and host of the S3 in use, for people."""
    parts = urlsplit(client().meta.endpoint_url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def sends_checksums() -> bool:
    """False where the user asks for none that an S3 may not know: AWS_REQUEST_CHECKSUM_CALCULATION=when_required."""
    from botocore.session import get_session

    calculation: str = get_session().get_config_variable("request_checksum_calculation")
    return calculation.lower() != "when_required"


def _environment() -> tuple[tuple[str, str], ...]:
    """AWS_*, which tests and the sandbox change within one process."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


@lru_cache(maxsize=32)
def _client(_environment: tuple[tuple[str, str], ...], region: str | None, attempts: int) -> "S3Client":
    import boto3
    from botocore.config import Config
    from botocore.session import get_session

    silence_http_loggers()
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)  # `_frozen` says it, without a traceback
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        signature_version="s3v4",  # presigned links otherwise use the old kind in us-east-1
        request_checksum_calculation="when_required",  # `Bucket.send` adds one that every S3 understands
        user_agent_extra=f"reelsheet/{__version__}",
    )
    demand(aws.settings(), ending="")  # a client may also be made in mid-run
    aws.limit_programs()
    try:
        core = get_session()
        # also for the services that give credentials
        core.set_default_client_config(Config(connect_timeout=CONNECT_S, read_timeout=READ_S))
        core.register("needs-retry", _give_up_on_silence)  # type: ignore[arg-type]
        session = boto3.session.Session(botocore_session=core)
        made: S3Client = session.client("s3", region_name=region, config=config)
        credentials = session.get_credentials()
    except Exception as error:
        raise UnusableSurroundings([aws.problem_of(error)], ending="") from error
    demand(network.way_to(made.meta.endpoint_url, knows_all=False), aws.mfa(session, credentials), ending="")
    if credentials is not None:
        if credentials.method != "env":
            tell_of_endpoints(f"The AWS key from {credentials.method}")
        _CREDENTIALS[made] = credentials
        # what the client signs with, renewed where it has ended
        credentials.get_frozen_credentials = partial(_frozen, credentials, credentials.get_frozen_credentials)  # type: ignore[method-assign]
    made.meta.events.register("needs-retry.s3", _pause_after_conflict)  # type: ignore[arg-type]
    return made


def _give_up_on_silence(
    response: object,
    endpoint: "Endpoint",
    operation: "OperationModel",
    attempts: int,
    caught_exception: Exception | None,
    **_: object,
) -> None:
    """For botocore's own repeats, which an S3 that takes connections and says nothing would draw out for minutes."""
    asked = endpoint.host, operation.http["method"]
    if response is not None:
        _ANSWERED.add(asked)
    elif (
        caught_exception is not None
        and attempts >= SILENT_ATTEMPTS
        and asked not in _ANSWERED
        and s3_errors.code_of(caught_exception) in s3_errors.SILENCE.split()
    ):
        raise caught_exception


def _pause_after_conflict(
    response: "tuple[object, dict[str, Any]] | None", attempts: int, operation: "OperationModel", **_: object
) -> float | None:
    """For botocore's own repeats: seconds until a request is sent again that met another one for the same object.

    Not for the end of an upload in parts, which S3 then wants from its beginning.
    """
    if response is None or attempts >= CONFLICT_ATTEMPTS or operation.name == "CompleteMultipartUpload":
        return None
    is_conflict = response[1].get("Error", {}).get("Code") in s3_errors.CONFLICT.split()
    return random.uniform(0.5, 1) * min(0.2 * 2**attempts, 2.0) if is_conflict else None  # noqa: S311 - jitter


def _frozen(credentials: "Credentials", renewed: "Callable[[], ReadOnlyCredentials]") -> "ReadOnlyCredentials":
    """Whatever goes wrong with the credentials is one kind of error.

    botocore lets the errors of files, programs, JSON and STS through, and a bare RuntimeError of its own.
    """
    from botocore.exceptions import CredentialRetrievalError

    try:
        current = renewed()
    except Exception as error:
        if isinstance(error, CredentialRetrievalError) or s3_errors.is_connection(error):
            raise
        words = str(error) if isinstance(error, s3_errors.failures()) else f"{type(error).__name__}: {error}"
        raise CredentialRetrievalError(provider=credentials.method, error_msg=words) from error
    for secret in (current.secret_key, current.token):
        if secret and len(secret) >= SECRET_CHARACTERS:
            _mask(secret)
    return current


_mask = lru_cache(maxsize=1024)(register_secret)  # at each request, but once for each secret
