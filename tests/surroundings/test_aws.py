"""AWS settings: the one that is wrong is named, whatever botocore's error says."""

import sys

import pytest

from reelsheet import settings
from reelsheet.storage import s3_client
from reelsheet.storage.destination import open_destination
from reelsheet.storage.errors import StorageError
from reelsheet.surroundings import aws
from reelsheet.surroundings.problems import UnusableSurroundings

ROLE = "role_arn = arn:aws:iam::123456789012:role/x\n"


@pytest.fixture
def profile(monkeypatch, tmp_path):
    """Writes the lines of the profile p, which is then in use; more sections may follow."""

    def write(lines: str) -> None:
        (tmp_path / "config").write_text(f"[profile p]\n{lines}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "p")

    return write


def refusal() -> str:
    """What the client's set-up, else its first request, says."""
    with pytest.raises((UnusableSurroundings, StorageError)) as error:
        open_destination("s3://clips/spring").listing()
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_PROFILE", "nobody"),
        ("AWS_DEFAULT_PROFILE", "nobody"),
        ("AWS_ENDPOINT_URL_S3", "localhost:9000"),
        ("AWS_ENDPOINT_URL_S3", "http://exa mple"),
        ("AWS_ENDPOINT_URL", "nonsense"),
        ("AWS_DEFAULT_REGION", "eu central"),
        ("AWS_DEFAULT_REGION", "-"),
        ("AWS_RETRY_MODE", "junk"),
        ("AWS_MAX_ATTEMPTS", "abc"),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_DEFAULTS_MODE", "junk"),
        ("AWS_USE_FIPS_ENDPOINT", "maybe"),
        ("AWS_EC2_METADATA_DISABLED", "maybe"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "1"),
        ("AWS_S3_USE_ARN_REGION", "maybe"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "maybe"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "soon"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "junk"),
        ("AWS_RESPONSE_CHECKSUM_VALIDATION", "junk"),
        ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "junk"),
        ("AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", "abc"),
        ("AWS_CA_BUNDLE", ""),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9 "),
        ("AWS_ACCESS_KEY_ID", "key\n"),
        ("AWS_SECRET_ACCESS_KEY", " secret"),
        ("AWS_SESSION_TOKEN", "to\r\nken"),
        ("AWS_CA_BUNDLE", "/dev/null/ca.pem"),
        ("HTTPS_PROXY", "socks5://127.0.0.1:1"),
        ("HTTPS_PROXY", "http://127.0.0.1:abc"),
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
    ],
)
def test_a_setting_that_boto3_cannot_use_is_named(name, value, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(name, value)
    assert refusal().startswith(f"{name}: ")


def test_half_a_key_is_told_with_the_half_that_is_missing(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert refusal().startswith("AWS_SECRET_ACCESS_KEY: it is missing")


@pytest.mark.parametrize("content", ["not [\nan ini", "\0[", "x = 1"])
def test_a_broken_configuration_file_is_named(content, monkeypatch, tmp_path):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        file = tmp_path / name.lower()
        file.write_text(content)
        with monkeypatch.context() as patch:
            patch.setenv(name, str(file))
            assert refusal().startswith(f"{name}: {file} cannot be read")


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("/dev/null/program", "Not a directory"),
        ("/no/such/program", "No such file or directory"),
        ("/bin/false", "gives no reason"),
        ("/bin/echo hello", "no JSON"),
        ("""/bin/echo '{"Version": 1}'""", "AccessKeyId"),
        ("""/bin/echo '{"Version": 9}'""", "version '9'"),
        ("""/bin/echo '[]'""", ""),
        ("/bin/sh -c 'echo expired >&2; exit 3'", "expired"),
    ],
)
def test_a_program_that_gives_no_credentials_is_named(program, why, profile):
    profile(f"credential_process = {program}")
    said = refusal()
    assert said.startswith("credential_process: the program of the profile p gives no credentials (")
    assert why in said
    assert "AWS_PROFILE" in said


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("max_attempts = x", "no number above 0"),
        ("retry_mode = junk", "none of legacy, standard, adaptive"),
        ("request_checksum_calculation = maybe", "none of when_supported, when_required"),
        ("response_checksum_validation = maybe", "none of when_supported, when_required"),
        ("sts_regional_endpoints = maybe", "none of legacy, regional"),
        ("use_fips_endpoint = yes", "neither true nor false"),
        ("use_dualstack_endpoint = 1", "neither true nor false"),
        ("metadata_service_timeout = soon", "no number above 0"),
        ("request_min_compression_size_bytes = many", "Value must be an integer"),
        ("services = nowhere", "does not exist"),
        ("s3 = path", "it is a heading"),
        ("ca_bundle = /dev/null/ca.pem", "Not a directory"),
        ("region = eu central", "no name of a region"),
        ("endpoint_url = localhost:9000", "localhost:9000 is no address of an S3"),
        ("s3 =\n  addressing_style = mine", "none of auto, virtual, path"),
        ("s3 =\n  use_accelerate_endpoint = maybe", "neither true nor false"),
    ],
)
def test_a_line_of_the_configuration_file_is_named_with_its_file(line, why, profile, tmp_path):
    profile(f"aws_access_key_id = a\naws_secret_access_key = b\n{line}")
    name = ".".join(part.split(" =")[0].strip() for part in line.splitlines())
    said = refusal()
    assert said.startswith(f"{name} (profile p in {tmp_path / 'config'}): ")
    assert why in said


