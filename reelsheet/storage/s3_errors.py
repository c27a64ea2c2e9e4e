"""S3's errors: which kind each is, and what it means to a person."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from reelsheet.redaction import clean
from reelsheet.surroundings import aws

# S3's error codes and statuses, and names of botocore's exceptions
_MISSING: Final = "NoSuchKey NoSuchUpload NoSuchObject NotFound 404"
_DENIED: Final = "AccessDenied AllAccessDisabled AccountProblem Forbidden 403"
_AUTHORISATION: Final = (
    f"{_DENIED} SignatureDoesNotMatch InvalidAccessKeyId RequestExpired RequestTimeTooSkewed InvalidSignatureException "
    "AuthorizationHeaderMalformed InvalidRequest ExpiredToken 400 401"
)
_CONNECTION: Final = (
    "EndpointConnectionError ConnectTimeoutError ConnectionClosedError ReadTimeoutError ProxyConnectionError SSLError"
)
SILENCE: Final = "ConnectTimeoutError ReadTimeoutError"
CONFLICT: Final = "ConditionalRequestConflict OperationAborted"
_GARBLED: Final = (
    "BadDigest InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch FlexibleChecksumError "
    "IncompleteBody IncompleteReadError ResponseStreamingError"
)


def _by_code(sentences: dict[str, str]) -> dict[str, str]:
    return {code: sentence for codes, sentence in sentences.items() for code in codes.split()}


# What happened and how to fix it, after "S3: writing s3://bucket/key".
_SYSTEMIC: Final = _by_code({  # every row will meet it
    _DENIED:
        "is denied; let these credentials do {permission}.",
    "RefusedByPolicy":
        "is denied; let these credentials do {permission}, and if the bucket's policy demands encryption or an ACL, "
        "set it in REELSHEET_S3_EXTRA_ARGS.",
    "RefusedByKey":
        "is denied by the bucket's encryption key ({code}); let these credentials use it{action}, or name another key "
        "in REELSHEET_S3_EXTRA_ARGS.",
    "RefusedRole":
        "failed, because {action} is refused ({code}); let the credentials that the role is built on do {action}, or "
        "correct the role in AWS_PROFILE or AWS_ROLE_ARN, and repeat the command.",
    "ObjectLock":
        "failed, because the bucket's Object Lock needs a checksum and none arrived; look for a proxy that removes "
        "headers, and repeat the command.",
    "AccessControlListNotSupported":
        "failed, because the bucket takes no ACL; remove ACL from REELSHEET_S3_EXTRA_ARGS.",
    "NeedsEncryption":
        "failed ({code}), because the bucket's policy demands encryption; set it in REELSHEET_S3_EXTRA_ARGS, "
        'for example {{"ServerSideEncryption": "aws:kms"}}.',
    "BucketInEndpoint":
        "failed ({code}), because {setting} has the bucket's name in it; set it to {endpoint}.",
    "NoSuchBucket":
        "failed, because there is no bucket {bucket}; create it or correct its name.",
    "ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired":
        "failed, because the AWS credentials have expired; sign in again and repeat the command.",
    "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken AuthFailure 401":
        "failed, because the AWS key is not accepted ({code}); check AWS_ACCESS_KEY_ID and its secret.",
    "NoCredentialsError PartialCredentialsError TokenRetrievalError SSOTokenLoadError "
    "UnauthorizedSSOTokenError ProfileNotFound NoAuthTokenError":
        "failed, because there are no usable AWS credentials ({code}); "
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and sign in.",
    "CredentialRetrievalError":
        "failed, because the AWS credentials could not be renewed ({told}). {repair}",
    "RequestTimeTooSkewed":
        "failed, because this machine's clock is {skew}; set the clock and repeat the command.",
    # RecursionError: botocore asks for the region of a bucket that has moved, and the answer is that it moved
    "PermanentRedirect 301 307 AuthorizationHeaderMalformed IllegalLocationConstraintException NoRegionError "
    "InvalidRegionError RecursionError":
        "failed, because the bucket is in {region}; set AWS_DEFAULT_REGION to it.",
    "InvalidBucketName ParamValidationError":
        "failed, because {bucket!r} is not a possible bucket name; correct the destination.",
    "CapExceeded":
        "failed, because the storage account has reached its cap ({code}); raise it with the storage provider, and "
        "repeat the command.",
    "QuotaExceeded InsufficientStorage XMinioStorageFull 507":
        "failed, because the storage is full ({code}); make room or use another destination.",
    "Certificate":
        "failed, because TLS does not accept the certificate of {where} ({reason}); if your organisation has a "
        "certificate authority of its own, set AWS_CA_BUNDLE to its file, else check {setting}.",
    "CertificateFile":
        "failed, because TLS cannot read the file of certificates ({reason}); correct AWS_CA_BUNDLE "
        "(or REQUESTS_CA_BUNDLE).",
    "NoTls":
        "failed, because {where} does not speak TLS ({reason}); write http:// in {setting}, "
        "or correct its port.",
    "NoS3":
        "failed, because the S3 endpoint does not answer as an S3 does ({code}); check {setting}.",
    _CONNECTION:
        "failed, because {where} cannot be reached ({reason}); check the network and {setting}.",
})  # fmt: skip
_SENTENCES: Final = _SYSTEMIC | _by_code({
    "SlowDown Throttling ThrottlingException ServiceUnavailable 503 429":
        "failed, because S3 asks to slow down ({code}); repeat the command later, at no cost.",
    _GARBLED:
        "failed its checksum or was cut ({code}); repeat the command, and if that persists "
        "set AWS_REQUEST_CHECKSUM_CALCULATION and AWS_RESPONSE_CHECKSUM_VALIDATION to when_required.",
    "MissingContentLength 411 NotImplemented 501":
        "is beyond this endpoint ({code}); set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, or use another one.",
    "RefusedChecksum":
        "failed, because this endpoint does not take the checksum ({code}); "
        "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required and AWS_RESPONSE_CHECKSUM_VALIDATION=when_required.",
    CONFLICT:
        "failed, because another request changes the same object ({code}); repeat the command, at no cost.",
    _MISSING: "failed, because it is not there.",
})  # fmt: skip
_OTHER: Final = "failed ({code}); repeat the command, and look at the bucket's settings if that persists."

# Where S3 says more than its code does: the name of a sentence above, and what it looks like in S3's words.
_SPOKEN: Final = (
    ("CapExceeded", re.compile(r"\bcaps? (?:exceeded|reached)|exceeded (?:your|the) \w* ?cap\b", re.IGNORECASE)),
    ("ObjectLock", re.compile(r"header is required for .* with Object Lock", re.IGNORECASE)),
    ("RefusedByKey", re.compile(r"\bperform: kms:|\bkms key\b.*\b(?:denied|disabled|not exist)", re.IGNORECASE)),
    (
        "RefusedChecksum",
        re.compile(r"x-amz-(?:checksum|sdk-checksum|trailer)|\btrailers?\b|trailing checksum|aws-chunked|STREAMING-"),
    ),
    (
        "NeedsEncryption",
        re.compile(r"(?:requires?|must|missing|demands?)\b.*\b(?:server.side.encryption|encrypt)", re.IGNORECASE),
    ),
)
_TLS: Final = (
    ("NoTls", re.compile("WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL")),
    ("CertificateFile", re.compile("No such file|Permission denied|Is a directory|X509")),
    ("Certificate", re.compile("certificate|doesn't match", re.IGNORECASE)),
)
_FOR_ROLES: Final = {  # of other services than S3, which boto3 asks for credentials
    "AssumeRole": "sts", "AssumeRoleWithWebIdentity": "sts", "AssumeRoleWithSAML": "sts", "GetSessionToken": "sts",
    "GetRoleCredentials": "sso", "CreateToken": "sso-oauth",
}  # fmt: skip
_CLOCK_TOLERANCE_S: Final = 900.0  # of S3; STS and others refuse sooner
_WORDS_LIMIT: Final = 240  # characters of S3's own words
_ENDPOINT_CODES: Final = frozenset(
    f"NoSuchBucket InvalidBucketName SignatureDoesNotMatch MethodNotAllowed 405 ResponseParserError {_MISSING} "
    f"{_CONNECTION}".split()
)

_ACTIONS: Final = {
    "s3:GetObject": "reading",
    "s3:PutObject": "writing",
    "s3:DeleteObject": "deleting",
    "s3:ListBucket": "listing",
    "s3:AbortMultipartUpload": "cleaning up uploads in",
    "s3:ListBucketMultipartUploads": "listing unfinished uploads in",
}


def code_of(error: BaseException) -> str:
    """S3's error code ("NoSuchKey", "403"), or the exception's name where S3 did not answer."""
    response = response_of(error)
    if isinstance(response.get("Error"), dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return str(response["Error"].get("Code") or status or "unknown")
    return type(error).__name__


def is_missing(error: BaseException) -> bool:
    """The object is not there (HEAD cannot tell this from a missing bucket)."""
    return code_of(error) in _MISSING.split()


def is_systemic(error: BaseException) -> bool:
    """Every row will meet it: denied, no bucket, credentials, clock, full; or no connection after every repeat."""
    return _kind_of(error) in _SYSTEMIC


def is_connection(error: BaseException) -> bool:
    """S3 was not reached: waiting may help."""
    return _kind_of(error) in _CONNECTION.split()


def is_passing(error: BaseException) -> bool:
    """Sending it again may help: no connection, damaged on its way, or in conflict with another request."""
    return is_connection(error) or code_of(error) in f"{_GARBLED} {CONFLICT}".split()


def failures() -> tuple[type[Exception], ...]:
    """What a call of the client may raise."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (BotoCoreError, ClientError, ResponseParserError, RecursionError)


