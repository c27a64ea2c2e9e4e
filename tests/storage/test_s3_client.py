"""The S3 client's settings, and its errors as sentences."""

import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    FlexibleChecksumError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ReadTimeoutError,
)

from reelsheet.errors import ConfigurationError
from reelsheet.storage import s3_client as s3
from reelsheet.storage import s3_errors
from reelsheet.storage.destination import open_destination
from reelsheet.storage.s3_errors import explain


def test_an_s3_that_never_answers_is_given_up_after_two_tries_and_its_setting_named(monkeypatch):
    monkeypatch.setattr(s3, "READ_S", 0.05)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(
            ConfigurationError, match=r"\(it does not answer\); check the network and AWS_ENDPOINT_URL\."
        ):
            open_destination("s3://clips").probe()
        listener.setblocking(False)
        for _ in range(2):
            listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_an_s3_that_has_answered_before_is_waited_for_longer(monkeypatch):
    monkeypatch.setattr(s3, "_ANSWERED", set())
    endpoint, silence = SimpleNamespace(host="https://s3.test"), ReadTimeoutError(endpoint_url="https://s3.test")
    get, put = SimpleNamespace(http={"method": "GET"}), SimpleNamespace(http={"method": "PUT"})
    s3._give_up_on_silence(None, endpoint, get, 1, silence)
    with pytest.raises(ReadTimeoutError):
        s3._give_up_on_silence(None, endpoint, get, 2, silence)
    s3._give_up_on_silence((), endpoint, get, 1, None)
    s3._give_up_on_silence(None, endpoint, get, 2, silence)
    with pytest.raises(ReadTimeoutError):  # some answer GET and are silent to PUT
        s3._give_up_on_silence(None, endpoint, put, 2, silence)


def refusal(code: str, *, status: int = 403, headers: dict[str, str] | None = None, **more: str) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "secret=hunter2", **more}}
    answer["ResponseMetadata"] = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    return ClientError(answer, "PutObject")


def test_importing_s3_and_destinations_brings_no_boto3_along():
    code = "import sys, reelsheet.storage.destination; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_client_s_retries_timeouts_and_connections_are_explicit(s3_client):
    config = s3_client.meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 8}
    assert (config.max_pool_connections, config.connect_timeout, config.read_timeout) == (64, 10, 30)
    assert config.signature_version == "s3v4"
    assert config.request_checksum_calculation == "when_required"  # none that an S3 may not know


@pytest.fixture
def s3_client(s3):
    return s3_module_client()


def s3_module_client():
    return s3.client()


def test_one_environment_has_one_client_and_another_environment_another(s3_client, monkeypatch):
    assert s3_module_client() is s3_client
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone-else")
    assert s3_module_client() is not s3_client


