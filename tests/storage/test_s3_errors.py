"""What a person reads when a store refuses: what was tried, why, how to fix it, and the store's own words."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError, EndpointConnectionError

from reelsheet import s3_extra_args
from reelsheet.errors import ConfigurationError
from reelsheet.storage import s3_errors
from reelsheet.storage.destination import open_destination
from reelsheet.storage.errors import StorageError
from tests.stand_in.stores import AMAZON, Kind, Refusal, Store, serving

DENIED = "User: arn:aws:iam::1:user/reels is not authorized to perform: "
NO_TRAILERS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER is not supported"


@pytest.fixture
def scheme() -> str:
    return "http"


def refusal(code: str, message: str = "", operation: str = "PutObject", **headers: str) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPHeaders": headers}}
    return ClientError(answer, operation)


SAID = {
    "a policy that wants more": (
        Refusal(403, "AccessDenied", f"{DENIED}s3:PutObject on resource: x with an explicit deny"),
        ["s3:PutObject on arn:aws:s3:::bucket/spring/*", "REELSHEET_S3_EXTRA_ARGS", "with an explicit deny"],
    ),
    "a key that may not be used": (
        Refusal(403, "AccessDenied", f"{DENIED}kms:GenerateDataKey on this resource"),
        ["encryption key (AccessDenied)", "let these credentials use it (kms:GenerateDataKey)"],
    ),
    "another permission": (
        Refusal(403, "AccessDenied", f"{DENIED}s3:PutObjectTagging on resource: y"),
        ["let these credentials do s3:PutObjectTagging on arn:aws:s3:::bucket/spring/*"],
    ),
    "a disabled key": (Refusal(400, "KMS.DisabledException", "x is disabled."), ["encryption key", "x is disabled."]),
    "a cap": (
        Refusal(403, "AccessDenied", "Cannot upload files, storage cap exceeded. See the Caps & Alerts page."),
        ["the storage account has reached its cap", "Caps & Alerts page"],
    ),
    "another cap": (Refusal(403, "AccessDenied", "Transaction cap exceeded"), ["has reached its cap"]),
    "trailers": (Refusal(501, "NotImplemented", NO_TRAILERS), ["AWS_REQUEST_CHECKSUM_CALCULATION=when_required"]),
    "a checksum": (
        Refusal(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-crc32' received for this API call."),
        ["does not take the checksum", "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"],
    ),
    "no trailers, in other words": (
        Refusal(400, "BadRequest", "trailing checksum is not supported"),
        ["AWS_REQUEST_CHECKSUM_CALCULATION=when_required"],
    ),
    "Object Lock": (
        Refusal(
            400,
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
        ),
        ["the bucket's Object Lock needs a checksum"],
    ),
    "no ACLs": (
        Refusal(400, "AccessControlListNotSupported", "The bucket does not allow ACLs"),
        ["remove ACL from REELSHEET_S3_EXTRA_ARGS", "The bucket does not allow ACLs"],
    ),
    "encryption": (
        Refusal(400, "InvalidArgument", "This bucket requires HTTP header x-amz-server-side-encryption : aws:kms"),
        ["demands encryption", '{"ServerSideEncryption": "aws:kms"}'],
    ),
    "something never heard of": (
        Refusal(418, "Teapot", "I am short and stout."),
        ["(Teapot)", "I am short and stout."],
    ),
    "a page": (Refusal(400, "Blocked", "line one\nline\ttwo \u202ered"), ["line one line two red"]),
}


@pytest.mark.parametrize("case", SAID)
def test_the_store_s_own_words_and_the_fix_are_told_before_anything_is_spent(serve, case):
    refused, words = SAID[case]
    with pytest.raises(ConfigurationError, match=r"^S3: writing s3://bucket/spring") as caught:
        serve(Store(first={"PutObject": [refused] * 9})).probe()
    for expected in words:
        assert expected in str(caught.value)
    assert "PutObject was answered:" in str(caught.value)


@pytest.mark.parametrize(
    ("message", "hidden"),
    [
        ("The key AKIA" + "Q" * 16 + " is unknown", "Q" * 16),
        ("secret=hunter22 is wrong", "hunter22"),
        ("see https://u:pass@s3.example.com/x?X-Amz-Signature=abcdef0123456789", "abcdef0123456789"),
        ("long " * 2000, "long " * 60),
    ],
)
def test_the_words_have_no_secrets_and_an_end(message, hidden):
    said = s3_errors.explain(refusal("Teapot", message), "s3:PutObject", "b", "k")
    assert hidden not in said
    assert len(said) < 500
    assert "\n" not in said


@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "403", "400"])
@pytest.mark.parametrize(("hours", "side"), [(2, "behind"), (-30, "ahead")])
def test_a_clock_that_is_off_is_told_whatever_the_store_calls_it(code, hours, side):
    date = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    said = s3_errors.explain(refusal(code, "no", date=date), "s3:PutObject", "b", "k")
    assert f"clock is {abs(hours) * 60:,} minutes {side}; set the clock" in said


def test_a_clock_that_is_right_is_not_blamed():
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    assert "clock" not in s3_errors.explain(refusal("AccessDenied", "no", date=date), "s3:PutObject", "b", "k")


@pytest.mark.parametrize(
    ("operation", "action"),
    [("AssumeRole", "sts:AssumeRole"), ("AssumeRoleWithWebIdentity", "sts:AssumeRoleWithWebIdentity"),
     ("GetRoleCredentials", "sso:GetRoleCredentials")],
)  # fmt: skip
def test_a_role_that_may_not_be_assumed_is_no_matter_of_the_bucket(operation, action):
    error = CredentialRetrievalError(provider="assume-role", error_msg="An error occurred")
    error.__cause__ = refusal("AccessDenied", f"{DENIED}{action} on resource: arn:aws:iam::2:role/clips", operation)
    said = s3_errors.explain(error, "s3:ListBucket", "b", "clips/")
    assert f"because {action} is refused (AccessDenied)" in said
    assert "role/clips" in said
    assert "s3:ListBucket" not in said
    assert s3_errors.is_systemic(error)


@pytest.mark.parametrize(
    ("endpoint", "right"),
    [
        ("https://clips.s3.eu-central-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
        ("https://abc.r2.cloudflarestorage.com/clips", "https://abc.r2.cloudflarestorage.com"),
        ("http://minio.local:9000/clips/", "http://minio.local:9000"),
        ("https://gateway.example.com/s3/clips", "https://gateway.example.com/s3"),
    ],
)
@pytest.mark.parametrize("code", ["NoSuchBucket", "NoSuchKey", "SignatureDoesNotMatch"])
def test_an_endpoint_with_the_bucket_in_it_is_told_how_to_be_written(endpoint, right, code):
    said = s3_errors.explain(refusal(code, "x"), "s3:ListBucket", "clips", "spring/", endpoint=endpoint)
    assert f"has the bucket's name in it; set it to {right}." in said
    unreached = EndpointConnectionError(endpoint_url=endpoint)
    assert f"set it to {right}." in s3_errors.explain(unreached, "s3:ListBucket", "clips", "", endpoint=endpoint)


def test_an_endpoint_without_it_is_not_blamed():
    said = s3_errors.explain(
        refusal("NoSuchBucket"), "s3:ListBucket", "clips", endpoint="https://clipstore.example.com"
    )
    assert "there is no bucket clips" in said


@pytest.mark.parametrize(
    ("code", "content_type", "is_s3"),
    [("404", "", False), ("405", "", False), ("500", "text/html", False), ("500", "", True), ("502", "text/html", False),
     ("503", "text/html", True), ("NoSuchBucket", "text/html", True)],
)  # fmt: skip
def test_a_list_that_no_s3_would_answer_so_puts_the_blame_on_the_endpoint(code, content_type, is_s3):
    error = refusal(code, "x")
    error.response["ResponseMetadata"]["HTTPHeaders"]["content-type"] = content_type
    said = s3_errors.explain(error, "s3:ListBucket", "clips")
    assert ("does not answer as an S3 does" in said) is not is_s3


def test_a_certificate_that_is_not_accepted_is_named_as_such(monkeypatch, s3, certificate):
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    with serving(Store(), certificate) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        with pytest.raises(StorageError) as caught:
            open_destination("s3://bucket/spring").stat("a")
    assert caught.value.systemic
    assert not caught.value.transient
    for expected in ("TLS does not accept the certificate of 127.0.0.1", "self-signed certificate", "AWS_CA_BUNDLE"):
        assert expected in str(caught.value)


@pytest.mark.parametrize("authority", ["/nowhere/ca.pem", "/etc/hostname"])
def test_a_file_of_certificates_that_cannot_be_used_is_told_before_any_request(monkeypatch, s3, authority):
    monkeypatch.setenv("AWS_CA_BUNDLE", authority)
    with pytest.raises(ConfigurationError, match=f"AWS_CA_BUNDLE: {authority} cannot be used as certificates"):
        open_destination("s3://bucket/spring").stat("a")


def test_tls_at_a_port_without_it_is_named(monkeypatch, s3):
    with serving(Store()) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address.replace("http://", "https://"))
        with pytest.raises(StorageError, match=r"does not speak TLS .*; write http:// in AWS_ENDPOINT_URL_S3"):
            open_destination("s3://bucket/spring").stat("a")


def test_why_a_host_is_not_reached_is_told(monkeypatch, s3):
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1 cannot be reached \(Connection refused\)") as caught:
        open_destination("s3://bucket/spring").stat("a")
    assert caught.value.transient


def test_what_was_sent_beside_the_clip_is_told(serve, monkeypatch):
    store = Store(Kind(unknown_headers=("x-amz-storage-class",)))
    monkeypatch.setenv(s3_extra_args.NAME, '{"StorageClass": "COLDEST"}')
    with pytest.raises(ConfigurationError, match=r"Sent with StorageClass of REELSHEET_S3_EXTRA_ARGS") as caught:
        serve(store).probe()
    assert "Header 'x-amz-storage-class' with value 'COLDEST' not implemented" in str(caught.value)


def test_amazon_s_policy_is_met_with_what_it_names(serve, monkeypatch):
    """The stand-in denies what lacks the header; a run's error says which setting adds it."""
    kind = Kind(**{name: getattr(AMAZON, name) for name in ("verifies",)}, needs=("x-amz-acl", "private"))
    with pytest.raises(ConfigurationError, match="REELSHEET_S3_EXTRA_ARGS"):
        serve(Store(kind)).probe()
    monkeypatch.setenv(s3_extra_args.NAME, '{"ACL": "private"}')
    assert serve(Store(kind)).probe() == ()


def test_the_keys_that_sign_are_masked_where_a_store_repeats_them(serve, monkeypatch):
    store = Store(
        first={"ListObjectsV2": [Refusal(403, "SignatureDoesNotMatch", "you signed with 0123456789abcdefXY")]}
    )
    place = serve(store)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0123456789abcdefXY")
    with pytest.raises(ConfigurationError) as caught:
        place.probe()
    assert 'you signed with ***"' in str(caught.value)