def explain(error: BaseException, action: str, bucket: str, key: str = "", *, endpoint: str = "") -> str:
    """What was tried (`action` as IAM names it: s3:PutObject), where, what happened, how to fix it, and S3's words."""
    place = f"s3://{bucket}/{key}".rstrip("/")
    kind, words = _kind_of(error, action), words_of(error)
    other_endpoint = _without_bucket(endpoint, bucket)
    if other_endpoint and code_of(error) in _ENDPOINT_CODES:
        kind = "BucketInEndpoint"
    refused = _refused_action(error)
    resource = f"{bucket}/{key}" if key and not action.startswith("s3:List") else bucket
    happened = _SENTENCES.get(kind, _OTHER).format(
        bucket=bucket,
        code=code_of(_cause_of(error)),
        permission=f"{refused or action} on arn:aws:s3:::{resource}",
        action=refused if kind == "RefusedRole" else f" ({refused})" if refused else "",
        skew=_skew(error),
        region=_region(error),
        where=_where(error),
        reason=_reason(error),
        endpoint=other_endpoint,
        setting=aws.endpoint_setting(),
        told=clean(str(error)).rstrip("."),
        repair=_repair(error),
    )
    said = f' {operation_of(error) or "S3"} was answered: "{words}"' if words else ""
    return f"S3: {_ACTIONS.get(action, action)} {place} {happened}{said}"


