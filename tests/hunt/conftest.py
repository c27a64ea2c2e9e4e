"""The hunt on each kind of ledger."""

import pytest

from tests.hunt.machine import Hunt
from tests.hunt.provider import Provider


@pytest.fixture(scope="session")
def provider(tmp_path_factory):
    return Provider(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def hunt(provider, ledger_url, tmp_path):
    return type("Hunt", (Hunt,), {"provider": provider, "ledger_url": ledger_url, "scratch": tmp_path})
