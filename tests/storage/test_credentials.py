"""AWS credentials that end while a run goes on, in each way that botocore knows: one kind of error, with a sentence."""

import hashlib
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reelsheet.storage.destination import open_destination
from reelsheet.storage.errors import StorageError

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


class Aws:
    """The files of one user's home, and an S3 and an STS that are simulated."""

    def __init__(self, folder, monkeypatch, bucket):
        self.folder, self.bucket = folder, bucket
        self.process = folder / "give-credentials"
        self.answer = folder / "answer.json"
        self.config = folder / "config"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(self.config))
        monkeypatch.setenv("AWS_PROFILE", "work")

    def use(self, **settings):
        lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
        self.config.write_text(f"[profile work]\n{lines}\n")

    def use_process(self):
        """Credentials that must be renewed at each request, because they end within minutes."""
        self.process.write_text(f'#!/bin/sh\ncat "{self.answer}"\n')
        self.process.chmod(0o755)
        self.give()
        self.use(credential_process=self.process)

    def give(self, minutes=5, **more):
        ends = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        given = {"Version": 1, "AccessKeyId": "testing", "SecretAccessKey": SECRET, "Expiration": ends}
        self.answer.write_text(json.dumps(given | more))

    def write(self):
        open_destination(f"s3://{self.bucket}/clips").write("results.csv", b"a,b\r\n", "text/csv")


@pytest.fixture
def aws(tmp_path, monkeypatch, bucket):
    return Aws(tmp_path, monkeypatch, bucket)


def said(aws):
    with pytest.raises(StorageError) as raised:
        aws.write()
    assert raised.value.systemic, "every row will meet it"
    assert not raised.value.transient, "to try again at once does not help"
    sentence = str(raised.value)
    assert SECRET not in sentence
    assert "credentials" in sentence
    assert "repeat the command" in sentence
    return sentence


PROCESS = {
    "says no": (lambda aws: aws.process.write_text("#!/bin/sh\necho 'session over' >&2; exit 1\n"), "session over"),
    "is gone": (lambda aws: aws.process.unlink(), "give-credentials"),
    "may not be run": (lambda aws: aws.process.chmod(0o644), "give-credentials"),
    "prints a login page": (lambda aws: aws.answer.write_text("<html>Sign in</html>"), "JSONDecodeError"),
    "prints nothing": (lambda aws: aws.answer.write_text(""), "JSONDecodeError"),
    "prints no text": (lambda aws: aws.answer.write_bytes(b"\xff\xfe\x00"), "UnicodeDecodeError"),
    "prints a list": (lambda aws: aws.answer.write_text("[1, 2]"), "AttributeError"),
    "has another version": (lambda aws: aws.give(Version=2), "version"),
    "lacks the secret": (lambda aws: aws.answer.write_text('{"Version": 1, "AccessKeyId": "x"}'), "SecretAccessKey"),
    "gives what has ended": (lambda aws: aws.give(minutes=-1), "still expired"),
    "gives no time": (lambda aws: aws.give(Expiration="tomorrow"), "tomorrow"),
}


@pytest.mark.parametrize("way", PROCESS)
def test_a_credential_process_that_fails_in_the_middle(aws, way, caplog):
    aws.use_process()
    aws.write()
    ends, words = PROCESS[way]
    ends(aws)
    assert words in said(aws)
    assert "Traceback" not in caplog.text


def test_credentials_that_are_renewed_again_are_used_again(aws):
    aws.use_process()
    aws.write()
    kept = aws.answer.read_text()
    aws.answer.write_text("")
    said(aws)
    aws.answer.write_text(kept)
    aws.write()


@pytest.fixture
def sts(monkeypatch):
    """A security token service that gives credentials until `refuses` is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            ends = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
            code, message = server.refuses or ("", "")
            name = "AssumeRoleWithWebIdentity"
            body = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
                "</ErrorResponse>"
                if code
                else f"<{name}Response><{name}Result><Credentials><AccessKeyId>testing</AccessKeyId><SecretAccessKey>"
                f"{SECRET}</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{ends}</Expiration></Credentials>"
                f"<AssumedRoleUser><Arn>a</Arn><AssumedRoleId>r</AssumedRoleId></AssumedRoleUser></{name}Result>"
                f"</{name}Response>"
            ).encode()
            self.send_response(403 if code else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.refuses = None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("gone", "FileNotFoundError"),
        ("no text", "UnicodeDecodeError"),
        ("denied", "not authorized"),
        ("over", "expired"),
    ],
)
def test_a_web_identity_that_ends_in_the_middle(aws, sts, way, words):
    token = aws.folder / "token"
    token.write_text("a.jwt.token")
    aws.use(role_arn="arn:aws:iam::123456789012:role/clips", web_identity_token_file=token)
    aws.write()
    if way == "gone":
        token.unlink()
    elif way == "no text":
        token.write_bytes(b"\xff\xfe")
    else:
        sts.refuses = {
            "denied": ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity: not authorized"),
            "over": ("ExpiredTokenException", "Token has expired"),
        }[way]
    assert words in said(aws)


def test_a_login_that_has_ended(aws, monkeypatch):
    """As `aws sso login` leaves it after some hours."""
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(aws.folder / ".aws/sso/cache"))
    start = "https://company.awsapps.test/start"
    aws.use(sso_start_url=start, sso_region="us-east-1", sso_account_id="123456789012", sso_role_name="clips")
    cache = aws.folder / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    name = hashlib.sha1(start.encode(), usedforsecurity=False).hexdigest()
    token = {"startUrl": start, "region": "us-east-1", "accessToken": "x", "expiresAt": "2020-01-01T00:00:00Z"}
    (cache / f"{name}.json").write_text(json.dumps(token))
    assert "aws sso login" in said(aws)


def test_a_token_that_s3_itself_calls_expired(aws, monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            body = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(400)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    try:
        aws.use_process()
        assert "expired" in said(aws)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_credentials_that_nobody_gives(aws, monkeypatch):
    monkeypatch.delenv("AWS_PROFILE")
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        aws.write()
