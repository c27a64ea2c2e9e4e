"""An address that may be a bucket or a folder is asked about; folders stay folders."""

import pytest

from reelsheet.errors import UsageError
from reelsheet.storage.bucket_or_folder import is_doubtful, refuse_doubtful


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()


@pytest.mark.parametrize("address", ["my-bucket/x", "acme.media/spring/2026", " my-bucket/x/ ", "acme2026/a b"])
def test_what_reads_like_a_bucket_is_doubtful(address):
    assert is_doubtful(address)
    with pytest.raises(UsageError, match=rf"s3://{address.strip()}, or a new folder, \./{address.strip()}\?") as caught:
        refuse_doubtful(address)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "address",
    [
        "", "out", "my-bucket", "my-bucket/", "out/spring", "./my-bucket/x", "../my-bucket/x", "/my-bucket/x", "~/x/y",
        "there/x", "My-Bucket/x", "my_bucket/x", "s3://my-bucket/x", "file:///tmp/x", "https://a.test/x", "C:\\\\out/x", "ab/c",
    ],
)  # fmt: skip
def test_folders_and_full_addresses_are_not(address):
    assert not is_doubtful(address)
    refuse_doubtful(address)
