"""What each container of deployments/compose.yaml gets, once the values of compose.env are put in."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from reelsheet import settings

HERE = Path(__file__).resolve().parents[2] / "deployments"
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose.json").read_text(encoding="utf-8"))
REQUIRED = ("POSTGRES_PASSWORD", "PREFECT_DATABASE_PASSWORD", "LEDGER_DATABASE_PASSWORD", "VIBEDREAM_API_KEY")
AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"}


def resolved(**given: str) -> dict[str, Any]:
    """The file as the container engine sees it, by the rules of the specification for interpolation."""
    values = dict.fromkeys(REQUIRED, "needed") | given

    def replaced(found: re.Match[str]) -> str:
        name, kind, default = found["name"], found["kind"], found["default"]
        value = values.get(name, "")
        assert value or kind != ":?", f"{name} is missing"
        return value or default or ""

    pattern = re.compile(r"\$\{(?P<name>\w+)(?P<kind>:[-?])?(?P<default>[^}]*)\}")

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        return pattern.sub(replaced, value) if isinstance(value, str) else value

    content: dict[str, Any] = walk(yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8")))
    for service in content["services"].values():
        environment = service.get("environment", {})
        passed = {name: values.get(name) if value is None else value for name, value in environment.items()}
        service["environment"] = {name: value for name, value in passed.items() if value is not None}
    return content


def who_gets(value: str, **given: str) -> set[str]:
    services = resolved(**given)["services"]
    return {name for name, service in services.items() if value in map(str, service["environment"].values())}


@pytest.mark.parametrize("given", [{}, {"PREFECT_API_AUTH_STRING": "a:b", "REELSHEET_PRICE_CENTS": "60"}])
def test_the_file_is_one_of_the_compose_specification(given: dict[str, str]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(resolved(**given), SCHEMA, jsonschema.Draft202012Validator)
    raw = yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(raw, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("misspelt", ["enviroment", "healthchek", "depend_on", "restarts"])
def test_the_specification_knows_no_misspelt_key(misspelt: str) -> None:
    content = resolved()
    content["services"]["worker"][misspelt] = {}
    with pytest.raises(jsonschema.ValidationError, match=misspelt):
        jsonschema.validate(content, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", sorted((settings.env_names() - {"REELSHEET_LEDGER_URL"}) | AWS))
def test_every_setting_reaches_the_workers_and_nobody_else(name: str) -> None:
    assert who_gets("a value of its own", **{name: "a value of its own"}) == {"worker"}


def test_the_ledger_is_known_only_where_it_is_migrated_and_used() -> None:
    services = resolved(LEDGER_DATABASE_PASSWORD="secret-1")["services"]
    known = {name for name, service in services.items() if "secret-1" in str(service["environment"])}
    assert known == {"postgres", "migrate", "worker"}
    assert "VIBEDREAM_API_KEY" not in services["migrate"]["environment"]


def test_prefects_password_reaches_both_sides_and_an_absent_one_nobody() -> None:
    """Prefect takes an empty string for a password, and refuses every request."""
    given = {"PREFECT_SERVER_API_AUTH_STRING": "server:s", "PREFECT_API_AUTH_STRING": "client:c"}
    assert who_gets("server:s", **given) == {"server", "services"}
    assert who_gets("client:c", **given) == {"bootstrap", "worker"}
    names = {name for service in resolved()["services"].values() for name in service["environment"]}
    assert not any("AUTH_STRING" in name for name in names)


def test_postgresql_is_not_healthy_while_its_databases_are_still_created() -> None:
    """Until then it listens on its socket only."""
    check = resolved()["services"]["postgres"]["healthcheck"]["test"]
    assert check[:4] == ["CMD", "psql", "--host", "127.0.0.1"]
    assert "reelsheet" in check


def test_every_value_that_the_file_takes_is_in_the_example() -> None:
    text = (HERE / "compose.yaml").read_text(encoding="utf-8")
    example = (HERE / "compose.env.example").read_text(encoding="utf-8")
    taken = set(re.findall(r"\$\{(\w+)", text)) | {"PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"}
    named = set(re.findall(r"^#? ?(\w+)=", example, re.MULTILINE))
    assert taken - named == {"REELSHEET_IMAGE"}


def test_the_services_are_healthy_only_while_they_listen() -> None:
    assert resolved()["services"]["services"]["healthcheck"]["test"] == [
        "CMD", "python", "-m", "flows.services", "--check",
    ]  # fmt: skip