def test_a_variable_counts_before_a_line(profile, monkeypatch):
    profile("aws_access_key_id = a\naws_secret_access_key = b\nmax_attempts = x\nuse_fips_endpoint = maybe")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "FALSE")
    s3_client.client()


@pytest.mark.parametrize("chain", ["", f"{ROLE}source_profile = q\n[profile q]\n"])
def test_a_program_that_does_not_end_is_ended_and_named(chain, profile, monkeypatch):
    monkeypatch.setattr(aws, "PROGRAM_S", 0.1)
    profile(f"{chain}credential_process = /bin/sleep 600")
    name = "credential_process: the program of the profile p gives no credentials"
    assert refusal().startswith(f"{name} (/bin/sleep did not end within 0.1 s).")


def test_a_token_file_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")
    said = refusal()
    assert "AWS_WEB_IDENTITY_TOKEN_FILE: Correct the path" in said
    assert str(tmp_path / "token") in said


def test_a_sign_in_that_has_ended_is_told_with_its_profile(profile, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    profile("sso_start_url=https://x.invalid/start\nsso_region=us-east-1\nsso_account_id=123456789012\nsso_role_name=r")
    assert "AWS_PROFILE: Run `aws sso login --profile p`. Then repeat the command." in refusal()


@pytest.mark.parametrize(
    "lines", [f"{ROLE}source_profile = nobody", f"{ROLE}source_profile = p", f"{ROLE}credential_source = Nowhere"]
)
def test_a_role_that_stands_on_nothing_is_named(lines, profile):
    profile(lines)
    assert refusal().startswith("AWS_PROFILE: ")


def test_mfa_is_asked_for_only_where_somebody_can_answer(profile, monkeypatch):
    profile(f"{ROLE}source_profile = q\n[profile q]\n{ROLE}source_profile = r\nmfa_serial = arn:aws:iam::1:mfa/me\n"
            "[profile r]\naws_access_key_id = a\naws_secret_access_key = b")  # fmt: skip
    monkeypatch.setattr(aws, "_has_terminal", lambda: False)
    assert refusal().startswith("AWS_PROFILE: the profile q asks for an MFA code, and there is no terminal")
    monkeypatch.setattr(aws, "_has_terminal", lambda: True)
    s3_client.client()  # the code is asked for with the first request


def test_the_terminal_is_where_a_code_is_asked_for(monkeypatch):
    def no_terminal(*_: object) -> int:
        raise OSError(6, "No such device or address")

    monkeypatch.setattr(aws.os, "open", no_terminal)
    monkeypatch.setattr(sys, "stdin", None)
    assert not aws._has_terminal()


@pytest.mark.parametrize("address", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"])
@pytest.mark.parametrize("is_from_dotenv", [True, False])
def test_a_key_of_the_profile_for_an_address_from_dotenv_is_said(address, is_from_dotenv, profile, monkeypatch, caplog):
    monkeypatch.setattr(settings, "_warned", set())
    monkeypatch.setattr(settings, "_from_dotenv", {address} if is_from_dotenv else set())
    monkeypatch.setenv(address, "https://s3.elsewhere.test")
    profile("aws_access_key_id = a\naws_secret_access_key = b")
    s3_client._client.cache_clear()
    s3_client.client()
    said = f"{address} comes from .env: https://s3.elsewhere.test. The AWS key from config-file is used there."
    assert caplog.messages == [said] * is_from_dotenv


def test_a_folder_as_destination_needs_no_aws(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "abc")
    assert open_destination(str(tmp_path)).listing() == {}