@pytest.mark.parametrize(("name", "value"), [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL_S3", "not an address")])
def test_a_client_that_cannot_be_built_is_a_matter_of_configuration(s3_client, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"{name}: "):
        s3_module_client()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refusal("AccessDenied"), "is denied; let these credentials do s3:PutObject on arn:aws:s3:::b/p/x.mp4"),
        (refusal("403"), "is denied"),
        (refusal("KMS.DisabledException", status=400), "encryption key"),
        (refusal("NoSuchBucket", status=404), "there is no bucket b; create it"),
        (refusal("ExpiredToken", status=400), "expired; sign in again"),
        (refusal("SignatureDoesNotMatch"), "the AWS key is not accepted (SignatureDoesNotMatch)"),
        (refusal("InvalidAccessKeyId"), "check AWS_ACCESS_KEY_ID"),
        (refusal("PermanentRedirect", status=301), "another region; set AWS_DEFAULT_REGION"),
        (refusal("AuthorizationHeaderMalformed", status=400, Region="eu-west-1"), "the region eu-west-1"),
        (refusal("301", headers={"x-amz-bucket-region": "sa-east-1"}), "the region sa-east-1"),
        (refusal("QuotaExceeded"), "storage is full"),
        (NoCredentialsError(), "no usable AWS credentials"),
        (ProfileNotFound(profile="x"), "no usable AWS credentials"),
        (NoRegionError(), "set AWS_DEFAULT_REGION"),
        (
            EndpointConnectionError(endpoint_url="https://u:p@s3.example.com/x?secret"),
            "s3.example.com cannot be reached",
        ),
        (ReadTimeoutError(endpoint_url="https://s3.example.com"), "cannot be reached"),
    ],
)
def test_a_problem_of_every_row_is_systemic_and_says_how_to_fix_it(error, words):
    message = s3_errors.explain(error, "s3:PutObject", "b", "p/x.mp4")
    assert message.startswith("S3: writing s3://b/p/x.mp4 ")
    assert words in message
    assert "hunter2" not in message
    assert "u:p" not in message
    assert s3_errors.is_systemic(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refusal("SlowDown", status=503), "slow down"),
        (refusal("BadDigest", status=400), "checksum"),
        (FlexibleChecksumError(error_msg="no"), "when_required"),
        (refusal("MissingContentLength", status=411), "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
        (refusal("NoSuchKey", status=404), "it is not there"),
        (refusal("InternalError", status=500), "failed (InternalError)"),
        (BotoCoreError(), "failed (BotoCoreError)"),
    ],
)
def test_a_blip_or_one_object_s_trouble_is_not_fatal(error, words):
    assert words in s3_errors.explain(error, "s3:GetObject", "b", "x")
    assert not s3_errors.is_systemic(error)


@pytest.mark.parametrize(
    ("error", "region", "again"),
    [
        (refusal("403", headers={"x-amz-bucket-region": "sa-east-1"}), "sa-east-1", False),
        (refusal("403"), None, False),
        (EndpointConnectionError(endpoint_url="https://s3.example.com"), None, True),
    ],
)
def test_a_refusal_says_the_region_as_well_and_is_remembered(s3_client, monkeypatch, error, region, again):
    asked = []

    def head(Bucket):  # noqa: N803 - boto3's own name
        asked.append(Bucket)
        raise error

    monkeypatch.setattr(s3, "_REGIONS", {})  # no other test's answers
    monkeypatch.setattr(s3.client(attempts=2), "head_bucket", head)
    assert [s3.region_of("pictures"), s3.region_of("pictures")] == [region, region]
    assert asked == ["pictures"]  # a thousand links do not wait for a dead S3 a thousand times
    monkeypatch.setattr(s3, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 2 * s3.REGION_RETRY_S))
    assert s3.region_of("pictures") == region
    assert asked == ["pictures"] * (2 if again else 1)


def test_a_redirect_without_a_region_is_reported_as_another_region(s3, monkeypatch):
    """botocore asks such an endpoint where, gets the same answer, and asks again until Python stops it."""

    class Moved(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(301)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's own names

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Moved) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(ConfigurationError, match="the bucket is in another region"):
            open_destination("s3://bucket/spring").probe()
        server.shutdown()
        thread.join()


def test_the_skew_of_the_clock_is_named():
    error = refusal("RequestTimeTooSkewed", headers={"date": "Mon, 01 Jan 2001 00:00:00 GMT"})
    assert "minutes ahead; set the clock" in s3_errors.explain(error, "s3:PutObject", "b")
    assert "more than S3 tolerates" in s3_errors.explain(refusal("RequestTimeTooSkewed"), "s3:PutObject", "b")


def test_the_variable_that_mends_a_wrong_region_is_one_that_boto3_reads(s3, monkeypatch):
    message = explain(refusal("PermanentRedirect", status=301), "s3:PutObject", "b")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv(re.search(r"set (AWS_\w+) to it", message)[1], "eu-west-3")
    assert s3_module_client().meta.region_name == "eu-west-3"


def test_listing_is_permitted_on_the_bucket_not_on_objects():
    message = s3_errors.explain(refusal("AccessDenied"), "s3:ListBucket", "b", "clips/")
    assert "listing s3://b/clips is denied" in message
    assert "s3:ListBucket on arn:aws:s3:::b." in message