def words_of(error: BaseException) -> str:
    """What S3 itself says, on one line and without secrets; "" where it says nothing or was not reached."""
    told = response_of(_cause_of(error)).get("Error", {})
    message = clean(str(told.get("Message") or ""), limit=_WORDS_LIMIT).replace('"', "'")
    return "" if message in {"Unknown", told.get("Code")} else message


def operation_of(error: BaseException) -> str:
    """The request that was refused, as AWS names it ("PutObject", "AssumeRole"); "" where nothing was answered."""
    return str(getattr(_cause_of(error), "operation_name", ""))


def _kind_of(error: BaseException, action: str = "") -> str:
    """The key of this error's sentence: its code, or more than that where S3's words or its clock say more."""
    code = code_of(error)
    if isinstance(error.__cause__, BaseException) and operation_of(error) in _FOR_ROLES:
        return "RefusedRole"
    if code == "SSLError":
        return next((kind for kind, pattern in _TLS if pattern.search(_reason(error))), code)
    if not response_of(error):
        return code
    if code in _AUTHORISATION.split() and abs(_ahead_s(error) or 0.0) > _CLOCK_TOLERANCE_S:
        return "RequestTimeTooSkewed"
    if code.startswith("KMS."):
        return "RefusedByKey"
    if code not in {*_GARBLED.split(), "AccessControlListNotSupported"}:
        words = words_of(error)
        if spoken := next((kind for kind, pattern in _SPOKEN if pattern.search(words)), ""):
            return spoken
    is_page = headers_of(error).get("content-type", "").startswith("text/html") and code not in _SENTENCES
    if action == "s3:ListBucket" and code.isdecimal() and (is_page or code in {"404", "405"}):
        return "NoS3"
    return "RefusedByPolicy" if code in _DENIED.split() and action == "s3:PutObject" else code


