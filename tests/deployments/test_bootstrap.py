"""Bootstrap that runs again, without the night's addresses, switches nothing off that it was not asked to."""

import importlib.util
import sys
import uuid
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "deployments" / "bootstrap"
NIGHT = {"manifest": "s3://ours/tonight.csv", "destination": "s3://ours/reels", "max_cost_usd": 40.0}
EXAMPLE = {"manifest": "s3://YOUR-BUCKET/tonight.csv", "destination": "s3://YOUR-BUCKET/reels", "max_cost_usd": 100.0}
NAME = "generate-videos/nightly"


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("bootstrap", str(PROGRAM))
    spec = importlib.util.spec_from_loader("bootstrap", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "NIGHTLY", {NAME: module.NIGHTLY[NAME]})
    return module


class Server:
    """One deployment with one schedule, as `prefect deploy` has just registered it."""

    def __init__(self, parameters: dict[str, Any], *, active: bool = False) -> None:
        schedule = SimpleNamespace(id=uuid.uuid4(), slug="nightly", active=active)
        self.deployment = SimpleNamespace(id=uuid.uuid4(), parameters=parameters, schedules=[schedule])

    @property
    def is_on(self) -> bool:
        return bool(self.deployment.schedules[0].active)

    async def read_deployment_by_name(self, _name: str) -> Any:
        return self.deployment

    async def update_deployment(self, _id: uuid.UUID, update: Any) -> None:
        self.deployment.parameters = update.parameters

    async def update_deployment_schedule(self, _id: uuid.UUID, _schedule: uuid.UUID, *, active: bool) -> None:
        self.deployment.schedules[0].active = active


@pytest.mark.parametrize("was_on", [True, False])
async def test_a_night_that_was_set_up_stays_as_it_was(
    bootstrap: ModuleType, capsys: pytest.CaptureFixture[str], was_on: bool
) -> None:
    server = Server(dict(EXAMPLE))
    await bootstrap.nightly(server, {NAME: bootstrap.Night(NIGHT, {"nightly": was_on})})
    assert (server.deployment.parameters, server.is_on) == (NIGHT, was_on)
    said = capsys.readouterr().err
    assert "stays as it was" in said
    assert "s3://ours/tonight.csv" in said
    assert ("not scheduled" in said) is not was_on


async def test_addresses_of_the_environment_switch_it_on(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELSHEET_NIGHTLY_MANIFEST", "s3://new/tonight.csv")
    monkeypatch.setenv("REELSHEET_NIGHTLY_DESTINATION", "s3://new/reels")
    server = Server(dict(EXAMPLE))
    await bootstrap.nightly(server, {NAME: bootstrap.Night(NIGHT, {"nightly": False})})
    assert server.is_on
    assert server.deployment.parameters["manifest"] == "s3://new/tonight.csv"


async def test_a_prefect_yaml_that_names_a_bucket_decides(bootstrap: ModuleType) -> None:
    server = Server({**NIGHT, "manifest": "s3://yaml/tonight.csv"}, active=False)
    await bootstrap.nightly(server, {NAME: bootstrap.Night(NIGHT, {"nightly": True})})
    assert (server.deployment.parameters["manifest"], server.is_on) == ("s3://yaml/tonight.csv", False)


async def test_the_first_time_nothing_is_on(bootstrap: ModuleType) -> None:
    server = Server(dict(EXAMPLE))
    await bootstrap.nightly(server, {})
    assert (server.deployment.parameters, server.is_on) == (EXAMPLE, False)
