"""Proxies and certificates are tried as the libraries read them."""

import socket
import ssl

import certifi
import httpx
import pytest

from reelsheet.surroundings import network


def said(found) -> str:
    return " ".join(map(str, found))


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "address",
    [
        "htp:/foo bar", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "ftp://proxy.test:21", "http://", "http://pro xy:1",
        "http:/proxy.test:3128", "http://[::1", "socks4://127.0.0.1:1080", "://x",
    ],
)  # fmt: skip
def test_a_malformed_proxy_is_named(name, address, monkeypatch):
    monkeypatch.setenv(name, address)
    assert said(network.proxies()).startswith(f"{name}: ")
    assert "is no address of a proxy" in said(network.proxies())


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hidden#1@proxy.test:1", "http://user:hidden?@proxy.test:1", "http://user:hid/hidden@proxy.test:1",
        "user:hidden/1@proxy.test:1", "http:/user:hidden@proxy.test:1", "http://user:hid hidden@proxy.test:1",
        "user:hidden@[::1", "ftp://user:hidden@proxy.test",
    ],
)  # fmt: skip
def test_the_password_of_a_malformed_proxy_is_not_shown(address, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", address)
    found = said(network.proxies())
    assert found.startswith("HTTPS_PROXY: ")
    assert "hid" not in found


@pytest.mark.parametrize(
    "address", ["http://proxy.test:3128", "https://proxy.test", "proxy.test:3128", "127.0.0.1:3128", "http://u:p@h:1/"]
)
def test_a_proxy_that_can_be_used_is_no_problem(address, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", address)
    assert said(network.proxies()) == ""


@pytest.mark.parametrize("address", ["socks5://user:hidden@127.0.0.1:1080", "socks5h://proxy.test"])
def test_a_socks_proxy_is_refused_with_what_to_use(address, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", address)
    found = said(network.proxies())
    assert found.startswith("ALL_PROXY: SOCKS proxies (socks5")
    assert "Use an http:// proxy" in found
    assert "hidden" not in found


def test_what_httpx_makes_of_no_proxy_is_tried(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,[::1")
    assert said(network.proxies()).startswith("NO_PROXY: it cannot be read")


def test_a_proxy_that_is_not_there_is_named_only_where_it_is_on_the_way(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hidden@127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "s3.test")
        found = said(network.way_to("https://api.test/v1"))
        assert found.startswith("HTTPS_PROXY: the proxy http://127.0.0.1:")
        assert "add api.test to NO_PROXY" in found
        assert "hidden" not in found
        assert said(network.way_to("https://s3.test")) == ""
        assert said(network.way_to("http://api.test")) == ""


def test_a_proxy_that_takes_connections_is_no_problem(serve, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", serve({}))
    assert said(network.way_to("https://api.test")) == ""
    assert network.proxy_to("https://api.test", knows_all=False) is None  # boto3 does not read it


def test_a_proxy_that_refuses_is_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    problem = network.refused_by_proxy("https://api.test/x", httpx.ProxyError("407 Proxy Authentication Required"))
    assert str(problem).startswith(
        "HTTPS_PROXY: the proxy http://proxy.test:3128 refuses to connect to api.test (407 Proxy Authentication Required)"
    )


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\0", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_file_that_holds_no_certificates_is_named(name, content, monkeypatch, tmp_path):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv(name, str(file))
    found = said((*network.certificates(), *network.certificates_of_boto3()))
    assert found.startswith(f"{name}: {file} cannot be used as certificates (")
    assert "PEM" in found
    assert "_ssl.c" not in found


def test_a_folder_of_certificates_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert said(network.certificates()) == ""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    assert said(network.certificates()).startswith("SSL_CERT_DIR: ")
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())  # then httpx does not look at the folder
    assert said(network.certificates()) == ""


def test_whatever_else_keeps_tls_from_being_set_up_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "none" / "keys"))
    assert said(network.certificates()).startswith("SSLKEYLOGFILE: TLS cannot be set up with it")
    assert said(network.certificates_of_boto3()) == ""


def test_a_certificate_that_is_not_trusted_is_told_from_other_errors(monkeypatch):
    cause = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    cause.verify_message = "self-signed certificate"  # as OpenSSL sets it
    error = httpx.ConnectError("no")
    error.__cause__ = cause
    problem = network.untrusted("https://api.test", error)
    assert str(problem).startswith(
        "SSL_CERT_FILE: the certificate of api.test is not trusted (self-signed certificate). If a proxy"
    )
    assert network.untrusted("https://api.test", httpx.ConnectError("refused")) is None