def _cause_of(error: BaseException) -> BaseException:
    """The answer below an error of credentials that could not be renewed; else the error itself."""
    return error if response_of(error) or not isinstance(error.__cause__, Exception) else error.__cause__


def _repair(error: BaseException) -> str:
    """How to get credentials again, with the name of the setting that they come from."""
    problem = aws.problem_of_provider(error)
    if problem is None:
        return "Sign in again, or repair the profile that they come from, and repeat the command."
    return f"{problem.setting}: {problem.fix} Then repeat the command."


def _refused_action(error: BaseException) -> str:
    """As IAM names it, where the answer does: a PUT also needs other permissions ("kms:GenerateDataKey")."""
    operation = operation_of(error)
    if operation in _FOR_ROLES:
        return f"{_FOR_ROLES[operation]}:{operation}"
    named = re.search(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)", words_of(error))
    return named[1] if named else ""


def _without_bucket(endpoint: str, bucket: str) -> str:
    """The endpoint as it should be, where it has the bucket in its host or path; else ""."""
    parts = urlsplit(endpoint)
    host, path = parts.netloc, parts.path.strip("/")
    if path.split("/")[-1] == bucket:
        return f"{parts.scheme}://{host}/{path.removesuffix(bucket)}".rstrip("/")
    return f"{parts.scheme}://{host.removeprefix(f'{bucket}.')}" if host.startswith(f"{bucket}.") else ""


def response_of(error: BaseException) -> dict[str, Any]:
    """S3's answer, as botocore has read it; empty where there was none."""
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}


def headers_of(error: BaseException) -> dict[str, str]:
    return dict(response_of(error).get("ResponseMetadata", {}).get("HTTPHeaders", {}))


def _ahead_s(error: BaseException) -> float | None:
    """By how much this machine's clock is ahead of S3's; None where S3 does not say the time."""
    try:
        theirs = parsedate_to_datetime(headers_of(error).get("date", ""))
        return (datetime.now(UTC) - theirs).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return None


def _skew(error: BaseException) -> str:
    ahead_s = _ahead_s(error)
    if ahead_s is None:
        return "wrong by more than S3 tolerates"
    return f"{abs(ahead_s) / 60:,.0f} minutes {'ahead' if ahead_s > 0 else 'behind'}"


def _region(error: BaseException) -> str:
    region = response_of(error).get("Error", {}).get("Region") or headers_of(error).get("x-amz-bucket-region")
    return f"the region {region}" if region else "another region"


def _where(error: BaseException) -> str:
    arguments = getattr(error, "kwargs", {})
    address = arguments.get("endpoint_url") or arguments.get("proxy_url")
    return (urlsplit(address).hostname if isinstance(address, str) else None) or "the S3 endpoint"


def _reason(error: BaseException) -> str:
    """Why there was no connection: "Connection refused", "certificate has expired"."""
    if type(error).__name__ in SILENCE.split():
        return "it does not answer"
    text = str(getattr(error, "kwargs", {}).get("error") or type(error).__name__)
    text = re.sub(r"^.*?(?:Failed to \w+(?: a new connection)?:? |\[Errno -?\d+\] )", "", text)
    text = re.sub(r"\[Errno -?\d+\] |\(_ssl\.c:\d+\)|\[SSL: \w+\] (?=certificate)", "", text)
    return clean(text, limit=120).strip(" .\"')") or type(error).__name__
